"""Which patch is better, by method. The best is the first of a total order, which tables show in full."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from agentless_mini.chain.ranking.standing import Standing, Totals
from agentless_mini.domain import Method

PINNED_SHARE = 20
"""One in so many regression tests, and one at least, may pin the fault that the issue wants mended."""


def ordered(standings: Sequence[Standing], count: Totals, method: Method) -> tuple[Standing, ...]:
    """Return the patches, the best first. The result does not depend on the order of `standings`."""
    if method is Method.VOTE:
        return tuple(sorted(standings, key=_by_plain_votes))
    if method is Method.CONSISTENCY:
        return tuple(sorted(standings, key=_by_filters))
    if method is Method.SCORES:
        return tuple(sorted(standings, key=lambda standing: (-score(standing, count), *_by_votes(standing))))
    return _by_agreement(standings, count)


def score(standing: Standing, count: Totals) -> Fraction:
    """Return the score of Kimi-Dev in [0, 2]: a kind of which there is no test adds nothing."""
    fixed = Fraction(len(standing.reproducing), count.reproducing or 1)
    return fixed + Fraction(len(standing.kept), count.regressions or 1)


def agreeing(standings: Sequence[Standing]) -> Counter[tuple[object, ...]]:
    """Return the samples of each group: patches of one level that pass the identical set of reproducing cases."""
    samples: Counter[tuple[object, ...]] = Counter()
    for standing in standings:
        samples[group(standing)] += standing.votes
    return samples


def group(standing: Standing) -> tuple[object, ...]:
    """Return what patches of one group have in common."""
    return _level(standing), standing.reproducing


def _level(standing: Standing) -> tuple[bool, int, int]:
    """Return what no agreement outweighs, the smaller the better.

    A test that is given needs no vote, so it comes before the regression tests: a right fix may break an old test
    that pins the fault, but none fails the test that the user wants to pass.
    """
    return standing.refused, -len(standing.given), -len(standing.kept)


def _by_agreement(standings: Sequence[Standing], count: Totals) -> tuple[Standing, ...]:
    """Order by what fixes something, by level, in it by group, in it by votes.

    The best group has the most samples x tests^2, then the most tests, then the earliest sample.
    """
    samples, fixing = agreeing(standings), _fixing(standings, count)
    earliest: dict[tuple[object, ...], int] = {}
    for standing in standings:
        key = group(standing)
        earliest[key] = min(standing.first, earliest.get(key, standing.first))

    def place(standing: Standing) -> tuple[object, ...]:
        key, tests = group(standing), len(standing.reproducing)
        refused, given, kept = _level(standing)
        idle = standing.normal not in fixing
        return refused, given, idle, kept, -samples[key] * tests**2, -tests, earliest[key], *_by_votes(standing)

    return tuple(sorted(standings, key=place))


def _fixing(standings: Sequence[Standing], count: Totals) -> frozenset[str]:
    """Return the patches with which a reproducing case passes, and that break at most few tests more than the best.

    Without this a patch that changes nothing would win over a right fix that breaks the one old test which pins the
    fault: it breaks the fewest.
    """
    most = max((len(standing.kept) for standing in standings), default=0)
    few = max(1, count.regressions // PINNED_SHARE)
    return frozenset(
        standing.normal for standing in standings if standing.reproducing and most - len(standing.kept) <= few
    )


def _by_filters(standing: Standing) -> tuple[object, ...]:
    """Order by the fewest broken regression tests, then by the most reproducing tests that pass, then by the vote."""
    return standing.refused, -len(standing.kept), -len(standing.reproducing), *_by_votes(standing)


def _by_plain_votes(standing: Standing) -> tuple[object, ...]:
    """Order as `_by_votes`, but equals of several votes by the earliest sample, as `stopping` foresees them."""
    undefined, votes, likeness = standing.rank
    return undefined, votes, likeness if standing.votes == 1 else 0.0, standing.first


def _by_votes(standing: Standing) -> tuple[object, ...]:
    """Order by votes, those without undefined names first, then by likeness, then by the earliest sample."""
    return *standing.rank, standing.first
