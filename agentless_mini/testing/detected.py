"""Finds the runner of a tree that is not Python's, by its files alone. Nothing is run, and no file is evaluated."""

import json
import posixpath
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from agentless_mini.domain import FileKind, Harness, Runner, Snapshot
from agentless_mini.domain.runners import ROWS, TESTS

_SCRIPTED = (Runner.VITEST, Runner.JEST, Runner.MOCHA)
_NODE_TEST = re.compile(rb"['\"]node:test['\"]")
_LARGEST = 1024 * 1024
# Options of a project's own script that the runner needs to read its files, with a value or without one.
_VALUED = frozenset(
    {"-r", "--require", "--import", "--loader", "--ui", "-u", "--config", "-c", "--extension", "--file"}
)
_KEPT = re.compile(r"--(?:experimental|import|require|loader|conditions|ui|config|extension|no-warnings)[\w-]*(?:=.*)?")
_NOT_PROJECTS = re.compile(r"(?:^|/)(?:node_modules|vendor|testdata|fixtures?|__fixtures__|examples?|tests?)/")


def detected(snapshot: Snapshot) -> Harness | None:
    """Return how the tests of a tree run whose most files are of another language, None where no row of these fits."""
    count = Counter(file.path[file.path.rfind(".") :] for file in snapshot.files if "node_modules/" not in file.path)
    sizes = {runner: sum(count[suffix] for suffix in row.suffixes) for runner, row in ROWS.items()}
    paths = [file.path for file in snapshot.files if file.kind is FileKind.TEXT]
    most = [runner for runner in ROWS if sizes[runner] > count[".py"] and _is_root(snapshot, runner)]
    found = [runner for runner in most if any(map(TESTS[runner].fullmatch, paths))]
    for runner in sorted(found, key=lambda one: -sizes[one]):
        if ROWS[runner].root != "package.json":
            return Harness(runner, ROWS[runner].command, members=_members(snapshot, ROWS[runner].root))
        if script := _scripted(snapshot):
            return script
    return None


def _is_root(snapshot: Snapshot, runner: Runner) -> bool:
    """Tell whether a tree, or one folder of its top, is a project of the runner."""
    names = {ROWS[runner].root, f"{ROWS[runner].root}.kts"}
    if runner is Runner.RSPEC:
        names |= {".rspec", "Rakefile", "spec/spec_helper.rb"}
    paths = snapshot.by_path()
    return any(path in names or (path.partition("/")[2] in names and path.count("/") == 1) for path in paths)


def _members(snapshot: Snapshot, root: str) -> tuple[str, ...]:
    """Return the folders below the top that are projects of their own."""
    folders = (posixpath.dirname(path) for path in snapshot.by_path() if posixpath.basename(path) == root)
    return tuple(sorted(path for path in folders if path and not _NOT_PROJECTS.search(f"{path}/")))


def _scripted(snapshot: Snapshot) -> Harness | None:
    """Return how the tests of a package of npm run: as its own script says, else by what it depends on."""
    held = snapshot.by_path()
    members = _members(snapshot, "package.json")
    paths = ["package.json", *(f"{folder}/package.json" for folder in members)]
    packages = [_package(held[path].data) for path in paths if path in held]
    scripts = [text for one in packages for text in _test_scripts(one)]
    asked = {name for one in packages for name in (*_table(one, "devDependencies"), *_table(one, "dependencies"))}
    for runner in (*_SCRIPTED, Runner.NODE):
        named = next((text for text in scripts if re.search(rf"(?<![\w@/.-]){re.escape(runner.value)}\b", text)), "")
        if named:
            return _harness(runner, named, members)
    found = next((one for one in _SCRIPTED if one.value in asked), None)
    if found is None and any(_NODE_TEST.search(file.data) for file in snapshot.files if len(file.data) < _LARGEST):
        found = Runner.NODE
    return _harness(found, "", members) if found else None


def _package(data: bytes) -> Mapping[str, Any]:
    """Return what a package.json says; one that cannot be read says nothing."""
    try:
        found = json.loads(data[:_LARGEST])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = said.get(name)
    return found if isinstance(found, dict) else {}


def _test_scripts(said: Mapping[str, Any]) -> list[str]:
    """Return the scripts that run tests: `test`, then those that are called after it."""
    scripts = _table(said, "scripts")
    names = sorted((name for name in scripts if name.startswith("test") or name in {"unit", "mocha", "jest"}), key=len)
    return [scripts[name] for name in names if isinstance(scripts[name], str)]


def _harness(runner: Runner, script: str, members: tuple[str, ...]) -> Harness:
    """Return how a runner starts, with those options of a project's script without which it could not read files."""
    variables = tuple(re.findall(r"\b(NODE_OPTIONS|TS_NODE_[A-Z_]+|NODE_ENV)=['\"]?([^'\"\s;&]+)", script))
    if runner is Runner.JEST and "experimental-vm-modules" in script:
        variables = (("NODE_OPTIONS", "--experimental-vm-modules"),)
    options = list(_options(script)) if runner in {Runner.NODE, Runner.MOCHA} else []
    command = ROWS[runner].command
    start = 1 if runner in {Runner.NODE, Runner.MOCHA} else len(command)
    return Harness(runner, (*command[:start], *options, *command[start:]), variables=variables, members=members)


def _options(script: str) -> Iterator[str]:
    try:
        words = iter(shlex.split(script))
    except ValueError:
        return
    for word in words:
        if word in _VALUED:
            value = next(words, "")
            yield from (word, value)
        elif _KEPT.fullmatch(word):
            yield word
