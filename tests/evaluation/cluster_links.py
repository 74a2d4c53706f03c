"""A cluster without Ray: nodes in this process, and all that crosses to them is pickled on the way there and back."""

import asyncio
import itertools
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, cast

from agentless_mini.errors import AminiError, EnvironmentFailed, NodeLost
from agentless_mini.evaluation.cluster import ClusterMachine
from agentless_mini.evaluation.node import MakeTestbeds, Node, NodeLink
from agentless_mini.sandbox.host import uninterrupted

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class LocalLink:
    """The way to a node in this process, which `lose` cuts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._node = Node()
        self._numbers = itertools.count()
        self._lost = asyncio.Event()

    def lose(self) -> None:
        self._lost.set()

    async def call(self, method: Callable[[Node, *Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
        number = next(self._numbers)
        sent = pickle.loads(pickle.dumps(arguments))  # noqa: S301 - our own bytes
        answering = asyncio.create_task(self._node.do(number, method.__name__, sent))
        losing = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait([answering, losing], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await uninterrupted(self._node.stop(number))
            raise
        finally:
            losing.cancel()
        if self._lost.is_set():
            answering.cancel()
            raise NodeLost(f"The node {self.name} is gone.")
        answer: Any = pickle.loads(pickle.dumps(answering.result()))  # noqa: S301 - our own bytes
        if isinstance(answer, AminiError):
            raise answer
        return cast("Result", answer)


class LocalCluster:
    """Machines by name: `join` and `lose` change who is there, `broken` cannot be used for some `trouble`."""

    def __init__(self, *names: str, broken: frozenset[str] = frozenset(), trouble: Exception | None = None) -> None:
        self.links: dict[str, LocalLink] = {}
        self._names = set(names)
        self._broken = broken
        self._trouble = trouble or EnvironmentFailed("No Docker daemon answers.")

    def join(self, name: str) -> None:
        self._names.add(name)

    def lose(self, name: str) -> None:
        self._names.discard(name)
        self.links[name].lose()

    async def machines(self) -> tuple[ClusterMachine, ...]:
        return tuple(ClusterMachine(name, name) for name in sorted(self._names))

    async def enlist(self, machine: ClusterMachine, make: MakeTestbeds) -> NodeLink:
        if machine.id in self._broken:
            raise self._trouble
        link = self.links[machine.id] = LocalLink(machine.name)
        await link.call(Node.start, make)
        return link
