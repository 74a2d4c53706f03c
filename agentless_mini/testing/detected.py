"""Finds the runner of a tree that is not Python's, by its files alone. Nothing is run, and no file is evaluated."""

import itertools
import json
import posixpath
import re
import shlex
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from typing import Any

from agentless_mini.domain import FileKind, Harness, Runner, Snapshot
from agentless_mini.domain.runners import ROWS, TESTS

_SCRIPTED = (Runner.VITEST, Runner.JEST, Runner.MOCHA)
_NODE_TEST = re.compile(rb"['\"]node:test['\"]")
_LARGEST = 1024 * 1024
# Options of a project's own script, with their values, that the runner needs to read its files.
_LOADING = frozenset({"--import", "--loader", "--experimental-loader", "--conditions", "-C", "--require", "-r"})
_VALUED: Mapping[Runner, frozenset[str]] = {
    Runner.NODE: _LOADING,
    Runner.MOCHA: _LOADING | {"--ui", "-u", "--config", "-c", "--extension", "--file"},
    Runner.JEST: frozenset({"--config", "-c", "--env"}),
    Runner.VITEST: frozenset({"--config", "-c", "--environment"}),
}
_FLAG = re.compile(r"--(?:experimental|no-warnings)[\w-]*(?:=.*)?")
_AFTER = {Runner.VITEST: 2}  # of the words of its command, the options of a script come after so many
_ENDS = frozenset({"&&", "||", ";", "|", "&"})
_ASSIGNED = re.compile(r"\b(NODE_OPTIONS|TS_NODE_[A-Z_]+|NODE_ENV)=(?:'([^']*)'|\"([^\"]*)\"|([^'\"\s;&]+))")
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
    packages = {posixpath.dirname(path): _package(held[path].data) for path in paths if path in held}
    for runner in (*_SCRIPTED, Runner.NODE):
        scripts = {folder: script for folder, said in packages.items() if (script := _script_of(runner, said))}
        if scripts:
            own = _apart(snapshot, runner, members, scripts) if "" in scripts else members
            return _harness(runner, next(iter(scripts.values())), own)
    needed = {folder: {*said["devDependencies"], *said["dependencies"]} for folder, said in packages.items()}
    found = next((one for one in _SCRIPTED if any(one.value in names for names in needed.values())), None)
    if found and found.value in needed.get("", ()):
        members = _apart(snapshot, found, members, ())
    if found is None and any(_NODE_TEST.search(file.data) for file in snapshot.files if len(file.data) < _LARGEST):
        found = Runner.NODE
    return _harness(found, "", members) if found else None


def _package(data: bytes) -> Mapping[str, Mapping[str, Any]]:
    """Return the tables of a package.json that matter here; what cannot be read is empty."""
    try:
        said = json.loads(data[:_LARGEST])
    except (ValueError, RecursionError):
        said = None
    tables = (
        (name, isinstance(said, dict) and said.get(name)) for name in ("scripts", "devDependencies", "dependencies")
    )
    return {name: table if isinstance(table, dict) else {} for name, table in tables}


def _script_of(runner: Runner, said: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the script of a package that starts a runner, "" where none does: `test`, else one called after it."""
    started = rf"(?:(?<![\w@/.-])|\bbin/){re.escape(runner.value)}\b"
    if runner is Runner.NODE:
        started = r"(?<![\w@/.-])(?:node|tsx)\s(?:[^;&|]*\s)?--test(?![\w-])"
    names = (name for name in said["scripts"] if name.startswith("test") or name in {"unit", "mocha", "jest"})
    scripts = (said["scripts"][name] for name in sorted(names, key=len))
    return next((text for text in scripts if isinstance(text, str) and re.search(started, text)), "")


def _apart(snapshot: Snapshot, runner: Runner, members: tuple[str, ...], scripted: Container[str]) -> tuple[str, ...]:
    """Return the members that a runner which is the top's runs by themselves: with a script or configuration there."""
    names = re.compile(rf"(?:{runner.value}\.config\.\w+|\.{runner.value}rc[^/]*)")
    held = {posixpath.dirname(path) for path in snapshot.by_path() if names.fullmatch(posixpath.basename(path))}
    return tuple(folder for folder in members if folder in scripted or folder in held)


def _harness(runner: Runner, script: str, members: tuple[str, ...]) -> Harness:
    """Return how a runner starts, with those options of a project's script without which it could not read files."""
    assigned = ((one[1], next(filter(None, one.groups()[1:]), "")) for one in _ASSIGNED.finditer(script))
    variables = tuple((name, re.sub(r"\$\w+", "", value).strip()) for name, value in assigned)
    if runner is Runner.JEST and "experimental-vm-modules" in script:
        variables = (("NODE_OPTIONS", "--experimental-vm-modules"),)
    command, start = ROWS[runner].command, _AFTER.get(runner, 1)
    command = (*command[:start], *_options(runner, script), *command[start:])
    return Harness(runner, command, variables=variables, members=members)


def _options(runner: Runner, script: str) -> Iterator[str]:
    """Yield those options that a script gives the runner, and no other program."""
    try:
        words = iter(shlex.split(script))
    except ValueError:
        return
    names = {"node", "tsx"} if runner is Runner.NODE else {runner.value, f"_{runner.value}", f"{runner.value}.js"}
    program = next((word for word in words if posixpath.basename(word) in names), "")
    if program == "tsx":
        yield from ("--import", "tsx")
    for word in itertools.takewhile(lambda word: word not in _ENDS, words):
        if word in _VALUED[runner]:
            yield from (word, next(words, ""))
        elif _FLAG.fullmatch(word) or word.partition("=")[0] in _VALUED[runner]:
            yield word
