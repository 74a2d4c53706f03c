"""What the store remembers of runs, as frozen values: what a run started from, what it used, and how it ended.

They differ from the domain's types where the store keeps less: a recorded patch is its diff, without the files.
"""

import enum
from dataclasses import dataclass
from typing import NewType

from agentless_mini.domain import (
    Case,
    EditTask,
    Environment,
    Execution,
    Finish,
    ImageTree,
    Issue,
    Localization,
    Message,
    PackedTree,
    Rejected,
    Stage,
    Usage,
)

RunId = NewType("RunId", int)


class RunStatus(enum.StrEnum):
    """How far a run came."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # stopped by the user, or its process was killed


@dataclass(frozen=True, slots=True)
class RunStart:
    """All that a run starts from. `settings` and `versions` are the texts of JSON objects, without secrets.

    `repository`, `commit` and `tree` are the snapshot's name, commit and digest.
    """

    model: str
    instance: str
    repository: str
    commit: str
    tree: str
    issue: Issue
    command: tuple[str, ...] = ()
    settings: str = "{}"
    versions: str = "{}"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run. Times are seconds since 1970; `finished` and `exit_code` are None while it runs or if it was killed."""

    id: RunId
    start: RunStart
    started: float
    status: RunStatus
    finished: float | None
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line of the list of runs: the samples that it used, and the vote (0 of 0 where nothing was chosen)."""

    run: RunRecord
    samples: int
    votes: int
    valid: int


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """What was asked: the messages, and the task as data where the decoding is constrained."""

    digest: str
    messages: tuple[Message, ...]
    task: EditTask | None


@dataclass(frozen=True, slots=True)
class PatchRecord:
    """A recorded patch: `diff` as `git apply` reads it, `normal` equal where two count as one vote, paths sorted.

    `undefined` are the names that it uses undefined.
    """

    diff: bytes
    normal: str
    paths: tuple[str, ...]
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """A sample as a run used it, without its text (`Store.get_sample`) and prompt (`Store.prompt`).

    `replayed` says that an earlier run had paid for it. `order` and `outcome` are None where neither a candidate nor
    a test was made of it: in localization, or because the run ended before. A Case is a test that was kept.
    `round` and `repeats` are as in `domain.Candidate`.
    """

    key: str
    index: int
    stage: Stage
    prompt: str
    finish: Finish
    usage: Usage
    replayed: bool
    order: int | None
    outcome: PatchRecord | Case | Rejected | None
    round: int = 0
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """A sandbox run as a run used it, without its result (`Store.get_box`).

    `steps` has the program of each step, with arguments cut to 200 characters; `files` are the paths of what was put
    over the tree. `seconds` is the time of all steps, `replayed` as in `SampleRecord`.
    """

    key: str
    environment: Environment
    tree: PackedTree | ImageTree
    files: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    seconds: float
    replayed: bool


@dataclass(frozen=True, slots=True)
class ChoiceRecord:
    """The winner, as in `domain.Choice`."""

    patch: PatchRecord
    votes: int
    valid: int
    reason: str
    passed: int = 0
    reproducing: int = 0
    broken: int = 0
    regressions: int = 0


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """How a run was decided. `choice` is None where no sample became a valid patch.

    `execution` is None where nothing could be run; the messages of its faults are cut to 500 characters.
    """

    localization: Localization
    choice: ChoiceRecord | None
    notes: tuple[str, ...]
    execution: Execution | None = None


@dataclass(frozen=True, slots=True)
class RunTrace:
    """A run with its samples, by stage (those of an evolution after the repairs that it goes on from) and order.

    `prediction` is None where it did not come that far. `boxes` are in the order in which it got their results.
    `scores` are what a reward model gave patches, by normal form; it was not asked of all.
    """

    run: RunRecord
    samples: tuple[SampleRecord, ...]
    prediction: PredictionRecord | None
    boxes: tuple[BoxRecord, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class EvalStart:
    """All that an evaluation starts from. `settings` and `versions` are the texts of JSON objects, without secrets.

    `fingerprint` is that of the dataset's rows; `started` in seconds since 1970.
    """

    name: str
    dataset: str
    fingerprint: str
    model: str
    settings: str = "{}"
    versions: str = "{}"
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance of an evaluation, with what only a report may know: `files` are those of the true fix, sorted."""

    id: str
    repo: str
    difficulty: str
    created: str
    files: tuple[str, ...]
    image: str


class AttemptState(enum.StrEnum):
    """How an instance ended."""

    PREDICTED = "predicted"  # the chain came to its end; what it chose is not graded yet
    DONE = "done"  # and all that was to be graded is: a patch, or none
    FAILED = "failed"  # the chain cannot do it (no file fits the context): a wrong answer
    INFRASTRUCTURE = "infrastructure"  # the machine did not do its part: no answer; tried again by the next run


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """How far an instance came, in `seconds`. `stage` and `failure` (a sentence) are "" where it is DONE."""

    instance: str
    run: RunId | None
    state: AttemptState
    stage: str = ""
    failure: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GradeRecord:
    """What the official harness said of a patch of an instance; `diff` is the SHA-256 of its bytes, in hex.

    `normal` is the normal form that it stands for, `report` the harness's own report of the instance as JSON.
    """

    key: str
    instance: str
    normal: str
    diff: str
    resolved: bool
    applied: bool
    report: str
    version: str
    seconds: float
