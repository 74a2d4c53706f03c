"""A testbed on another machine, as the driver sees it: the ports of an evaluation over a `Link` to a `Node`.

Boxes, grades and trees are made there and come back as values, so that what records effects wraps these ports here, as
it wraps local ones. Patches are checked here, from the tree's snapshot.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentless_mini.chain.bench import Bench, NoBench, Opening
from agentless_mini.domain import Job, JobResult, Snapshot
from agentless_mini.errors import NodeLost
from agentless_mini.evaluation.instances import Instance
from agentless_mini.evaluation.node import Link, Node
from agentless_mini.evaluation.ports import Grade, Testbed, Tree
from agentless_mini.evaluation.snapshot_check import snapshot_check
from agentless_mini.ports import Watch
from agentless_mini.sandbox.host import uninterrupted

_numbers = itertools.count()


@asynccontextmanager
async def open_remote(link: Link, instance: Instance, watch: Watch) -> AsyncIterator[Testbed]:
    """Hold a testbed on the node at the other end. `watch` is told what happens there, while it is held.

    Raises what the node's testbeds raise, and `NodeLost`.
    """
    bed = f"{instance.id}#{next(_numbers)}"
    await link.call(Node.take, bed)
    hearing = asyncio.create_task(_hear(link, bed, watch))
    try:
        await link.call(Node.open, bed, instance)
        yield RemoteTestbed(link, bed)
    finally:
        await uninterrupted(_close(link, bed, hearing))


async def _hear(link: Link, bed: str, watch: Watch) -> None:
    while events := await link.call(Node.hear, bed):
        for event in events:
            watch(event)


async def _close(link: Link, bed: str, hearing: asyncio.Task[None]) -> None:
    """Close a testbed and hear the last of it. A node that is gone has closed what it had."""
    try:
        await link.call(Node.close, bed)
        await hearing
    except NodeLost:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


class RemoteTestbed:
    """A testbed that is held on a node. See `ports.Testbed`."""

    def __init__(self, link: Link, bed: str) -> None:
        """Use the testbed that the node has open under this name."""
        self._link = link
        self._bed = bed
        self._opening: Opening | NoBench | None = None

    async def tree(self) -> Tree:
        """Return the files of the testbed, and a check of patches that asks no node."""
        seen = await self._link.call(Node.tree, self._bed)
        if isinstance(seen.harness, NoBench):
            self._opening = seen.harness
        else:
            self._opening = Opening(seen.harness, lambda watch: self._open_bench(seen.snapshot, watch))
        return Tree(seen.snapshot, snapshot_check(seen.snapshot))

    def opening(self, snapshot: Snapshot) -> Opening | NoBench:
        """Return how tests are run in boxes of the node, for the tree that was read from this testbed."""
        if self._opening is None:
            raise ValueError(f"read the tree of this testbed first: {snapshot.digest} comes from elsewhere")
        return self._opening

    async def grade(self, diff: bytes) -> Grade:
        """Let the official harness grade a patch on the node."""
        return await self._link.call(Node.grade, self._bed, diff)

    async def _open_bench(self, snapshot: Snapshot, watch: Watch) -> Bench | NoBench:
        ready = await self._link.call(Node.open_bench, self._bed)
        if isinstance(ready, NoBench):
            return ready
        sandbox = RemoteSandbox(self._link, self._bed)
        return Bench(sandbox, ready.place, ready.harness, snapshot, watch, ready.limits, ready.case_seconds)


class RemoteSandbox:
    """The boxes of a testbed that is held on a node. See `ports.Sandbox`; `NodeLost` is one of its errors."""

    def __init__(self, link: Link, bed: str) -> None:
        """Use the bench that the node has open for this testbed."""
        self._link = link
        self._bed = bed

    async def run(self, job: Job) -> JobResult:
        """Run a job in a box of the node. When it is cancelled, the box is removed before it returns."""
        return await self._link.call(Node.run, self._bed, job)
