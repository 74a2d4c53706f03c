"""What runs on each machine of a cluster: that machine's own testbeds, held open for a driver elsewhere.

Every method takes and returns what can be sent. A call has a number, by which it can be stopped: what was under way for
it has been taken down when `stop` returns. How calls travel is the business of `cluster`; nothing is recorded here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple

from agentless_mini.chain.bench import Bench, NoBench, Opening
from agentless_mini.domain import BoxLimits, Event, Harness, Job, JobResult, Place, Snapshot
from agentless_mini.errors import AminiError
from agentless_mini.evaluation.instances import Instance
from agentless_mini.evaluation.ports import Grade, Testbed, Testbeds

MakeTestbeds = Callable[[], AbstractAsyncContextManager[Testbeds]]
"""Makes the testbeds of the machine that it is called on. It is sent there: it must be possible to pickle it."""

Held = TypeVar("Held")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True, slots=True)
class SeenTree:
    """The files of a testbed, and how its tests will run."""

    snapshot: Snapshot
    harness: Harness | NoBench


@dataclass(frozen=True, slots=True)
class ReadyBench:
    """What a driver must know of a bench that stays on its node."""

    place: Place
    harness: Harness
    limits: BoxLimits
    case_seconds: float


@dataclass(frozen=True, slots=True)
class Raised:
    """A call that ended with an error of ours. It travels as a value, so that it arrives as what it was."""

    error: AminiError


@dataclass(frozen=True, slots=True)
class Stopped:
    """A call that was stopped."""


class Link(Protocol):
    """A way to a node. `name` is for people."""

    @property
    def name(self) -> str:
        """Return what the node is called."""
        ...

    async def call(self, method: "Callable[[Node, *Arguments], Awaitable[Result]]", *arguments: *Arguments) -> Result:
        """Call a method of the node and return what it returns. A cancelled call has been stopped when it returns.

        Raises what the method raises, and `NodeLost` where the node is gone.
        """
        ...


class Holding(Generic[Held]):
    """A context that is held open by a task of its own, because calls that open and close it are different tasks."""

    def __init__(self, context: AbstractAsyncContextManager[Held]) -> None:
        """Begin to open the context."""
        self._context = context
        self._opened: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    async def opened(self) -> Held:
        """Return what the context gives, or raise what opening it raises. Cancelling it gives the opening up."""
        either: list[asyncio.Future[Any]] = [self._opened, self._task]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        if not self._opened.done():
            await self._task
        return self._opened.result()

    async def close(self) -> None:
        """Close the context, and raise what closing it raises."""
        self._closing.set()
        await self._task

    async def _hold(self) -> None:
        async with self._context as held:
            self._opened.set_result(held)
            await self._closing.wait()


class _Bed:
    """One testbed that a driver has open, and what there is to tell about it; None ends the telling."""

    def __init__(self) -> None:
        self.telling: asyncio.Queue[Event | None] = asyncio.Queue()
        self.holding: Holding[Testbed] | None = None
        self.opening: Opening | NoBench | None = None
        self.bench: Bench | None = None

    async def testbed(self) -> Testbed:
        if self.holding is None:
            raise ValueError("this testbed is not open")
        return await self.holding.opened()


class Node:
    """The testbeds of one machine, by names that the driver gives them. Needs a running event loop."""

    def __init__(self) -> None:
        """Do nothing yet."""
        self._testbeds: Holding[Testbeds] | None = None
        self._beds: dict[str, _Bed] = {}
        self._calls: dict[int, asyncio.Task[Any]] = {}
        self._stopped: set[int] = set()

    async def do(self, call: int, method: str, arguments: tuple[object, ...]) -> object:
        """Call a method by its name; return what it returns, `Raised` or `Stopped`."""
        if call in self._stopped:  # arguments that travel long are overtaken
            self._stopped.discard(call)
            return Stopped()
        task = self._calls[call] = asyncio.create_task(getattr(self, method)(*arguments))
        await asyncio.wait([task])
        del self._calls[call]
        if task.cancelled():
            return Stopped()
        if isinstance(error := task.exception(), AminiError):
            return Raised(type(error)(*error.args))  # without what caused it, which may not be possible to send
        return task.result()

    async def stop(self, call: int) -> None:
        """Cancel a call and wait for its end; one that has not come yet will not begin."""
        if (task := self._calls.get(call)) is None:
            self._stopped.add(call)
        else:
            task.cancel()
            await asyncio.wait([task])

    async def start(self, make: MakeTestbeds) -> None:
        """Make the testbeds. Raises what making them raises."""
        self._testbeds = Holding(make())
        await self._testbeds.opened()

    async def finish(self) -> None:
        """Close the testbeds that are still open, and what made them."""
        for name in tuple(self._beds):
            await self.close(name)
        if self._testbeds is not None:
            await self._testbeds.close()

    async def take(self, bed: str) -> None:
        """Take a name for a testbed that is about to be opened: from now on there may be something to tell of it."""
        self._beds[bed] = _Bed()

    async def open(self, bed: str, instance: Instance) -> None:
        """Open a testbed under a name that is taken. Raises what the testbeds raise; nothing is open then."""
        if self._testbeds is None:
            raise ValueError("this node has not been started")
        testbeds = await self._testbeds.opened()
        own = self._beds[bed]
        holding = Holding(testbeds.open(instance, own.telling.put_nowait))
        await holding.opened()
        own.holding = holding

    async def hear(self, bed: str) -> tuple[Event, ...]:
        """Wait until there is something to tell of a testbed and return it; () once it is closed and all is told."""
        telling = self._beds[bed].telling
        events = [await telling.get()]
        while events[-1] is not None and not telling.empty():
            events.append(telling.get_nowait())
        if events == [None]:
            del self._beds[bed]
        elif events[-1] is None:
            telling.put_nowait(None)
        return tuple(event for event in events if event is not None)

    async def tree(self, bed: str) -> SeenTree:
        """Return the files of a testbed."""
        own = self._beds[bed]
        testbed = await own.testbed()
        snapshot = (await testbed.tree()).snapshot
        own.opening = testbed.opening(snapshot)
        return SeenTree(snapshot, own.opening if isinstance(own.opening, NoBench) else own.opening.harness)

    async def open_bench(self, bed: str) -> ReadyBench | NoBench:
        """Make the boxes of a testbed whose tree has been read."""
        own = self._beds[bed]
        if own.opening is None or isinstance(own.opening, NoBench):
            raise ValueError("the tree of this testbed has not been read, or has no tests")
        bench = await own.opening.open(own.telling.put_nowait)
        if isinstance(bench, NoBench):
            return bench
        own.bench = bench
        return ReadyBench(bench.place, bench.harness, bench.limits, bench.case_seconds)

    async def run(self, bed: str, job: Job) -> JobResult:
        """Run a job in a box of the bench."""
        bench = self._beds[bed].bench
        if bench is None:
            raise ValueError("the bench of this testbed has not been opened")
        return await bench.sandbox.run(job)

    async def grade(self, bed: str, diff: bytes) -> Grade:
        """Let the official harness grade a patch."""
        return await (await self._beds[bed].testbed()).grade(diff)

    async def close(self, bed: str) -> None:
        """Close a testbed, if it was opened. Its name is free again once `hear` has said all."""
        own = self._beds[bed]
        holding, own.holding = own.holding, None
        try:
            if holding is not None:
                await holding.close()
        finally:
            own.telling.put_nowait(None)
