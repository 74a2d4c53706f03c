"""A policy that repairs at random, with stated mathematics: what it does when it is shown patches is a Markov kernel.

Each patch has a level from 0 to the top, and the top alone is right. Drawn plainly it is of level l with the chance
`base[l]`, which falls with l. Shown patches, the policy takes one of them at random, whatever its level, and makes one
step of a Metropolis chain: with the chance `step` / 2 each it thinks of the level above or below, and moves there from
l with the chance min(1, w[l'] / w[l]), where w[l] = base[l] * `gain` ** l; else it writes a patch of the same level.

Such a chain leaves the distribution w in place. So `gain` alone says what kind of model this is:

* 1: no improvement. Every round is distributed as `base`, however many there are; a selector is needed to climb.
* above 1: it improves what it is shown, as a model does that was trained for that, and no selector is needed.

`step` = None is a model that pays no heed to what it is shown: each round is drawn plainly.

Patches of one level differ in their form, form k of `forms` being drawn with a weight of 1 / k: few are common, most
are rare. With 0 forms no two are alike, and nothing but the levels is left of the model: what comes of it is known
exactly (`rounds`, `climb`). An answer is no patch at all with the chance `invalid`, whatever was shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from random import Random


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers of such a policy."""

    base: tuple[float, ...]
    step: float | None = None
    gain: float = 1.0
    invalid: float = 0.2
    forms: int = 200

    @property
    def top(self) -> int:
        """Return the level of what is right."""
        return len(self.base) - 1

    @property
    def right(self) -> float:
        """Return the chance that a sample that is drawn plainly is right."""
        return (1 - self.invalid) * self.base[-1]

    def kernel(self, level: int) -> tuple[float, ...]:
        """Return the chances of each level for a patch that is written after one of `level`."""
        if self.step is None:
            return self.base
        chances = [0.0] * len(self.base)
        for beside in (level - 1, level + 1):
            if 0 <= beside <= self.top:
                chances[beside] = self.step / 2 * min(1.0, self._weight(beside) / self._weight(level))
        chances[level] = 1 - sum(chances)
        return tuple(chances)

    def rounds(self, number: int) -> list[tuple[float, ...]]:
        """Return the distribution of levels of each of so many rounds, where nothing selects what is shown."""
        levels = range(len(self.base))
        kernels = [self.kernel(level) for level in levels]
        found = [self.base]
        for _ in range(number - 1):
            before = found[-1]
            found.append(tuple(sum(before[one] * kernels[one][other] for one in levels) for other in levels))
        return found

    def climb(self, rounds: int, per_round: int) -> list[float]:
        """Return the chance of a right patch by the end of each round, where each is shown the best one before it.

        The best level is a Markov chain then: it stays at most j with the chance that none of a round gets above j.
        """
        kernels = [self.kernel(level) for level in range(len(self.base))]
        best = [0.0] * len(self.base)
        nothing, found = 1.0, []
        for _ in range(rounds):
            first = self._highest(self.base, per_round)
            following = [nothing * first[level] for level in range(len(self.base))]
            for level, chance in enumerate(best):
                highest = self._highest(kernels[level], per_round)
                for other in range(level + 1, len(self.base)):
                    following[other] += chance * highest[other]
                following[level] += chance * (1 - sum(highest[level + 1 :]))
            nothing *= self.invalid**per_round
            best = following
            found.append(best[-1])
        return found

    def _highest(self, chances: Sequence[float], size: int) -> list[float]:
        """Return the chance of each level to be the highest of so many samples."""
        at_most = [(self.invalid + (1 - self.invalid) * below) ** size for below in accumulate(chances)]
        return [upper - lower for lower, upper in pairwise([self.invalid**size, *at_most])]

    def draw(self, shown: Sequence[int], dice: Random) -> tuple[int, int] | None:
        """Return level and form of one sample, None for an answer that is no patch; `shown` are levels."""
        if dice.random() < self.invalid:
            return None
        chances = self.kernel(dice.choice(shown)) if shown else self.base
        level = dice.choices(range(len(chances)), chances)[0]
        return level, self._form(dice)

    def _form(self, dice: Random) -> int:
        if not self.forms:
            return dice.getrandbits(48)
        return dice.choices(range(self.forms), cum_weights=_zipf(self.forms))[0]

    def _weight(self, level: int) -> float:
        return self.base[level] * self.gain**level


def falling(ratio: float, top: int) -> tuple[float, ...]:
    """Return a base in which each level is `ratio` times as likely as the one below."""
    weights = [ratio**level for level in range(top + 1)]
    return tuple(weight / sum(weights) for weight in weights)


def mean_level(distribution: Sequence[float]) -> float:
    """Return the mean of a distribution of levels."""
    return sum(level * chance for level, chance in enumerate(distribution))


def plain_samples(policy: Policy, rate: float) -> int:
    """Return how many plain samples hold a right one with the chance `rate`: the least n of 1 - (1 - p)^n."""
    samples, missed = 0, 1.0
    while 1 - missed < rate:
        samples += 1
        missed *= 1 - policy.right
    return samples


@cache
def _zipf(forms: int) -> tuple[float, ...]:
    return tuple(accumulate(1 / (place + 1) for place in range(forms)))
