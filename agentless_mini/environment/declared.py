"""What the files of a project declare, in one form, whichever file and tool it was written for.

Read are pyproject.toml (the standard tables, and those of poetry, pdm, uv and hatch as far as tests need them),
setup.cfg, tox.ini, what setup.py says in literals, and requirement files. Nothing is run, and nothing outside of the
tree is read. What setup.py computes, and what pip would do with a requirement, shows in the box that builds.
"""

import ast
import configparser
import posixpath
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agentless_mini.environment.machine import classified_minors

TEST_WORDS = frozenset({"test", "tests", "testing", "dev", "develop"})
FILES_LIMIT, LINES_LIMIT, LINE_LIMIT, SIZE_LIMIT = 40, 600, 500, 256 * 1024
Table = Mapping[str, object]
_NESTING = 8
_FACTORS = re.compile(r"!?[\w.-]+(?:,[\w.!-]+)*:\s")
_OPTION = re.compile(r"(?P<name>--[a-z-]+|-[rceif])(?:\s*=\s*|\s+|(?<=^-[rceif])|\Z)(?P<value>.*)", re.DOTALL)
_PER_LINE = re.compile(r"\s--(?:hash|config-settings?|global-option|install-option)[=\s].*", re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LOCAL = re.compile(r"(?P<path>[^\[\];]*?)(?:\[(?P<extras>[\w.,\s-]*)\])?\s*(?:;.*)?")
_ARCHIVE = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2")
_PLACES = {"-i": "--index-url", "-f": "--find-links"}
_PLACES |= {name: name for name in ("--index-url", "--extra-index-url", "--find-links")}
_NAMED = re.compile(r"[A-Za-z0-9]")


@dataclass(slots=True)
class Declared:
    """What files declare together, in the order in which they are read.

    `project` tells whether pip can install the tree; `python` are specifiers that all hold; `tested` the minor versions
    of Python 3 among the classifiers; `dependencies` what the project needs to run and `tests` what only its tests
    need, as requirements; `extras` its optional dependencies by name.
    """

    project: bool = False
    python: list[str] = field(default_factory=list)
    tested: set[int] = field(default_factory=set)
    dependencies: list[str] = field(default_factory=list)
    extras: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)


def once(texts: Iterable[str]) -> tuple[str, ...]:
    """Return each of the texts once, in their order."""
    return tuple(dict.fromkeys(texts))


def is_for_tests(name: str) -> bool:
    """Tell whether the name of an extra, a group or a file is one for tests or development."""
    return not TEST_WORDS.isdisjoint(re.split(r"[-_.\s]+", name.lower()))


def read_pyproject(text: str, found: Declared) -> None:
    """Add what the file declares. One that is no TOML declares nothing."""
    try:
        top = tomllib.loads(text)
    except (ValueError, RecursionError):
        return
    project, poetry = _table(top, "project"), _table(top, "tool", "poetry")
    python = (project.get("requires-python"), _table(poetry, "dependencies").get("python"))
    found.project |= bool(project.get("name")) or "build-system" in top or bool(poetry)
    found.python += [text for text in python if isinstance(text, str)]
    found.tested |= classified_minors((*_strings(project.get("classifiers")), *_strings(poetry.get("classifiers"))))
    found.dependencies += (*_strings(project.get("dependencies")), *_of_poetry(_table(poetry, "dependencies")))
    found.extras |= {name: _strings(listed) for name, listed in _table(project, "optional-dependencies").items()}
    found.tests += _test_groups(top)


def _table(top: Table, *keys: str) -> Table:
    for key in keys:
        inner = top.get(key)
        top = inner if isinstance(inner, dict) else {}
    return top


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _test_groups(top: Table) -> Iterator[str]:
    groups = _table(top, "dependency-groups")
    for name in filter(is_for_tests, groups):
        yield from _group(groups, name, ())
    for name, listed in _table(top, "tool", "pdm", "dev-dependencies").items():
        yield from _strings(listed) if is_for_tests(name) else ()
    yield from _strings(_table(top, "tool", "uv").get("dev-dependencies"))
    for name in ("default", *filter(is_for_tests, _table(top, "tool", "hatch", "envs"))):
        environment = _table(top, "tool", "hatch", "envs", name)
        yield from _strings(environment.get("dependencies")) + _strings(environment.get("extra-dependencies"))
    poetry = _table(top, "tool", "poetry")
    yield from _of_poetry(_table(poetry, "dev-dependencies"))
    for name in filter(is_for_tests, _table(poetry, "group")):
        yield from _of_poetry(_table(poetry, "group", name, "dependencies"))


def _group(groups: Table, name: str, way: tuple[str, ...]) -> Iterator[str]:
    """Yield a group of PEP 735 with the groups that it includes, which may not go round in circles."""
    listed = groups.get(name)
    if name in way or len(way) > _NESTING or not isinstance(listed, list):
        return
    for item in listed:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict) and isinstance(included := item.get("include-group"), str):
            yield from _group(groups, included, (*way, name))


def _of_poetry(table: Table) -> Iterator[str]:
    """Yield poetry's dependencies as requirements, upper bounds left out; others than an index has are left out."""
    for name, asked in table.items():
        if name == "python":
            continue
        if isinstance(asked, dict) and not asked.get("optional") and isinstance(asked.get("version"), str):
            extras = f"[{','.join(_strings(asked.get('extras')))}]" if asked.get("extras") else ""
            yield f"{name}{extras}{_lower_bound(str(asked['version']))}"
        elif isinstance(asked, str):
            yield f"{name}{_lower_bound(asked)}"


def _lower_bound(version: str) -> str:
    match = re.fullmatch(r"(?P<sign>[\^~]|>=|~=|==)?\s*(?P<number>\d+(?:\.\d+)*)\b.*", version.strip())
    if match is None:
        return ""
    return f"=={match['number']}" if match["sign"] in {None, "=="} and "*" not in version else f">={match['number']}"


def read_setup_py(text: str, found: Declared) -> None:
    """Add what the call of `setup` says in literals and in names that the module binds to literals once."""
    found.project = True
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # written for Python 2, or not to be parsed
        return
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    known = {name.id: node.value for node in assigned for name in node.targets if isinstance(name, ast.Name)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    setups = [call for call in calls if "setup" in {getattr(call.func, "id", ""), getattr(call.func, "attr", "")}]
    given = {keyword.arg: keyword.value for call in setups for keyword in call.keywords if keyword.arg}

    def strings(node: ast.expr | None, depth: int = 0) -> tuple[str, ...]:
        """Return the strings of a string, list, tuple, set or sum of these; what is none of them gives none."""
        match node:
            case ast.Constant(value=str(text)):
                return tuple(line.strip() for line in text.splitlines() if line.strip())
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items) if depth < _NESTING:
                return tuple(text for item in items for text in strings(item, depth + 1))
            case ast.BinOp(left=left, op=ast.Add(), right=right) if depth < _NESTING:
                return strings(left, depth + 1) + strings(right, depth + 1)
            case ast.Name(id=name) if depth < _NESTING:
                return strings(known.get(name), depth + 1)
        return ()

    extras = given.get("extras_require")
    extras = known.get(extras.id) if isinstance(extras, ast.Name) else extras
    pairs = zip(extras.keys, extras.values, strict=True) if isinstance(extras, ast.Dict) else ()
    named = ((key.value, value) for key, value in pairs if isinstance(key, ast.Constant))
    found.python += strings(given.get("python_requires"))[:1]
    found.tested |= classified_minors(strings(given.get("classifiers")))
    found.dependencies += strings(given.get("install_requires"))
    found.extras |= {name: strings(value) for name, value in named if isinstance(name, str)}
    found.tests += strings(given.get("tests_require"))


def read_setup_cfg(text: str, found: Declared) -> None:
    """Add what setuptools reads in setup.cfg; `file:` and `attr:` references are left to it."""
    config = _parsed(text)
    names = ("metadata", "options", "options.extras_require")
    metadata, options, extras = (config[name] if config.has_section(name) else {} for name in names)
    found.project |= "name" in metadata
    found.python += _listed(options.get("python_requires", ""))[:1]
    found.tested |= classified_minors(_listed(metadata.get("classifiers", metadata.get("classifier", ""))))
    found.dependencies += _listed(options.get("install_requires", ""))
    found.extras |= {name: _listed(value) for name, value in extras.items()}
    found.tests += _listed(options.get("tests_require", ""))


def tox_requirements(text: str) -> tuple[str, ...]:
    """Return the lines of deps in [testenv] that count for every factor, for a requirement file at the top."""
    config = _parsed(text)
    kinds = ((name, *name.partition(":")[::2]) for name in config.sections())
    sections = [name for name, kind, own in kinds if kind == "testenv" and (name == kind or is_for_tests(own))]
    lines = (line for name in sections for line in config[name].get("deps", "").splitlines())
    plain = (line.strip().replace("{toxinidir}/", "").replace("{tox_root}/", "") for line in lines)
    return tuple(line for line in plain if line and not _FACTORS.match(line) and "{" not in line)


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


@dataclass(slots=True)
class Listed:
    """What requirement files come to. `extras` are those of the project itself, where a file installs it.

    `options` are arguments for pip (where to look for packages), `outside` the lines left out because they lead out
    of the tree, `paths` the files that were read.
    """

    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def read(self, texts: Mapping[str, str], path: str, target: list[str] | None = None) -> None:
        """Add what a file lists, and the files that it refers to. A file counts once, whatever refers to it."""
        text = texts.get(path)
        if text is None or path in self.paths or len(self.paths) >= FILES_LIMIT:
            return
        self.paths.append(path)
        if len(text) <= SIZE_LIMIT:
            self.take(texts, text, posixpath.dirname(path), target)

    def take(self, texts: Mapping[str, str], text: str, folder: str = "", target: list[str] | None = None) -> None:
        """Add lines that stand in a file in this folder, to the requirements or another list."""
        target = self.requirements if target is None else target
        for line in _lines(text):
            if len(target) >= LINES_LIMIT:
                return
            option = _OPTION.fullmatch(line)
            name, value = (option["name"], option["value"].strip()) if option else ("-e", line)
            if name in {"-e", "--editable"}:
                self._take_requirement(value, folder, target)
            elif name in {"-r", "--requirement", "-c", "--constraint"}:
                if (path := self._inside(folder, value, value)) is not None:
                    self.read(texts, path, self.constraints if name in {"-c", "--constraint"} else target)
            elif name in {"--pre", "--no-index"}:
                self.options.append(name)
            elif name in _PLACES:
                self._take_place(_PLACES[name], value, folder)

    def _take_place(self, option: str, value: str, folder: str) -> None:
        is_address = value.startswith(("https://", "http://"))
        if option == "--find-links" and "://" not in value:
            path = self._inside(folder, value, value)
            self.options += [option, path] if path is not None else []
        elif is_address:
            self.options += [option, value]

    def _take_requirement(self, line: str, folder: str, target: list[str]) -> None:
        if not _is_path(line):
            target += [line] if _NAMED.match(line) and len(line) <= LINE_LIMIT else []
            return
        match = _LOCAL.fullmatch(line.removeprefix("file:"))
        path = self._inside(folder, match["path"].strip() if match else "", line)
        extras = (match["extras"] if match else None) or ""
        if path == ".":
            self.extras += [name.strip() for name in extras.split(",") if name.strip()]
        elif path is not None:
            target.append(f"./{path}" + (f"[{extras}]" if extras else ""))

    def _inside(self, folder: str, value: str, line: str) -> str | None:
        """Return the path in the tree that a line refers to; where it leads out, note it."""
        path = inside(folder, value)
        if path is None:
            self.outside.append(line)
        return path


def inside(folder: str, value: str) -> str | None:
    """Return the path in the tree that a reference from a folder of it means, None where it leads out."""
    path = posixpath.normpath(posixpath.join(folder, value))
    if not value or "\0" in value or value.startswith(("~", "$")) or path.startswith(("../", "/")) or path == "..":
        return None
    return path


def _is_path(line: str) -> bool:
    if "://" in line and not line.startswith("file:"):
        return False
    bare = line.partition(";")[0].strip()
    return line.startswith((".", "/", "~", "file:")) or bare.endswith(_ARCHIVE) or ("/" in bare and "@" not in bare)


def _lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        stripped = _PER_LINE.sub("", _COMMENT.sub("", line)).strip()
        if stripped and stripped.isprintable():
            yield stripped
