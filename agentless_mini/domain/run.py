"""What a run tells while it runs, and the outcome of one issue."""

import enum
from dataclasses import dataclass

from agentless_mini.domain.repair import Candidate, Localization, Patch, Rejected
from agentless_mini.domain.sampling import Completion, Stage
from agentless_mini.domain.testing import Case, Execution, Outcome, Regressions


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
    """Work outside of the model begins, of so many `boxes` and `seconds` of the clock at most (0: not known)."""

    phase: Phase
    boxes: int = 0
    seconds: float = 0.0


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


@dataclass(frozen=True, slots=True)
class GeneratedCase:
    """What became of one generated test; `request`, `index` and `order` are as in `Candidate`."""

    request: str
    index: int
    order: int
    outcome: Case | Rejected


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner: `votes` of `valid` candidates have its normal form; `reason` says why it won, in one sentence.

    With it `passed` of `reproducing` cases pass, and `broken` of `regressions` do not; all 0 where no test was run.
    """

    patch: Patch
    votes: int
    valid: int
    reason: str
    passed: int = 0
    reproducing: int = 0
    broken: int = 0
    regressions: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outcome of one issue.

    `choice` is None where no sample became a valid patch. `notes` are sentences for people about what was cut or left
    out. `generated` has what became of each generated test, in order of sample. `execution` is None where nothing
    could be run, `regressions` where none of these tests was wanted or nothing could be run.
    """

    localization: Localization
    candidates: tuple[Candidate, ...]
    choice: Choice | None
    notes: tuple[str, ...] = ()
    generated: tuple[GeneratedCase, ...] = ()
    execution: Execution | None = None
    regressions: Regressions | None = None


class Method(enum.StrEnum):
    """How the patch is chosen among those that were executed."""

    PROBABILITY = "probability"  # the most probable to be right, by the model of chain/trust.py
    VOTE = "vote"  # most samples, whatever the tests say
    AGREEMENT = "agreement"  # dual execution agreement, after CodeT (arXiv 2207.10397)
    SCORES = "scores"  # Kimi-Dev: share of fail-to-pass plus share of pass-to-pass
    CONSISTENCY = "consistency"  # SWE-Swiss: the vote, with likeness, among those that pass most tests

    @property
    def untested(self) -> "Method":
        """Return how it chooses where no test was run."""
        return self if self in (Method.PROBABILITY, Method.CONSISTENCY) else Method.VOTE


class Level(enum.StrEnum):
    """What a patch must have shown to be printed."""

    ANY = "any"  # it applies
    AGREEMENT = "agreement"  # over half of the votes, two at least, and no doubt
    TESTS = "tests"  # over half of the tests that reproduce the issue pass, all given ones, and nothing breaks
    GIVEN = "given"  # all failing tests of the user were run, failed before, and pass
