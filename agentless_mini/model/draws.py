"""Draws the wanted samples of one prompt: split into requests, streamed side by side, asked again for what is owed.

It exists so that retries never draw a sample twice and never change its seed. It records nothing and knows no server.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from agentless_mini.domain import Completion
from agentless_mini.errors import AminiError
from agentless_mini.model.connection import Body, Connection
from agentless_mini.model.failures import StreamEnded, is_refusal, is_silent
from agentless_mini.model.refusals import Habits, Part, Wire, folded, refused, without
from agentless_mini.model.streams import Assembly


class Slots:
    """Requests in flight at once, as an asynchronous context manager that gives how many there may be.

    There may be fewer from the moment that a server under load falls silent.
    """

    def __init__(self, most: int) -> None:
        """Allow `most` at first."""
        self.most = most
        self._free = asyncio.Semaphore(most)
        self._used = 0
        self._owed = 0

    async def __aenter__(self) -> int:
        """Wait for a free slot."""
        await self._free.acquire()
        self._used += 1
        return self.most

    async def __aexit__(self, *_: object) -> None:
        """Free the slot, or keep it back where there are to be fewer."""
        self._used -= 1
        if self._owed:
            self._owed -= 1
        else:
            self._free.release()

    async def halve(self, allowed: int) -> bool:
        """Allow half of what was in flight, after a request that began while `allowed` were has given up its slot.

        Returns whether that is fewer. Of the requests that fail together only the first counts.
        """
        fewer = max(1, (self._used + 1) // 2)
        if allowed != self.most or not self._used:
            return False
        for _ in range(self.most - fewer):
            if self._free.locked():
                self._owed += 1
            else:
                await self._free.acquire()
        self.most = fewer
        return True


@dataclass(slots=True)
class Limits:
    """What one server bears, shared by all draws: requests in flight, and choices per request as learned so far.

    `tells_usage` is whether it told the tokens of the last request that ended well, None before the first.
    """

    slots: Slots
    choices: int
    tells_usage: bool | None = None

    def at_most(self, choices: int) -> None:
        """Learn that the server gives at most so many choices in one request."""
        self.choices = min(self.choices, choices)


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat request without its messages and its share of samples: sample i is drawn with seed `seed + i`."""

    body: Body
    headers: Mapping[str, str]
    seed: int
    messages: Wire

    def of(self, run: tuple[int, ...], gone: frozenset[Part]) -> Body:
        """Return the body that asks for a run of consecutive samples, without the parts that are gone."""
        shared = {"messages": folded(self.messages, gone), "n": len(run), "seed": self.seed + run[0]}
        return without({**self.body, **shared}, gone)


def runs(indices: tuple[int, ...], longest: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices, which ascend, as runs of consecutive ones, none longer than `longest`."""
    start = 0
    for end in range(1, len(indices) + 1):
        is_last = end == len(indices) or indices[end] != indices[end - 1] + 1
        if is_last or end - start == longest:
            yield indices[start:end]
            start = end


class Draws:
    """The draws of one prompt. Each run of samples is a task of its own; what they finish goes through one queue."""

    def __init__(
        self, connection: Connection, limits: Limits, habits: Habits, ask: Ask, on_tokens: Callable[[int], None]
    ) -> None:
        """Prepare to send `ask`; `on_tokens` is told of new tokens as they come."""
        self._connection = connection
        self._limits = limits
        self._habits = habits
        self._ask = ask
        self._on_tokens = on_tokens
        self._done: asyncio.Queue[Completion | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def of(self, indices: tuple[int, ...]) -> AsyncGenerator[Completion, None]:
        """Yield each sample once when it is finished. Closing the iterator ends all requests.

        Raises `ModelError` where a run is given up; what was finished before has been yielded.
        """
        try:
            self._start(indices, 0)
            for _ in indices:
                item = await self._done.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, indices: tuple[int, ...], failures: int) -> None:
        for run in runs(indices, self._limits.choices):
            task = asyncio.create_task(self._draw(run, failures))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._done.put_nowait(error)

    async def _draw(self, run: tuple[int, ...], failures: int) -> None:
        """Ask for a run; start again for what is still owed of it after a failure."""
        assembly, gone, allowed = Assembly(run, self._limits.tells_usage), self._habits.gone, 0
        try:
            async with self._limits.slots as allowed:
                gone = self._habits.gone
                if len(run) <= self._limits.choices:  # else less was learned while this run waited: it is split
                    await self._stream(self._ask.of(run, gone), assembly)
        except AminiError as error:
            if len(run) > 1 and is_refusal(error) and refused(error) in {Part.N, None}:
                self._limits.at_most(1)
            elif not self._habits.learn(error, gone):
                failures = 1 if assembly.given else failures + 1
                if is_silent(error) and await self._limits.slots.halve(allowed):
                    self._connection.tell_fewer(self._limits.slots.most)
                await self._connection.recover(error, failures)
        owed = tuple(index for index in run if index not in assembly.given)
        self._start(owed, failures)

    async def _stream(self, body: Body, assembly: Assembly) -> None:
        """Send one request and hand on what it finishes, also where the stream breaks."""
        try:
            async with aclosing(self._connection.events(body, self._ask.headers)) as events:
                async for event in events:
                    before = assembly.streamed
                    self._hand_on(assembly.feed(event))
                    self._tell(assembly.streamed - before)
        finally:
            self._hand_on(assembly.rest())
        if assembly.ignored() and assembly.given:
            self._limits.at_most(1)
        if assembly.unfinished() or not assembly.given:
            with self._connection.edge():
                raise StreamEnded("the stream ended before the answer did")
        self._limits.tells_usage = assembly.told

    def _hand_on(self, completions: Iterator[Completion]) -> None:
        for completion in completions:
            self._done.put_nowait(completion)

    def _tell(self, tokens: int) -> None:
        if tokens:
            self._on_tokens(tokens)
