"""How the tests of a repository are run, and what a box is given for it: steps, and files.

By the tree's files, or by the user's own command: that is read here, never run, and never given to a shell unless it is
written for one. Whether it works is found out in a box.

Tests of one runner share a step, and as few processes as they let live (`inside.amini_run`); the user's commands have a
step for each. The same tests always become the same steps: a record of the box is found again by them.
"""

import hashlib
import itertools
import json
import posixpath
import re
import shlex
import sys
import tomllib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from agentless_mini.chain.file_roles import is_test_file, is_test_path, is_test_tool
from agentless_mini.domain import Case, FileChange, Harness, Origin, PlacedFile, Runner, Snapshot, Step, starting
from agentless_mini.domain.runners import ROWS, Group, RunnerRow
from agentless_mini.errors import UsageError, printable
from agentless_mini.testing.detected import detected

_DJANGO = "tests/runtests.py"
_PYTEST = re.compile(rb"\bpy\.?test\b")
_DJANGO_TEST = re.compile(rb"^\s*(?:import|from)\s+django\.test\b", re.MULTILINE)
_SETTINGS = re.compile(
    rb"DJANGO_SETTINGS_MODULE['\"]?\]?\s*[=,:]\s*['\"]?([A-Za-z_][\w.]*)|--settings[= ]([A-Za-z_][\w.]*)"
)
_SETTINGS_FILES = ("tests/settings.py", "tests/test_settings.py", "test_settings.py", "test/settings.py")
_UNITTEST = re.compile(rb"^\s*(?:import|from)\s+unittest\b", re.MULTILINE)
_CONFIGURATION = re.compile(
    r"(?:.*/)?(?:requirements[^/]*|[^/]*requirements)\.(?:txt|in)|requirements/[^/]+"
    r"|(?:pytest\.ini|\.pytest\.ini|tox\.ini|setup\.cfg|setup\.py|pyproject\.toml|noxfile\.py|Makefile|Pipfile)"
    r"|(?:tests/)?runtests\.py|manage\.py"
    r"|\.github/workflows/[^/]+"
)
_ROOTS = ("src", "lib", "python")
TESTS = "{tests}"
_SHELL = re.compile(r"[|&;<>()$`*?~#\n\\]")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PYTEST_PROGRAMS = {"pytest", "py.test"}
BOX = ".amini-box"
"""The folder of the tree that everything of ours lies in."""

STARTUP = 30.0  # seconds that a step has beyond what its tests may take
FILE_TESTS = 10  # a file counts for the time of so many tests
FEW_TESTS = 3  # the same where a test that hangs takes its file's time
PROGRAMS = ("amini_run", "amini_record", "amini_pytest", "amini_unittest")
KEY = "AMINI_KEY"
"""The variable with the key of a record, which the driver keeps from the tests."""
# Starts the driver from files that have the digest which it is told: no earlier step of the box has changed them.
LOADER = """\
import hashlib, sys
files = {name: open(name, "rb").read() for name in sys.argv[2:]}
if hashlib.sha256(b"\\0".join(files.values())).hexdigest() != sys.argv[1]:
    sys.exit("files of amini's were changed in the box")
name, space = sys.argv[2], {"__name__": "amini_run", "FILES": files}
exec(compile(files.pop(name), name, "exec"), space)
space["main"]()
"""


def harness_of(snapshot: Snapshot, test_command: str = "", report: str = "") -> Harness:
    """Return how the tests of a tree run: as `test_command` says, or as its files tell.

    The command leaves a `report` of JUnit XML in the tree, or prints TAP ("-"); without one its status counts. Else it
    is the runner of the language that most files are of, and of Python's pytest, unless the tree is django itself or
    its tests import django.test or unittest and nothing mentions pytest. Raises `UsageError` for a command that cannot
    be read.
    """
    paths = snapshot.by_path()
    roots = _python_path(paths.keys())
    if test_command or report:
        return harness_of_command(test_command, roots, report)
    if other := detected(snapshot):
        return other
    if _DJANGO in paths and "django/__init__.py" in paths:
        return Harness(Runner.DJANGO, ("python", _DJANGO), python_path=roots)
    tests = [file.data for file in snapshot.files if is_test_file(file) and file.path.endswith(".py")]
    told = {file.path: file.data for file in snapshot.files if _CONFIGURATION.fullmatch(file.path)}
    if not any(map(_PYTEST.search, [*tests, *told.values()])):
        if any(map(_DJANGO_TEST.search, tests)) and (found := _of_django(paths.keys(), told, roots)):
            return found
        if any(map(_UNITTEST.search, tests)):
            return Harness(Runner.UNITTEST, ("python", "-m", "unittest"), python_path=roots)
    projects = {posixpath.dirname(path) for path in paths if posixpath.basename(path) in {"setup.py", "pyproject.toml"}}
    members = tuple(sorted(path for path in projects if path and not is_test_path(f"{path}/setup.py")))
    return Harness(Runner.PYTEST, ("python", "-m", "pytest"), python_path=roots, members=members)


def _of_django(paths: Container[str], told: Mapping[str, bytes], roots: tuple[str, ...]) -> Harness | None:
    """Return how the tests of a project of Django run; None where nothing says with which settings.

    By its manage.py, else by django itself with the settings that the project's files name, else by its runtests.py.
    """
    if "manage.py" in told:
        return Harness(Runner.DJANGO, ("python", "manage.py", "test"), python_path=roots)
    named = [(match[1] or match[2]).decode() for data in told.values() for match in _SETTINGS.finditer(data)]
    named += [path[:-3].replace("/", ".") for path in _SETTINGS_FILES if path in paths]
    if named:
        told_so = (("DJANGO_SETTINGS_MODULE", named[0]),)
        return Harness(Runner.DJANGO, ("python", "-m", "django", "test"), python_path=roots, variables=told_so)
    program = next((path for path in ("runtests.py", "tests/runtests.py") if path in told), "")
    return Harness(Runner.DJANGO, ("python", program), python_path=roots) if program else None


def _python_path(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that hold packages: those that a build would look in come before the top."""
    packages = (path.split("/") for path in paths if path.endswith("/__init__.py"))
    holding = {parts[0] for parts in packages if len(parts) == 3}
    return (*(root for root in _ROOTS if root in holding), ".")


# --- a command -------------------------------------------------------------------------------------------------------


def harness_of_command(command: str, python_path: tuple[str, ...], report: str = "") -> Harness:
    """Return how tests run by a command line: one that runs pytest or leaves a report tells of each, others of files.

    The paths of tests go where "{tests}" stands, else at the end. Raises `UsageError` where it cannot be read, or
    leaves its report out of the tree.
    """
    if report and not command:
        raise UsageError("A report of tests needs the command that makes it: give --test-cmd with --test-report.")
    if posixpath.normpath(report).split("/")[0] in {"", ".."}:
        said = f"--test-report {printable(report)} leads out of the tree, and what a box leaves elsewhere is gone"
        raise UsageError(f"{said}: give a path from the top of the tree, such as 'out/*.xml'.")
    words, needs_shell = _words(command), bool(_SHELL.search(command.replace(TESTS, "")))
    if not report and not needs_shell and _runs_pytest(words) and TESTS not in "".join(words[:-1]):
        return Harness(Runner.PYTEST, tuple(word for word in words if word != TESTS), python_path=python_path)
    if needs_shell:
        line = command.replace(TESTS, '"$@"') if TESTS in command else f'{command} "$@"'
        words = ["sh", "-c", line, "sh", TESTS]
    elif TESTS not in command:
        words.append(TESTS)
    runner = Runner.REPORT if report else Runner.COMMAND
    return Harness(runner, tuple(words), python_path=python_path, report=report)


def command_for(harness: Harness, path: str) -> tuple[str, ...]:
    """Return the program and its arguments that run the tests of one file, which stands where "{tests}" does."""
    return tuple(word.replace(TESTS, path) for word in harness.command)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"The test command cannot be read ({error}): check the quotes of --test-cmd.") from error
    if not words:
        raise UsageError("The test command is empty: leave --test-cmd out, or name a program.")
    return ["env", *words] if _VARIABLE.fullmatch(words[0]) else words


def _runs_pytest(words: list[str]) -> bool:
    program = next(word for word in [*words, ""] if word != "env" and not _VARIABLE.fullmatch(word))
    asked = {second for first, second in itertools.pairwise(words) if first in {"-m", "run"}}
    return not _PYTEST_PROGRAMS.isdisjoint({posixpath.basename(program), *asked})


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A step and the cases whose results it gives: in a `record` with seals of `key`, or by its status without one.

    `format` names that of the reports in a record, and `report` where the user's command was to leave them; without a
    format it has the events of our own reporters.
    """

    step: Step
    cases: tuple[Case, ...]
    record: str = ""
    key: str = ""
    canaries: int = 0
    files: tuple[PlacedFile, ...] = ()
    format: str = ""
    report: str = ""


@dataclass(frozen=True, slots=True)
class Planner:
    """How the tests of one run become steps.

    `python` runs our driver; `case_seconds` is what one test may take, `room` the size of the largest record. With a
    `budget` of seconds no test is begun once those before have used it up, and a file has a quarter of it at most.
    So many `canaries`, tests of ours, are drawn by the `seed`, each for a place among the others. No box is told the
    seed, which the keys of the records hang on: plans of later steps lie there to be read.
    """

    harness: Harness
    python: str
    case_seconds: float
    room: int
    variables: tuple[tuple[str, str], ...] = ()
    budget: float | None = None
    canaries: int = 0
    seed: str = ""

    def together(self, cases: Sequence[Case]) -> tuple[Task, ...]:
        """Return one step for all tests of a member that a runner tells of, and one for each distinct command."""
        groups = dict[str, list[Case]]()
        for case in self._told(cases):
            groups.setdefault(self._member(case.id) if self.harness.runner.is_python else "", []).append(case)
        tasks = (self._task(tuple(some), number, FILE_TESTS) for number, some in enumerate(groups.values()))
        return (*tasks, *self._commands(cases))

    def one_by_one(self, cases: Sequence[Case]) -> tuple[Task, ...]:
        """Return a step for each test, so that none is kept from its end by another."""
        tasks = (self._task((case,), number, 1) for number, case in enumerate(self._told(cases), 1))
        return (*tasks, *self._commands(cases))

    def _told(self, cases: Sequence[Case]) -> list[Case]:
        """Return the cases that a runner tells of, which no command stands for."""
        return [case for case in cases if not case.command and self.harness.runner is not Runner.COMMAND]

    def _member(self, path: str) -> str:
        above = (folder for folder in self.harness.members if path.startswith(f"{folder}/"))
        return max(above, key=len, default="")

    def _task(self, cases: tuple[Case, ...], number: int, file_tests: int) -> Task:
        """Return the step that runs such tests and leaves the record with this number; a file counts as so many."""
        record = f"{BOX}/record-{number}.jsonl"
        plan: dict[str, Any] = {
            "runner": self.harness.runner.value,
            "command": self.harness.command,
            "wanted": list(dict.fromkeys(case.id for case in cases)),
            "seconds": self.case_seconds,
            "room": self.room,
            "budget": self.budget,
            "record": record,
            "canaries": self.canaries,
            "seed": hashlib.sha256(f"{self.seed} {number}".encode()).hexdigest(),
        }
        if self.harness.runner.is_python:
            seconds = STARTUP + self.case_seconds * sum(1 if "::" in case.id else file_tests for case in cases)
        else:
            plan |= self._of_reports(cases)
            seconds = sum(group["seconds"] for group in plan["groups"])
        text = json.dumps(plan).encode()
        key = hashlib.sha256(f"key {self.seed} ".encode() + text).hexdigest()
        programs = _programs(PROGRAMS if self.harness.runner.is_python else ("amini_run", "amini_report"))
        files = (*programs, PlacedFile(f"{BOX}/plan-{number}.json", text))
        digest = hashlib.sha256(b"\0".join(file.data or b"" for file in files)).hexdigest()
        argv = (*starting(self.python), "-I", "-S", "-c", LOADER, digest, *(file.path for file in files))
        variables = (*self.variables, (KEY, key))
        step = Step(argv, ".", seconds, (record,), self.harness.python_path, variables)
        return Task(step, cases, record, key, self.canaries, files, plan.get("format", ""), self.harness.report)

    def _of_reports(self, cases: tuple[Case, ...]) -> dict[str, Any]:
        """Return what the driver of a runner of another language is told, which passes its reports on."""
        row = ROWS.get(self.harness.runner) or _reporting(self.harness.report)
        apart = tuple(case.path for case in cases if case.origin is Origin.GENERATED and case.data is not None)
        groups = dict[tuple[str, str], list[str]]()
        for file in dict.fromkeys(case.id.partition("::")[0] for case in cases):
            folder = posixpath.dirname(file) if row.group is Group.FOLDER else ""
            own = file if row.group is Group.FILE or file in apart else folder  # a new test is apart
            groups.setdefault((self._member(file) or ".", own), []).append(file)
        tests = Counter[str]()
        for case in cases:
            tests[case.id.partition("::")[0]] += 1 if "::" in case.id else FEW_TESTS
        limits = (row.startup + self.case_seconds * sum(tests[file] for file in some) for some in groups.values())
        return {
            "groups": [
                {"files": some, "cwd": cwd, "seconds": limit}
                for ((cwd, _), some), limit in zip(groups.items(), limits, strict=True)
            ],
            "apart": apart,
            "left": row.left,
            "format": row.format,
            "canary": row.canary,
            "env": row.env,
            "free": row.free,
            "canaries": self.canaries if row.canary else 0,
        }

    def _commands(self, cases: Sequence[Case]) -> Iterator[Task]:
        """Yield a step for each distinct command line, of cases that have one or whose runner is one."""
        told, lines = {case.id for case in self._told(cases)}, dict[tuple[str, ...], list[Case]]()
        for case in (one for one in cases if one.id not in told):
            file = case.path or case.id.partition("::")[0]
            line = ("sh", "-c", case.command) if case.command else command_for(self.harness, file)
            lines.setdefault(line, []).append(case)
        for line, some in lines.items():
            step = Step(line, ".", self.case_seconds, (), self.harness.python_path, self.variables)
            yield Task(step, tuple(some))


def _reporting(report: str) -> RunnerRow:
    """Return the row of a command of the user's, which leaves a report for each file or prints TAP ("-")."""
    left, name = ("", "tap") if report == "-" else (report, "junit")
    return RunnerRow((), "", "", (), name, "", (), left=left, startup=STARTUP, free=0.0)


def support_files(tasks: Sequence[Task]) -> tuple[PlacedFile, ...]:
    """Return what the steps of these tasks need beside the tests. It is to be placed last."""
    return tuple(
        sorted(dict.fromkeys(file for task in tasks for file in task.files), key=lambda file: "plan-" in file.path)
    )


@cache
def _programs(names: tuple[str, ...]) -> tuple[PlacedFile, ...]:
    folder = resources.files("agentless_mini.testing.inside")
    return tuple(PlacedFile(f"{BOX}/{name}.py", (folder / f"{name}.py").read_bytes()) for name in names)


# --- what a patch may not change -------------------------------------------------------------------------------------

CONFIGURATION = frozenset(
    {"pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"}
)
"""What pytest reads as its configuration, checked against 7.4 to 9.2. unittest's and django's runner read no file."""
_SHARED = frozenset({"pyproject.toml", "tox.ini", "setup.cfg", "package.json", "Cargo.toml"})
_RUNNING = re.compile(r"test|coverage|tox|nose", re.IGNORECASE)  # in the name of a table: it is about running tests
_NAMES = CONFIGURATION | {"conftest.py", "sitecustomize.py", "usercustomize.py"}
_READ = (".pth", ".dist-info", ".egg-info")  # by Python's start and the search for plugins, where imports begin
# No patch may stand in for these, whatever else the environment has.
STANDARD = sys.stdlib_module_names | {*PROGRAMS, "sitecustomize", "usercustomize", "pytest", "_pytest", "pluggy"}


def new_modules(snapshot: Snapshot, changes: Sequence[FileChange], harness: Harness) -> Mapping[str, str]:
    """Return the files that a patch adds where imports begin and `guards` leaves, with the name of each module.

    Imports begin at the top, in `src` and `lib`, where the tests run, and in the folder of a test or of its outermost
    package. A name that the tree's own modules have at the first of these is not new.
    """
    tool = is_test_tool(snapshot)
    added = [one.path for one in changes if one.before is None and not _is_guarded(one.path, tool, harness.runner)]
    held = snapshot.by_path() if added else {}
    roots = {".", *_ROOTS, *map(posixpath.normpath, harness.python_path)}
    own = {_module(path, roots) for path in held}
    for path in filter(is_test_path, held):
        folder = posixpath.dirname(path)
        while f"{folder}/__init__.py" in held:
            folder = posixpath.dirname(folder)
        roots.add(folder or ".")
    return {path: name for path in added if (name := _module(path, roots)) and name not in own}


def _module(path: str, roots: Container[str]) -> str:
    """Return the name of the module or package that begins at a root with this file, "" where none does."""
    folder, _, name = path.replace("/__init__.", ".").rpartition("/")
    return name.partition(".")[0] if name.endswith((".py", ".pyc", ".so")) and (folder or ".") in roots else ""


def guards(
    snapshot: Snapshot, changes: Sequence[FileChange], hiding: Container[str] = (), runner: Runner = Runner.PYTEST
) -> tuple[PlacedFile, ...]:
    """Return what undoes a patch's `changes` of tests and of what runs them, to be placed after the patch's own files.

    What runs them is what pytest reads, and beside that what the `runner` of another language does.
    It tells by names alone, and takes away the files at the paths `hiding`, which stand in for modules of the
    environment. Files of the tree get their old content. The files of a repository that is itself a tool for tests are
    only undone where their name leaves no doubt: what looks like a test there may be what is repaired.
    """
    tool = is_test_tool(snapshot)
    return tuple(
        PlacedFile(change.path, change.before, change.mode)
        for change in changes
        if change.path in hiding or (_is_guarded(change.path, tool, runner) and not _leaves_the_runner(change))
    )


def _is_guarded(path: str, tool: bool, runner: Runner) -> bool:
    parts = path.split("/")
    if runner in ROWS and re.fullmatch(ROWS[runner].reads or r"(?!)", path):
        return True
    is_read = parts[-1] in _NAMES or any(part.lower().endswith(_READ) for part in parts)
    return is_read or parts[0] == BOX or (not tool and is_test_path(path))


def _leaves_the_runner(change: FileChange) -> bool:
    """Tell whether a change of a file that others read too leaves what it says of running and measuring tests."""
    name = posixpath.basename(change.path)
    if name not in _SHARED or change.before is None or change.after is None:
        return False
    try:
        return _of_the_runner(name, change.before.decode()) == _of_the_runner(name, change.after.decode())
    except (ValueError, RecursionError):  # no UTF-8, or no TOML
        return False


def _of_the_runner(name: str, text: str) -> Sequence[object]:
    """Return the tables of a file that are about tests, as the runner would read them. Raises ValueError."""
    if name == "package.json":
        said = json.loads(text)
        names = ("jest", "mocha", "vitest", "scripts", "type", "babel", "ts-node")
        return [said.get(key) for key in names] if isinstance(said, dict) else []
    if name == "Cargo.toml":
        said = tomllib.loads(text)
        own = said.get("package")
        free = {"dependencies", "features", "package", "workspace"}
        built = [own.get(key) for key in ("build", "autotests")] if isinstance(own, dict) else [own]
        return [*built, *(pair for pair in said.items() if pair[0] not in free)]
    if name.endswith(".toml"):
        tool = tomllib.loads(text).get("tool", {})
        return [pair for pair in tool.items() if _RUNNING.search(pair[0])] if isinstance(tool, dict) else [tool]
    head, *sections = re.split(r"^(?=\[)", "\n".join(text.splitlines()), flags=re.MULTILINE)  # lines as pytest has them
    return [head, *(section for section in sections if _RUNNING.search(section.partition("\n")[0]))]


def ran_without(path: str) -> str:
    """Return the note that tests ran without what a patch does to a file."""
    return f"A patch adds or changes {path}: tests ran without that."
