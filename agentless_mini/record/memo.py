"""One memo: resume is replay, since a value that is recorded is never paid for again.

`Memo` keeps these promises for values of every kind:

* A value is in the record before anybody sees it, and stays there when its reader stops.
* Concurrent calls for one key pay once: the later ones wait, and one of them takes over if the payer fails or stops.
* A failure is never recorded. What arrived before it is.

`RecordedSampler`, `RecordedSandbox` and `RecordedScorer` put it before the ports. Each reaches its model or sandbox
only where something is owed. With a `run` it notes in the record what that run uses, as it gets it.
"""

import asyncio
import copy
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from agentless_mini.domain import (
    Completion,
    Ending,
    Issue,
    Job,
    JobResult,
    Message,
    ModelCard,
    Patch,
    SampleRequest,
    ScoreRequest,
)
from agentless_mini.errors import ModelChanged
from agentless_mini.ports import Derive, Find, Sampler, Sandbox, Scorer
from agentless_mini.record.effects import PATHS, SCORE, SETUP, Kind, Store, chat_key, stable_key, token_counts
from agentless_mini.record.records import RunId

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Next = Callable[[], Awaitable[tuple[K, V] | None]]
Pay = Callable[[tuple[K, ...]], AsyncGenerator[tuple[K, V], None]]
"""Pays for values and yields each as it arrives, in any order."""


@dataclass(frozen=True, slots=True)
class Shelf(Generic[K, V]):
    """Where values of one kind are recorded: `get` returns that of a key, None where there is none; `put` records one.

    A value that the next run should pay for again `put` passes over: only who waits now sees it.
    """

    get: Callable[[K], V | None]
    put: Callable[[K, V], None]


def values_of(store: Store, kind: Kind[V]) -> Shelf[str, V]:
    """Return the shelf of the values of a kind."""
    return Shelf(partial(store.value, kind), partial(store.put_value, kind))


class Memo(Generic[K, V]):
    """What is being paid for in this process. Calls that share a memo share their payments."""

    def __init__(self) -> None:
        """Begin with nothing in flight."""
        self._in_flight: dict[K, asyncio.Future[V]] = {}

    async def one(self, shelf: Shelf[K, V], key: K, pay: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, which `pay` is asked for where it is not recorded."""

        async def paid(keys: tuple[K, ...]) -> AsyncGenerator[tuple[K, V], None]:
            yield keys[0], await pay()

        async with aclosing(self.each(shelf, [key], paid)) as found:
            return (await anext(found))[1]

    async def each(self, shelf: Shelf[K, V], keys: Iterable[K], pay: Pay[K, V]) -> AsyncGenerator[tuple[K, V], None]:
        """Yield the value of each key once: what is recorded in the order of the keys, then the others as they arrive.

        Closing it early stops what it pays for. Raises what `pay` raises, once all before it has been yielded.
        """
        owed = list(dict.fromkeys(keys))
        while owed:
            there = {key: value for key in owed if (value := shelf.get(key)) is not None}
            waited = {key: self._in_flight[key] for key in owed if key in self._in_flight and key not in there}
            mine = tuple(key for key in owed if key not in there and key not in waited)
            async with self._paying(shelf, mine, pay) as following:
                for item in there.items():
                    yield item
                while (arrived := await following()) is not None:
                    yield arrived
            owed = list(waited)
            if waited:
                await asyncio.wait(waited.values(), return_when=asyncio.FIRST_COMPLETED)
            for key, future in waited.items():
                if future.done() and not future.cancelled():
                    owed.remove(key)
                    yield key, future.result()

    @asynccontextmanager
    async def _paying(self, shelf: Shelf[K, V], keys: tuple[K, ...], pay: Pay[K, V]) -> AsyncIterator[Next[K, V]]:
        """Pay in a task of its own, so that values are recorded however slow their reader is."""
        arrived: asyncio.Queue[tuple[K, V] | None] = asyncio.Queue()
        claimed = {key: asyncio.get_running_loop().create_future() for key in keys}
        self._in_flight |= claimed

        async def work() -> None:
            if not keys:
                return
            left = set(keys)
            async with aclosing(pay(keys)) as paid:
                async for key, value in paid:
                    left.remove(key)  # a KeyError here is an adapter that breaks its contract
                    shelf.put(key, value)
                    self._in_flight.pop(key).set_result(value)
                    arrived.put_nowait((key, value))
            if left:
                raise RuntimeError(f"{len(left)} of {len(keys)} values that were asked for did not come")

        def end(_: asyncio.Task[None]) -> None:  # runs even where the task was cancelled before its first step
            for key, future in claimed.items():
                if self._in_flight.get(key) is future:
                    del self._in_flight[key]
                future.cancel()  # wakes who waits, to take over; does nothing where there is a value
            arrived.put_nowait(None)

        async def following() -> tuple[K, V] | None:
            if (found := await arrived.get()) is None:
                await task
            return found

        task = asyncio.create_task(work())
        task.add_done_callback(end)
        try:
            yield following
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Once(Generic[V]):
    """Something that `start` makes once, when it is first asked for; if that raises, the next call tries again."""

    def __init__(self, start: Callable[[], Awaitable[V]]) -> None:
        """Make it with `start`."""
        self._start = start
        self._made: list[V] = []
        self._making = asyncio.Lock()

    async def __call__(self) -> V:
        """Return the thing, which is made if it is not there."""
        async with self._making:
            if not self._made:
                self._made.append(await self._start())
            return self._made[0]


# --- the ports -------------------------------------------------------------------------------------------------------

Scoring = Callable[[Issue, Sequence[Patch]], Awaitable[Mapping[str, float]]]
Sample = tuple[str, int]
"""The identity of a sample: the key of its request, and its index."""

_PART = 32  # answers that are scored, and recorded, at once


class RecordedSampler:
    """A model before which stands the record. See `ports.Sampler` for the contract of its methods.

    `start` returns the model, and is called once, when something is owed: where all is recorded, not even for its card.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Sampler]], store: Store, model: str, run: RunId | None = None
    ) -> None:
        """Put `store` before a model. `model` is the name that it is asked for by; requests carry the same."""
        self._inner, self._store, self._model, self._run = Once(start), store, model, run
        self._planned: ModelCard | None = None
        self._live = Once(self._ask_for_card)
        self._samples = Memo[Sample, Completion]()
        self._counts = Memo[str, int]()

    def of(self, run: RunId) -> "RecordedSampler":
        """Return the same model for another run, which notes what it uses; both pay once for what both need."""
        other = copy.copy(self)
        other._run, other._planned = run, None
        return other

    async def card(self) -> ModelCard:
        """Return the recorded card of the model, or that of the model itself, which is recorded."""
        self._planned = self._store.card(self._model) or await self._live()
        return self._planned

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the recorded count, or the model's, which is recorded. Raises `ModelChanged` as `sample`."""

        async def counted() -> int:
            await self._check_model()
            return await (await self._inner()).count_tokens(messages)

        shelf = values_of(self._store, token_counts(self._model))
        return await self._counts.one(shelf, chat_key(self._model, messages), counted)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield what is recorded, then what is owed as it arrives.

        Raises `ModelChanged` before anything is paid for, if the model's window or decoding is no longer the one of
        the card that was handed out: the new card is recorded, and the run must be planned again with it.
        """
        key = request.key()

        async def paid(owed: tuple[Sample, ...]) -> AsyncGenerator[tuple[Sample, Completion], None]:
            await self._check_model()
            self._store.put_request(request)  # first: a record that cannot be written is found before anything is paid
            asked = replace(request, indices=tuple(sorted(index for _, index in owed)))
            stream = (await self._inner()).sample(asked)
            try:
                async for completion in stream:
                    yield (key, completion.index), completion
            finally:  # which stops what is in flight
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()

        shelf: Shelf[Sample, Completion] = Shelf(
            lambda sample: self._store.get_sample(*sample),
            lambda sample, value: self._store.put_sample(sample[0], request, value),
        )
        wanted = [(key, index) for index in request.indices]
        async with aclosing(self._samples.each(shelf, wanted, paid)) as found:
            async for (_, index), completion in found:
                if self._run is not None:
                    self._store.runs.link(self._run, key, index)
                yield completion

    async def _check_model(self) -> None:
        """Before anything is paid for, make sure that the run was planned for the model that is served now."""
        self._planned = self._planned or self._store.card(self._model)
        live = await self._live()
        planned = self._planned or live
        if (planned.context_window, planned.decoding) != (live.context_window, live.decoding):
            raise ModelChanged(
                f"The model {self._model} now has a window of {live.context_window} tokens ({live.decoding}), not "
                f"{planned.context_window} ({planned.decoding}) as recorded: run the same command again."
            )

    async def _ask_for_card(self) -> ModelCard:
        card = await (await self._inner()).card()
        self._store.put_card(self._model, card)
        return card


class RecordedSandbox:
    """A sandbox before which stands the record. See `ports.Sandbox` for the contract of its method.

    A box that died for no limit of its own, or for which the machine had no time, is seen by this run and not recorded:
    the next one tries again. One that ran out of memory or of its own time is a result.
    """

    def __init__(self, inner: Sandbox, store: Store, run: RunId | None = None) -> None:
        """Put `store` before `inner`."""
        self._inner, self._store, self._run = inner, store, run
        self._boxes = Memo[str, JobResult]()

    async def run(self, job: Job) -> JobResult:
        """Return what is recorded of the job, or what the inner sandbox says of it."""
        key = job.key()

        def put(key: str, result: JobResult) -> None:
            if is_conclusive(result):
                self._store.put_box(key, job, result)

        result = await self._boxes.one(Shelf(self._store.get_box, put), key, lambda: self._inner.run(job))
        if self._run is not None and is_conclusive(result):
            self._store.runs.link_box(self._run, key)
        return result


class RecordedScorer:
    """A reward model before which stands the record. Each answer's score is recorded by itself. See `ports.Scorer`."""

    def __init__(self, start: Callable[[], Awaitable[Scorer]], store: Store) -> None:
        """Put `store` before a reward model."""
        self._inner = Once(start)
        self._shelf = values_of(store, SCORE)
        self._scores = Memo[str, float]()

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        """Return what is recorded of the answers, and what the model says of the others."""
        keys = request.keys()
        answers = dict(zip(keys, request.answers, strict=True))

        async def paid(owed: tuple[str, ...]) -> AsyncGenerator[tuple[str, float], None]:
            scorer, left = await self._inner(), iter(owed)
            while part := tuple(islice(left, _PART)):
                scores = await scorer.scores(replace(request, answers=tuple(answers[key] for key in part)))
                for key, score in zip(part, scores, strict=True):
                    yield key, score

        found = {key: score async for key, score in self._scores.each(self._shelf, answers, paid)}
        return tuple(found[key] for key in keys)


def traced_scoring(scoring: Scoring, store: Store, run: RunId) -> Scoring:
    """Return scoring (see `chain.evolve`) that records for a run what each of its patches got."""

    async def scores(issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        found = await scoring(issue, patches)
        store.runs.put_scores(run, found)
        return found

    return scores


def recorded_derive(store: Store) -> Derive:
    """Return the `Derive` that takes what the same code derived from the same before."""
    memo, shelf = Memo[str, tuple[str, ...]](), values_of(store, PATHS)

    async def derive(rule: str, given: tuple[str, ...], find: Find) -> tuple[str, ...]:
        return await memo.one(shelf, stable_key(rule, code_state(), given), lambda: asyncio.to_thread(find))

    return derive


def kept_texts(store: Store, place: str) -> Callable[[str, Callable[[], Awaitable[str]]], Awaitable[str]]:
    """Return what keeps the texts that are made for a place by name; an empty one is made again."""
    memo, shelf = Memo[str, str](), values_of(store, SETUP)
    shelf = replace(shelf, put=lambda key, text: store.put_value(SETUP, key, text) if text else None)
    return lambda name, make: memo.one(shelf, stable_key(place, name), make)


@functools.cache
def code_state(package: Path = Path(__file__).parent.parent) -> str:
    """Return what changes with the code of this package: what older code derived is not taken for the newer's."""
    files = sorted(package.rglob("*.py"))
    states = [(str(path.relative_to(package)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return stable_key(states)


def is_conclusive(result: JobResult) -> bool:
    """Tell whether the job would come to this again: it was refused, or its box did not die and was not starved."""
    if result.refusal or not result.steps:
        return True
    unlucky = any(step.ending in {Ending.BOX_DIED, Ending.STARVED} for step in result.steps)
    return not unlucky and result.steps[0].ending is not Ending.NOT_RUN
