"""The testbeds of many machines, as one: each instance goes to a node, which holds its image in testbeds of its own.

The chain, the record and the model's client stay in the driver, which must run on one of the machines. The cluster is
one of Ray that is running already: this sends no code, since every machine has the same amini. Ray asks nobody for a
password: whoever reaches its ports runs programs on its machines, so a cluster belongs on a network that is trusted.
"""

import asyncio
import itertools
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar, TypeVarTuple, cast

from agentless_mini import __version__
from agentless_mini.errors import AminiError, EnvironmentFailed, NodeLost, boundary, printable
from agentless_mini.evaluation.connection import quoted, ray_connection
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.node import MakeTestbeds, Node, NodeLink, open_remote
from agentless_mini.evaluation.ports import Testbed
from agentless_mini.ports import Watch
from agentless_mini.sandbox.host import uninterrupted

LOOK_EVERY = 2.0  # seconds between two looks at who is in the cluster
WAIT_FOR_NODES = 120.0  # seconds without any usable node after which an evaluation is given up
MOST_CALLS = 20_000  # under way on one node at once: every job of its testbeds, whether it has a container or waits

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True, slots=True)
class ClusterMachine:
    """A machine of a cluster. `name` is for people."""

    id: str
    name: str


class Cluster(Protocol):
    """Machines that come and go, and a way to put a `Node` on each."""

    async def machines(self) -> tuple[ClusterMachine, ...]:
        """Return those that are there now. Raises `EnvironmentFailed` where the cluster itself is gone."""
        ...

    async def enlist(self, machine: ClusterMachine, make: MakeTestbeds) -> NodeLink:
        """Return the way to a new node there. Raises `NodeLost`, or what else is an `EnvironmentFailed`: no Docker."""
        ...


@dataclass(slots=True)
class _Member:
    """A node that is used: how many testbeds are open on it, and the images that it has had open."""

    machine: ClusterMachine
    link: NodeLink
    open: int = 0
    images: set[str] = field(default_factory=set)


@dataclass(eq=False)
class ClusterTestbeds:
    """The testbeds of the nodes of a cluster (`ports.Testbeds`, see `over`); `most` are open on a node at once.

    An instance goes to a node that has had its image, else to the one with the fewest open. `tell` is given a sentence
    when a node joins, is left out or is lost.
    """

    cluster: Cluster
    make: MakeTestbeds
    most: int
    tell: Callable[[str], None]
    _members: dict[str, _Member] = field(default_factory=dict)
    _joining: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _left_out: dict[str, str] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: EnvironmentFailed | None = None
    _without: int = 0

    @classmethod
    @asynccontextmanager
    async def over(
        cls, cluster: Cluster, make: MakeTestbeds, most: int, tell: Callable[[str], None] = lambda said: None
    ) -> AsyncIterator[Self]:
        """Start a node on each machine, and close what is open on them at the end. Raises `EnvironmentFailed`."""
        own = cls(cluster, make, most, tell)
        watching = asyncio.create_task(own._watch())
        try:
            await own._look()
            await asyncio.gather(*own._joining.values())
            if not own._members:
                raise own._nobody()
            yield own
        finally:
            tasks = [watching, *own._joining.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await uninterrupted(asyncio.gather(*(_finish(member.link) for member in own._members.values())))

    @asynccontextmanager
    async def open(self, instance: Instance, watch: Watch) -> AsyncIterator[Testbed]:
        """Hold a testbed on a node. Waits for a place, and for nodes where all are lost. Raises as `ports.Testbeds`."""
        member = await self._place(instance.image)
        try:
            async with open_remote(member.link, instance, watch) as testbed:
                member.images.add(instance.image)
                yield testbed
        except NodeLost:
            self._lose(member)
            raise
        finally:
            member.open -= 1
            self._wake()

    async def _place(self, image: str) -> _Member:
        """Return a node with a place for one more, which is taken."""
        while True:
            free = [member for member in self._members.values() if member.open < self.most]
            if free:
                best = min(free, key=lambda one: (image not in one.images, one.open, one.machine.name))
                best.open += 1
                return best
            if self._gone is not None:
                raise self._gone
            if not self._members and not self._joining and self._without * LOOK_EVERY > WAIT_FOR_NODES:
                raise self._nobody()
            await self._changed.wait()

    async def _watch(self) -> None:
        """Keep track of the machines that are there."""
        while self._gone is None:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except EnvironmentFailed as error:
                self._gone = error
            self._without = 0 if self._members else self._without + 1
            self._wake()

    async def _look(self) -> None:
        there = {machine.id: machine for machine in await self.cluster.machines()}
        for name in self._members.keys() - there.keys():
            self._lose(self._members[name])
        for name in there.keys() - self._members.keys() - self._joining.keys() - self._left_out.keys():
            self._joining[name] = asyncio.create_task(self._join(there[name]))

    async def _join(self, machine: ClusterMachine) -> None:
        try:
            link = await self.cluster.enlist(machine, self.make)
            self._members[machine.id] = _Member(machine, link)
            self.tell(f"The node {printable(machine.name)} joins the evaluation.")
        except NodeLost:  # it is tried again if it is still there when we look
            pass
        except Exception as error:  # noqa: BLE001 - Ray's own, or of what is sent: the other nodes do not depend on it
            reason = str(error)
            if not isinstance(error, EnvironmentFailed):
                said = printable(f"{type(error).__name__}: {error}")
                reason = f"It cannot be started ({said}): see the logs of Ray."
            self._left_out[machine.id] = reason
            self.tell(f"The node {printable(machine.name)} is left out. {reason}")
        finally:
            del self._joining[machine.id]
            self._wake()

    def _lose(self, member: _Member) -> None:
        if self._members.get(member.machine.id) is member:
            del self._members[member.machine.id]
            self.tell(f"The node {printable(member.machine.name)} is lost; its instances move to other nodes.")
            self._wake()

    def _wake(self) -> None:
        """Wake all that wait for a place."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _nobody(self) -> EnvironmentFailed:
        reasons = " ".join(dict.fromkeys(self._left_out.values()))
        return EnvironmentFailed(f"No node of the cluster can be used: see `ray status`. {reasons}".strip())


async def _finish(link: NodeLink) -> None:
    with suppress(NodeLost):
        await link.call(Node.finish)


# --- Ray -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def ray_cluster(address: str) -> AsyncIterator[Cluster]:
    """Connect to the cluster at an address, as `connection.ray_connection` does."""
    connection = ExitStack()
    await asyncio.to_thread(connection.enter_context, ray_connection(address))
    try:
        yield _RayCluster()
    finally:
        await uninterrupted(asyncio.to_thread(connection.close))


class _RayCluster:
    """The cluster that this process is connected to: `Cluster`."""

    async def machines(self) -> tuple[ClusterMachine, ...]:
        """Return the machines that Ray takes to be alive."""
        import ray

        def gone(error: BaseException) -> EnvironmentFailed:
            said = f"The cluster does not answer any more ({quoted(error)})"
            return EnvironmentFailed(f"{said}: start it, and run this again.")

        with boundary({Exception: gone}):
            rows: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
        alive = {row["NodeID"]: row["NodeManagerHostname"] for row in rows if row["Alive"]}
        return tuple(ClusterMachine(node, f"{host} {node[:6]}") for node, host in alive.items())

    async def enlist(self, machine: ClusterMachine, make: MakeTestbeds) -> NodeLink:
        """Start an actor there, once the machine is known to have the same amini."""
        import ray
        from ray.exceptions import RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        def unusable(error: BaseException) -> EnvironmentFailed:
            last = printable(str(error).strip().rpartition("\n")[2])
            return EnvironmentFailed(f"The node {printable(machine.name)} cannot be used ({last}): see its logs.")

        remote: Any = ray.remote  # whose overloads know fewer options than it does
        there = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(machine.id, soft=False)}
        with _edge(machine), boundary({RayTaskError: unusable}):
            found = await remote(max_retries=0, **there)(_facts()).remote()
            require_same(machine, *found)
            acting = remote(max_restarts=0, max_task_retries=0, max_concurrency=MOST_CALLS, **there)(Node)
            link = _RayLink(machine, acting.remote())
            await link.call(Node.start, make)
            return link


@dataclass(frozen=True, slots=True)
class _RayLink:
    """The way to an actor that is a `Node`. It ends when nobody holds it any more, and with this process."""

    machine: ClusterMachine
    actor: Any

    async def call(self, method: "Callable[[Node, *Arguments], Awaitable[Result]]", *arguments: *Arguments) -> Result:
        number = next(_numbers)
        answering = asyncio.ensure_future(self._answer(self.actor.do.remote(number, method.__name__, arguments)))
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            stopped = self._answer(self.actor.stop.remote(number))
            await uninterrupted(asyncio.gather(stopped, answering, return_exceptions=True))
            raise
        if isinstance(answer, AminiError):
            raise answer
        return cast("Result", answer)

    async def _answer(self, reference: Awaitable[object]) -> object:
        with _edge(self.machine):
            return await reference


_numbers = itertools.count()


def _facts() -> Callable[[], tuple[str, str]]:
    """Return a function that says what amini and which Python a machine has: sent as code, so that it needs neither."""

    def facts() -> tuple[str, str]:
        import platform

        try:
            from agentless_mini import __version__ as version
        except ImportError:
            version = ""
        return version, platform.python_version()

    return facts


def require_same(machine: ClusterMachine, version: str, python: str) -> None:
    """Raise `EnvironmentFailed` where a machine has another amini ("": none) or another minor version of Python."""
    own = platform.python_version()
    if (version, python.rpartition(".")[0]) != (__version__, own.rpartition(".")[0]):
        found = f"amini {printable(version)}" if version else "no amini"
        raise EnvironmentFailed(
            f"The node {printable(machine.name)} has {found} on Python {printable(python)}, and here it is "
            f"{__version__} on {own}: install the same there."
        )


def _edge(machine: ClusterMachine) -> AbstractContextManager[None]:
    """Return the boundary of calls to a machine: what Ray raises where it is gone, or has no room, becomes ours."""
    from ray import exceptions as it

    node = f"The node {printable(machine.name)}"

    def lost(error: BaseException) -> EnvironmentFailed:
        return NodeLost(f"{node} is gone ({quoted(error)}): see Ray's logs there.")

    def scarce(error: BaseException) -> EnvironmentFailed:
        return EnvironmentFailed(f"{node} has too little room for Ray ({quoted(error)}): free some memory or disk.")

    gone = (
        it.RayActorError, it.NodeDiedError, it.WorkerCrashedError, it.ObjectLostError, it.TaskUnschedulableError,
        it.ActorUnschedulableError, it.RpcError, it.LocalRayletDiedError,
    )  # fmt: skip
    full = (it.ObjectStoreFullError, it.OutOfDiskError, it.OutOfMemoryError)
    return boundary({**dict.fromkeys(gone, lost), **dict.fromkeys(full, scarce)})
