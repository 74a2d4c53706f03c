"""Turns tests into what a box is given: steps, and the files that they need or that a patch may not change.

Tests of one runner share a step, and as few processes as they let live (`inside.amini_run`); the user's commands have a
step for each. The same tests always become the same steps: a record of the box is found again by them.
"""

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from agentless_mini.chain.lexical import is_test_path, is_test_tool
from agentless_mini.domain import Case, FileChange, Harness, PlacedFile, Runner, Snapshot, Step
from agentless_mini.testing.harness import command_for

BOX = ".amini-box"
"""The folder of the tree that everything of ours lies in."""

STARTUP = 30.0  # seconds that a step has beyond what its tests may take
FILE_TESTS = 10  # a file counts for the time of so many tests
PROGRAMS = ("amini_run", "amini_record", "amini_pytest", "amini_unittest", "amini_script")


@dataclass(frozen=True, slots=True)
class Task:
    """A step and the cases whose results it gives: in `record`, or by its status where that is empty."""

    step: Step
    cases: tuple[Case, ...]
    record: str = ""
    files: tuple[PlacedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Planner:
    """How the tests of one run become steps.

    `python` runs our driver; `case_seconds` is what one test may take, `room` the size of the largest record. With a
    `budget` of seconds no test is begun once those before have used it up, and a file has a quarter of it at most.
    """

    harness: Harness
    python: str
    case_seconds: float
    room: int
    variables: tuple[tuple[str, str], ...] = ()
    budget: float | None = None

    def together(self, cases: Sequence[Case]) -> tuple[Task, ...]:
        """Return one step for all tests that a runner tells of, and one for each distinct command."""
        reported = tuple(case for case in cases if not self._is_command(case))
        seconds = STARTUP + sum(self.case_seconds * (1 if "::" in case.id else FILE_TESTS) for case in reported)
        batch = (self.reported(reported, seconds, 0),) if reported else ()
        return (*batch, *self._commands([case for case in cases if self._is_command(case)]))

    def one_by_one(self, cases: Sequence[Case]) -> tuple[Task, ...]:
        """Return a step for each test, so that none is kept from its end by another."""
        reported = [case for case in cases if not self._is_command(case)]
        steps = (self.reported((case,), STARTUP + self.case_seconds, number) for number, case in enumerate(reported, 1))
        return (*steps, *self._commands([case for case in cases if self._is_command(case)]))

    def reported(self, cases: tuple[Case, ...], seconds: float, number: int) -> Task:
        """Return the step that runs such tests within `seconds` and leaves the record with this number."""
        plan, record = f"{BOX}/plan-{number}.json", f"{BOX}/record-{number}.jsonl"
        text = {
            "runner": self.harness.runner.value,
            "command": self.harness.command,
            "wanted": list(dict.fromkeys(case.id for case in cases)),
            "seconds": self.case_seconds,
            "room": self.room,
            "budget": self.budget,
            "record": record,
        }
        step = Step(
            (self.python, "-E", "-s", self._seen(f"{BOX}/amini_run.py"), self._seen(plan)),
            self.harness.folder,
            seconds,
            (record,),
            (BOX, *self.harness.python_path),
            self.variables,
        )
        return Task(step, cases, record, (PlacedFile(plan, json.dumps(text).encode()),))

    def _commands(self, cases: Sequence[Case]) -> Iterator[Task]:
        words = {case.id: self._words(case) for case in cases}
        for argv in dict.fromkeys(words.values()):
            path, variables = self.harness.python_path, self.variables
            step = Step(argv, self.harness.folder, self.case_seconds, python_path=path, variables=variables)
            yield Task(step, tuple(case for case in cases if words[case.id] == argv))

    def _words(self, case: Case) -> tuple[str, ...]:
        path = case.path or case.id.partition("::")[0]
        return ("sh", "-c", case.command) if case.command else command_for(self.harness, self._seen(path))

    def _is_command(self, case: Case) -> bool:
        return bool(case.command) or self.harness.runner is Runner.COMMAND

    def _seen(self, path: str) -> str:
        """Return a path of the tree as it is from where the tests run."""
        return posixpath.relpath(path, self.harness.folder)


def support_files(tasks: Sequence[Task]) -> tuple[PlacedFile, ...]:
    """Return what the steps of these tasks need beside the tests. It is to be placed last."""
    plans = tuple(file for task in tasks for file in task.files)
    return (*_programs(), *plans) if plans else ()


@cache
def _programs() -> tuple[PlacedFile, ...]:
    folder = resources.files("agentless_mini.testing.inside")
    programs = (PlacedFile(f"{BOX}/{name}.py", (folder / f"{name}.py").read_bytes()) for name in PROGRAMS)
    return (*programs, PlacedFile(f"{BOX}/empty.ini", b""))


# --- what a patch may not change -------------------------------------------------------------------------------------

_NAMES = frozenset({"conftest.py", "pytest.ini", ".pytest.ini", "sitecustomize.py", "usercustomize.py"})
# A new module of one of these names would stand in for the runner, because the tree comes first on the way to modules.
_RUNNERS = frozenset({"pytest", "_pytest", "pluggy", "unittest", "runpy", "json", "signal", *PROGRAMS})


def guards(snapshot: Snapshot, changes: Sequence[FileChange]) -> tuple[PlacedFile, ...]:
    """Return what undoes a patch's `changes` of tests and of what runs them, to be placed after the patch's own files.

    It tells by names alone. Files of the tree get their old content, new ones are taken away; a configuration that
    holds more than that of the tests (pyproject.toml, setup.cfg, tox.ini) is left as the patch has it. The files of a
    repository that is itself a tool for tests are only undone where their name leaves no doubt: what looks like a test
    there may be what is repaired.
    """
    tool = is_test_tool(snapshot)
    return tuple(PlacedFile(change.path, change.before, change.mode) for change in changes if _is_guarded(change, tool))


def _is_guarded(change: FileChange, tool: bool) -> bool:
    path = PurePosixPath(change.path)
    if path.name in _NAMES or path.suffix == ".pth" or path.parts[0] == BOX:
        return True
    first = path.parts[1] if path.parts[0] in {"src", "lib"} and len(path.parts) > 1 else path.parts[0]
    hides_runner = change.before is None and first.removesuffix(".py") in _RUNNERS
    return not tool and (hides_runner or is_test_path(change.path))
