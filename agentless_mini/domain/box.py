"""The sandbox port: what is run in a box, and what came of it."""

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentless_mini.domain.repair import FileChange
from agentless_mini.domain.sampling import canonical_json, plain

JOB_VERSION = "1"
MIB = 1024 * 1024


class BoxUser(enum.StrEnum):
    """Who the tests of a box are. Neither has any capability."""

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

    `files` are put over the tree in their order, so that of two with one path the later one counts: first those of
    the patch (`placed_files`), then the tests, which a patch therefore cannot replace. `steps` run in their order, in
    one box; what one leaves in the tree and in /tmp is there for the next, its processes are not.
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
