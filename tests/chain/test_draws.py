"""Answers are read away from the event loop, one at a time, and each distinct one once."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable

import pytest

from agentless_mini.chain import repair as drawing
from agentless_mini.chain.repair import Drawn, Draws
from agentless_mini.domain import (
    Completion,
    Matching,
    Message,
    Patch,
    Reason,
    Rejected,
    Role,
    SampleRequest,
    SamplingParams,
    Stage,
)
from agentless_mini.edits import Marks, Tree
from tests.chain.workbench import FIX, NONSENSE, WRONG, Bench, run, shop
from tests.fakes.model import Script, ScriptedSampler

NO_EDIT = Rejected(Reason.NO_EDIT, "no")


def draws(*answers: str) -> Draws:
    return Draws(Tree.of(shop()), Matching.STRICT, Bench(ScriptedSampler(Script.of(*answers))).session)


def prompts(count: int = 1) -> list[SampleRequest]:
    params = SamplingParams(1000, 1.0)
    return [SampleRequest("x", (Message(Role.USER, f"{n}"),), params, (), Stage.REPAIR, "") for n in range(count)]


class Reading:
    """Stands where answers are read: takes its time and remembers what it saw."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.texts: list[str] = []
        self.threads: set[int] = set()
        self.most = self._now = 0

    def __call__(self, completion: Completion, tree: Tree, matching: Matching, marks: Marks) -> Patch | Rejected:
        self._now += 1
        self.most = max(self.most, self._now)
        self.texts.append(completion.text)
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        self._now -= 1
        return NO_EDIT


Install = Callable[[Reading], Reading]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def put(reading: Reading) -> Reading:
        monkeypatch.setattr(drawing, "read_answer", reading)
        return reading

    return put


def test_the_loop_goes_on_while_answers_are_read(install: Install) -> None:
    install(Reading(0.1))
    waits = []

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - began)

    async def work() -> None:
        ticking = asyncio.create_task(tick())
        await draws("a", "b", "c", "d").draw(prompts(), range(4))
        ticking.cancel()

    run(work())
    assert sum(waits) > 0.35
    assert max(waits) < 0.09


def test_answers_of_all_issues_are_read_one_at_a_time_in_one_thread(install: Install) -> None:
    reading = install(Reading(0.005))

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for turn in range(3):
                group.create_task(draws(*(f"{turn} {n}" for n in range(4))).draw(prompts(2), range(8)))

    run(work())
    assert reading.most == 1
    assert reading.threads != {threading.get_ident()}
    assert len(reading.threads) == 1
    assert len(set(reading.texts)) == len(reading.texts) == 12


def test_an_answer_that_comes_again_is_not_read_again(install: Install) -> None:
    reading = install(Reading())

    async def twice() -> list[Drawn]:
        both = draws("a", "a", "b")
        return [*await both.draw(prompts(), range(6)), *await both.draw(prompts(), range(6, 9))]

    assert [one.answer for one in run(twice())] == ["a", "a", "b"] * 3
    assert reading.texts == ["a", "b"]


def test_each_answer_keeps_its_own_outcome() -> None:
    drawn = run(draws(FIX, NONSENSE, FIX, WRONG).draw(prompts(), range(4)))
    assert [one.answer for one in drawn] == [FIX, NONSENSE, FIX, WRONG]
    first, second, third, fourth = (one.candidate.outcome for one in drawn)
    assert isinstance(second, Rejected)
    assert isinstance(first, Patch)
    assert isinstance(fourth, Patch)
    assert first is third
    assert first.normal != fourth.normal


def test_who_is_interrupted_waits_for_no_answer_that_is_not_begun(install: Install) -> None:
    reading = install(Reading(0.05))

    async def work() -> float:
        texts = [f"{n}" for n in range(40)]
        task = asyncio.create_task(draws(*texts).draw(prompts(20), range(40)))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.perf_counter() - began

    assert run(work()) < 0.5
    begun = len(reading.texts)
    time.sleep(0.2)
    assert len(reading.texts) == begun < 10


@pytest.mark.parametrize("is_on", [True, False])
def test_a_fault_of_the_reader_is_raised_and_garbage_is_collected_as_before(
    monkeypatch: pytest.MonkeyPatch, is_on: bool
) -> None:
    seen = []

    def fails(*given: object) -> Patch:
        seen.append(gc.isenabled())
        raise ZeroDivisionError

    monkeypatch.setattr(drawing, "read_answer", fails)
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError):
            run(draws("a").draw(prompts(), range(1)))
        assert seen == [False]
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()
