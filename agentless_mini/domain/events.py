"""What a run tells while it runs."""

import enum
from dataclasses import dataclass

from agentless_mini.domain.repair import Rejected
from agentless_mini.domain.sampling import Completion, Stage
from agentless_mini.domain.testing import Outcome


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


class Phase(enum.StrEnum):
    """What is done outside of the model."""

    ENVIRONMENT = "environment"
    REPRODUCTION = "reproduction"
    REGRESSION = "regression"
    EXECUTION = "execution"
    GRADING = "grading"  # by the official harness


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """Work outside of the model begins; `boxes` is how many boxes it takes, 0 where that is not known."""

    phase: Phase
    boxes: int = 0


@dataclass(frozen=True, slots=True)
class BoxDone:
    """A box of a phase is done, fresh or from the record. `outcomes` are those of its cases."""

    phase: Phase
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseSaid:
    """What a phase is at, in a line of foreign text: the last that a build said, or how much of an image has come."""

    phase: Phase
    text: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A chain begins that goes through these steps; what stands in one step may run side by side, and with others."""

    steps: tuple[tuple[Stage | Phase, ...], ...]


Event = Planned | StageStarted | SampleDone | PhaseStarted | PhaseSaid | BoxDone | Note
