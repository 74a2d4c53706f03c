"""The statistics of the trials: shares and their differences with 95 % intervals, and samples needed for a rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

Z = 1.959964
"""The 97.5 % quantile of the normal distribution."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


def share(hits: int, trials: int) -> Estimate:
    """Return a share with its Wilson score interval (Wilson 1927)."""
    rate, weight = hits / trials, Z**2 / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials))
    return Estimate(rate, centre - half, centre + half)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Return one share less the other, of independent trials (Newcombe 1998, method 10)."""
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    value = one.value - other.value
    return Estimate(value, value - below, value + above)


def samples_needed(firsts: Sequence[int | None], rate: float, per_round: int) -> float:
    """Return after how many samples a share `rate` of trials has what it looks for; infinity if it never has.

    `firsts` are the samples that each trial took. A round is drawn as a whole, so all of it counts.
    """
    spent = sorted(math.inf if one is None else math.ceil(one / per_round) * per_round for one in firsts)
    return spent[math.ceil(rate * len(spent)) - 1]


def bootstrap_needed(firsts: Sequence[int | None], rate: float, per_round: int) -> Estimate:
    """Return `samples_needed` with its percentile bootstrap interval (Efron 1979) over the trials."""
    dice = Random(0)  # noqa: S311 - drawn again alike, not for secrets
    again = sorted(samples_needed(dice.choices(firsts, k=len(firsts)), rate, per_round) for _ in range(RESAMPLES))
    cut = RESAMPLES // 40
    return Estimate(samples_needed(firsts, rate, per_round), again[cut], again[-1 - cut])


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of independent values."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
