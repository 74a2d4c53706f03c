"""Whether the rule that ends sampling keeps the decision of the full budget: trials over policies with known odds.

A policy here is how likely each distinct patch is, and an invalid answer. A trial draws the whole budget, lets the
product's rule look at the beginning of it after each batch, and compares the vote at the stop with the vote at the end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from agentless_mini.chain.stopping import DISCOUNT, INVALID, decided
from agentless_mini.domain import Candidate, Patch, Reason, Rejected
from tests.chain.voting import vote
from tests.evolution.policy import Policy

INVALID_ANSWER = -1
Draw = Callable[[Random, int], list[int]]
"""Draws so many samples: the number of the patch of each, or `INVALID_ANSWER`."""


@dataclass(frozen=True, slots=True)
class Look:
    """The budget, after how many samples each the rule looks, and the bound that it is given."""

    budget: int
    batch: int
    bound: float


@dataclass(frozen=True, slots=True)
class Stop:
    """When sampling was ended, and whether the vote was then what it is after the whole budget."""

    samples: int
    kept: bool


def stop_trial(draw: Draw, look: Look, dice: Random) -> Stop:
    """Draw a budget and stop where the rule says so."""
    whole = candidates(draw(dice, look.budget))
    for size in range(look.batch, look.budget, look.batch):
        if decided(whole[:size], look.budget - size, look.bound):
            return Stop(size, _winner(whole[:size]) == _winner(whole))
    return Stop(look.budget, kept=True)


def candidates(drawn: Sequence[int]) -> list[Candidate]:
    """Return draws as the candidates of a run."""
    return [Candidate("key", at, at, _outcome(patch)) for at, patch in enumerate(drawn)]


def _outcome(patch: int) -> Patch | Rejected:
    if patch == INVALID_ANSWER:
        return Rejected(Reason.NO_EDIT, "nothing")
    return Patch(str(patch).encode(), str(patch), ())


def _winner(some: Sequence[Candidate]) -> str:
    choice = vote(some)
    return choice.patch.normal if choice else ""


# --- policies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Odds:
    """A policy that draws patch k with a known chance, whatever it is shown; `weights` are summed up to k."""

    weights: tuple[float, ...]
    invalid: float

    def draw(self, shown: Sequence[int], dice: Random) -> tuple[int, int] | None:
        """Return a sample as the simulated model has it: the patch as a form of level 0."""
        patch = self(dice, 1)[0]
        return None if patch == INVALID_ANSWER else (0, patch)

    def __call__(self, dice: Random, size: int) -> list[int]:
        """Draw so many samples."""
        kinds = dice.choices(range(len(self.weights)), cum_weights=self.weights, k=size)
        return [INVALID_ANSWER if dice.random() < self.invalid else kind for kind in kinds]


def odds(*chances: float, invalid: float = 0.0, tail: int = 0) -> Odds:
    """Return a policy that draws patch k with `chances[k]`, and what is left of 1 from `tail` patches, all alike."""
    rest = 1.0 - sum(chances)
    return Odds(tuple(accumulate([*chances, *([rest / tail] * tail)] if tail else chances)), invalid)


def zipf(exponent: float, forms: int, invalid: float = 0.0) -> Odds:
    """Return a policy whose patch k of so many has a weight of 1 / (k + 1) ** exponent: the tail is heavy."""
    return Odds(tuple(accumulate((place + 1) ** -exponent for place in range(forms))), invalid)


def plainly(policy: Policy) -> Draw:
    """Return the votes on what a simulated policy draws without being shown anything."""

    def draw(dice: Random, size: int) -> list[int]:
        drawn = [policy.draw((), dice) for _ in range(size)]
        return [INVALID_ANSWER if one is None else one[0] * policy.forms + one[1] for one in drawn]

    return draw


def any_issue(dice: Random) -> Odds:
    """Return the policy of an issue of any kind: with a clear winner or none, with few invalid answers or many."""
    return zipf(dice.uniform(0.0, 3.0), 200, dice.uniform(0.0, 0.9))


def mixed(dice: Random, size: int) -> list[int]:
    """Draw as for an issue of its own each time."""
    return any_issue(dice)(dice, size)


def urn(dice: Random, size: int) -> list[int]:
    """Draw from the rule's own model, whose mean its promise is."""
    votes: list[int] = []
    drawn: list[int] = []
    invalid = INVALID
    for _ in range(size):
        weights = [invalid, *(count - DISCOUNT for count in votes), 1 + DISCOUNT * len(votes)]
        kind = dice.choices(range(len(weights)), weights)[0] - 1
        if kind < 0:
            invalid += 1
        else:
            votes[kind : kind + 1] = [votes[kind] + 1 if kind < len(votes) else 1]
        drawn.append(INVALID_ANSWER if kind < 0 else kind)
    return drawn
