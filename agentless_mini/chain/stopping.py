"""Whether more samples could still change the winner of the vote: the rule of an adaptive budget.

The model is a Pitman-Yor urn. After n valid answers a patch with v of them comes next with weight v - d, and a patch
not seen yet with weight c + d * (patches seen); an invalid answer is one more kind, with as much weight as there were,
and 1. With c = 1, d = 1/2 new patches keep coming as the square root of the samples, as they do.

The probability that the leader of now is the winner of the whole budget is bounded from below, without chance: one,
less the exact probability of each rival to overtake it, less what new patches may do. Those are counted by their mean
number, each given all the draws that are left. The promise is a mean over the urn's policies, and holds for as many
looks as are taken. It says nothing of what tests would choose, nor of likeness and size.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from agentless_mini.chain.rank import counted_votes
from agentless_mini.domain import Candidate, Rejected

CONCENTRATION = 1.0
DISCOUNT = 0.5
INVALID = 1.0
"""The weight of invalid answers before any was seen."""
NEGLIGIBLE = 1e-9
"""A sum of chances that is too small to be told one by one."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes of each distinct patch, that of the earliest sample first, and the number of invalid answers."""

    votes: tuple[int, ...]
    invalid: int


def tally(candidates: Iterable[Candidate]) -> Tally:
    """Return the votes, the earliest first; beside others, what uses undefined names counts as invalid."""
    drawn = tuple(candidates)
    polled = counted_votes(drawn)
    standing = [one for one in polled if not one.undefined] or list(polled)
    invalid = sum(isinstance(one.outcome, Rejected) for one in drawn)
    below = sum(one.votes for one in polled) - sum(one.votes for one in standing)
    return Tally(tuple(one.votes for one in standing), invalid + below)


def decided(candidates: Iterable[Candidate], left: int, bound: float) -> bool:
    """Return whether the winner of the vote stays the winner of `left` more samples with probability `bound` at least.

    The candidates must be a whole beginning of the run (`order` 0 to n - 1), or a tie is broken by who answers first.
    """
    return stays(tally(candidates), left) >= bound


def stays(drawn: Tally, left: int) -> float:
    """Return a lower bound, in [0, 1], of the probability that the leader stays the leader after `left` more samples.

    0 where no answer is valid and more are to come, 1 where none is to come or none could change the winner.
    """
    if not left:
        return 1.0
    if not drawn.votes:
        return 0.0
    best, valid_weight = max(drawn.votes), sum(drawn.votes) + CONCENTRATION
    weight = valid_weight + drawn.invalid + INVALID
    leader = drawn.votes.index(best)  # the earliest of equals, as in the vote
    rivals: Counter[tuple[int, int]] = Counter()
    for place, votes in enumerate(drawn.votes):
        if place != leader:
            rivals[votes, best - votes + (place > leader)] += 1  # an earlier rival wins a tie
    # The chances of all rivals, the best first; once they are negligible the best of the rest stands for them.
    seen, others = 0.0, len(drawn.votes) - 1
    for (votes, lead), count in sorted(rivals.items(), key=lambda item: (-item[0][0], item[0][1])):
        chance = _overtakes(best - DISCOUNT, votes - DISCOUNT, weight, lead, left)
        if others * chance < NEGLIGIBLE:
            seen += others * chance
            break
        seen += count * chance
        others -= count
    # The mean number of new patches among the valid ones of what is left; the first vote of one is the next sample.
    valid = left * valid_weight / weight
    growth = _rising(valid_weight + DISCOUNT, valid) - _rising(valid_weight, valid)
    unseen = (len(drawn.votes) + CONCENTRATION / DISCOUNT) * math.expm1(growth)
    risk = seen + unseen * _overtakes(best - DISCOUNT, 1 - DISCOUNT, weight + 1, best, left - 1)
    return max(0.0, 1.0 - risk)


def _rising(start: float, steps: float) -> float:
    """Return the logarithm of the rising factorial start * (start + 1) * ..., of so many factors."""
    return math.lgamma(start + steps) - math.lgamma(start)


def _overtakes(leader: float, rival: float, whole: float, lead: int, left: int) -> float:
    """Return the exact probability that of `left` draws the rival gets `lead` more than the leader, or still more.

    The urn has these weights, `whole` is that of all. The draws that go to either are Beta-binomial, and so is the
    leader's part of them. Of m such draws the leader may have (m - lead) // 2 at most; that probability is carried from
    m to m + 1, so the whole takes O(left).
    """
    pair, rest = leader + rival, whole - leader - rival
    behind, terms = 0.0, []
    for draws in range(lead, left + 1):
        most = (draws - lead) // 2
        if draws > lead:
            before = (draws - 1 - lead) // 2
            passes = (leader + before) / (pair + draws - 1)
            behind -= _share(before, draws - 1, leader, rival) * passes
        if (draws - lead) % 2 == 0:
            behind += _share(most, draws, leader, rival)
        terms.append(_share(draws, left, pair, rest) * behind)
    return max(0.0, math.fsum(terms))


def _share(hits: int, draws: int, one: float, other: float) -> float:
    """Return the Beta-binomial probability of `hits` in so many draws from an urn of two weights."""
    misses = draws - hits
    ways = math.lgamma(draws + 1) - math.lgamma(hits + 1) - math.lgamma(misses + 1)
    both = _rising(one, hits) + _rising(other, misses) - _rising(one + other, draws)
    return math.exp(ways + both)
