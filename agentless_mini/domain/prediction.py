"""The outcome of one issue: what became of every sample, what the tests said, and the choice."""

from dataclasses import dataclass

from agentless_mini.domain.repair import Candidate, Localization, Patch, Rejected
from agentless_mini.domain.testing import Case, Execution


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

    @property
    def share(self) -> float:
        """Return the vote share in (0, 1], which is the confidence."""
        return self.votes / self.valid


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outcome of one issue.

    `choice` is None where no sample became a valid patch. `notes` are sentences for people about what was cut or left
    out. `generated` has what became of each generated test, in order of sample. `execution` is None where nothing
    could be run.
    """

    localization: Localization
    candidates: tuple[Candidate, ...]
    choice: Choice | None
    notes: tuple[str, ...] = ()
    generated: tuple[GeneratedCase, ...] = ()
    execution: Execution | None = None
