"""What every stage of one issue works with, and how a prompt is made to fit the model's window."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.lexical import Survey
from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import (
    BoxLimits,
    Case,
    Completion,
    Harness,
    Issue,
    Message,
    Patch,
    Place,
    Rejected,
    SampleDone,
    SampleRequest,
    SamplingParams,
    Snapshot,
    Stage,
    StageStarted,
)
from agentless_mini.edits import KNOWN, Marks
from agentless_mini.errors import ContextTooSmall
from agentless_mini.ports import Derive, PatchCheck, Sampler, Sandbox, Watch, derive_anew
from agentless_mini.settings.run import LocalizeSettings, ReproduceSettings

# Each round corrects the estimate by the server's own count, so the second or third fits unless nothing can.
MOST_ROUNDS = 8
# An answer may take this share of the window at most, so that small windows keep room for code.
ANSWER_SHARE = 4

Scoring = Callable[[Issue, Sequence[Patch]], Awaitable[Mapping[str, float]]]
"""Scores patches for an issue: the higher, the better, by normal form."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be repaired: the issue as prompts show it, the tree, and what was found in both without a model."""

    issue: Issue
    snapshot: Snapshot
    survey: Survey


def known_by(issue: Issue, snapshot: Snapshot) -> tuple[str, ...]:
    """Return what a ranking of files hangs on: commit and number tell histories apart, of which one may be cut."""
    return (snapshot.digest, snapshot.name, snapshot.commit, str(len(snapshot.history)), issue.text)


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


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one issue, and how its tests run in them.

    `snapshot` is the tree that every box starts from, `case_seconds` the most that one test may take. `failing` are
    the tests of the user and those that the issue names which fail on that tree.
    """

    sandbox: Sandbox
    place: Place
    harness: Harness
    snapshot: Snapshot
    watch: Watch
    limits: BoxLimits = field(default_factory=BoxLimits)
    case_seconds: float = 60.0
    derive: Derive = derive_anew
    failing: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class NoBoxes:
    """Nothing can be run; `reason` is a sentence that says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opening:
    """Boxes to be opened: how tests will run is known at once, the boxes may take minutes."""

    harness: Harness
    open: Callable[[Watch], Coroutine[Any, Any, Boxes | NoBoxes]]


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
    gauge, calibrated = Gauge(), False
    for _ in range(MOST_ROUNDS):
        made = draft(room, gauge)
        counted = await sampler.count_tokens(made.messages)
        if counted <= room and (calibrated or not made.cut):
            return made
        gauge, calibrated = gauge.corrected(gauge.of(made.messages), counted), True
    message = f"The prompt does not fit {room} tokens: serve the model with a larger context, or shorten the issue."
    raise ContextTooSmall(message)


async def ask(
    messages: tuple[Message, ...],
    stage: Stage,
    session: Session,
    settings: LocalizeSettings | ReproduceSettings,
    read: Callable[[Completion], Result | Rejected],
) -> tuple[str, dict[int, Result | Rejected]]:
    """Draw all samples of one prompt; return its key, and what `read` makes of each, in the order of their indices."""
    card = await session.sampler.card()
    room = answer_room(settings.max_tokens, card.context_window)
    params, indices = SamplingParams(room, settings.temperature, seed=settings.seed), tuple(range(settings.samples))
    request = SampleRequest(card.name, messages, params, indices, stage, session.instance)
    session.watch(StageStarted(stage, settings.samples))
    answers: dict[int, Result | Rejected] = {}
    async for completion in session.sampler.sample(request):
        answer = answers[completion.index] = read(completion)
        session.watch(SampleDone(stage, completion, answer if isinstance(answer, Rejected) else None))
    return request.key(), dict(sorted(answers.items()))


@asynccontextmanager
async def side_by_side() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks side by side. The first failure cancels the rest and is raised, by itself and not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from failures


async def together(jobs: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines `side_by_side`; return their results in order."""
    async with side_by_side() as group:
        tasks = [group.create_task(job) for job in jobs]
    return [task.result() for task in tasks]
