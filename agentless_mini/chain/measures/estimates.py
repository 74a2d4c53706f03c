"""The statistics of an evaluation. They know numbers alone: no instance, no patch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

RESAMPLES = 2000
LEVEL = 0.95

# The bins of vote shares: under a quarter, up to a half, more.
QUARTER, HALF = 0.25, 0.5


class Resampler(Protocol):
    """What draws with replacement: a `random.Random` of the caller's, with a seed of its own."""

    def choices(self, population: Sequence[float], *, k: int) -> list[float]:
        """Return `k` of the population, each drawn from all of it."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a mean lies, both ends included."""

    low: float
    high: float


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, rounded once, or None of no values."""
    return math.fsum(values) / len(values) if values else None


def bootstrap(values: Iterable[float], rng: Resampler, resamples: int = RESAMPLES) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the mean (Efron 1979), or None of no values.

    Each resample draws as many values as there are, with replacement. The order of `values` makes no difference. It
    tells what other instances of the same kind would change, not what other samples of the model would.
    """
    population = sorted(values)
    size = len(population)
    if not size:
        return None
    means = sorted(math.fsum(rng.choices(population, k=size)) / size for _ in range(resamples))
    cut = int(resamples * (1 - LEVEL) / 2)
    return Interval(means[cut], means[-1 - cut])


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the chance that one at least of k samples is correct, of which `correct` of `samples` are.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374), 1 - C(n - c, k) / C(n, k), in whole numbers up to
    the one division. A k above `samples` counts as all of them. Raises ValueError unless 0 <= correct <= samples and
    k is positive.
    """
    if not 0 <= correct <= samples or k < 1:
        raise ValueError(f"pass@{k} of {correct} in {samples}")
    k = min(k, samples)
    ways = math.comb(samples, k)
    return (ways - math.comb(samples - correct, k)) / ways


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with a confidence between `low` and `high`: how many there are, and how many of these are right."""

    low: float
    high: float
    count: int
    right: int


def calibration(answers: Iterable[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Sort answers, each a vote share and whether it is right, into the bins of vote shares.

    A share of exactly a quarter or a half is in the middle bin.
    """
    bins: tuple[list[bool], list[bool], list[bool]] = [], [], []
    for share, right in answers:
        bins[(share >= QUARTER) + (share > HALF)].append(right)
    edges = (0.0, QUARTER, HALF, 1.0)
    return tuple(Bin(edges[at], edges[at + 1], len(told), sum(told)) for at, told in enumerate(bins))


def points_of_samples(most: int) -> tuple[int, ...]:
    """Return the numbers of samples at which curves are drawn: 1, 2, 5, 10, then doubled; and `most`, the last."""
    return _up_to(most, [1, 2, 5], 10)


def points_of_tests(most: int) -> tuple[int, ...]:
    """Return the numbers of tests at which curves are drawn: 0, 1, 5, 10, 20, 30, then doubled; and `most`."""
    return _up_to(most, [0, 1, 5, 10, 20], 30)


def _up_to(most: int, first: list[int], doubled: int) -> tuple[int, ...]:
    points = list(first)
    while doubled < most:
        points.append(doubled)
        doubled *= 2
    return (*(point for point in points if point < most), most)
