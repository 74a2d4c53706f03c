"""Reads what setup.py says in literals, without running it, and what setup.cfg and tox.ini say.

What setup.py computes, or reads from a file, is not known here: pip finds it out in the box that builds.
"""

import ast
import configparser
import re
from collections.abc import Mapping

from agentless_mini.environment.declared import Declared, is_for_tests
from agentless_mini.environment.versions import classified_minors

_FACTORS = re.compile(r"!?[\w.-]+(?:,[\w.!-]+)*:\s")


def of_setup_py(text: str) -> Declared:
    """Return what the call of `setup` says in literals and in names that the module binds to literals once."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # written for Python 2, or not to be parsed
        return Declared(project=True)
    known = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_setup(node.func))
    given: dict[str, ast.expr] = {}
    for call in calls:
        given.update((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg)
    return _of_arguments(_Literals(known), given)


def _is_setup(function: ast.expr) -> bool:
    return (function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")) == "setup"


def _of_arguments(read: "_Literals", given: Mapping[str, ast.expr]) -> Declared:
    asked = read.strings(given.get("python_requires"))
    return Declared(
        project=True,
        python=asked[:1],
        tested=classified_minors(read.strings(given.get("classifiers"))),
        dependencies=read.strings(given.get("install_requires")),
        extras=read.extras(given.get("extras_require")),
        tests=read.strings(given.get("tests_require")),
    )


class _Literals:
    """Strings out of expressions, as far as they are written down."""

    def __init__(self, known: Mapping[str, ast.expr]) -> None:
        self._known = known

    def strings(self, node: ast.expr | None, depth: int = 0) -> tuple[str, ...]:
        """Return the strings of a string, list, tuple, set or sum of these; what is none of them gives none."""
        match node:
            case ast.Constant(value=str(text)):
                return tuple(line.strip() for line in text.splitlines() if line.strip())
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) if depth < 8:
                return tuple(text for item in items for text in self.strings(item, depth + 1))
            case ast.BinOp(left=left, op=ast.Add(), right=right) if depth < 8:
                return self.strings(left, depth + 1) + self.strings(right, depth + 1)
            case ast.Name(id=name) if depth < 8:
                return self.strings(self._known.get(name), depth + 1)
        return ()

    def extras(self, node: ast.expr | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the extras of a dictionary by their literal names."""
        if isinstance(node, ast.Name):
            node = self._known.get(node.id)
        if not isinstance(node, ast.Dict):
            return ()
        pairs = zip(node.keys, node.values, strict=True)
        named = ((key.value, value) for key, value in pairs if isinstance(key, ast.Constant))
        return tuple((name, self.strings(value)) for name, value in named if isinstance(name, str))


def of_setup_cfg(text: str) -> Declared:
    """Return what setuptools reads in setup.cfg; `file:` and `attr:` references are left to it."""
    config = _parsed(text)
    options = config["options"] if config.has_section("options") else {}
    metadata = config["metadata"] if config.has_section("metadata") else {}
    extras = config["options.extras_require"] if config.has_section("options.extras_require") else {}
    return Declared(
        project="name" in metadata,
        python=_listed(options.get("python_requires", ""))[:1],
        tested=classified_minors(_listed(metadata.get("classifiers", metadata.get("classifier", "")))),
        dependencies=_listed(options.get("install_requires", "")),
        extras=tuple((name, _listed(value)) for name, value in extras.items()),
        tests=_listed(options.get("tests_require", "")),
    )


def tox_requirements(text: str) -> tuple[str, ...]:
    """Return the lines of deps in [testenv] that count for every factor, for a requirement file at the top."""
    config = _parsed(text)
    sections = [name for name in config.sections() if name == "testenv" or _is_test_environment(name)]
    lines = (line for name in sections for line in config[name].get("deps", "").splitlines())
    plain = (line.strip().replace("{toxinidir}/", "").replace("{tox_root}/", "") for line in lines)
    return tuple(line for line in plain if line and not _FACTORS.match(line) and "{" not in line)


def _is_test_environment(section: str) -> bool:
    return section.startswith("testenv:") and is_for_tests(section.removeprefix("testenv:"))


def _listed(value: str) -> tuple[str, ...]:
    if value.startswith(("file:", "attr:")):
        return ()
    separated = value if "\n" in value.strip() else value.replace(";", "\n") if " ;" not in value else value
    return tuple(line.strip() for line in separated.splitlines() if line.strip() and not line.strip().startswith("#"))


def _parsed(text: str) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read_string(text)
    except configparser.Error:
        return configparser.RawConfigParser()
    return config
