"""The public fake of the sandbox port."""

import asyncio

import pytest

from agentless_mini.domain import Ending, Environment, Job, JobResult, Output, PackedTree, ResultFile, Step, StepResult
from agentless_mini.errors import EnvironmentFailed
from tests.fakes.sandbox import Answering, ScriptedSandbox, each_step, ended, exited, refusing

JOB = Job(Environment("here"), PackedTree("d" * 64), (), (Step(("a",)), Step(("b",))))


def asked(answer: Answering, *jobs: Job) -> tuple[list[JobResult], ScriptedSandbox]:
    sandbox = ScriptedSandbox(answer)

    async def run() -> list[JobResult]:
        return await asyncio.gather(*(sandbox.run(job) for job in jobs))

    return asyncio.run(run()), sandbox


def test_it_answers_by_the_function_and_remembers_what_it_was_asked() -> None:
    failed = exited(1, b"no\n", {"r": b"x"})
    assert failed == StepResult(Ending.EXITED, 1, Output(b"no\n"), (ResultFile("r", b"x"),))
    results, sandbox = asked(each_step(failed), JOB, JOB)
    assert results == [JobResult((failed, failed))] * 2
    assert sandbox.jobs == [JOB, JOB]
    assert sandbox.most == 2


def test_it_can_refuse_end_and_fail() -> None:
    assert asked(refusing("a symlink"), JOB)[0] == [JobResult((), "a symlink")]
    assert asked(each_step(ended(Ending.TIMED_OUT)), JOB)[0][0].steps[1].ending is Ending.TIMED_OUT
    with pytest.raises(EnvironmentFailed, match="no daemon"):
        asked(lambda _: EnvironmentFailed("There is no daemon: start it."), JOB)
