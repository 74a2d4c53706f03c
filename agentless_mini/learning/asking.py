"""What a model is asked about rows: reasoning by a teacher, and earlier patches as the rounds of EvoScale would show.

Reasoning is kept only if the edits that follow it come to the oracle, by normal form. Of parents, answers that are no
patch are dropped, and of several with one normal form the first is kept. Among them may be right ones: a model that is
to evolve must learn to keep those, too.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import Completion, Message, Patch, SampleRequest, SamplingParams, Stage
from agentless_mini.edits import answer_text, make_patch, read_answer
from agentless_mini.errors import UsageError
from agentless_mini.learning.rows import Row
from agentless_mini.ports import Sampler
from agentless_mini.settings.learning import SynthesizeSettings

Result = TypeVar("Result")

_PARENTS_AT_ONCE = 64
_REASONING = re.compile(r"<explanation>(.*?)</explanation>", re.DOTALL)


async def synthesize(
    rows: Iterable[Row], sampler: Sampler, prompts: Prompts, settings: SynthesizeSettings, counts: Counter[str]
) -> AsyncIterator[Row]:
    """Yield all rows in order, with a reasoning where one is kept; `counts` says what became of each.

    A row's tries are made one after another.
    """

    async def explained(row: Row) -> tuple[str, str]:
        if row.reasoning:
            return "had a reasoning", row.reasoning
        try:
            answer = row.answer()
        except UsageError:
            return "no answer", ""
        messages = prompts.synthesize(replace(row, parents=()).messages(prompts), answer)
        tokens = await _room(sampler, messages, settings.max_tokens)
        if not tokens:
            return "too long for the teacher", ""
        params = SamplingParams(tokens, settings.temperature, seed=settings.seed)
        for index in range(settings.samples):
            (completion,) = await answers(sampler, messages, params, (index,), row)
            if reasoning := reasoning_of(row, completion):
                return "reasoning written", reasoning
        return "not reproduced", ""

    async def with_reasoning(row: Row) -> Row:
        became, reasoning = await explained(row)
        counts[became] += 1
        return replace(row, reasoning=reasoning)

    async for row in in_turn(rows, with_reasoning, settings.rows_at_once):
        yield row


def reasoning_of(row: Row, completion: Completion) -> str:
    """Return the reasoning of a teacher's answer; "" if there is none or its edits do not come to the oracle."""
    spoken = answer_text(completion.text)
    found = _REASONING.findall(spoken) if isinstance(spoken, str) else []
    if len(found) != 1 or not found[0].strip():
        return ""
    tree = row.tree()
    outcome = read_answer(replace(completion, text=_REASONING.sub("", str(spoken))), tree)
    truth = make_patch(row.oracle(), tree.forms)
    return found[0].strip() if isinstance(outcome, Patch) and outcome.normal == truth.normal else ""


async def with_parents(
    rows: Iterable[Row],
    sampler: Sampler,
    prompts: Prompts,
    counts: Counter[str],
    samples: int,
    max_tokens: int,
    seed: int = 0,
    temperature: float = 1.0,
) -> AsyncIterator[Row]:
    """Yield all rows in order with the distinct patches among so many answers; `counts` says what became of each."""

    async def bred(row: Row) -> Row:
        plain = replace(row, parents=())
        messages = plain.messages(prompts)
        tokens = await _room(sampler, messages, max_tokens)
        if not tokens:
            counts["too long for the model"] += 1
            return plain
        params = SamplingParams(tokens, temperature=temperature, seed=seed)
        found = await answers(sampler, messages, params, tuple(range(samples)), row)
        tree = row.tree()
        patches: dict[str, str] = {}
        for outcome in (read_answer(completion, tree) for completion in found):
            if isinstance(outcome, Patch):
                patches.setdefault(outcome.normal, outcome.diff.decode("utf-8", "replace"))
        counts["with parents" if patches else "no answer was a patch"] += 1
        return replace(plain, parents=tuple(patches.values()))

    async for row in in_turn(rows, bred, _PARENTS_AT_ONCE):
        yield row


async def in_turn(rows: Iterable[Row], ask: Callable[[Row], Awaitable[Result]], at_once: int) -> AsyncGenerator[Result]:
    """Yield what `ask` makes of each row, in order, with at most `at_once` under way and few rows in memory."""
    waiting = iter(rows)
    under_way = [asyncio.ensure_future(ask(row)) for row in islice(waiting, at_once)]
    try:
        while under_way:
            yield await under_way[0]
            under_way.pop(0)
            under_way += [asyncio.ensure_future(ask(row)) for row in islice(waiting, 1)]
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def answers(
    sampler: Sampler, messages: tuple[Message, ...], params: SamplingParams, indices: tuple[int, ...], row: Row
) -> tuple[Completion, ...]:
    """Return the wanted samples of a prompt, in order of index."""
    model = (await sampler.card()).name
    stream = sampler.sample(SampleRequest(model, messages, params, indices, Stage.REPAIR, row.id))
    return tuple(sorted([one async for one in stream], key=lambda completion: completion.index))


async def _room(sampler: Sampler, messages: tuple[Message, ...], wanted: int) -> int:
    """Return how many tokens an answer may have, at most `wanted`; 0 where the prompt fills the window."""
    window = (await sampler.card()).context_window
    return max(0, min(wanted, window - await sampler.count_tokens(messages)))
