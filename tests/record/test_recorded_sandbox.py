"""A job that is recorded is not run again; what is run is recorded before anybody sees it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import (
    Ending,
    Environment,
    ImageTree,
    Issue,
    Job,
    JobResult,
    Output,
    PackedTree,
    PlacedFile,
    ResultFile,
    Step,
    StepResult,
)
from agentless_mini.errors import AminiError, EnvironmentFailed, StoreError
from agentless_mini.ports import Sandbox
from agentless_mini.record import RecordedSandbox, RunStart, Store
from agentless_mini.record.records import BoxRecord
from tests.fakes.sandbox import ScriptedSandbox, ended, exited, refusing

JOB = Job(
    Environment("sha256:1"),
    PackedTree("d1gest"),
    (PlacedFile("a\udcff.py", b"x = 1\n"), PlacedFile("b.py", None)),
    (Step(("python", "-c", "x" * 500), results=("r.xml",)), Step(("python", "-V"))),
)
FULL = JobResult((
    StepResult(Ending.EXITED, -9, Output(b"\xff\n", b"end", 7), (ResultFile("r.xml", b"<a>\0"),), 1.5),
    StepResult(Ending.OUT_OF_MEMORY, output=Output(b"x" * 50_000), seconds=0.25),
))  # fmt: skip


NOWHERE = ScriptedSandbox(lambda _: EnvironmentFailed("No daemon answers: start Docker."))


def run(sandbox: Sandbox, *jobs: Job) -> list[JobResult]:
    async def all_of() -> list[JobResult]:
        return await asyncio.gather(*(sandbox.run(job) for job in jobs))

    return asyncio.run(all_of())


# --- replay ----------------------------------------------------------------------------------------------------------


def test_a_job_that_is_recorded_is_answered_without_a_sandbox_as_it_came(store: Store) -> None:
    assert run(RecordedSandbox(ScriptedSandbox(lambda _: FULL), store), JOB) == [FULL]
    assert run(RecordedSandbox(NOWHERE, store), JOB) == [FULL]


def test_a_result_is_in_the_store_when_it_is_seen_and_small_enough_there(store: Store, path: Path) -> None:
    many = [replace(JOB, environment=Environment(str(number))) for number in range(20)]
    run(RecordedSandbox(ScriptedSandbox(lambda _: FULL), store), *many)
    assert all(store.get_box(job.key()) == FULL for job in many)
    store.close()
    assert (path).stat().st_size < 300_000  # of a million that was printed


# --- what is recorded ------------------------------------------------------------------------------------------------

CONCLUSIVE = {
    "failed": JobResult((exited(1), exited(0))),
    "timed out": JobResult((ended(Ending.TIMED_OUT), ended(Ending.NOT_RUN))),
    "out of memory": JobResult((ended(Ending.OUT_OF_MEMORY), ended(Ending.NOT_RUN))),
    "refused": JobResult((ended(Ending.NOT_RUN), ended(Ending.NOT_RUN)), "the folder a is a symlink"),
    "nothing to do": JobResult(()),
}
DEAD = {
    "died": JobResult((exited(0), ended(Ending.BOX_DIED))),
    "starved": JobResult((ended(Ending.STARVED), exited(0))),
    "died before the first step": JobResult((ended(Ending.NOT_RUN), ended(Ending.NOT_RUN))),
}


@pytest.mark.parametrize("kind", CONCLUSIVE)
def test_what_came_of_a_job_is_recorded_however_bad_it_is(store: Store, kind: str) -> None:
    assert run(RecordedSandbox(ScriptedSandbox(lambda _: CONCLUSIVE[kind]), store), JOB) == [CONCLUSIVE[kind]]
    assert store.get_box(JOB.key()) == CONCLUSIVE[kind]


@pytest.mark.parametrize("kind", DEAD)
def test_a_box_that_died_is_seen_by_all_who_wait_for_it_and_not_recorded(store: Store, kind: str) -> None:
    inner = ScriptedSandbox(lambda _: DEAD[kind])
    number = store.runs.begin(START)
    assert run(RecordedSandbox(inner, store, number), JOB, JOB) == [DEAD[kind]] * 2
    assert len(inner.jobs) == 1
    assert store.get_box(JOB.key()) is None
    assert store.runs.trace(number).boxes == ()


def test_a_failure_is_not_recorded(store: Store) -> None:
    answers: list[JobResult | AminiError] = [EnvironmentFailed("No daemon."), FULL]
    recorded = RecordedSandbox(ScriptedSandbox(lambda _: answers.pop(0)), store)
    with pytest.raises(EnvironmentFailed):
        run(recorded, JOB)
    assert store.get_box(JOB.key()) is None
    assert run(recorded, JOB) == [FULL]


def test_a_result_that_cannot_be_recorded_is_not_seen(path: Path, store: Store) -> None:
    with Store.open_readonly(path) as readonly, pytest.raises(StoreError):
        run(RecordedSandbox(ScriptedSandbox(refusing("no")), readonly), JOB)


# --- equal jobs at once ----------------------------------------------------------------------------------------------


class GatedSandbox:
    """Answers when its gate is opened."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked = asyncio.Queue[Job]()
        self.failing = False
        self.ended = 0

    async def run(self, job: Job) -> JobResult:
        self.asked.put_nowait(job)
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        if self.failing:
            raise EnvironmentFailed("No daemon.")
        return FULL


def test_who_is_cancelled_while_waiting_leaves_the_others_alone(store: Store) -> None:
    async def scene() -> None:
        inner = GatedSandbox()
        recorded = RecordedSandbox(inner, store)
        first, second, third = (asyncio.create_task(recorded.run(JOB)) for _ in range(3))
        await inner.asked.get()
        second.cancel()
        await asyncio.wait([second])
        inner.gate.set()
        assert list(await asyncio.gather(first, third)) == [FULL] * 2
        assert second.cancelled()

    asyncio.run(scene())


# --- the trace -------------------------------------------------------------------------------------------------------

START = RunStart("model", "local", "project", "c", "t", Issue("It fails."))


def test_a_run_is_linked_with_the_boxes_that_it_used_and_what_was_replayed(store: Store) -> None:
    inner = ScriptedSandbox(lambda _: FULL)
    image = replace(JOB, tree=ImageTree("/testbed"), files=())
    first, second = store.runs.begin(START), store.runs.begin(START)
    run(RecordedSandbox(inner, store, first), JOB)
    run(RecordedSandbox(inner, store, second), image)
    run(RecordedSandbox(inner, store, second), JOB, JOB)
    assert [box.replayed for box in store.runs.trace(first).boxes] == [False]
    fresh, replayed = store.runs.trace(second).boxes
    steps = (("python", "-c", "x" * 200), ("python", "-V"))
    assert replayed == BoxRecord(JOB.key(), JOB.environment, JOB.tree, ("a\udcff.py", "b.py"), steps, 1.75, True)
    assert (fresh.key, fresh.tree, fresh.files, fresh.replayed) == (image.key(), image.tree, (), False)


def test_equal_jobs_at_once_are_run_once(store: Store) -> None:
    inner = ScriptedSandbox(lambda _: FULL)
    assert run(RecordedSandbox(inner, store), *[JOB] * 5) == [FULL] * 5
    assert inner.jobs == [JOB]
