"""Testbeds (`evaluation.ports.Testbeds`) that say what they are told, without Docker and without swebench."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from agentless_mini.chain.session import Boxes, NoBoxes, Opening
from agentless_mini.domain import Environment, ImageTree, Place, Snapshot
from agentless_mini.errors import ImageUnavailable
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.ports import Grade, Testbed
from agentless_mini.ports import Sandbox, Watch
from agentless_mini.testing import harness_of

Trees = Callable[[Instance], Snapshot]
Verdicts = Callable[[Instance, bytes], bool]
"""Says whether a patch of an instance resolves it."""


class ScriptedTestbeds:
    """Testbeds with the tree that `trees` returns; `sandbox` runs the tests, None: none are run; `resolves` grades.

    `opened` and `graded` have what was asked for, in order; images whose name is in `missing` cannot be had.
    """

    def __init__(
        self, trees: Trees, resolves: Verdicts, sandbox: Sandbox | None = None, missing: frozenset[str] = frozenset()
    ) -> None:
        self._trees = trees
        self._resolves = resolves
        self._sandbox = sandbox
        self._missing = missing
        self.opened: list[str] = []
        self.graded: list[tuple[str, bytes]] = []

    def open(self, instance: Instance, watch: Watch) -> AbstractAsyncContextManager[Testbed]:
        return self._open(instance)

    @asynccontextmanager
    async def _open(self, instance: Instance) -> AsyncIterator[Testbed]:
        if instance.image in self._missing:
            raise ImageUnavailable(f"There is no image {instance.image}: script one.")
        self.opened.append(instance.id)
        yield _ScriptedTestbed(self, instance)

    def snapshot(self, instance: Instance) -> Snapshot:
        return self._trees(instance)

    def bench(self, snapshot: Snapshot) -> Opening | NoBoxes:
        sandbox, harness = self._sandbox, harness_of(snapshot)
        if sandbox is None:
            return NoBoxes("The script has no sandbox.")

        async def opened(watch: Watch) -> Boxes | NoBoxes:
            place = Place(Environment(snapshot.digest), ImageTree("/testbed"))
            return Boxes(sandbox, place, harness, snapshot, watch)

        return Opening(harness, opened)

    def verdict(self, instance: Instance, diff: bytes) -> bool:
        self.graded.append((instance.id, diff))
        return self._resolves(instance, diff)


class _ScriptedTestbed:
    """One instance of it."""

    def __init__(self, testbeds: ScriptedTestbeds, instance: Instance) -> None:
        self._testbeds = testbeds
        self._instance = instance

    async def tree(self) -> Snapshot:
        return self._testbeds.snapshot(self._instance)

    def opening(self, snapshot: Snapshot) -> Opening | NoBoxes:
        return self._testbeds.bench(snapshot)

    async def grade(self, diff: bytes) -> Grade:
        resolved = self._testbeds.verdict(self._instance, diff)
        return Grade(resolved, applied=True, report="{}", version="scripted", seconds=0.0)
