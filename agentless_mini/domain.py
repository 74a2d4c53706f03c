"""Every data type that flows between modules: frozen values, tuples instead of lists, no behaviour but derived reads.

What flows: Issue + Snapshot -> Localization -> SampleRequest -> Completion -> Edits -> Candidate -> Prediction.
Nothing here reads a file, a clock or a random number, and nothing here imports the rest of the package.
"""

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY_VERSION = "1"
JOB_VERSION = "1"


# --- what a run starts from ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Issue:
    """What is wrong, in somebody's words. `source` says where the text came from, for people only."""

    text: str
    source: str = ""


class FileKind(enum.StrEnum):
    """What can be done with an entry of the tree: only TEXT is ever shown to a model or edited."""

    TEXT = "text"
    BINARY = "binary"  # holds a NUL byte in its first 8 KiB
    LARGE = "large"  # over the size up to which contents are read
    SYMLINK = "symlink"
    SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One entry of a tree.

    `path` is relative, with `/`; bytes of a name that are not UTF-8 are surrogate escapes. `mode` is git's, in octal
    ("100644", "100755", "120000", "160000"). `data` holds the exact bytes of a TEXT file and is empty for the others.
    """

    path: str
    mode: str
    kind: FileKind
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository's tree at one moment: a commit's, or the working tree with its uncommitted and untracked files.

    `name` is a short label (a folder's or repository's name), `commit` the full id of the base commit, `digest` a
    hash of all entries. `files` is sorted by path. `ignored` lists what git ignores but the disk holds (folders end
    in "/"): a patch must not create a file there.
    """

    name: str
    commit: str
    digest: str
    files: tuple[SourceFile, ...]
    ignored: tuple[str, ...] = ()

    def by_path(self) -> Mapping[str, SourceFile]:
        """Return the entries keyed by path."""
        return {file.path: file for file in self.files}


# --- the model port ------------------------------------------------------------------------------------------------


class Stage(enum.StrEnum):
    """The stage that asks a model, as the header `X-Amini-Stage` names it."""

    LOCALIZE = "localize"
    REPAIR = "repair"


class Role(enum.StrEnum):
    """Who says a message of a chat."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A run of whole lines of one file. `first` is the 1-based number of its first line in the file."""

    first: int
    text: str


@dataclass(frozen=True, slots=True)
class ShownFile:
    """What a prompt shows of a file: one excerpt that is all of it, or windows in order of line number."""

    path: str
    excerpts: tuple[Excerpt, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class EditTask:
    """What a repair prompt asks for, as data: for samplers that decode under a constraint instead of freely."""

    issue: str
    files: tuple[ShownFile, ...]


class Decoding(enum.StrEnum):
    """How a model is made to answer a repair request."""

    FREE = "free"  # the edit format is asked for and hoped for
    GRAMMAR = "grammar"  # the edit format is enforced: SEARCH can only be lines that are shown
    LINES = "lines"  # each line is rewritten in place and the rewrites are ranked (line rewriting)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the samples of one request are drawn. `seed` is the seed of sample 0; sample i is drawn with seed + i."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A complete description of a model call: equal requests may be answered from a record.

    `indices` are the samples wanted of this prompt, ascending, each drawn once: a request for (0, 1, 2, 3) may later
    be repeated for what is owed of it. `stage` and `instance` only account for the call (headers); they are no part
    of its identity, and neither is the endpoint. `task` is set where the decoding is not FREE.
    """

    model: str
    messages: tuple[Message, ...]
    params: SamplingParams
    indices: tuple[int, ...]
    stage: Stage
    instance: str
    decoding: Decoding = Decoding.FREE
    task: EditTask | None = None

    def prompt_body(self) -> str:
        """Return the canonical JSON of what is asked: messages and task."""
        return canonical_json({"messages": _plain(self.messages), "task": _plain(self.task)})

    def prompt_digest(self) -> str:
        """Return the SHA-256 of `prompt_body`, in hex."""
        return hashlib.sha256(self.prompt_body().encode()).hexdigest()

    def key(self) -> str:
        """Return the identity of the call without its indices: one sample is (key, index)."""
        identity = {
            "version": KEY_VERSION,
            "model": self.model,
            "prompt": self.prompt_digest(),
            "params": _plain(self.params),
            "decoding": self.decoding.value,
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


class Finish(enum.StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"  # cut off by the token limit: no answer
    FILTER = "filter"  # withheld by the server


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one completion. Samples that share a prompt share its cost: it is booked on one of them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample: the answer's text, and apart from it the reasoning where the server separates the two."""

    index: int
    text: str
    finish: Finish
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a run needs to know of a served model.

    `context_window` is in tokens, prompt and answer together. `engine` and `revision` are for the record ("vllm",
    "0.20.1"), empty where the server does not say. `exact_counts` tells whether tokens are counted by the model's own
    tokenizer, or estimated upwards.
    """

    name: str
    context_window: int
    decoding: Decoding = Decoding.FREE
    engine: str = ""
    revision: str = ""
    exact_counts: bool = True


# --- what comes of an answer ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to split the body of an edit: the lines to find and the lines to put there.

    Each line ends in a newline, except a last one of which the answer says that the file has none after it.
    """

    search: str
    replace: str


@dataclass(frozen=True, slots=True)
class Edit:
    """One SEARCH/REPLACE edit of an answer.

    A body with one divider line has one reading. Where the text itself holds lines that look like the divider there
    are several, in the order of their dividers; the applier takes the one with the longest SEARCH that matches.
    """

    path: str
    readings: tuple[Reading, ...]


class Reason(enum.StrEnum):
    """Why an answer is no candidate. The values are stable: reports count them."""

    TRUNCATED = "truncated"
    WITHHELD = "withheld"
    NO_EDIT = "no-edit"
    MALFORMED = "malformed"
    BAD_PATH = "bad-path"
    NOT_EDITABLE = "not-editable"
    NOT_FOUND = "search-not-found"
    AMBIGUOUS = "search-ambiguous"
    EXISTS = "file-exists"
    ENCODING = "encoding"
    SYNTAX = "syntax-error"
    NO_CHANGE = "no-change"
    REFUSED_BY_GIT = "refused-by-git"


@dataclass(frozen=True, slots=True)
class Rejected:
    """An answer that became no patch. `detail` is one line for people; it may quote the answer."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file before and after, as bytes; None where it does not exist. `mode` is git's, in octal."""

    path: str
    before: bytes | None
    after: bytes | None
    mode: str


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of at least one byte.

    `diff` is what `git apply` reads: a git patch in the files' own bytes. `normal` is a digest that is equal for
    patches that differ in comments, blank lines and formatting alone. `changes` is sorted by path.
    """

    changes: tuple[FileChange, ...]
    diff: bytes
    normal: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What became of one sample. `request` is `SampleRequest.key()`; `order` is its place among all of a run."""

    request: str
    index: int
    order: int
    outcome: Patch | Rejected


@dataclass(frozen=True, slots=True)
class Localization:
    """The files to edit, as distinct lists in order of votes.

    `lists[i]` is most important first and was named by `votes[i]` samples (0: it came without a model). `named` are
    the paths that the issue itself names, `tree_shown` and `tree_total` count the files of the tree in the prompt.
    """

    lists: tuple[tuple[str, ...], ...]
    votes: tuple[int, ...]
    named: tuple[str, ...] = ()
    tree_shown: int = 0
    tree_total: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner of a vote: `votes` of `valid` candidates have its normal form; `reason` says it in one sentence."""

    patch: Patch
    votes: int
    valid: int
    reason: str

    @property
    def share(self) -> float:
        """Return the vote share in (0, 1], the confidence of mission section 1.5."""
        return self.votes / self.valid


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outcome of one issue. `choice` is None where no sample became a valid patch. `notes` are sentences for people
    about what was cut or left out."""

    localization: Localization
    candidates: tuple[Candidate, ...]
    choice: Choice | None
    notes: tuple[str, ...] = ()


# --- the sandbox port ----------------------------------------------------------------------------------------------


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


MIB = 1024 * 1024


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
            "environment": _plain(self.environment),
            "tree": [type(self.tree).__name__, _plain(self.tree)],
            "files": files,
            "steps": [{**_plain(step), "seconds": float(step.seconds)} for step in self.steps],
            "limits": {name: float(value) for name, value in _plain(self.limits).items()},
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def placed_files(patch: Patch) -> tuple[PlacedFile, ...]:
    """Return what puts a patch over the tree that it was made for."""
    return tuple(PlacedFile(change.path, change.after, change.mode) for change in patch.changes)


class Ending(enum.StrEnum):
    """How a step ended. The values are stable: records hold them."""

    EXITED = "exited"  # by itself: with a status, or killed by a signal of its own
    TIMED_OUT = "timed-out"  # killed at its own limit or the box's
    OUT_OF_MEMORY = "out-of-memory"  # killed, or a process of it, for what it used of memory, /tmp and the tree
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


# --- what a run tells while it runs --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins and will draw `samples` samples."""

    stage: Stage
    samples: int


@dataclass(frozen=True, slots=True)
class SampleDone:
    """A sample is there, fresh or from the record; `rejected` is None where it became a valid patch or file list."""

    stage: Stage
    completion: Completion
    rejected: Rejected | None


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for people: something was cut, skipped or replaced."""

    text: str


Event = StageStarted | SampleDone | Note


# --- canonical JSON: what every hash in the store is made of -------------------------------------------------------


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the one JSON text of a value: sorted keys, no blanks, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any tree of domain values
    """Turn frozen values into JSON's own types."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
