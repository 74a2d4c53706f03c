"""Testbeds that can be sent to a node: those of the small benchmark, which note in files what was done where.

Each instance has a tree of its own by name, so that no box of one is the box of another. A test passes where the cart
has been repaired.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agentless_mini.domain import Job, JobResult, Note, Snapshot
from agentless_mini.errors import AminiError, EnvironmentFailed, ImageUnavailable
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.ports import Testbed, Testbeds
from agentless_mini.ports import Watch
from tests.chain.boxes import PASSES, fails, recording
from tests.chain.workbench import shop
from tests.evaluation.bugs import resolves
from tests.fakes.sandbox import ScriptedSandbox
from tests.fakes.testbeds import ScriptedTestbeds

HANGS = "hangs"
"""A job whose first step has this argument never ends by itself."""


def tree(instance: Instance) -> Snapshot:
    return replace(shop(), digest=hashlib.sha256(instance.id.encode()).hexdigest())


def answer(job: Job) -> JobResult | AminiError:
    repaired = any(b"for price in prices:" in (file.data or b"") for file in job.files)
    return recording(lambda name, code: PASSES if repaired else fails())(job)


@dataclass(frozen=True, slots=True)
class MakesTestbeds:
    """Makes the testbeds of a machine. What happens is appended to files in `notes`, one for each kind."""

    notes: Path
    seconds: float = 0.0
    missing: frozenset[str] = frozenset()
    fails: bool = False

    def note(self, kind: str, what: str) -> None:
        with (self.notes / kind).open("a") as file:
            file.write(f"{os.getpid()} {what}\n")

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Testbeds]:
        if self.fails:
            raise EnvironmentFailed("No Docker daemon answers: start it.")
        self.note("made", "testbeds")
        testbeds = ScriptedTestbeds(tree, resolves, _NotingSandbox(self), self.missing)
        try:
            yield _Noting(self, testbeds)
        finally:
            self.note("unmade", "testbeds")


class _NotingSandbox:
    def __init__(self, settings: MakesTestbeds) -> None:
        self._settings = settings
        self._inner = ScriptedSandbox(answer)

    async def run(self, job: Job) -> JobResult:
        self._settings.note("boxes", job.key())
        try:
            await asyncio.sleep(3600 if job.steps and HANGS in job.steps[0].argv else self._settings.seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)  # to remove a box takes time
            self._settings.note("removed", job.key())
            raise
        return await self._inner.run(job)


class _Noting:
    def __init__(self, settings: MakesTestbeds, inner: Testbeds) -> None:
        self._settings = settings
        self._inner = inner

    @asynccontextmanager
    async def open(self, instance: Instance, watch: Watch) -> AsyncIterator[Testbed]:
        watch(Note(f"Pulling {instance.image}."))
        await asyncio.sleep(self._settings.seconds)
        if instance.image in self._settings.missing:
            watch(Note("It cannot be pulled."))
            raise ImageUnavailable(f"There is no image {instance.image}.")
        async with self._inner.open(instance, watch) as testbed:
            self._settings.note("opened", instance.id)
            try:
                yield testbed
            finally:
                watch(Note(f"Closing {instance.image}."))
                self._settings.note("closed", instance.id)


def noted(folder: Path, kind: str) -> list[tuple[int, str]]:
    """Return the process and the subject of each note of a kind."""
    if not (folder / kind).exists():
        return []
    pairs = (line.split(" ", 1) for line in (folder / kind).read_text().splitlines())
    return [(int(process), what) for process, what in pairs]


class Unloadable(MakesTestbeds):
    """Can be sent, but not be read where it arrives."""

    def __reduce__(self) -> tuple[object, ...]:
        return _explode, ("its module is not there",)


def _explode(reason: str) -> None:
    raise ModuleNotFoundError(reason)
