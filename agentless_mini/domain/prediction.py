"""The outcome of one issue: what became of every sample, what the tests said, and the choice."""

import enum
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


class Method(enum.StrEnum):
    """How the patch is chosen among those that were executed."""

    VOTE = "vote"  # most samples, whatever the tests say
    AGREEMENT = "agreement"  # dual execution agreement, after CodeT (arXiv 2207.10397)
    SCORES = "scores"  # Kimi-Dev: share of fail-to-pass plus share of pass-to-pass
    CONSISTENCY = "consistency"  # SWE-Swiss: the vote, with likeness, among those that pass most tests


class Level(enum.StrEnum):
    """What a patch must have shown to be printed."""

    ANY = "any"  # it applies
    AGREEMENT = "agreement"  # over half of the votes, two at least, and no doubt
    TESTS = "tests"  # over half of the tests that reproduce the issue pass, all given ones, and nothing breaks
    GIVEN = "given"  # all failing tests of the user were run, failed before, and pass
