"""Both ends of a testbed on another machine: `Node` runs there and holds it open, `open_remote` is what a driver sees.

Every method of a node takes and returns what can be sent. A call has a number, by which it can be stopped: what was
under way for it has been taken down when `stop` returns. How calls travel is the business of `cluster`.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, TypeVarTuple

from agentless_mini.chain.session import Boxes, NoBoxes, Opening
from agentless_mini.domain import BoxLimits, Event, Harness, Job, JobResult, Place, Snapshot
from agentless_mini.errors import AminiError, NodeLost
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.ports import Grade, Testbed, Testbeds
from agentless_mini.ports import Watch
from agentless_mini.sandbox.host import uninterrupted

MakeTestbeds = Callable[[], AbstractAsyncContextManager[Testbeds]]
"""Makes the testbeds of the machine that it is called on. It is sent there: it must be possible to pickle it."""

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True, slots=True)
class _ReadyBoxes:
    """What a driver must know of a test environment that stays on its node."""

    place: Place
    harness: Harness
    limits: BoxLimits
    case_seconds: float


class NodeLink(Protocol):
    """A way to a node."""

    async def call(self, method: "Callable[[Node, *Arguments], Awaitable[Result]]", *arguments: *Arguments) -> Result:
        """Call a method of the node. A cancelled call has been stopped when it returns. May raise `NodeLost`."""
        ...


@dataclass(slots=True)
class _Held:
    """A testbed that a driver has open, and the events that it has not heard; None is the last."""

    events: asyncio.Queue[Event | None] = field(default_factory=asyncio.Queue)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    testbed: Testbed = field(init=False)
    opening: Opening = field(init=False)
    boxes: Boxes = field(init=False)


class Node:
    """The testbeds of one machine, by names that the driver gives them. Needs a running event loop."""

    _testbeds: Testbeds

    def __init__(self) -> None:
        """Do nothing yet."""
        self._stack = AsyncExitStack()
        self._held: defaultdict[str, _Held] = defaultdict(_Held)
        self._calls: dict[int, asyncio.Task[Any]] = {}
        self._stopped: set[int] = set()

    async def do(self, call: int, method: str, arguments: tuple[object, ...]) -> object:
        """Call a method by its name; return what it returns, or the error of ours that it raises."""
        stopped = NodeLost("The node has stopped a call: run the same command again.")
        if call in self._stopped:  # a stop can overtake arguments that travel long
            self._stopped.discard(call)
            return stopped
        task = self._calls[call] = asyncio.create_task(getattr(self, method)(*arguments))
        await asyncio.wait([task])
        del self._calls[call]
        if task.cancelled():
            return stopped
        return error if isinstance(error := task.exception(), AminiError) else task.result()

    async def stop(self, call: int) -> None:
        """Cancel a call and wait for its end; one that has not come yet will not begin."""
        if (task := self._calls.get(call)) is None:
            self._stopped.add(call)
        else:
            task.cancel()
            await asyncio.wait([task])

    async def start(self, make: MakeTestbeds) -> None:
        """Make the testbeds. Raises what making them raises."""
        self._testbeds = await self._stack.enter_async_context(make())

    async def finish(self) -> None:
        """Close the testbeds that are still open, and what made them."""
        for name in tuple(self._held):
            await self.close(name)
        await self._stack.aclose()

    async def open(self, name: str, instance: Instance) -> None:
        """Open a testbed under a name that is free. Raises what the testbeds raise; nothing is open then."""
        held = self._held[name]
        held.testbed = await held.stack.enter_async_context(self._testbeds.open(instance, held.events.put_nowait))

    async def hear(self, name: str) -> Event | None:
        """Wait for the next event of a testbed and return it; None once it is closed and all are told."""
        event = await self._held[name].events.get()
        if event is None:
            del self._held[name]
        return event

    async def tree(self, name: str) -> tuple[Snapshot, Harness | NoBoxes]:
        """Return the files of a testbed, and how its tests will run."""
        held = self._held[name]
        snapshot = await held.testbed.tree()
        opening = held.testbed.opening(snapshot)
        if isinstance(opening, NoBoxes):
            return snapshot, opening
        held.opening = opening
        return snapshot, opening.harness

    async def open_boxes(self, name: str) -> _ReadyBoxes | NoBoxes:
        """Open the test environment of a testbed whose tree has been read."""
        held = self._held[name]
        boxes = await held.opening.open(held.events.put_nowait)
        if isinstance(boxes, NoBoxes):
            return boxes
        held.boxes = boxes
        return _ReadyBoxes(boxes.place, boxes.harness, boxes.limits, boxes.case_seconds)

    async def run(self, name: str, job: Job) -> JobResult:
        """Run a job in the test environment of a testbed."""
        return await self._held[name].boxes.sandbox.run(job)

    async def grade(self, name: str, diff: bytes) -> Grade:
        """Let the official harness grade a patch."""
        return await self._held[name].testbed.grade(diff)

    async def close(self, name: str) -> None:
        """Close a testbed, if it was opened. Its name is free again once `hear` has said all."""
        held = self._held[name]
        try:
            await held.stack.aclose()
        finally:
            held.events.put_nowait(None)


# --- the driver's end ------------------------------------------------------------------------------------------------

_numbers = itertools.count()


@asynccontextmanager
async def open_remote(link: NodeLink, instance: Instance, watch: Watch) -> AsyncIterator[Testbed]:
    """Hold a testbed on the node at the other end; `watch` is told what happens there. May raise `NodeLost`."""
    name = f"{instance.id}#{next(_numbers)}"

    async def hear() -> None:
        while event := await link.call(Node.hear, name):
            watch(event)

    async def close() -> None:
        """Close it and hear the last of it. A node that is gone has closed what it had."""
        try:
            await link.call(Node.close, name)
            await hearing
        except NodeLost:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    hearing = asyncio.create_task(hear())
    try:
        await link.call(Node.open, name, instance)
        yield _RemoteTestbed(link, name)
    finally:
        await uninterrupted(close())


@dataclass(slots=True)
class _RemoteTestbed:
    """A testbed that is held on a node: `ports.Testbed`, and the sandbox of its tests. All may raise `NodeLost`."""

    _link: NodeLink
    _name: str
    _opening: Opening | NoBoxes = field(init=False)

    async def tree(self) -> Snapshot:
        snapshot, harness = await self._link.call(Node.tree, self._name)

        async def open_boxes(watch: Watch) -> Boxes | NoBoxes:
            ready = await self._link.call(Node.open_boxes, self._name)
            if isinstance(ready, NoBoxes):
                return ready
            return Boxes(self, ready.place, ready.harness, snapshot, watch, ready.limits, ready.case_seconds)

        self._opening = harness if isinstance(harness, NoBoxes) else Opening(harness, open_boxes)
        return snapshot

    def opening(self, snapshot: Snapshot) -> Opening | NoBoxes:
        """Return how tests are run on the node, for the tree that was read from this testbed."""
        return self._opening

    async def run(self, job: Job) -> JobResult:
        """Run a job in a container of the node. When it is cancelled, that is removed before it returns."""
        return await self._link.call(Node.run, self._name, job)

    async def grade(self, diff: bytes) -> Grade:
        return await self._link.call(Node.grade, self._name, diff)
