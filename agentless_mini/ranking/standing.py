"""What the tests say of each distinct patch, as numbers to compare and to show. It does not compare them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agentless_mini.domain import Execution, Origin, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Standing:
    """One distinct patch: `votes` samples have its normal form, the first of them at the place `first` of all.

    `given`, `generated` and `kept` are the places in `Execution.cases` of what passes with it: tests that are given,
    generated ones, and regression tests. Whatever is no pass counts as broken, a skip too. A `refused` patch passes
    nothing.
    """

    normal: str
    votes: int
    first: int
    given: frozenset[int] = frozenset()
    generated: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()
    refused: bool = False

    @property
    def reproducing(self) -> frozenset[int]:
        """Return the places of the reproducing cases that pass."""
        return self.given | self.generated

    @property
    def passed(self) -> tuple[bool, frozenset[int], frozenset[int]]:
        """Return all that the tests say of it, equal for patches that they do not tell apart."""
        return self.refused, self.reproducing, self.kept


@dataclass(frozen=True, slots=True)
class Totals:
    """How many cases of each origin there are."""

    given: int = 0
    generated: int = 0
    regressions: int = 0

    @property
    def reproducing(self) -> int:
        """Return how many cases a fix makes pass."""
        return self.given + self.generated


def totals(execution: Execution) -> Totals:
    """Count the cases by origin."""
    count = Counter(case.origin for case in execution.cases)
    return Totals(count[Origin.GIVEN], count[Origin.GENERATED], count[Origin.REGRESSION])


def standings(normals: Sequence[str], execution: Execution) -> tuple[Standing, ...]:
    """Return what is known of each distinct patch that has a verdict, by first sample.

    `normals` are the normal forms of all valid samples, the earliest first. Raises ValueError for a verdict that is
    not refused and has not one result for each case: that is a bug.
    """
    votes = Counter(normals)
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts}
    first = {normal: place for place, normal in reversed(tuple(enumerate(normals)))}
    found = [_standing(verdicts[normal], votes[normal], first[normal], execution) for normal in votes.keys() & verdicts]
    return tuple(sorted(found, key=lambda standing: standing.first))


def _standing(verdict: Verdict, votes: int, first: int, execution: Execution) -> Standing:
    if verdict.refusal:
        return Standing(verdict.normal, votes, first, refused=True)
    passing: dict[Origin, set[int]] = {origin: set() for origin in Origin}
    for place, (case, result) in enumerate(zip(execution.cases, verdict.results, strict=True)):
        if result.outcome is Outcome.PASS:
            passing[case.origin].add(place)
    return Standing(
        verdict.normal,
        votes,
        first,
        given=frozenset(passing[Origin.GIVEN]),
        generated=frozenset(passing[Origin.GENERATED]),
        kept=frozenset(passing[Origin.REGRESSION]),
    )
