"""A Ray cluster that is running already: who is in it, and an actor on each machine that is a `Node`.

It starts no cluster, installs nothing and sends no code: every machine has the same amini. Ray asks nobody for a
password: whoever reaches its ports runs programs on its machines, so a cluster belongs on a network that is trusted.
The driver must run on one of the machines. Calls that fail because a machine is gone become `NodeLost` here.
"""

import asyncio
import itertools
import logging
import platform
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple, cast

from agentless_mini import __version__
from agentless_mini.errors import EnvironmentFailed, NodeLost, boundary, printable
from agentless_mini.evaluation.cluster import Machine
from agentless_mini.evaluation.node import Link, MakeTestbeds, Node, Raised, Stopped
from agentless_mini.installing import install_command
from agentless_mini.sandbox.host import uninterrupted

MOST_CALLS = 20_000  # under way on one node at once: every job of its testbeds, waiting for a box or not
CONNECT_TIMEOUT = 10.0  # seconds
_QUOTED = 300  # characters of a foreign message

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


@asynccontextmanager
async def ray_cluster(address: str, resource: str = "") -> AsyncIterator["RayCluster"]:
    """Connect to the cluster at an address (`HOST:PORT`, or `auto`), and leave it at the end.

    What is printed on standard output meanwhile goes to standard error.
    Only machines that offer `resource`, a name that `ray start --resources` was given, are used; all where it is "".
    Raises `EnvironmentFailed` where there is no Ray, no cluster, or one of another version.
    """
    with boundary({ImportError: lambda _: _ray_missing()}):
        import ray
    await _require_answer(address)
    unreachable = (ConnectionError, RuntimeError, TimeoutError, ValueError, OSError, AssertionError)
    with boundary(dict.fromkeys(unreachable, lambda error: _no_cluster(address, error))):
        # In a thread, where it cannot take over our handling of SIGTERM.
        await asyncio.to_thread(
            ray.init, address=address, log_to_driver=False, logging_level=logging.CRITICAL, namespace="amini"
        )
    try:
        # Ray prints what it thinks of lost nodes, whatever it was told about logs; standard output is for results.
        with redirect_stdout(sys.stderr):
            yield RayCluster(resource)
    finally:
        await uninterrupted(asyncio.to_thread(ray.shutdown))


class RayCluster:
    """The cluster that this process is connected to. See `cluster.Cluster`."""

    def __init__(self, resource: str) -> None:
        """Use the machines that offer this resource, or all."""
        self._resource = resource

    async def machines(self) -> tuple[Machine, ...]:
        """Return the machines that Ray takes to be alive."""
        import ray

        with boundary({Exception: _cluster_gone}):
            rows: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
        alive = [row for row in rows if row["Alive"] and (not self._resource or self._resource in row["Resources"])]
        machines = (Machine(row["NodeID"], f"{row['NodeManagerHostname']} {row['NodeID'][:6]}") for row in alive)
        return tuple(sorted(machines, key=lambda machine: machine.name))

    async def enlist(self, machine: Machine, make: MakeTestbeds) -> Link:
        """Start an actor there, once the machine is known to have the same amini."""
        import ray
        from ray.exceptions import RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote: Any = ray.remote  # whose overloads know fewer options than it does
        there = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(machine.id, soft=False)}
        with _edge(machine), boundary({RayTaskError: lambda error: _unusable(machine, error)}):
            found = await remote(max_retries=0, **there)(_facts()).remote()
            require_same(machine, *found)
            acting = remote(max_restarts=0, max_task_retries=0, max_concurrency=MOST_CALLS, **there)(Node)
            link = _RayLink(machine, acting.remote())
            await link.call(Node.start, make)
            return link


@dataclass(frozen=True, slots=True)
class _RayLink:
    """The way to an actor that is a `Node`. It ends when nobody holds it any more, and with this process."""

    machine: Machine
    actor: Any

    @property
    def name(self) -> str:
        return self.machine.name

    async def call(self, method: "Callable[[Node, *Arguments], Awaitable[Result]]", *arguments: *Arguments) -> Result:
        number = next(_numbers)
        answering = asyncio.ensure_future(self._answer(self.actor.do.remote(number, method.__name__, arguments)))
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            await uninterrupted(self._stop(number, answering))
            raise
        if isinstance(answer, Raised):
            raise answer.error
        if isinstance(answer, Stopped):
            raise NodeLost(f"The node {self.name} has stopped a call by itself: run the same command again.")
        return cast("Result", answer)

    async def _answer(self, reference: Awaitable[object]) -> object:
        with _edge(self.machine):
            return await reference

    async def _stop(self, number: int, answering: asyncio.Future[object]) -> None:
        await asyncio.gather(self._answer(self.actor.stop.remote(number)), answering, return_exceptions=True)


_numbers = itertools.count()


async def _require_answer(address: str) -> None:
    """Raise `EnvironmentFailed` at once where nothing listens: Ray tries for a minute and then ends the process."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        with boundary({OSError: lambda error: _no_cluster(address, error)}):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()


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


def require_same(machine: Machine, version: str, python: str) -> None:
    """Raise `EnvironmentFailed` where a machine has another amini ("": none) or another minor version of Python."""
    own = platform.python_version()
    if version == __version__ and python.rpartition(".")[0] == own.rpartition(".")[0]:
        return
    found = f"amini {printable(version)}" if version else "no amini"
    raise EnvironmentFailed(
        f"The node {printable(machine.name)} has {found} on Python {printable(python)}, and here it is {__version__} "
        f"on {own}: install the same there."
    )


def _edge(machine: Machine) -> AbstractContextManager[None]:
    """Return the boundary of calls to a machine."""
    from ray import exceptions

    lost = (
        exceptions.RayActorError,
        exceptions.NodeDiedError,
        exceptions.WorkerCrashedError,
        exceptions.ObjectLostError,
        exceptions.TaskUnschedulableError,
        exceptions.ActorUnschedulableError,
        exceptions.RpcError,
        exceptions.LocalRayletDiedError,
    )
    scarce = (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError, exceptions.OutOfMemoryError)
    return boundary(
        {
            **dict.fromkeys(lost, lambda error: _lost(machine, error)),
            **dict.fromkeys(scarce, lambda error: _scarce(machine, error)),
        }
    )


def _lost(machine: Machine, error: BaseException) -> NodeLost:
    return NodeLost(f"The node {printable(machine.name)} is gone ({_quote(error)}): see Ray's logs there.")


def _unusable(machine: Machine, error: BaseException) -> EnvironmentFailed:
    last = str(error).strip().rpartition("\n")[2]
    return EnvironmentFailed(f"The node {printable(machine.name)} cannot be used ({printable(last)}): see its logs.")


def _scarce(machine: Machine, error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The node {printable(machine.name)} has too little room for Ray ({_quote(error)}): free some memory or disk."
    )


def _cluster_gone(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"The cluster does not answer any more ({_quote(error)}): start it, and run this again.")


def _no_cluster(address: str, error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"No Ray cluster can be used at {printable(address)} ({_quote(error)}): run `ray start` on this machine as "
        "well, with the same Ray and Python as on its head."
    )


def _ray_missing() -> EnvironmentFailed:
    return EnvironmentFailed(f"A cluster needs Ray here and on each node: {install_command('cluster')}.")


def _quote(error: BaseException) -> str:
    line = printable(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "..."
