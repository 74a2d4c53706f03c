"""Earlier patches for rows: what a model answers to the plain prompt, as the rounds of EvoScale would show it.

Answers that are no patch are no parents, and of several with one normal form the first is. Among the parents may be
right ones: a model that is to evolve must learn to keep them, too.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

from agentless_mini.domain import Patch, SamplingParams
from agentless_mini.edits import read_answer
from agentless_mini.learning.asking import answers, in_turn, room
from agentless_mini.learning.rows import Row
from agentless_mini.ports import Sampler
from agentless_mini.prompts import Prompts

WITH_PARENTS = "with parents"
NO_PATCH = "no answer was a patch"
NO_ROOM = "too long for the model"


@dataclass(frozen=True, slots=True)
class Breeding:
    """Who is asked for parents, in which words, for how many answers of at most how many tokens."""

    sampler: Sampler
    prompts: Prompts
    samples: int
    max_tokens: int
    seed: int = 0
    temperature: float = 1.0
    at_once: int = 64


async def with_parents(rows: Iterable[Row], breeding: Breeding, counts: Counter[str]) -> AsyncIterator[Row]:
    """Yield all rows in order with the patches that were sampled; `counts` says what became of each.

    Raises what the sampler raises.
    """

    async def bred(row: Row) -> Row:
        plain = replace(row, parents=())
        messages = plain.messages(breeding.prompts)
        tokens = await room(breeding.sampler, messages, breeding.max_tokens)
        if not tokens:
            counts[NO_ROOM] += 1
            return plain
        params = SamplingParams(tokens, temperature=breeding.temperature, seed=breeding.seed)
        found = await answers(breeding.sampler, messages, params, tuple(range(breeding.samples)), row)
        tree = row.tree()
        patches: dict[str, Patch] = {}
        for completion in found:
            outcome = read_answer(completion, tree)
            if isinstance(outcome, Patch):
                patches.setdefault(outcome.normal, outcome)
        counts[WITH_PARENTS if patches else NO_PATCH] += 1
        return replace(plain, parents=tuple(patch.diff.decode("utf-8", "replace") for patch in patches.values()))

    async for row in in_turn(rows, bred, breeding.at_once):
        yield row
