"""A sandbox that answers from a function. Nothing runs in it, no limit is kept and no file is placed."""

import asyncio
from collections.abc import Callable, Mapping

from agentless_mini.domain import Ending, Job, JobResult, Output, ResultFile, StepResult
from agentless_mini.errors import AminiError

Answering = Callable[[Job], JobResult | AminiError]
"""Says what came of a job; an error is raised."""


class ScriptedSandbox:
    """Answers every job by a function of it. `jobs` is what it was asked, in order.

    One turn of the event loop passes before each answer. `most` is how many jobs were under way at once.
    """

    def __init__(self, answer: Answering) -> None:
        self.jobs: list[Job] = []
        self.most = 0
        self._answer = answer
        self._running = 0

    async def run(self, job: Job) -> JobResult:
        """Return what the function says of the job. Raises the error where it says one."""
        self.jobs.append(job)
        self._running += 1
        self.most = max(self.most, self._running)
        try:
            await asyncio.sleep(0)
        finally:
            self._running -= 1
        result = self._answer(job)
        if isinstance(result, AminiError):
            raise result
        return result


def exited(status: int = 0, output: bytes = b"", results: Mapping[str, bytes] | None = None) -> StepResult:
    """Return the result of a step that ended by itself and left these files, by path."""
    files = tuple(ResultFile(path, data) for path, data in (results or {}).items())
    return StepResult(Ending.EXITED, status, Output(output), files)


def ended(ending: Ending) -> StepResult:
    return StepResult(ending)


def each_step(result: StepResult) -> Answering:
    return lambda job: JobResult(tuple(result for _ in job.steps))


def refusing(reason: str) -> Answering:
    return lambda job: JobResult((), reason)
