"""What every stage of one issue works with, and how a prompt is made to fit the model's window."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.lexical import Survey
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.score import Scoring
from agentless_mini.domain import Issue, Message, Snapshot
from agentless_mini.edits import KNOWN, Marks
from agentless_mini.errors import ContextTooSmall
from agentless_mini.ports import Derive, PatchCheck, Sampler, Watch, derive_anew

# Each round corrects the estimate by the server's own count, so the second or third fits unless nothing can.
MOST_ROUNDS = 8
# An answer may take this share of the window at most, so that small windows keep room for code.
ANSWER_SHARE = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be repaired: the issue as prompts show it, the tree, and what was found in both without a model."""

    issue: Issue
    snapshot: Snapshot
    survey: Survey


@dataclass(frozen=True, slots=True)
class Session:
    """The effects and words that the stages of one issue share. `instance` accounts for the calls (a header).

    `scoring` is there where a reward model is; `marks` are the user's own marks of answers and of thinking.
    """

    sampler: Sampler
    prompts: Prompts
    check: PatchCheck
    watch: Watch
    instance: str
    scoring: Scoring | None = None
    marks: Marks = KNOWN
    derive: Derive = derive_anew


Shown = TypeVar("Shown")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Draft(Generic[Shown]):
    """A prompt and what it shows; `cut` tells whether something was left out of it."""

    messages: tuple[Message, ...]
    shown: Shown
    cut: bool


def answer_room(max_tokens: int, context_window: int) -> int:
    """Return how many tokens an answer may have: what is wanted, but no more than a quarter of the window."""
    return max(1, min(max_tokens, context_window // ANSWER_SHARE))


async def fit_prompt(sampler: Sampler, room: int, draft: Callable[[int, Gauge], Draft[Shown]]) -> Draft[Shown]:
    """Return the fullest draft of at most `room` tokens by the server's count.

    `draft` is called with a budget in tokens for the whole prompt and a gauge, and must keep to them. A first draft
    that was cut by an uncalibrated gauge is made again with what its count taught.
    Raises `ContextTooSmall` where no draft fits.
    """
    gauge = Gauge()
    calibrated = False
    for _ in range(MOST_ROUNDS):
        made = draft(room, gauge)
        counted = await sampler.count_tokens(made.messages)
        if counted <= room and (calibrated or not made.cut):
            return made
        estimated = sum(gauge.tokens(message.content) for message in made.messages)
        gauge, calibrated = gauge.corrected(estimated, counted), True
    message = f"The prompt does not fit {room} tokens: serve the model with a larger context, or shorten the issue."
    raise ContextTooSmall(message)


async def together(jobs: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines side by side; return their results in order. The first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as failures:
        raise _first(failures) from failures
    return [task.result() for task in tasks]


async def both(one: Coroutine[Any, Any, Shown], other: Coroutine[Any, Any, Result]) -> tuple[Shown, Result]:
    """Run two coroutines side by side, as `together` does."""
    try:
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(one), group.create_task(other)
    except BaseExceptionGroup as failures:
        raise _first(failures) from failures
    return first.result(), second.result()


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
