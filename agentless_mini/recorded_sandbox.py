"""Resume is replay, for boxes: sandboxes that wear another one and put the store before it.

    TracedSandbox(RecordedSandbox(LazySandbox(start), store), store, run)

As in `recording`: what is recorded is not run again, the inner sandbox is started only where something must be run,
and the run notes which boxes it used. None of them knows what a box is made of.
"""

import asyncio
from collections.abc import Awaitable, Callable

from agentless_mini.domain import Ending, Job, JobResult
from agentless_mini.ports import Sandbox
from agentless_mini.store import RunId, Store


class LazySandbox:
    """A sandbox that is made when its first job comes: for images that must be built, or a daemon to be reached.

    `start` is called once, however many jobs wait for it; if it raises, the next job tries again. Who makes the
    sandbox also ends it: nothing is closed here.
    """

    def __init__(self, start: Callable[[], Awaitable[Sandbox]]) -> None:
        """Run jobs in the sandbox that `start` returns."""
        self._start = start
        self._started: Sandbox | None = None
        self._starting = asyncio.Lock()

    async def run(self, job: Job) -> JobResult:
        """Run a job in the sandbox, which is started for it."""
        return await (await self._sandbox()).run(job)

    async def _sandbox(self) -> Sandbox:
        async with self._starting:
            if self._started is None:
                self._started = await self._start()
            return self._started


class RecordedSandbox:
    """Answers from the store; runs what is owed in the inner sandbox and records it before anybody sees it.

    Concurrent equal jobs are run once: the later call waits for the earlier, and takes over if that one fails or is
    cancelled. A failure is never recorded, and neither is a box that died without a limit of its own as the reason (it
    was removed, or its daemon restarted), or one for which the machine had no time: the run sees that result, the next
    run tries again. A box or a step that ran out of memory or of its own time is a result.
    """

    def __init__(self, inner: Sandbox, store: Store) -> None:
        """Put `store` before `inner`."""
        self._inner = inner
        self._store = store
        self._in_flight: dict[str, asyncio.Future[JobResult]] = {}

    async def run(self, job: Job) -> JobResult:
        """Return what is recorded of the job, or what the inner sandbox says of it."""
        key = job.key()
        while True:
            recorded = self._store.get_box(key)
            if recorded is not None:
                return recorded
            earlier = self._in_flight.get(key)
            if earlier is None:
                return await self._pay(key, job)
            await asyncio.wait([earlier])
            if not earlier.cancelled():
                return earlier.result()

    async def _pay(self, key: str, job: Job) -> JobResult:
        waited = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            result = await self._inner.run(job)
            if is_conclusive(result):
                self._store.put_box(key, job, result)
            waited.set_result(result)
            return result
        finally:
            del self._in_flight[key]
            waited.cancel()  # wakes who waits for a call that failed; does nothing where there is a result


class TracedSandbox:
    """Notes in the store which boxes a run uses, as it gets them. The inner sandbox must be a recorded one."""

    def __init__(self, inner: Sandbox, store: Store, run: RunId) -> None:
        """Note what `run` gets from `inner`, which records in the same store."""
        self._inner = inner
        self._store = store
        self._run = run

    async def run(self, job: Job) -> JobResult:
        """Return the inner sandbox's result, noted before where it is one to be recorded."""
        result = await self._inner.run(job)
        if is_conclusive(result):
            self._store.runs.link_box(self._run, job.key())
        return result


def is_conclusive(result: JobResult) -> bool:
    """Tell whether the job would come to this again: it was refused, or its box did not die and was not starved."""
    if result.refusal or not result.steps:
        return True
    unlucky = any(step.ending in {Ending.BOX_DIED, Ending.STARVED} for step in result.steps)
    return not unlucky and result.steps[0].ending is not Ending.NOT_RUN
