"""An evaluation over three nodes of a real Ray cluster, which are processes of this machine, and the death of one."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from agentless_mini.domain import Prediction
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.evaluation.attempt import Assignment, attempt, evaluate
from agentless_mini.evaluation.cluster import ClusterTestbeds, ray_cluster
from agentless_mini.evaluation.dataset import Dataset
from agentless_mini.evaluation.ports import Testbeds as Beds  # pytest would collect it
from agentless_mini.record import AttemptRecord, AttemptState, Store
from tests.chain.workbench import FIX, NONSENSE, WRONG
from tests.evaluation.attempts import assignments, context, dataset, open_store, sampler
from tests.evaluation.cluster_nodes import RayNode, ray_nodes
from tests.evaluation.cluster_testbeds import MakesTestbeds, Unloadable, noted
from tests.evaluation.test_cluster import ignore, until

pytest.importorskip("ray", reason="Ray is not installed (the extra 'cluster')")
pytestmark = pytest.mark.thorough

Results = dict[str, tuple[AttemptState, Prediction | None, tuple[bool, ...]]]
MOST = 2


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, list[RayNode]]]:
    with ray_nodes(3) as started:
        yield started


@asynccontextmanager
async def clustered(address: str, make: MakesTestbeds, said: list[str]) -> AsyncIterator[ClusterTestbeds]:
    async with ray_cluster(address) as cluster, ClusterTestbeds.over(cluster, make, MOST, said.append) as testbeds:
        yield testbeds


def results(store: Store, of: Dataset) -> Results:
    """Return all that an evaluation came to, by instance."""
    found: Results = {}
    for record in store.evals.attempts():
        run = store.evals.decided(record.instance)
        prediction = store.runs.trace(run).prediction if run is not None else None
        resolved = tuple(grade.resolved for grade in store.evals.grades() if grade.instance == record.instance)
        found[record.instance] = (record.state, prediction, resolved)
    assert found.keys() == {one.id for one in of.instances}
    return found


async def evaluated(store: Store, of: Dataset, testbeds: Beds) -> None:
    at = context(store, sampler(FIX, WRONG, NONSENSE, FIX))

    async def attempting(task: Assignment) -> AttemptRecord:
        return await attempt(task, at, testbeds, ignore)

    await evaluate(assignments(of), 3 * MOST, attempting, store.evals.put_attempt)


def without_a_cluster(folder: Path, of: Dataset) -> Results:
    async def local(opening: AbstractAsyncContextManager[Beds], store: Store) -> None:
        async with opening as testbeds:
            await evaluated(store, of, testbeds)

    folder.mkdir()
    with open_store(folder / "store.db", of) as store:
        asyncio.run(local(MakesTestbeds(folder)(), store))
        return results(store, of)


def test_an_evaluation_over_three_nodes_comes_to_the_same_as_without_a_cluster(
    nodes: tuple[str, list[RayNode]], tmp_path: Path
) -> None:
    of, said = dataset(12), list[str]()

    async def over_nodes(store: Store) -> None:
        async with clustered(nodes[0], MakesTestbeds(tmp_path, seconds=0.05), said) as testbeds:
            await evaluated(store, of, testbeds)

    with open_store(tmp_path / "store.db", of) as store:
        asyncio.run(over_nodes(store))
        assert results(store, of) == without_a_cluster(tmp_path / "local", of)
        assert all(state is AttemptState.DONE and grades == (True,) for state, _, grades in results(store, of).values())
    workers = {process for process, _ in noted(tmp_path, "boxes")}
    assert len(workers) == 3
    assert os.getpid() not in workers
    assert Counter(noted(tmp_path, "boxes")).most_common(1)[0][1] == 1
    assert len(noted(tmp_path, "closed")) == 12
    assert len(noted(tmp_path, "unmade")) == 3
    assert len(said) == 3


def open_instances(folder: Path) -> set[tuple[int, str]]:
    return set(noted(folder, "opened")) - set(noted(folder, "closed"))


def test_a_node_that_is_killed_half_way_changes_no_result_and_nothing_recorded_is_run_again(
    nodes: tuple[str, list[RayNode]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of, said = dataset(12), list[str]()
    recorded: set[str] = set()

    async def kill(store: Store) -> None:
        await until(lambda: len(noted(tmp_path, "closed")) >= 4)
        own = nodes[1][2].processes()
        await until(lambda: any(one[0] in own for one in open_instances(tmp_path)))
        nodes[1][2].kill()
        recorded.update(key for _, key in noted(tmp_path, "boxes") if store.get_box(key) is not None)

    async def over_nodes(store: Store) -> None:
        async with clustered(nodes[0], MakesTestbeds(tmp_path, seconds=0.3), said) as testbeds:
            await asyncio.gather(evaluated(store, of, testbeds), kill(store))

    with open_store(tmp_path / "store.db", of) as store:
        asyncio.run(over_nodes(store))
        assert results(store, of) == without_a_cluster(tmp_path / "local", of)
    runs = Counter(key for _, key in noted(tmp_path, "boxes"))
    assert recorded
    assert all(runs[key] == 1 for key in recorded)
    assert sum(1 for one in said if "is lost" in one) == 1
    assert capsys.readouterr().out == ""  # Ray says a lot about lost nodes
    assert len(noted(tmp_path, "opened")) > 12  # what the node had open was opened again elsewhere


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: MakesTestbeds(folder, fails=True), "No Docker daemon answers: start it"),
        (Unloadable, r"The node .* cannot be used \(.*its module is not there"),
    ],
)
def test_what_cannot_be_read_or_made_on_any_node_is_a_sentence(
    nodes: tuple[str, list[RayNode]], tmp_path: Path, make: Callable[[Path], MakesTestbeds], reason: str
) -> None:
    async def failing() -> None:
        async with clustered(nodes[0], make(tmp_path), []):
            raise AssertionError

    with pytest.raises(EnvironmentFailed, match=f"No node of the cluster can be used.* {reason}"):
        asyncio.run(failing())


def test_an_address_without_a_cluster_is_told_at_once(tmp_path: Path) -> None:
    async def connect(address: str) -> None:
        async with ray_cluster(address):
            raise AssertionError

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    for address in (closed, "nonsense"):
        with pytest.raises(EnvironmentFailed, match=f"No Ray cluster can be used at {address} "):
            asyncio.run(connect(address))
