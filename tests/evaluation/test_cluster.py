"""Testbeds on many machines: where instances go, what crosses to nodes, and what becomes of nodes that are lost."""

import asyncio
import pickle
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agentless_mini import __version__
from agentless_mini.chain.session import Boxes, NoBoxes
from agentless_mini.domain import Ending, Environment, Event, ImageTree, Issue, Job, Note, Runner, Step
from agentless_mini.errors import EnvironmentFailed, ImageUnavailable, NodeLost
from agentless_mini.evaluation.cluster import ClusterMachine, ClusterTestbeds, require_same
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.node import MakeTestbeds, Node, NodeLink
from agentless_mini.evaluation.ports import Testbed as Bed  # pytest would collect them as tests
from agentless_mini.evaluation.ports import Testbeds as Beds
from agentless_mini.sandbox.daemon import Obstacle, PullFailed
from tests.evaluation.bugs import resolves
from tests.evaluation.cluster_links import LocalCluster, LocalLink
from tests.evaluation.cluster_testbeds import HANGS, MakesTestbeds, noted, tree

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    async def limited() -> Result:
        return await asyncio.wait_for(work, 120)

    return asyncio.run(limited())


def instance(number: int = 1) -> Instance:
    return Instance(f"acme__shop-{number}", "acme/shop", "c" * 40, Issue("It fails."), f"acme/{number}:latest")


def job(argument: str = "test") -> Job:
    return Job(Environment("image"), ImageTree("/testbed"), (), (Step(("run", argument)),))


def ignore(event: Event) -> None:
    """Hear nothing."""


async def benched(testbed: Bed) -> Boxes:
    """Read the tree of a testbed and open its bench."""
    opening = testbed.opening(await testbed.tree())
    assert not isinstance(opening, NoBoxes)
    bench = await opening.open(ignore)
    assert isinstance(bench, Boxes)
    return bench


async def until(holds: Callable[[], object]) -> None:
    """Wait for another process or task that tells nothing."""
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def over(
    cluster: LocalCluster, make: MakesTestbeds, most: int = 2, said: list[str] | None = None
) -> AsyncIterator[ClusterTestbeds]:
    async with ClusterTestbeds.over(cluster, make, most, (said if said is not None else []).append) as testbeds:
        yield testbeds


def using(folder: Path, use: Callable[[Bed], Awaitable[Result]], **settings: Any) -> Result:  # noqa: ANN401
    async def used() -> Result:
        async with (
            over(LocalCluster("a"), MakesTestbeds(folder, **settings)) as testbeds,
            testbeds.open(instance(), ignore) as testbed,
        ):
            return await use(testbed)

    return run(used())


def test_a_tree_a_box_and_a_grade_come_back_from_the_node(tmp_path: Path) -> None:
    async def use(testbed: Bed) -> None:
        seen = await testbed.tree()
        assert seen == tree(instance())
        bench = await benched(testbed)
        assert (bench.harness.runner, bench.snapshot) == (Runner.PYTEST, seen)
        result = await bench.sandbox.run(job())
        assert [step.ending for step in result.steps] == [Ending.EXITED]
        diff = b"+    for price in prices:\n"
        assert (await testbed.grade(diff)).resolved
        assert not (await testbed.grade(b"other")).resolved
        assert resolves(instance(), diff)

    using(tmp_path, use)
    assert noted(tmp_path, "boxes")[0][1] == job().key()
    assert len(noted(tmp_path, "closed")) == len(noted(tmp_path, "unmade")) == 1


def test_what_happens_on_a_node_is_heard_in_order_to_the_last_word(tmp_path: Path) -> None:
    events: list[Event] = []

    async def heard() -> None:
        async with over(LocalCluster("a"), MakesTestbeds(tmp_path)) as testbeds:
            async with testbeds.open(instance(1), events.append):
                await until(lambda: events)
            assert events == [Note("Pulling acme/1:latest."), Note("Closing acme/1:latest.")]

    run(heard())


def test_an_image_that_cannot_be_had_is_told_and_raised_as_it_is_on_the_node(tmp_path: Path) -> None:
    events: list[Event] = []

    async def missing() -> None:
        async with over(
            LocalCluster("a"), MakesTestbeds(tmp_path, missing=frozenset({"acme/1:latest"})), 1
        ) as testbeds:
            for _ in range(2):  # its place is free again
                with pytest.raises(ImageUnavailable, match="There is no image acme/1:latest"):
                    async with testbeds.open(instance(1), events.append):
                        raise AssertionError
            async with testbeds.open(instance(2), ignore):
                pass

    run(missing())
    assert events == [Note("Pulling acme/1:latest."), Note("It cannot be pulled.")] * 2


def test_a_cancelled_job_has_left_no_box_when_it_returns(tmp_path: Path) -> None:
    async def cancel(testbed: Bed) -> None:
        bench = await benched(testbed)
        running = asyncio.create_task(bench.sandbox.run(job(HANGS)))
        await until(lambda: noted(tmp_path, "boxes"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(noted(tmp_path, "removed")) == 1
        await bench.sandbox.run(job())

    using(tmp_path, cancel)


def test_a_cancelled_opening_holds_nothing(tmp_path: Path) -> None:
    async def cancel() -> None:
        async with over(LocalCluster("a"), MakesTestbeds(tmp_path, seconds=0.3), 1) as testbeds:

            async def hold() -> None:
                async with testbeds.open(instance(), ignore):
                    await asyncio.sleep(3600)

            for seconds in (0.0, 0.1, 0.5):
                holding = asyncio.create_task(hold())
                await asyncio.sleep(seconds)
                holding.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await holding
                assert len(noted(tmp_path, "opened")) == len(noted(tmp_path, "closed"))
            async with testbeds.open(instance(), ignore):
                pass

    run(cancel())


def test_an_error_with_an_init_of_its_own_arrives_as_it_is() -> None:
    async def failed() -> object:
        node, error = Node(), PullFailed("acme/1", "the disk is full", Obstacle.FULL)

        @asynccontextmanager
        async def make() -> AsyncIterator[Beds]:
            raise error
            yield

        return await node.do(1, "start", (make,))

    answer = pickle.loads(pickle.dumps(run(failed())))  # noqa: S301 - our own bytes
    assert isinstance(answer, PullFailed)
    assert (answer.obstacle, answer.reason) == (Obstacle.FULL, "the disk is full")
    assert "acme/1" in str(answer)


def test_a_call_that_is_stopped_before_it_comes_never_begins() -> None:
    async def overtaken() -> object:
        node = Node()
        await node.stop(7)
        return await node.do(7, "no such method", ())

    assert isinstance(run(overtaken()), NodeLost)


def test_instances_are_spread_over_nodes_and_no_node_has_more_than_its_beds(tmp_path: Path) -> None:
    async def spread() -> list[str]:
        cluster = LocalCluster("a", "b", "c")
        where: list[str] = []
        open_now = 0

        async def hold(testbeds: ClusterTestbeds, number: int) -> None:
            nonlocal open_now
            async with testbeds.open(instance(number), ignore):
                open_now += 1
                assert open_now <= 6
                await asyncio.sleep(0.02)
                open_now -= 1

        async with over(cluster, MakesTestbeds(tmp_path), 2) as testbeds:
            await asyncio.gather(*(hold(testbeds, number) for number in range(20)))
            where.extend(cluster.links)
        return where

    assert sorted(run(spread())) == ["a", "b", "c"]
    assert len(noted(tmp_path, "opened")) == 20


def test_an_instance_goes_where_its_image_has_been(tmp_path: Path) -> None:
    async def twice() -> list[str]:
        names = []
        async with over(LocalCluster("a", "b"), MakesTestbeds(tmp_path), 2) as testbeds:
            async with testbeds.open(instance(1), ignore), testbeds.open(instance(2), ignore):
                pass
            for number in (1, 2, 2, 1):
                async with testbeds.open(instance(number), ignore) as testbed:
                    names.append(testbed._link.name)  # type: ignore[attr-defined]
        return names

    assert run(twice()) == ["a", "b", "b", "a"]


def test_a_lost_node_is_told_to_all_that_it_had_open_and_they_find_another(tmp_path: Path) -> None:
    said: list[str] = []

    async def lose() -> list[str]:
        cluster = LocalCluster("a", "b")
        async with over(cluster, MakesTestbeds(tmp_path), 4, said) as testbeds:

            async def work(number: int) -> str:
                async with testbeds.open(instance(number), ignore) as testbed:
                    bench = await benched(testbed)
                    link: LocalLink = testbed._link  # type: ignore[attr-defined]
                    if link.name == "a":
                        await bench.sandbox.run(job(HANGS))
                    return link.name

            first = [asyncio.create_task(work(number)) for number in range(4)]
            await until(lambda: len(noted(tmp_path, "boxes")) == 2)
            cluster.lose("a")
            ends = await asyncio.gather(*first, return_exceptions=True)
            assert sorted(type(end).__name__ for end in ends) == ["NodeLost", "NodeLost", "str", "str"]
            return await asyncio.gather(*(work(number) for number in range(4)))

    assert run(lose()) == ["b"] * 4
    assert [one for one in said if "lost" in one] == ["The node a is lost; its instances move to other nodes."]


@pytest.mark.slow
def test_a_node_that_joins_is_used_and_waited_for_where_all_are_lost(tmp_path: Path) -> None:
    async def join() -> str:
        cluster = LocalCluster("a")
        async with over(cluster, MakesTestbeds(tmp_path), 1) as testbeds:
            async with AsyncExitStack() as stack:
                testbed = await stack.enter_async_context(testbeds.open(instance(), ignore))
                cluster.lose("a")
                with pytest.raises(NodeLost) as lost:
                    await testbed.tree()
                await stack.__aexit__(NodeLost, lost.value, None)
            waiting = asyncio.create_task(_name(testbeds))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            cluster.join("b")
            return await waiting

    assert run(join()) == "b"


async def _name(testbeds: ClusterTestbeds) -> str:
    async with testbeds.open(instance(), ignore) as testbed:
        return str(testbed._link.name)  # type: ignore[attr-defined]


def test_a_node_on_which_something_unforeseen_fails_is_left_out_too(tmp_path: Path) -> None:
    said: list[str] = []
    cluster = LocalCluster("a", "b", broken=frozenset({"a"}), trouble=TypeError("cannot pickle\x1b"))

    async def work() -> None:
        async with over(cluster, MakesTestbeds(tmp_path), said=said) as testbeds, testbeds.open(instance(), ignore):
            pass

    run(work())
    assert "The node a is left out. It cannot be started (TypeError: cannot pickle?): see the logs of Ray." in said


def test_a_beginning_that_is_cancelled_leaves_no_node_and_no_task(tmp_path: Path) -> None:
    class Slow(LocalCluster):
        async def enlist(self, machine: ClusterMachine, make: MakeTestbeds) -> NodeLink:
            if machine.id == "b":
                await asyncio.Event().wait()
            return await super().enlist(machine, make)

    async def begun() -> None:
        async with over(Slow("a", "b"), MakesTestbeds(tmp_path)):
            raise AssertionError

    async def work() -> None:
        beginning = asyncio.create_task(begun())
        await until(lambda: noted(tmp_path, "made"))
        await asyncio.sleep(0.05)
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        assert len(noted(tmp_path, "unmade")) == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(work())


def test_a_cluster_without_a_usable_node_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    async def use() -> None:
        async with over(LocalCluster("a", "b"), MakesTestbeds(tmp_path, fails=True)):
            raise AssertionError

    with pytest.raises(EnvironmentFailed) as caught:
        run(use())
    reason = "No Docker daemon answers: start it."
    assert str(caught.value) == f"No node of the cluster can be used: see `ray status`. {reason}"


def test_a_node_must_have_the_same_amini_and_minor_version_of_python() -> None:
    machine, python = ClusterMachine("1", "vm 1"), platform.python_version()
    require_same(machine, __version__, python)
    require_same(machine, __version__, python.rpartition(".")[0] + ".99")
    for version, other in ((__version__, "3.99.0"), ("0.0.1", python), ("", python)):
        with pytest.raises(EnvironmentFailed, match=r"The node vm 1 has .* install the same there"):
            require_same(machine, version, other)
