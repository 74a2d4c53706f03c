"""Resume is replay: samplers that wear another one and put the store before it.

    TracedSampler(RecordedSampler(LazySampler(start), store, model), store, run)

`RecordedSampler` answers from the store and pays for what is owed, `LazySampler` starts a model only when it is asked
for the first time, `TracedSampler` notes which samples a run used. None of them knows how a model is reached.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from agentless_mini.domain import Completion, Message, ModelCard, SampleRequest
from agentless_mini.errors import ModelChanged
from agentless_mini.ports import Sampler
from agentless_mini.store import RunId, Store


class LazySampler:
    """A sampler that is made when it is first asked: for models that must be started, or reached over a network.

    `start` is called once, however many calls wait for it; if it raises, the next call tries again. Who makes the
    sampler also ends it: nothing is closed here.
    """

    def __init__(self, start: Callable[[], Awaitable[Sampler]]) -> None:
        """Ask the sampler that `start` returns."""
        self._start = start
        self._started: Sampler | None = None
        self._starting = asyncio.Lock()

    async def card(self) -> ModelCard:
        """Return the card of the model, which is started for it."""
        return await (await self._sampler()).card()

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the count of the model, which is started for it."""
        return await (await self._sampler()).count_tokens(messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield the samples of the model, which is started for it."""
        async with _stream(await self._sampler(), request) as stream:
            async for completion in stream:
                yield completion

    async def _sampler(self) -> Sampler:
        async with self._starting:
            if self._started is None:
                self._started = await self._start()
            return self._started


class RecordedSampler:
    """Answers from the store; asks the inner sampler for what is owed and records it the moment it arrives.

    A sample is in the store before anybody sees it, and stays there when its reader stops. Concurrent calls for one
    sample pay once: the later call waits for the earlier, and takes over if that one fails or is closed. A failure is
    never recorded. When everything is recorded, the inner sampler is not asked at all, not even for its card.
    """

    def __init__(self, inner: Sampler, store: Store, model: str) -> None:
        """Put `store` before `inner`. `model` is the name that it is asked for by; requests carry the same."""
        self._inner = inner
        self._store = store
        self._model = model
        self._planned: ModelCard | None = None
        self._live: ModelCard | None = None
        self._asking = asyncio.Lock()
        self._in_flight: dict[tuple[str, int], asyncio.Future[None]] = {}

    async def card(self) -> ModelCard:
        """Return the recorded card of the model, or the inner sampler's, which is recorded."""
        self._planned = self._store.card(self._model) or await self._live_card()
        return self._planned

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the recorded count, or the inner sampler's, which is recorded. Raises `ModelChanged` as `sample`."""
        recorded = self._store.get_count(self._model, messages)
        if recorded is not None:
            return recorded
        await self._check_model()
        counted = await self._inner.count_tokens(messages)
        self._store.put_count(self._model, messages, counted)
        return counted

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield what is recorded, then what is owed as it arrives.

        Raises `ModelChanged` before anything is paid for, if the model's window or decoding is no longer the one of
        the card that was handed out: the new card is recorded, and the run must be planned again with it.
        """
        key, owed = request.key(), frozenset(request.indices)
        while owed:
            recorded = owed & self._store.recorded(key)
            mine = frozenset(index for index in owed - recorded if (key, index) not in self._in_flight)
            async with self._paying(key, request, mine) as payment:
                for completion in self._store.replay(key, sorted(recorded)):
                    yield completion
                while (arrived := await payment.next()) is not None:
                    yield arrived
            owed -= recorded | mine
            if theirs := [self._in_flight[key, index] for index in owed if (key, index) in self._in_flight]:
                await asyncio.wait(theirs, return_when=asyncio.FIRST_COMPLETED)

    @asynccontextmanager
    async def _paying(self, key: str, request: SampleRequest, indices: frozenset[int]) -> AsyncIterator["_Payment"]:
        """Pay for the samples in a task of its own, so that they are recorded however slow their reader is."""
        arrived: asyncio.Queue[Completion | None] = asyncio.Queue()
        task = asyncio.create_task(self._pay(key, replace(request, indices=tuple(sorted(indices))), arrived))
        self._in_flight |= {(key, index): asyncio.get_running_loop().create_future() for index in indices}

        def end(_: asyncio.Task[None]) -> None:  # runs even where the task was cancelled before its first step
            for index in indices:
                self._settle(key, index)
            arrived.put_nowait(None)

        task.add_done_callback(end)
        try:
            yield _Payment(task, arrived)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _pay(self, key: str, request: SampleRequest, arrived: asyncio.Queue[Completion | None]) -> None:
        left = set(request.indices)
        if not left:
            return
        await self._check_model()
        self._store.put_request(request)  # first: a store that cannot be written is found before anything is paid for
        async with _stream(self._inner, request) as stream:
            async for completion in stream:
                left.remove(completion.index)  # a KeyError here is a sampler that breaks its contract
                self._store.put_sample(key, request, completion)
                self._settle(key, completion.index)
                arrived.put_nowait(completion)
        if left:
            raise RuntimeError(f"the sampler ended without the samples {sorted(left)}")

    def _settle(self, key: str, index: int) -> None:
        """Wake who waits for a sample: it is recorded now, or nobody asks for it any more."""
        waited = self._in_flight.pop((key, index), None)
        if waited is not None:
            waited.set_result(None)

    async def _check_model(self) -> None:
        """Before anything is paid for, make sure that the run was planned for the model that is served now."""
        self._planned = self._planned or self._store.card(self._model)
        live = await self._live_card()
        planned = self._planned or live
        if (planned.context_window, planned.decoding) != (live.context_window, live.decoding):
            raise ModelChanged(
                f"The model {self._model} now has a window of {live.context_window} tokens ({live.decoding}), not "
                f"{planned.context_window} ({planned.decoding}) as recorded: run the same command again."
            )

    async def _live_card(self) -> ModelCard:
        async with self._asking:
            if self._live is None:
                self._live = await self._inner.card()
                self._store.put_card(self._model, self._live)
            return self._live


class TracedSampler:
    """Notes in the store which samples a run uses, as it gets them. The inner sampler must be a recorded one."""

    def __init__(self, inner: Sampler, store: Store, run: RunId) -> None:
        """Note what `run` gets from `inner`, which records in the same store."""
        self._inner = inner
        self._store = store
        self._run = run

    async def card(self) -> ModelCard:
        """Return the inner sampler's card."""
        return await self._inner.card()

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the inner sampler's count."""
        return await self._inner.count_tokens(messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield the inner sampler's samples, each noted before."""
        key = request.key()
        async with _stream(self._inner, request) as stream:
            async for completion in stream:
                self._store.runs.link(self._run, key, completion.index)
                yield completion


@dataclass(frozen=True, slots=True)
class _Payment:
    """Samples on their way: the task that asks for them, and those that arrived, None at the end."""

    task: asyncio.Task[None]
    arrived: asyncio.Queue[Completion | None]

    async def next(self) -> Completion | None:
        """Return the next sample, or None after the last. Raises what the sampler raised, once all before is seen."""
        completion = await self.arrived.get()
        if completion is None:
            await self.task
        return completion


@asynccontextmanager
async def _stream(sampler: Sampler, request: SampleRequest) -> AsyncIterator[AsyncIterator[Completion]]:
    """Ask a sampler and close its iterator at the end, which stops what is in flight."""
    stream = sampler.sample(request)
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
