"""What the tests of a repository need to run, read from its tree: Python, the project itself, and packages.

Nothing of the tree is run or imported here, and nothing outside of it is read. What cannot be read is left out: the
build then finds out, and a user can say it with --setup.
"""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agentless_mini.domain import FileKind, Runner, Snapshot, SourceFile
from agentless_mini.environment.declared import (
    Declared,
    Listed,
    is_for_tests,
    once,
    read_pyproject,
    read_setup_cfg,
    read_setup_py,
    tox_requirements,
)
from agentless_mini.environment.machine import PythonRequirement
from agentless_mini.errors import printable

VERSION = "2"
_CONFIGURATION = ("pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "pytest.ini", ".python-version", "MANIFEST.in")
_READ = (*_CONFIGURATION, ".txt", ".in", ".pip")
_COMPILED = (".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".pyx", ".pxd", ".pxi", ".f", ".f90", ".rs", ".toml", ".build")
_BASIC = frozenset({"requirements", "base", "common", "main", "core", "default", "py3", "ci"})
_FOR_TESTS = frozenset({"test", "tests", "testing"})
_TO_DEVELOP = frozenset({"dev", "develop", "development"})
_FOLDERS = frozenset({"", "requirements", "tests", "test", "tests/requirements", "test/requirements"})
# What stands for a plugin without which pytest would not take the options that are configured for every call.
_PLUGINS = (
    (r"--cov\b", "pytest-cov"),
    (r"--(?:dist|numprocesses)\b|(?<!\S)-n[\s=]*(?:auto|logical|\d)", "pytest-xdist"),
    (r"--timeout\b", "pytest-timeout"),
    (r"--doctest-plus\b|--doctest-rst\b", "pytest-doctestplus"),
    (r"--benchmark-\w", "pytest-benchmark"),
    (r"--reruns\b", "pytest-rerunfailures"),
    (r"--ds\b|\bDJANGO_SETTINGS_MODULE\s*=", "pytest-django"),
    (r"--asyncio-mode\b|\basyncio_mode\s*=", "pytest-asyncio"),
    (r"--mypy\b", "pytest-mypy"),
    (r"--randomly-\w", "pytest-randomly"),
    (r"--strict-data-files\b", "pytest-doctestplus"),
)
# The settings of pytest that name options of plugins, each with the indented lines below it.
_SETTINGS = re.compile(
    r"^(?:addopts|asyncio_mode|DJANGO_SETTINGS_MODULE)\s*=.*(?:\n(?:[ \t]+\S.*|[ \t]*))*", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What to install, and on which Python.

    `project` tells whether the tree itself can be installed, with `extras`; `install` are requirements beside it, and
    `alone` its own, for where it cannot be installed. `options` are arguments for pip. `packages` are the top-level
    packages of the tree. `module` is what must be importable for the tests to be run, "" where nothing is. `digest`
    names all of the tree that a build depends on.
    """

    python: PythonRequirement
    project: bool
    extras: tuple[str, ...]
    install: tuple[str, ...]
    alone: tuple[str, ...]
    constraints: tuple[str, ...]
    options: tuple[str, ...]
    packages: tuple[str, ...]
    module: str
    digest: str
    notes: tuple[str, ...] = ()


def needs_of(snapshot: Snapshot, runner: Runner) -> Needs:
    """Read the needs off a tree."""
    files = [file for file in snapshot.files if file.kind is FileKind.TEXT and file.path.endswith(_READ)]
    texts = {file.path: file.data.decode("utf-8", "replace") for file in files}
    declared, listed = Declared(), _listed(texts)
    readers = {"pyproject.toml": read_pyproject, "setup.cfg": read_setup_cfg, "setup.py": read_setup_py}
    for path, read in readers.items():
        if path in texts:
            read(texts[path], declared)
    version = re.match(r"\s*3\.(\d{1,2})\b", texts.get(".python-version", ""))
    tests = [*filter(is_for_tests, declared.extras)]
    for_tests = (text for name in tests for text in declared.extras[name])
    configured = "\n".join(texts.get(path, "") for path in ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"))
    options = "\n".join(match[0] for match in _SETTINGS.finditer(configured)) if runner is Runner.PYTEST else ""
    plugins = once(plugin for pattern, plugin in _PLUGINS if re.search(pattern, options))
    own = (*declared.dependencies, *for_tests)
    install = once((*declared.tests, *listed.requirements))
    named = {_name(text) for text in (*own, *install)}
    return Needs(
        PythonRequirement(once(declared.python), (int(version[1]),) if version else tuple(sorted(declared.tested))),
        declared.project,
        once((*tests, *listed.extras)),
        (*install, *(name for name in plugins if name not in named)),
        once(own),
        once(listed.constraints),
        tuple(listed.options),
        tuple(_packages(snapshot.files)),
        "pytest" if runner is Runner.PYTEST else "",
        _digest(snapshot.files, {*_CONFIGURATION, *listed.paths}, runner),
        tuple(
            f"A requirement outside of the repository is left out: {printable(line)[:80]}" for line in listed.outside
        ),
    )


def _listed(texts: Mapping[str, str]) -> Listed:
    """Read the requirement files, those to develop last: where two of them contradict each other, the first counts.

    Where there are some for tests, one to develop brings none that is neither: documentation, types and tools.
    """
    found = Listed()
    paths = [path for path in texts if _is_requirement_file(path)]
    has_tests = any(_words(path) & _FOR_TESTS for path in paths)
    unwanted = {path for path in texts if has_tests and not _is_wanted(path)}
    for path in sorted(paths, key=lambda path: (bool(_words(path) & _TO_DEVELOP), path.count("/"), path)):
        is_to_develop = bool(_words(path) & _TO_DEVELOP)
        followed = {name: texts[name] for name in texts.keys() - unwanted} if is_to_develop else texts
        found.read(followed, path)
    for path in ("tox.ini", "setup.cfg"):
        found.take(texts, "\n".join(tox_requirements(texts.get(path, ""))))
    return found


def _is_requirement_file(path: str) -> bool:
    """Tell whether it lists what the project or its tests need, rather than its documentation or oldest versions."""
    folder, name = posixpath.split(path)
    is_named = "requirements" in _words(path) or folder.endswith("requirements")
    return folder in _FOLDERS and name.endswith(".txt") and is_named and _is_wanted(path)


def _is_wanted(path: str) -> bool:
    return _words(path) <= _BASIC | _FOR_TESTS | _TO_DEVELOP


def _words(path: str) -> set[str]:
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return {word for word in re.split(r"[-_.]", stem.lower()) if word}


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def _packages(files: Iterable[SourceFile]) -> Iterator[str]:
    """Yield the importable packages at the top of the tree and of src, tests and the like left out."""
    for file in files:
        parts = file.path.removeprefix("src/").split("/")
        if len(parts) == 2 and parts[1] == "__init__.py" and parts[0].isidentifier() and parts[0] not in _NOT_PACKAGES:
            yield parts[0]


_NOT_PACKAGES = frozenset({"test", "tests", "testing", "doc", "docs", "example", "examples", "benchmarks", "scripts"})


def _digest(files: Iterable[SourceFile], named: set[str], runner: Runner) -> str:
    """Hash the files that say what to install or are compiled, and the names of the packages."""
    total = hashlib.sha256(f"{VERSION} {runner}".encode())
    for file in files:
        is_package = file.path.endswith("__init__.py") and file.path.count("/") <= 2
        if file.path in named or file.path.endswith(_COMPILED) or is_package:
            data = b"" if is_package else hashlib.sha256(file.data).digest()
            total.update(file.path.encode("utf-8", "surrogateescape") + b"\0" + data)
    return total.hexdigest()
