"""The testbeds of many machines, as one: each instance goes to a node, which holds its image in testbeds of its own.

The chain, the store and the model's client stay in the driver; boxes, images and grades are on the nodes. A node that
is lost takes what it was doing with it (`NodeLost`), one that joins is used. `ray_cluster` says how nodes are reached.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from agentless_mini.errors import EnvironmentFailed, NodeLost, printable
from agentless_mini.evaluation.instances import Instance
from agentless_mini.evaluation.node import Link, MakeTestbeds, Node
from agentless_mini.evaluation.ports import Testbed
from agentless_mini.evaluation.remote import open_remote
from agentless_mini.ports import Watch
from agentless_mini.sandbox.host import uninterrupted

LOOK_EVERY = 2.0  # seconds between two looks at who is in the cluster
WAIT_FOR_NODES = 120.0  # seconds without any usable node after which an evaluation is given up


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a cluster. `name` is for people."""

    id: str
    name: str


class Cluster(Protocol):
    """Machines that come and go, and a way to put a `Node` on each."""

    async def machines(self) -> tuple[Machine, ...]:
        """Return those that are there now. Raises `EnvironmentFailed` where the cluster itself is gone."""
        ...

    async def enlist(self, machine: Machine, make: MakeTestbeds) -> Link:
        """Return the way to a new node on a machine, which has been started.

        Raises `NodeLost` where the machine is gone meanwhile, and what else is an `EnvironmentFailed` where it cannot
        be used: another version, no Docker.
        """
        ...


@dataclass(slots=True)
class _Member:
    """A node that is used: how many testbeds are open on it, and the images that it has had open."""

    machine: Machine
    link: Link
    open: int = 0
    images: set[str] = field(default_factory=set)


class ClusterTestbeds:
    """The testbeds of the nodes of a cluster. See `ports.Testbeds`. Use it as an async context manager.

    An instance goes to a node that has had its image, else to the one with the fewest open; `beds` are open on a node
    at once at most. `tell` is given a sentence when a node joins, is left out or is lost.
    """

    def __init__(
        self, cluster: Cluster, make: MakeTestbeds, beds: int, tell: Callable[[str], None] = lambda said: None
    ) -> None:
        """Put the testbeds of `make` on every machine of `cluster`."""
        self._cluster = cluster
        self._make = make
        self._beds = beds
        self._tell = tell
        self._members: dict[str, _Member] = {}
        self._joining: dict[str, asyncio.Task[None]] = {}
        self._left_out: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._gone: EnvironmentFailed | None = None
        self._without = 0

    async def __aenter__(self) -> Self:
        """Start a node on each machine that is there. Raises `EnvironmentFailed` where none can be used."""
        try:
            await self._look()
            await asyncio.gather(*self._joining.values())
            if not self._members:
                raise self._nobody()
        except BaseException:
            await self._close(*self._joining.values())
            raise
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is open on the nodes."""
        await self._close(self._watching, *self._joining.values())

    async def _close(self, *tasks: "asyncio.Task[None]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await uninterrupted(asyncio.gather(*map(_finish, self._members.values())))

    @asynccontextmanager
    async def open(self, instance: Instance, watch: Watch) -> AsyncIterator[Testbed]:
        """Hold a testbed on one of the nodes. Waits for a place, and for nodes where all are lost.

        Raises `EnvironmentFailed` where none comes back, and what `ports.Testbeds` says.
        """
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
            free = [member for member in self._members.values() if member.open < self._beds]
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
        """Look who is there, again and again."""
        while self._gone is None:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except EnvironmentFailed as error:
                self._gone = error
            self._without = 0 if self._members else self._without + 1
            self._wake()

    async def _look(self) -> None:
        there = {machine.id: machine for machine in await self._cluster.machines()}
        for name in self._members.keys() - there.keys():
            self._lose(self._members[name])
        for name in there.keys() - self._members.keys() - self._joining.keys() - self._left_out.keys():
            self._joining[name] = asyncio.create_task(self._join(there[name]))

    async def _join(self, machine: Machine) -> None:
        try:
            link = await self._cluster.enlist(machine, self._make)
            self._members[machine.id] = _Member(machine, link)
            self._tell(f"The node {printable(machine.name)} joins the evaluation.")
        except NodeLost:  # it is tried again if it is still there when we look
            pass
        except EnvironmentFailed as error:
            self._leave_out(machine, str(error))
        except Exception as error:  # noqa: BLE001 - Ray's own, or of what is sent: the other nodes do not depend on it
            said = printable(f"{type(error).__name__}: {error}")
            self._leave_out(machine, f"It cannot be started ({said}): see the logs of Ray.")
        finally:
            del self._joining[machine.id]
            self._wake()

    def _leave_out(self, machine: Machine, reason: str) -> None:
        self._left_out[machine.id] = reason
        self._tell(f"The node {printable(machine.name)} is left out. {reason}")

    def _lose(self, member: _Member) -> None:
        if self._members.get(member.machine.id) is member:
            del self._members[member.machine.id]
            self._tell(f"The node {printable(member.machine.name)} is lost; what it had open is opened elsewhere.")
            self._wake()

    def _wake(self) -> None:
        """Let all who wait for a place look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _nobody(self) -> EnvironmentFailed:
        reasons = " ".join(dict.fromkeys(self._left_out.values()))
        return EnvironmentFailed(f"No node of the cluster can be used: see `ray status`. {reasons}".strip())


async def _finish(member: _Member) -> None:
    with suppress(NodeLost):
        await member.link.call(Node.finish)
