"""Asks a model about one row after another, some at once, in the rows' order, few of them in memory."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

from agentless_mini.domain import Completion, Message, SampleRequest, SamplingParams, Stage
from agentless_mini.learning.rows import Row
from agentless_mini.ports import Sampler

Result = TypeVar("Result")


async def in_turn(rows: Iterable[Row], ask: Callable[[Row], Awaitable[Result]], at_once: int) -> AsyncGenerator[Result]:
    """Yield what `ask` makes of each row, in order, with at most `at_once` under way."""
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
    """Return the wanted samples of a prompt, in order of index. Raises what the sampler raises."""
    model = (await sampler.card()).name
    request = SampleRequest(model, messages, params, indices, Stage.REPAIR, row.id)
    stream = sampler.sample(request)
    found = [completion async for completion in stream]
    return tuple(sorted(found, key=lambda completion: completion.index))


async def room(sampler: Sampler, messages: tuple[Message, ...], wanted: int) -> int:
    """Return how many tokens an answer may have, at most `wanted`; 0 where the prompt fills the window."""
    window = (await sampler.card()).context_window
    return max(0, min(wanted, window - await sampler.count_tokens(messages)))
