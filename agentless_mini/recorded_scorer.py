"""Resume is replay, for reward models: scorers that wear another one and put the store before it.

    RecordedScorer(LazyScorer(start), store)

As in `recording`: what is recorded is not asked again, and a model is reached only where something is owed. Neither
knows how it is reached. `traced_scoring` records what a run was told of its patches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from agentless_mini.domain import Issue, Patch, ScoreRequest
from agentless_mini.ports import Scorer
from agentless_mini.store import RunId, Store

Scoring = Callable[[Issue, Sequence[Patch]], Awaitable[Mapping[str, float]]]

_PART = 32  # answers that are paid for, and recorded, at once


class LazyScorer:
    """A scorer that is made when it is first asked: for models that are reached over a network.

    `start` is called once, however many calls wait for it; if it raises, the next call tries again. Who makes the
    scorer also ends it: nothing is closed here.
    """

    def __init__(self, start: Callable[[], Awaitable[Scorer]]) -> None:
        """Ask the scorer that `start` returns."""
        self._start = start
        self._started: Scorer | None = None
        self._starting = asyncio.Lock()

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        """Return the scores of the model, which is reached for it."""
        return await (await self._scorer()).scores(request) if request.answers else ()

    async def _scorer(self) -> Scorer:
        async with self._starting:
            if self._started is None:
                self._started = await self._start()
            return self._started


class RecordedScorer:
    """Answers from the store; asks the inner scorer for what is owed and records it before anybody sees it.

    Of one answer one score is ever paid for: equal answers of a request share it, and of concurrent calls the later
    waits for the earlier, and takes over if that one fails or is cancelled. A failure is never recorded; what came
    before it is.
    """

    def __init__(self, inner: Scorer, store: Store) -> None:
        """Put `store` before `inner`."""
        self._inner = inner
        self._store = store
        self._in_flight: dict[str, asyncio.Future[None]] = {}

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        """Return what is recorded of the answers, and what the inner scorer says of the others."""
        keys = request.keys()
        answers = dict(zip(keys, request.answers, strict=True))
        while True:
            recorded = self._store.scores.recorded(answers)
            owed = [key for key in answers if key not in recorded]
            if not owed:
                return tuple(recorded[key] for key in keys)
            if mine := [key for key in owed if key not in self._in_flight][:_PART]:
                await self._pay(request, {key: answers[key] for key in mine})
            else:
                await asyncio.wait([self._in_flight[key] for key in owed], return_when=asyncio.FIRST_COMPLETED)

    async def _pay(self, request: ScoreRequest, answers: Mapping[str, str]) -> None:
        self._in_flight |= {key: asyncio.get_running_loop().create_future() for key in answers}
        try:
            scores = await self._inner.scores(replace(request, answers=tuple(answers.values())))
            self._store.scores.put(request.model.name, dict(zip(answers, scores, strict=True)))
        finally:
            for key in answers:
                self._in_flight.pop(key).set_result(None)  # wakes who waits, to look for it or to take over


def traced_scoring(scoring: Scoring, store: Store, run: RunId) -> Scoring:
    """Return scoring (see `stages.score`) that records for a run what each of its patches got."""

    async def scores(issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
        found = await scoring(issue, patches)
        store.runs.put_scores(run, found)
        return found

    return scores
