"""The order of instances, how many are under way at once, and what is tried again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentless_mini.domain import Issue
from agentless_mini.errors import EnvironmentFailed, NodeLost, StoreError
from agentless_mini.evaluation.attempt import NODE_TRIES, SICK, Assignment, Attempting, evaluate
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.record import AttemptRecord, AttemptState


def task(name: str, repo: str = "a/a", length: int = 1) -> Assignment:
    return Assignment(Instance(name, repo, "c", Issue("x" * length), "image"), "row")


def done(name: str, seconds: float = 1.0) -> AttemptRecord:
    return AttemptRecord(name, None, AttemptState.DONE, seconds=seconds)


def scheduled(tasks: Sequence[Assignment], attempting: Attempting, workers: int = 2) -> list[AttemptRecord]:
    ended: list[AttemptRecord] = []
    asyncio.run(evaluate(tasks, workers, attempting, ended.append))
    return ended


def test_one_of_each_repository_comes_first_then_those_that_take_longest() -> None:
    begun: list[str] = []

    async def attempting(one: Assignment) -> AttemptRecord:
        begun.append(one.instance.id)
        return done(one.instance.id, 90.0 if one.instance.repo == "slow/slow" else 1.0)

    fast = [task(f"fast-{number}", "fast/fast", length=9 - number) for number in range(3)]
    slow = [task(f"slow-{number}", "slow/slow", length=number) for number in range(3)]
    scheduled([*fast, *slow], attempting, workers=1)
    assert begun[:2] in (["fast-0", "slow-2"], ["slow-2", "fast-0"])
    assert begun[2:] == ["slow-1", "slow-0", "fast-1", "fast-2"]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (3, 3), (50, 6)])
def test_so_many_are_under_way_at_once(workers: int, most: int) -> None:
    running, seen = 0, 0

    async def attempting(one: Assignment) -> AttemptRecord:
        nonlocal running, seen
        running += 1
        seen = max(seen, running)
        await asyncio.sleep(0.01)
        running -= 1
        return done(one.instance.id)

    ended = scheduled([task(str(number)) for number in range(6)], attempting, workers)
    assert (seen, len(ended)) == (most, 6)


@pytest.mark.parametrize(("losses", "state"), [(NODE_TRIES - 1, "done"), (NODE_TRIES, "infrastructure")])
def test_an_instance_of_a_lost_node_is_tried_again(losses: int, state: str) -> None:
    lost = 0

    async def attempting(one: Assignment) -> AttemptRecord:
        nonlocal lost
        if lost < losses:
            lost += 1
            raise NodeLost("The node is gone: look at it.")
        return done(one.instance.id)

    (record,) = scheduled([task("one")], attempting)
    assert record.state == state


def test_what_nobody_can_go_on_from_cancels_the_others() -> None:
    cancelled: list[str] = []

    async def attempting(one: Assignment) -> AttemptRecord:
        if one.instance.id == "broken":
            await asyncio.sleep(0.01)
            raise StoreError("The disk is full: make room.")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(one.instance.id)
            raise
        return done(one.instance.id)

    with pytest.raises(StoreError):
        scheduled([task("broken"), task("other")], attempting)
    assert cancelled == ["other"]


@pytest.mark.parametrize(
    ("first", "failure"),
    [
        ("", "The image acme/{0}:latest is not here and cannot be pulled (acme/{0}: no such host): try again."),
        ("The disk is full.", "No daemon answers: start it."),
        ("", "{0} has no answer after 1{0} s."),
    ],
)
def test_nothing_more_is_begun_where_failures_differ_in_names_alone(first: str, failure: str) -> None:
    begun: list[str] = []

    async def attempting(one: Assignment) -> AttemptRecord:
        begun.append(one.instance.id)
        said = first if first and len(begun) == 1 else failure.format(one.instance.id)
        return replace(done(one.instance.id), state=AttemptState.INFRASTRUCTURE, stage="image", failure=said)

    tasks = [replace(one, instance=replace(one.instance, image=f"acme/{one.instance.id}:latest")) for one in
             (task(f"i-{number}") for number in range(20))]  # fmt: skip
    with pytest.raises(EnvironmentFailed, match="in a row failed for one reason"):
        scheduled(tasks, attempting, workers=1)
    assert len(begun) == SICK + bool(first)


def test_failures_of_different_kinds_or_between_successes_stop_nothing() -> None:
    async def attempting(one: Assignment) -> AttemptRecord:
        number = int(one.instance.id)
        if number % SICK == 0:
            return done(one.instance.id)
        return replace(done(one.instance.id), state=AttemptState.INFRASTRUCTURE, failure="The same.")

    assert len(scheduled([task(str(number), length=30 - number) for number in range(20)], attempting, workers=1)) == 20
