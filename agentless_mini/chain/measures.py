"""What an evaluation measures: estimates, localization, curves over samples and tests, and rounds of an evolution.

These are pure functions: nothing here grades a patch or reads a store.
"""

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from agentless_mini.chain.rank import Standing, Totals, ordered, poll, score, standings, totals, valid_patches
from agentless_mini.domain import Candidate, Case, Execution, Method, Origin, Patch, Prediction

QUANTILE = 1.959964  # of the normal distribution, at 97.5 %
BINS = 5  # of confidence, all of one width

# --- estimates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a share lies, both ends included."""

    low: float
    high: float


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, rounded once, or None of no values."""
    return math.fsum(values) / len(values) if values else None


def wilson(right: int, of: int) -> Interval | None:
    """Return the 95 % score interval of a share (Wilson 1927), or None of nothing: that of 4 of 4 is [0.51, 1].

    It covers the choice of instances, not the noise of the model's samples.
    """
    if not of:
        return None
    share = right / of
    wide = _score_interval(share, share * (1 - share) / of, 1 / of)
    return Interval(max(0.0, wide.low), min(1.0, wide.high))


def _score_interval(share: float, variance: float, per: float) -> Interval:
    """Return the score interval of a share with this variance, which it holds; `per` is one over the instances."""
    weight = QUANTILE**2 * per
    centre = (share + weight / 2) / (1 + weight)
    half = QUANTILE / (1 + weight) * math.sqrt(variance + weight * per / 4)
    return Interval(min(share, centre - half), max(share, centre + half))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the chance that at least one of k samples is correct, of which `correct` of `samples` are.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374), 1 - C(n - c, k) / C(n, k). A k above `samples` counts
    as all of them. Raises ValueError unless 0 <= correct <= samples and k is positive.
    """
    if not 0 <= correct <= samples or k < 1:
        raise ValueError(f"pass@{k} of {correct} in {samples}")
    k = min(k, samples)
    ways = math.comb(samples, k)
    return (ways - math.comb(samples - correct, k)) / ways


@dataclass(frozen=True, slots=True)
class Bin:
    """Instances with a confidence from `low` up to `high`, and how many of these are resolved."""

    low: float
    high: float
    instances: int
    resolved: int


def calibration(answers: Iterable[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Sort answers, each with its confidence in [0, 1] and whether it is right, into bins; 1 is in the last."""
    bins: list[list[bool]] = [[] for _ in range(BINS)]
    for sure, right in answers:
        bins[min(BINS - 1, int(BINS * sure))].append(right)
    return tuple(Bin(at / BINS, (at + 1) / BINS, len(found), sum(found)) for at, found in enumerate(bins))


def gap_won(chosen: Sequence[float], drawn: Sequence[float], best: Sequence[float]) -> tuple[float, Interval] | None:
    """Return the share of the way from the mean of systems to their oracle that a choice goes, and its interval.

    Of each instance, in one order: whether the choice resolves it, the mean of the systems, and whether any does. 1 is
    the oracle, below 0 a random system is better. The 95 % interval is Wilson's, with a ratio's linearised variance and
    as many instances as the gaps are worth. None where no system differs from another.
    """
    gaps = [one - other for one, other in zip(best, drawn, strict=True)]
    whole = math.fsum(gaps)
    if whole <= 0:
        return None
    won = [one - other for one, other in zip(chosen, drawn, strict=True)]
    share = math.fsum(won) / whole
    variance = math.fsum((one - share * gap) ** 2 for one, gap in zip(won, gaps, strict=True)) / whole**2
    return share, _score_interval(share, variance, math.fsum(gap**2 for gap in gaps) / whole**2)


def points_of_samples(most: int) -> tuple[int, ...]:
    """Return the numbers of samples at which curves are drawn: 1, 2, 5, 10, then doubled; and `most`, the last."""
    return _up_to(most, [1, 2, 5], 10)


def points_of_tests(most: int) -> tuple[int, ...]:
    """Return the numbers of tests at which curves are drawn: 0, 1, 5, 10, 20, 30, then doubled; and `most`."""
    return _up_to(most, [0, 1, 5, 10, 20], 30)


def _up_to(most: int, points: list[int], doubled: int) -> tuple[int, ...]:
    while doubled < most:
        points.append(doubled)
        doubled *= 2
    return (*(point for point in points if point < most), most)


# --- localization ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Shares of the gold files, in [0, 1]: those in the first list, and those in any list."""

    first: float
    anywhere: float


def found(lists: Sequence[Sequence[str]], gold: Collection[str]) -> Found | None:
    """Compare lists of files, the most wanted first, with the files that the true fix touches.

    None where it touches no file. Files that it creates count as missed unless a list names them.
    """
    if not gold:
        return None
    wanted = frozenset(gold)
    first, anywhere = frozenset(lists[0] if lists else ()), frozenset(path for paths in lists for path in paths)
    return Found(len(wanted & first) / len(wanted), len(wanted & anywhere) / len(wanted))


# --- curves ----------------------------------------------------------------------------------------------------------


class Replay:
    """A finished run, to be ranked again in part: which patch a smaller run would have chosen (best@N).

    The smaller run has the first n samples and the first t test samples. Samples are dealt over prompts, so the first n
    are what `-n n` draws with this localization. Other than a true smaller run it has the regression tests of the
    whole, and none of the reproducing tests that the whole dropped. It is one prefix and no mean over random subsets,
    since their choices would all have to be graded: a point has the noise of its draw.

    Of an evolution only whole rounds are a smaller run: later samples were shown earlier ones. `samples` and `tests`
    are how many of each the run drew. `ends` has the samples up to the end of each round of an evolution, and is
    empty without one.
    """

    def __init__(self, whole: Prediction) -> None:
        """Take a run as the pipeline ended it."""
        by_order = sorted(whole.candidates, key=lambda candidate: candidate.order)
        execution = whole.execution
        self.samples = by_order[-1].order + 1 if by_order else 0
        ends = round_ends(by_order)
        self.ends = ends if len(ends) > 1 else ()
        self.tests = max((case.order + 1 for case in whole.generated), default=0)
        self._valid = [one for one in by_order if isinstance(one.outcome, Patch)]
        self._orders = [one.order for one in self._valid]
        self._patches = valid_patches(self._valid)
        known = standings(poll(self._valid), execution) if execution else ()
        self._tested = {one.normal: one for one in known}
        self._totals = totals(execution) if execution else Totals()
        # The earliest sample that wrote each generated test, by the test's place in the execution.
        earliest: dict[str, int] = {}
        for one in whole.generated:
            if isinstance(one.outcome, Case):
                earliest[one.outcome.id] = min(one.order, earliest.get(one.outcome.id, one.order))
        cases = enumerate(execution.cases if execution else ())
        self._drawn = {at: earliest.get(case.id, -1) for at, case in cases if case.origin is Origin.GENERATED}

    def choice(self, samples: int, tests: int, method: Method) -> Patch | None:
        """Return what `rank` chooses with the first samples and test samples, or None where none is valid."""
        valid = bisect_left(self._orders, samples)
        if not valid:
            return None
        polled = poll(self._valid[:valid])
        kept = frozenset(place for place, order in self._drawn.items() if order < tests)
        count = Totals(self._totals.given, len(kept), self._totals.regressions)
        known = [
            replace(
                full,
                votes=one.votes,
                first=one.first,
                of=one.of,
                likeness=one.likeness,
                generated=full.generated & kept,
            )
            for one in polled
            if (full := self._tested.get(one.normal))
        ]
        if not known or not count.reproducing + count.regressions:
            return self._patches[ordered(polled, Totals(), method.untested)[0].first]
        return self._patches[ordered(known, count, method)[0].first]


Curve = tuple[tuple[int, Patch | None], ...]
"""What was chosen with how many, ascending; the last is the whole run."""


@dataclass(frozen=True, slots=True)
class Curves:
    """What one run chose: by its method over samples (all tests) and over tests (all samples), and by vote alone.

    Of an evolution `samples` and `votes` have a point for the end of each round, and `plain` is the curve over the
    samples of its first round; else it is empty. `tests` takes tests away from the choice alone.
    """

    samples: Curve
    tests: Curve
    votes: Curve
    plain: Curve = ()


def curves(replay: Replay, method: Method, more: Collection[int] = ()) -> Curves:
    """Rank the run again at each point of the curves of SWE-RL's analysis of more samples, or at the end of each round.

    `more` are further numbers of samples to do so at, where the run has no rounds and drew more.
    """
    usual = points_of_samples(replay.samples)
    over_samples = replay.ends or sorted({*usual, *(point for point in more if 0 < point < usual[-1])})
    over_plain = points_of_samples(replay.ends[0]) if replay.ends else ()
    return Curves(
        tuple((n, replay.choice(n, replay.tests, method)) for n in over_samples),
        tuple((t, replay.choice(replay.samples, t, method)) for t in points_of_tests(replay.tests)),
        tuple((n, replay.choice(n, replay.tests, Method.VOTE)) for n in over_samples),
        tuple((n, replay.choice(n, replay.tests, method)) for n in over_plain),
    )


def choices(drawn: Curves) -> tuple[Patch, ...]:
    """Return each patch that is chosen anywhere on the curves once, the whole run's choice first.

    A patch stands for its normal form: it is that of the earliest sample.
    """
    points = [*reversed(drawn.samples), *drawn.tests, *drawn.votes, *drawn.plain]
    return tuple({patch.normal: patch for _, patch in points if patch is not None}.values())


# --- rounds ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of an evolution brought (Satori, arXiv 2505.23604), and how good its patches are.

    Rounds count from 0; a run without evolution is one round. `valid` counts samples, `distinct` their normal forms,
    `new` those of no earlier round. `best` and `mean` are over the scores of the valid samples; they are None where one
    has no score, and where none is valid.
    """

    number: int
    samples: int
    valid: int
    distinct: int
    new: int
    best: float | None
    mean: float | None


def rounds(candidates: Iterable[Candidate], scores: Mapping[str, float]) -> tuple[Round, ...]:
    """Return the rounds of a run in their order, with scores by normal form, the higher the better."""
    result, seen = [], set[str]()
    for number, drawn in _by_round(candidates):
        normals = [one.outcome.normal for one in drawn if isinstance(one.outcome, Patch)]
        scored = [scores[normal] for normal in normals] if scores.keys() >= set(normals) else []
        new = len(set(normals) - seen)
        best = max(scored, default=None)
        result.append(Round(number, len(drawn), len(normals), len(set(normals)), new, best, mean(scored)))
        seen.update(normals)
    return tuple(result)


def round_ends(candidates: Iterable[Candidate]) -> tuple[int, ...]:
    """Return how many samples a run had drawn at the end of each round, ascending; none of a run that drew nothing."""
    return tuple(max(one.order for one in drawn) + 1 for _, drawn in _by_round(candidates))


def shares_passed(execution: Execution) -> dict[str, float]:
    """Return the share of tests that pass with each patch, in [0, 1], by normal form; empty where there is no test.

    It is the score of `Method.SCORES` over its most: the mean of the shares of both kinds of tests that there are.
    """
    count = totals(execution)
    kinds = bool(count.reproducing) + bool(count.regressions)
    each = (Standing(verdict.normal, 1, place) for place, verdict in enumerate(execution.verdicts))
    known = standings(each, execution) if kinds else ()
    return {standing.normal: float(score(standing, count) / kinds) for standing in known}


def _by_round(candidates: Iterable[Candidate]) -> list[tuple[int, Sequence[Candidate]]]:
    by_order = sorted(candidates, key=lambda one: (one.round, one.order))
    return [(number, tuple(drawn)) for number, drawn in groupby(by_order, key=lambda one: one.round)]
