"""Which earlier samples a round of EvoScale shows (arXiv 2505.23604), and how much of each. It asks nothing.

No two parents are of one normal form, and an answer that became no patch is a parent only while there is no patch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from agentless_mini.chain.context import Gauge, without_middle
from agentless_mini.chain.drawing import Drawn
from agentless_mini.chain.prompts import Attempt
from agentless_mini.domain import Patch, Rejected
from agentless_mini.errors import printable

# The most that is shown of an answer that became no patch: what it says of itself, and the edits at its end.
ANSWER_LETTERS = 4000
# What a heading, its fence and the sentence on a rejection cost an attempt beside its text.
OVERHEAD_BYTES = 80
# The most that is said of why an answer became no patch: what it quotes of the answer may be long.
PROBLEM_LETTERS = 300

Item = TypeVar("Item")


def distinct(drawn: Sequence[Drawn]) -> dict[str, Drawn]:
    """Return the samples that are patches by normal form: of several of one form the earliest."""
    found: dict[str, Drawn] = {}
    for one in sorted(drawn, key=lambda one: one.candidate.order):
        if isinstance(one.candidate.outcome, Patch):
            found.setdefault(one.candidate.outcome.normal, one)
    return found


def shuffled(items: Sequence[Item], seed: str) -> tuple[Item, ...]:
    """Return the items in a random order, which the seed and their number alone decide."""
    places = sorted(range(len(items)), key=lambda place: hashlib.sha256(f"{seed} {place}".encode()).digest())
    return tuple(items[place] for place in places)


def random_parents(drawn: Sequence[Drawn], most: int, seed: str) -> tuple[Drawn, ...]:
    """Return at most `most` of the last round in which there is a patch, in a random order."""
    last = max((one.candidate.round for one in drawn if isinstance(one.candidate.outcome, Patch)), default=None)
    if last is None:
        return _fallen(drawn, most, seed)
    patches = tuple(distinct([one for one in drawn if one.candidate.round == last]).values())
    return shuffled(patches, seed)[:most]


def best_parents(drawn: Sequence[Drawn], best_first: Sequence[str], most: int) -> tuple[Drawn, ...]:
    """Return the `most` best patches of all rounds, the best first, by an order of normal forms."""
    patches = distinct(drawn)
    return tuple(patches[normal] for normal in dict.fromkeys(best_first) if normal in patches)[:most]


def attempts_of(parents: Sequence[Drawn]) -> tuple[Attempt, ...]:
    """Return what a prompt shows of the parents: the patch, or the answer and why it became none."""
    return tuple(_attempt(parent) for parent in parents)


def fit_attempts(attempts: tuple[Attempt, ...], budget: int, gauge: Gauge) -> tuple[Attempt, ...]:
    """Return the attempts within `budget` tokens: whole ones go from the end, then the middle of the first.

    Where even what is said of the first is too long, its end goes.
    """
    costs = [gauge.tokens(one.text + one.problem + " " * OVERHEAD_BYTES) for one in attempts]
    kept = len(attempts)
    while kept > 1 and sum(costs[:kept]) > budget:
        kept -= 1
    if sum(costs[:kept]) <= budget:
        return attempts[:kept]
    first = attempts[0]
    room = budget - gauge.tokens(" " * OVERHEAD_BYTES)
    problem = first.problem[: max(_letters(first.problem, room, gauge), 1)]
    text = without_middle(first.text, _letters(first.text, room - gauge.tokens(problem), gauge))
    return (replace(first, text=text, problem=problem),)


def _letters(text: str, budget: int, gauge: Gauge) -> int:
    """Return how many letters of a text take `budget` tokens, about."""
    return len(text) * max(budget, 0) // max(gauge.tokens(text), 1)


def _fallen(drawn: Sequence[Drawn], most: int, seed: str) -> tuple[Drawn, ...]:
    """Return at most `most` of the last round's answers, which are no patches, no two alike."""
    last = max((one.candidate.round for one in drawn), default=0)
    answers: dict[str, Drawn] = {}
    for one in drawn:
        if one.candidate.round == last:
            answers.setdefault(one.answer, one)
    return shuffled(tuple(answers.values()), seed)[:most]


def _attempt(parent: Drawn) -> Attempt:
    outcome = parent.candidate.outcome
    if isinstance(outcome, Rejected):
        problem = printable(f"{outcome.reason}: {outcome.detail}")[:PROBLEM_LETTERS]
        return Attempt(without_middle(parent.answer, ANSWER_LETTERS), problem)
    return Attempt(outcome.diff.decode("utf-8", "backslashreplace"))
