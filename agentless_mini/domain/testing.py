"""Tests and what they say of a patch, and the boxes where they run: what is run in one, and what came of it.

A test is a `Case` here, because pytest collects whatever is named Test.
"""

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from agentless_mini.domain.repair import FileChange
from agentless_mini.domain.sampling import canonical_json, plain

JOB_VERSION = "1"
MIB = 1024 * 1024
CARRIED = "/opt/amini/python/bin/python3"
"""The path, in an image, of the Python that amini brings where there is none."""


def starting(python: str) -> tuple[str, ...]:
    """Return the words that start a Python of an environment: one that amini brought needs its own loader."""
    home = CARRIED.partition("/bin/")[0]
    return (f"{home}/so/loader", "--library-path", f"{home}/so", python) if python == CARRIED else (python,)


class BoxUser(enum.StrEnum):
    """Who the tests of a box are, without any capability."""

    NOBODY = "nobody"
    ROOT = "root"  # for images whose files only root may read; ignored where a box has no image


@dataclass(frozen=True, slots=True)
class Environment:
    """Where tests run, by identity: a Docker image's id (`sha256:...`), or the name of a virtual environment's content.

    `python` is a Python 3.7 or newer in there, by path or by a name on its PATH; it runs the box, not the tests.
    """

    identity: str
    python: str = "python3"
    user: BoxUser = BoxUser.NOBODY


@dataclass(frozen=True, slots=True)
class PackedTree:
    """The tree of the `Pack` with this digest. It is put at `folder`, an absolute path in the box."""

    digest: str
    folder: str = "/repo"


@dataclass(frozen=True, slots=True)
class ImageTree:
    """The tree that the environment's image has at `folder`, an absolute path, without its `.git`."""

    folder: str


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file to put over the tree, or one to take away where `data` is None.

    `path` and `mode` are as in `SourceFile`. No symlink is followed on the way.
    """

    path: str
    data: bytes | None
    mode: str = "100644"


@dataclass(frozen=True, slots=True)
class Step:
    """One program that a box runs.

    `argv[0]` is looked up on the box's PATH. `folder`, `results` and `python_path` are relative to the tree: where it
    runs, the files to bring back once it has ended (whatever lies there is removed before), and what stands first in
    PYTHONPATH. `variables` are added to the environment.
    """

    argv: tuple[str, ...]
    folder: str = "."
    seconds: float = 60.0
    results: tuple[str, ...] = ()
    python_path: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BoxLimits:
    """What a box may use. Sizes are in bytes.

    `disk` is that of each of the two places that can be written, the tree's and /tmp; both count as memory.
    `seconds` is the wall-clock time of all steps together. `output` is kept of one step's output, `result` is the
    largest result file that is brought back.
    """

    memory: int = 2048 * MIB
    pids: int = 256
    cpus: float = 1.0
    disk: int = 1024 * MIB
    seconds: float = 900.0
    output: int = 64 * 1024
    result: int = 4 * MIB


@dataclass(frozen=True, slots=True)
class Job:
    """A complete description of a sandbox run: equal jobs may be answered from a record.

    `files` are put over the tree in their order: first those of the patch (`placed_files`), then the tests, which a
    patch therefore cannot replace. `steps` run in their order, in one box; what one leaves in the tree and in /tmp is
    there for the next, its processes are not.
    """

    environment: Environment
    tree: PackedTree | ImageTree
    files: tuple[PlacedFile, ...]
    steps: tuple[Step, ...]
    limits: BoxLimits = field(default_factory=BoxLimits)

    def key(self) -> str:
        """Return the identity of the run, in hex."""
        files = [
            (file.path, file.mode, None if file.data is None else hashlib.sha256(file.data).hexdigest())
            for file in self.files
        ]
        identity = {
            "version": JOB_VERSION,
            "environment": plain(self.environment),
            "tree": [type(self.tree).__name__, plain(self.tree)],
            "files": files,
            "steps": [{**plain(step), "seconds": float(step.seconds)} for step in self.steps],
            "limits": {name: float(value) for name, value in plain(self.limits).items()},
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def placed_files(changes: Sequence[FileChange]) -> tuple[PlacedFile, ...]:
    """Return what puts changes over the tree that they are of."""
    return tuple(PlacedFile(change.path, change.after, change.mode) for change in changes)


class Ending(enum.StrEnum):
    """How a step ended. The values are stable: records hold them."""

    EXITED = "exited"  # by itself: with a status, or killed by a signal of its own
    TIMED_OUT = "timed-out"  # killed at its own limit or the box's
    OUT_OF_MEMORY = "out-of-memory"  # killed, or a process of it, for what it used of memory, /tmp and the tree
    STARVED = "starved"  # killed long after its limit, in which the machine had no time for it
    BOX_DIED = "box-died"  # the box ended under it
    NOT_RUN = "not-run"  # the box's time or life was over before


@dataclass(frozen=True, slots=True)
class Output:
    """What a step printed, standard output and error together: the beginning, and the end after `cut` bytes."""

    head: bytes = b""
    tail: bytes = b""
    cut: int = 0

    def text(self) -> str:
        """Return it for people; a line in the middle says how much was cut."""
        gap = f"\n[... {self.cut} bytes cut ...]\n".encode() if self.cut else b""
        return (self.head + gap + self.tail).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that a step left, by its path as the step names it."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one step. `status` is set where it EXITED: its exit status, or minus the signal that ended it.

    `results` has those of `Step.results` that are regular files within the limit, in their order.
    """

    ending: Ending
    status: int | None = None
    output: Output = field(default_factory=Output)
    results: tuple[ResultFile, ...] = ()
    seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Return whether the program ended by itself with status 0."""
        return self.ending is Ending.EXITED and self.status == 0


@dataclass(frozen=True, slots=True)
class JobResult:
    """What came of a job, one result for each step.

    `refusal` says why a file could not be put over the tree (its folder is a symlink, say); no step has run then. It
    is empty otherwise.
    """

    steps: tuple[StepResult, ...]
    refusal: str = ""


class Origin(enum.StrEnum):
    """Where a test comes from, which decides what it says."""

    GIVEN = "given"  # by the user: it fails now, and a fix makes it pass
    GENERATED = "generated"  # by the model, or named in the issue: it reproduced the issue on the tree as it is
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
    COMMAND = "command"  # the user's command line: status 0 is a pass
    REPORT = "report"  # the user's command line, which leaves JUnit XML or prints TAP
    # Of other languages: see `domain.runners`.
    NODE = "node --test"
    JEST = "jest"
    VITEST = "vitest"
    MOCHA = "mocha"
    GO = "go test"
    CARGO = "cargo test"
    MAVEN = "maven"
    GRADLE = "gradle"
    RSPEC = "rspec"
    PHPUNIT = "phpunit"
    CTEST = "ctest"

    @property
    def is_python(self) -> bool:
        """Return whether it is a runner of Python's, in whose process our reporter is."""
        return self in {Runner.PYTEST, Runner.UNITTEST, Runner.DJANGO}


@dataclass(frozen=True, slots=True)
class Harness:
    """How the tests of one repository are run.

    `command` is the program and its first arguments, before what selects the tests; `python_path` is what stands first
    in PYTHONPATH, relative to the tree. `variables` are added to the environment of all that runs tests. `members` are
    the folders of projects inside of the repository, each with a configuration of its own, and maybe tests of the same
    names as others'. `report` is where a user's command leaves JUnit XML, "-" where it prints TAP.
    """

    runner: Runner
    command: tuple[str, ...]
    python_path: tuple[str, ...] = (".",)
    variables: tuple[tuple[str, str], ...] = ()
    members: tuple[str, ...] = ()
    report: str = ""


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
    """What a test that did not pass ended with; of a command, how it ended and the end of what it printed.

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
    """What came of one case in one box.

    `seconds` are its own, less those in which its process waited for a processor (see `testing.inside.amini_record`);
    of a command they are the clock's.
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
    """What became of the regression tests that were wanted: `run` of those `found` met the patches.

    Found are those that pass before any patch, and those that there was no time for. `why` says in a clause why tests
    were lost, or why none was run, "" where none was lost.
    """

    found: int = 0
    run: int = 0
    why: str = ""

    @property
    def lost(self) -> int:
        """Return how many met no patch."""
        return self.found - self.run

    def __str__(self) -> str:
        """Say it to people."""
        if self.run:
            return f"{self.found} found, {self.run} run, {self.lost} lost{f' ({self.why})' if self.why else ''}"
        found = f"{self.found} found, " if self.found else ""
        return f"{found}none run; WARNING: none tells what a patch breaks: {self.why}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tests of a run happen: the environment, and the tree that every box starts from."""

    environment: Environment
    tree: PackedTree | ImageTree
