"""The effects that a run pays for, as Protocols: stages call them, adapters implement them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from agentless_mini.domain import (
    Completion,
    Event,
    Job,
    JobResult,
    Message,
    ModelCard,
    Patch,
    Rejected,
    SampleRequest,
    ScoreRequest,
)

Watch = Callable[[Event], None]
"""Told what happens while it happens; must return quickly and never raise."""

PatchCheck = Callable[[Patch], Patch | Rejected]
"""Returns the patch if git accepts it on the tree of the run, else why not. May block for milliseconds."""

Find = Callable[[], tuple[str, ...]]
"""Finds paths of a tree by reading it, which can take a second of computing."""

Derive = Callable[[str, tuple[str, ...], Find], Awaitable[tuple[str, ...]]]
"""Returns what `find` finds: the rule's name and all that the rule depends on (a tree by its digest) come before it.

What was found by the same rule for the same may be returned instead, so that a rerun need not read the tree again.
"""


async def derive_anew(_rule: str, _given: tuple[str, ...], find: Find) -> tuple[str, ...]:
    """Find it, in a thread: the `Derive` that keeps nothing."""
    return await asyncio.to_thread(find)


class Sampler(Protocol):
    """A model that can be asked. All methods may be called concurrently from one event loop."""

    async def card(self) -> ModelCard:
        """Return the model's name, context window and way of decoding.

        Raises `ServerUnreachable`, `ServerFailed` or `ModelUnknown`.
        """

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return how many tokens the messages fill, the chat template and the opening of the answer included.

        Never less than the truth: a server without a tokenizer is answered for by an upper estimate.
        Raises `ServerUnreachable` or `ServerFailed`.
        """

    def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample once, as soon as it is there, in any order.

        A truncated or empty answer is a result; a server that does not answer is not. All of `request.indices` have
        been yielded when the iterator ends. Closing it early stops what is in flight.
        Raises `ServerUnreachable` or `ServerFailed` once retries are used up; what was yielded before stays valid.
        """


class Scorer(Protocol):
    """A reward model that can be asked. `scores` may be called concurrently from one event loop."""

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        """Return one finite number for each answer, in order: the higher, the better the model thinks of it.

        Numbers of one model can be compared, those of two cannot. An answer's number does not depend on the others
        that are asked for with it. No answers are no numbers, and nothing is asked.
        Raises `ServerUnreachable`, `ModelUnknown`, or `ServerFailed` once retries are used up, and where what the
        server says is no such number.
        """


class Sandbox(Protocol):
    """Boxes in which untrusted programs run. `run` may be called concurrently from one event loop."""

    async def run(self, job: Job) -> JobResult:
        """Run the steps of a job, in order, in a fresh box that nothing of it outlives.

        A step that fails, takes too long or uses too much is a result, and so is a file that cannot be placed. Waits
        for a free box first, which does not count as the job's time. When it is cancelled, the box is removed before
        it returns. What a box keeps in and what not is said by each adapter.
        Raises `EnvironmentFailed` where the machine does not do its part: no daemon, no bubblewrap, a broken image, a
        tree or environment that the adapter does not have.
        """
