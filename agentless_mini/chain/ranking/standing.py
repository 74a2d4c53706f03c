"""How many samples each distinct patch has, and what the tests say of it: numbers to compare and to show.

A vote is a sample of its own. Two samples of one prompt and one seed are one, and so is an answer that only repeats
another (`Candidate.repeats`). It compares no patches.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agentless_mini.chain.ranking.likeness import Likeness
from agentless_mini.domain import Candidate, Execution, Origin, Outcome, Patch, Verdict


@dataclass(frozen=True, slots=True)
class Standing:
    """One distinct patch: `votes` samples have its normal form, the first of them at the place `first` of all valid.

    `given`, `generated` and `kept` are the places in `Execution.cases` of what passes with it: tests that are given,
    generated ones, and regression tests. Whatever is no pass counts as broken, a skip too. A `refused` patch passes
    nothing; one that is `untried` met the tests that are given alone. `undefined` are the names that it uses undefined.
    `likeness` is its similarity to the others, in [0, 1], where another has as many votes.
    """

    normal: str
    votes: int
    first: int
    given: frozenset[int] = frozenset()
    generated: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()
    refused: bool = False
    untried: bool = False
    undefined: tuple[str, ...] = ()
    likeness: float = 0.0

    @property
    def reproducing(self) -> frozenset[int]:
        """Return the places of the reproducing cases that pass."""
        return self.given | self.generated

    @property
    def passed(self) -> tuple[bool, frozenset[int], frozenset[int]]:
        """Return all that the tests say of it, equal for patches that they do not tell apart."""
        return self.refused, self.reproducing, self.kept

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Return what a vote goes by, the smaller the better."""
        return bool(self.undefined), -self.votes, -self.likeness


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


def valid_patches(candidates: Iterable[Candidate]) -> list[Patch]:
    """Return the patches, the earliest first."""
    by_order = sorted(candidates, key=lambda candidate: candidate.order)
    return [candidate.outcome for candidate in by_order if isinstance(candidate.outcome, Patch)]


def counted_votes(candidates: Sequence[Candidate]) -> tuple[Standing, ...]:
    """Return each distinct patch with its votes, by first sample, without likeness."""
    ballots = {
        (candidate.request, candidate.index, candidate.outcome.normal)
        for candidate in candidates
        if isinstance(candidate.outcome, Patch) and not candidate.repeats
    }
    votes = Counter(normal for _, _, normal in ballots)
    first: dict[str, tuple[int, Patch]] = {}
    for place, patch in enumerate(valid_patches(candidates)):
        first.setdefault(patch.normal, (place, patch))
    return tuple(
        Standing(normal, max(1, votes[normal]), place, undefined=patch.undefined)
        for normal, (place, patch) in first.items()
    )


def poll(candidates: Sequence[Candidate], likeness: Likeness | None = None) -> tuple[Standing, ...]:
    """Return each distinct patch with its votes, by first sample. `likeness` remembers what it has compared."""
    found, patches = counted_votes(candidates), valid_patches(candidates)
    compared = likeness or Likeness()
    votes: Counter[bytes] = Counter()
    for standing in found:
        votes[patches[standing.first].diff] += standing.votes
    equals = Counter(standing.rank for standing in found)
    return tuple(
        replace(standing, likeness=compared.of(patches[standing.first].diff, votes))
        if equals[standing.rank] > 1
        else standing
        for standing in found
    )


def standings(polled: Iterable[Standing], execution: Execution) -> tuple[Standing, ...]:
    """Return what the tests say of each distinct patch that has a verdict, in the order given.

    Raises ValueError for a verdict that is not refused and has not one result for each case, or for each that is given:
    that is a bug.
    """
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts}
    return tuple(_tested(one, verdicts[one.normal], execution) for one in polled if one.normal in verdicts)


def _tested(standing: Standing, verdict: Verdict, execution: Execution) -> Standing:
    if verdict.refusal:
        return replace(standing, refused=True)
    given = tuple(case for case in execution.cases if case.origin is Origin.GIVEN)
    tried = given if len(verdict.results) == len(given) else execution.cases
    passing: Mapping[Origin, set[int]] = {origin: set() for origin in Origin}
    for place, (case, result) in enumerate(zip(tried, verdict.results, strict=True)):
        if result.outcome is Outcome.PASS:
            passing[case.origin].add(place)
    return replace(
        standing,
        given=frozenset(passing[Origin.GIVEN]),
        generated=frozenset(passing[Origin.GENERATED]),
        kept=frozenset(passing[Origin.REGRESSION]),
        untried=len(tried) < len(execution.cases),
    )
