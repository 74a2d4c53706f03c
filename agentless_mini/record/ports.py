"""Resume is replay: the ports with the record before them.

Each answers from the record, reaches its model or sandbox only where something is owed, and pays for it as `Memo`
promises. With a `run` it notes in the record what that run uses, as it gets it.
"""

import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice

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
from agentless_mini.ports import Sampler, Sandbox, Scorer
from agentless_mini.record.effects import SCORE, Store, Values, chat_key, token_counts
from agentless_mini.record.memo import Memo, Once
from agentless_mini.record.records import RunId

Scoring = Callable[[Issue, Sequence[Patch]], Awaitable[Mapping[str, float]]]
Sample = tuple[str, int]
"""The identity of a sample: the key of its request, and its index."""

_PART = 32  # answers that are scored, and recorded, at once


class RecordedSampler:
    """A model before which stands the record. See `ports.Sampler` for the contract of its methods.

    `start` returns the model, and is called once, when something is owed. Where all is recorded the model is not even
    asked for its card.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Sampler]], store: Store, model: str, run: RunId | None = None
    ) -> None:
        """Put `store` before a model. `model` is the name that it is asked for by; requests carry the same."""
        self._inner = Once(start)
        self._store = store
        self._model = model
        self._run = run
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

        shelf = Values(self._store, token_counts(self._model))
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
            async with _stream(await self._inner(), asked) as stream:
                async for completion in stream:
                    yield (key, completion.index), completion

        wanted = [(key, index) for index in request.indices]
        async with aclosing(self._samples.each(_Samples(self._store, request), wanted, paid)) as found:
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

    A box that died without a limit of its own as the reason (it was removed, or its daemon restarted), or for which the
    machine had no time, is seen by this run and not recorded: the next run tries again. A box or a step that ran out of
    memory or of its own time is a result.
    """

    def __init__(self, inner: Sandbox, store: Store, run: RunId | None = None) -> None:
        """Put `store` before `inner`."""
        self._inner = inner
        self._store = store
        self._run = run
        self._boxes = Memo[str, JobResult]()

    async def run(self, job: Job) -> JobResult:
        """Return what is recorded of the job, or what the inner sandbox says of it."""
        key = job.key()
        result = await self._boxes.one(_Boxes(self._store, job), key, lambda: self._inner.run(job))
        if self._run is not None and is_conclusive(result):
            self._store.runs.link_box(self._run, key)
        return result


class RecordedScorer:
    """A reward model before which stands the record. See `ports.Scorer` for the contract of its method.

    Each answer's score is paid for and recorded by itself, so equal answers share it. `start` returns the model, and is
    called once, when a score is owed.
    """

    def __init__(self, start: Callable[[], Awaitable[Scorer]], store: Store) -> None:
        """Put `store` before a reward model."""
        self._inner = Once(start)
        self._shelf = Values(store, SCORE)
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
    """Return scoring (see `stages.score`) that records for a run what each of its patches got."""

    async def scores(issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        found = await scoring(issue, patches)
        store.runs.put_scores(run, found)
        return found

    return scores


def is_conclusive(result: JobResult) -> bool:
    """Tell whether the job would come to this again: it was refused, or its box did not die and was not starved."""
    if result.refusal or not result.steps:
        return True
    unlucky = any(step.ending in {Ending.BOX_DIED, Ending.STARVED} for step in result.steps)
    return not unlucky and result.steps[0].ending is not Ending.NOT_RUN


@dataclass(frozen=True, slots=True)
class _Samples:
    """The shelf of one request's samples."""

    store: Store
    request: SampleRequest

    def there(self, keys: Collection[Sample]) -> Collection[Sample]:
        recorded = {key: self.store.recorded(key) for key in {key for key, _ in keys}}
        return {(key, index) for key, index in keys if index in recorded[key]}

    def get(self, key: Sample) -> Completion:
        return next(self.store.replay(key[0], (key[1],)))

    def put(self, key: Sample, value: Completion) -> None:
        self.store.put_sample(key[0], self.request, value)


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The shelf of one job."""

    store: Store
    job: Job

    def there(self, keys: Collection[str]) -> Collection[str]:
        return [key for key in keys if self.store.has_box(key)]

    def get(self, key: str) -> JobResult:
        found = self.store.get_box(key)
        assert found is not None  # noqa: S101 - `there` said so, and nothing is ever taken away
        return found

    def put(self, key: str, value: JobResult) -> None:
        if is_conclusive(value):
            self.store.put_box(key, self.job, value)


@asynccontextmanager
async def _stream(sampler: Sampler, request: SampleRequest) -> AsyncIterator[AsyncIterator[Completion]]:
    """Ask a sampler and close its iterator at the end, which stops what is in flight."""
    stream = sampler.sample(request)
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
