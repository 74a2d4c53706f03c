"""Tests, and what they say of a patch.

A test is a `Case` here, because pytest collects whatever is named Test.
"""

import enum
from dataclasses import dataclass
from pathlib import PurePosixPath

from agentless_mini.domain.box import Environment, ImageTree, PackedTree


class Origin(enum.StrEnum):
    """Where a test comes from, which decides what it says."""

    GIVEN = "given"  # by the user or named in the issue: it fails now, and a fix makes it pass
    GENERATED = "generated"  # by the model: it reproduced the issue on the tree as it is
    REGRESSION = "regression"  # the repository's own: it passes now, and no fix may break it

    @property
    def reproduces(self) -> bool:
        """Return whether a fix makes such a test pass that failed before."""
        return self is not Origin.REGRESSION


class Runner(enum.StrEnum):
    """What runs the tests of a repository."""

    PYTEST = "pytest"
    UNITTEST = "unittest"
    DJANGO = "django"  # django's own tests/runtests.py
    SCRIPT = "script"  # a file that Python runs: status 0 is a pass
    COMMAND = "command"  # the user's command line: status 0 is a pass


@dataclass(frozen=True, slots=True)
class Harness:
    """How the tests of one repository are run.

    `command` is the program and its first arguments, before what selects the tests; `folder` is where it runs and
    `python_path` what stands first in PYTHONPATH, all relative to the tree. `variables` are added to the environment
    of all that runs tests.
    """

    runner: Runner
    command: tuple[str, ...]
    folder: str = "."
    python_path: tuple[str, ...] = (".",)
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One test, or all tests of one file counted as one.

    `id` is `path/to/test_file.py`, or that and the way to one test in it (`::Class::method`, `::function[a-1]`),
    whatever the runner calls it. `data` is what stands at `path` in every box; None leaves what the tree holds before
    any patch. A `command` is run by `sh -c` instead, and then `path` is empty. `votes` tells how many samples wrote it.
    """

    id: str
    origin: Origin
    path: str = ""
    data: bytes | None = None
    command: str = ""
    votes: int = 1


@dataclass(frozen=True, slots=True)
class GivenTests:
    """The user's own failing tests.

    `tests` are PATH, or PATH::NAME as pytest writes it, and fail while the issue exists; `commands` are lines for
    `sh -c`, run at the top of the tree, whose status is not 0 then. Where a patch is `required` to pass them, nothing
    is sampled before all were seen to fail.
    """

    tests: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    required: bool = False

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the cases that these tests and commands become."""
        return (*map(case_id, self.tests), *self.commands)


def case_id(said: str) -> str:
    """Return the id of the case that a test the user names becomes: one way of writing each path."""
    file, mark, name = said.partition("::")
    return f"{PurePosixPath(file.replace(chr(92), '/')).as_posix()}{mark}{name}"


class Outcome(enum.StrEnum):
    """What came of a test. The values are stable: records hold them."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"  # it ran and found something wrong
    ERROR = "error"  # it could not run to its end: set-up, collection, a crash of its process
    TIMEOUT = "timeout"
    SKIP = "skip"
    NOT_COLLECTED = "not-collected"  # there is no such test


TOO_BUSY = "The machine was too busy to run it"
"""How the message of a fault begins that is the machine's."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a test that did not pass ended with.

    `kind` is the exception's class name ("AssertionError"; empty where there was none), `message` its text, cut to
    2,000 characters. `path` (relative to the tree; empty outside of it) and `line` say where it was raised. All of it
    is untrusted.
    """

    kind: str
    message: str
    path: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of one case in one box. `seconds` are its own, as its process says: see `testing.inside.amini_record`.

    They are the processor's, of the process and of those that it started, or a quarter of the clock's where that is
    more, since it waits; of a command they are the clock's.
    """

    id: str
    outcome: Outcome
    seconds: float = 0.0
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all cases say of one distinct patch, by its normal form, in the order of `Execution.cases`.

    Where others passed more of the tests that are given, there may be the results of these alone, which come first.
    `refusal` says why the patch could not be put over the tree of the box; there are no results then.
    """

    normal: str
    results: tuple[CaseResult, ...]
    refusal: str = ""

    def passed(self) -> frozenset[str]:
        """Return the ids of the cases that passed."""
        return frozenset(result.id for result in self.results if result.outcome is Outcome.PASS)


@dataclass(frozen=True, slots=True)
class Execution:
    """What the execution of all distinct patches came to. `before` has the results without any patch."""

    cases: tuple[Case, ...]
    before: tuple[CaseResult, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Regressions:
    """What became of the regression tests that were wanted: `found` pass before any patch, `run` met the patches.

    `why` is a clause that says why none was run, "" where one was.
    """

    found: int = 0
    run: int = 0
    why: str = ""

    @property
    def lost(self) -> int:
        """Return how many met no patch: over the limits, or not the same twice or beside the others."""
        return self.found - self.run

    def __str__(self) -> str:
        """Say it to people."""
        warning = f"; WARNING: none tells what a patch breaks: {self.why}" if self.why else ""
        return f"{self.found} found, {self.run} run, {self.lost} lost{warning}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tests of a run happen: the environment, and the tree that every box starts from."""

    environment: Environment
    tree: PackedTree | ImageTree
