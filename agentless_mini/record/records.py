"""What the record tells of runs and evaluations, as frozen values: what one started from, used, and came to."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

from agentless_mini.domain import (
    Candidate,
    Case,
    Choice,
    EditTask,
    Environment,
    Execution,
    Finish,
    ImageTree,
    Issue,
    Message,
    PackedTree,
    Patch,
    Prediction,
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
    """All that a run starts from: the snapshot's name, commit and digest; JSON texts of settings and versions."""

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
    failure: str = ""


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
class SampleRecord:
    """A sample as a run used it, without its text (`Store.get_sample`) and prompt (`Store.prompt`).

    `replayed` says that an earlier run had paid for it. `order` and `outcome` are None where neither a candidate nor
    a test was made of it: in localization, or because the run ended before. A Case is a test that was kept.
    `round` and `repeats` are as in `domain.Candidate`; `source` is the model, or who made a patch that was proposed.
    """

    key: str
    index: int
    stage: Stage
    prompt: str
    finish: Finish
    usage: Usage
    replayed: bool
    order: int | None
    outcome: Patch | Case | Rejected | None
    round: int = 0
    repeats: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """A sandbox run as a run used it, without its result (`Store.get_box`).

    `steps` has the program of each step, with arguments cut to 200 characters; `files` are paths put over the tree.
    """

    key: str
    environment: Environment
    tree: PackedTree | ImageTree
    files: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    seconds: float
    replayed: bool


@dataclass(frozen=True, slots=True)
class RunTrace:
    """A run with its samples, by stage (those of an evolution after the repairs that it goes on from) and order.

    `prediction` is None where it did not come that far; the messages of its faults are cut to 500 characters. `boxes`
    are in the order of their results. `scores` are what a reward model gave patches that it was asked of, by form.
    """

    run: RunRecord
    samples: tuple[SampleRecord, ...]
    prediction: Prediction | None
    boxes: tuple[BoxRecord, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()

    @property
    def choice(self) -> Choice | None:
        """Return what the run chose, if anything."""
        return self.prediction.choice if self.prediction else None

    @property
    def execution(self) -> Execution | None:
        """Return what its tests say, if any were run."""
        return self.prediction.execution if self.prediction else None

    def candidates(self) -> tuple[Candidate, ...]:
        """Return what became of the samples of repairs, in order of sample, whether the run was decided or not."""
        return recorded_candidates(self.samples)


def recorded_candidates(samples: Sequence[SampleRecord]) -> tuple[Candidate, ...]:
    """Return those of the samples that became a patch, or the reason why not."""
    return tuple(
        Candidate(one.key, one.index, one.order, one.outcome, one.round, one.repeats)
        for one in samples
        if one.stage.repairs and one.order is not None and isinstance(one.outcome, Patch | Rejected)
    )


@dataclass(frozen=True, slots=True)
class Spending:
    """Tokens and seconds. `distinct_tokens` are those of each distinct prompt once.

    Tokens are sums of what servers told; `untold_...` count the samples whose server did not. `box_seconds` and
    `grading_seconds` are sums of what runs side by side; `wall_seconds` is the time in which at least one instance was
    worked on, `model_seconds` the part of it from the start of a run to the last sample that was not recorded yet.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    distinct_tokens: int = 0
    box_seconds: float = 0.0
    grading_seconds: float = 0.0
    wall_seconds: float = 0.0
    model_seconds: float = 0.0
    untold_prompts: int = 0
    untold_cached: int = 0
    untold_answers: int = 0


@dataclass(frozen=True, slots=True)
class EvalStart:
    """All that an evaluation starts from (in seconds since 1970). `fingerprint` is that of the dataset's rows."""

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
    """What the official harness said of a patch of an instance, in JSON; `diff` is the SHA-256 of its bytes, in hex."""

    key: str
    instance: str
    normal: str
    diff: str
    resolved: bool
    applied: bool
    report: str
    version: str
    seconds: float
