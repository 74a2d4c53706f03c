"""Testbeds on this machine's Docker: all instances share its boxes.

An instance's image is held while its testbed is open. Its tree is copied out once, when it is asked for; the boxes take
theirs from the image itself, so that what was built in it is there. The rows that the official harness needs go to the
grader alone.
"""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agentless_mini.chain.bench import Bench, NoBench, Opening
from agentless_mini.domain import Note, Phase, PhaseStarted, Runner, Snapshot
from agentless_mini.environment.index import find_index
from agentless_mini.errors import BuildFailed, GradingFailed, printable
from agentless_mini.evaluation.conda import Activated, activated
from agentless_mini.evaluation.copied_tree import copy_tree
from agentless_mini.evaluation.derived import Deriver
from agentless_mini.evaluation.images import Images
from agentless_mini.evaluation.instances import Answer, Instance
from agentless_mini.evaluation.ports import Grade, Tree
from agentless_mini.evaluation.pulled_images import PulledImages
from agentless_mini.ports import Watch
from agentless_mini.sandbox.docker import DockerSandbox, capacity, connect
from agentless_mini.sandbox.images import Image, daemon_name
from agentless_mini.sandbox.scratch import Scratch
from agentless_mini.sandbox.uninterrupted import uninterrupted
from agentless_mini.settings.run import ImageSettings, SandboxSettings
from agentless_mini.testing import harness_of

if TYPE_CHECKING:
    from docker import DockerClient


PULLED = "images"
"""The folder with the records of pulled images, one for each daemon, in that for records."""


class Grader(Protocol):
    """Who grades: the official harness, in processes of its own."""

    async def grade(self, row: str, diff: bytes) -> Grade:
        """Return what it says of a patch. `row` is the dataset's row as JSON. Raises `GradingFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class YardSettings:
    """How the testbeds of this machine are kept. `state` is the user's folder for records.

    `variables` are the user's, which tell where packages are found.
    """

    images: ImageSettings
    sandbox: SandboxSettings
    state: Path
    variables: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Yard:
    """What all testbeds share."""

    client: "DockerClient"
    sandbox: DockerSandbox
    images: Images
    deriver: Deriver
    settings: SandboxSettings
    grader: Grader
    users: Counter[str] = field(default_factory=Counter)
    """How many testbeds have started boxes from an image, by its id."""


@asynccontextmanager
async def open_testbeds(
    settings: YardSettings, answers: Mapping[str, Answer], grader: Grader
) -> AsyncIterator["DockerTestbeds"]:
    """Give the testbeds of this machine. Containers that dead runs left are removed first, and none is left at the end.

    Raises `EnvironmentFailed` where no Docker daemon answers.
    """
    limits = settings.sandbox.limits()
    async with AsyncExitStack() as stack:
        client = await asyncio.to_thread(connect, settings.sandbox.boxes or os.cpu_count() or 1)
        stack.callback(client.close)
        room = await asyncio.to_thread(capacity, client, limits)
        sandbox = DockerSandbox(client, {}, settings.sandbox.boxes or room)
        stack.push_async_callback(sandbox.aclose)
        await sandbox.sweep()
        pulled = PulledImages(settings.state / PULLED / await asyncio.to_thread(daemon_name, client))
        images = Images(client, settings.images, pulled)
        deriver = Deriver(client, sandbox, find_index(settings.variables))
        yield DockerTestbeds(_Yard(client, sandbox, images, deriver, settings.sandbox, grader), answers)


class DockerTestbeds:
    """`ports.Testbeds` on one Docker daemon: see `open_testbeds`."""

    def __init__(self, yard: _Yard, answers: Mapping[str, Answer]) -> None:
        """Keep what is shared; `answers` are for grading alone."""
        self._yard = yard
        self._answers = answers

    @asynccontextmanager
    async def open(self, instance: Instance, watch: Watch) -> AsyncIterator["DockerTestbed"]:
        """Hold the image of an instance, as `ports.Testbeds` says."""
        async with self._yard.images.held(instance.image, watch) as image:
            answer = self._answers.get(instance.id)
            bed = DockerTestbed(self._yard, instance, image, answer.row if answer else "")
            try:
                yield bed
            finally:
                await uninterrupted(bed.aclose())


class DockerTestbed:
    """One image that is held: `ports.Testbed`."""

    def __init__(self, yard: _Yard, instance: Instance, image: Image, row: str) -> None:
        """Start nothing. `row` is "" where nothing is to be graded."""
        self._yard = yard
        self._instance = instance
        self._image = image
        self._row = row
        self._scratch = Scratch()
        self._used: set[str] = set()
        self._tree: Tree | None = None
        self._copying = asyncio.Lock()
        self._copies = itertools.count()

    async def tree(self) -> Tree:
        """Return the files of /testbed; they are copied once, and not kept in memory once patches are graded."""
        async with self._copying:
            if self._tree is None:
                top = self._scratch.file(f"tree{next(self._copies)}")
                instance, image, client = self._instance, self._image.id, self._yard.client
                self._tree = await asyncio.to_thread(lambda: copy_tree(client, image, instance, top))
            return self._tree

    def opening(self, snapshot: Snapshot) -> Opening | NoBench:
        """Return how the tests are run. Where the image lacks pytest, one is derived from it when the bench opens."""
        harness = harness_of(snapshot, self._yard.settings.test_command)
        settings = self._yard.settings

        async def open_bench(watch: Watch) -> Bench | NoBench:
            watch(PhaseStarted(Phase.ENVIRONMENT))
            try:
                ready = await self._ready(harness.runner, watch)
            except BuildFailed as error:
                return NoBench(str(error))
            own = ready.harness(harness)
            return Bench(
                self._yard.sandbox, ready.place, own, snapshot, watch, settings.limits(), settings.case_seconds
            )

        return Opening(harness, open_bench)

    async def grade(self, diff: bytes) -> Grade:
        """Let the official harness grade a patch."""
        if not self._row:
            raise GradingFailed(f"There is no row of {printable(self._instance.id)} to grade by: see the dataset.")
        self._tree = None  # many wait here for the grader, and a tree has tens of megabytes
        return await self._yard.grader.grade(self._row, diff)

    async def aclose(self) -> None:
        """Remove the copies of the tree."""
        for image in self._used:
            self._yard.users[image] -= 1
            if not self._yard.users[image]:
                await self._yard.sandbox.forget(image)
        await asyncio.to_thread(self._scratch.close)

    async def _ready(self, runner: Runner, watch: Watch) -> Activated:
        """Return how tests are run in the image. Raises `BuildFailed` where they cannot be started."""
        yard = self._yard
        found = await self._activated(self._image.id, runner)
        if not found.problem:
            return found
        if runner is not Runner.PYTEST:
            raise _unstartable(self._instance, found.problem)
        watch(Note(f"The image of {printable(self._instance.id)} has no pytest: it is installed in a copy of it."))
        name, derived = await yard.deriver.with_pytest(self._image, found.environment.python, self._instance.created)
        await yard.images.note_derived(self._instance.image, name)
        found = await self._activated(derived, runner)
        if found.problem:
            raise _unstartable(self._instance, found.problem)
        return found

    async def _activated(self, image: str, runner: Runner) -> Activated:
        if image not in self._used:
            self._used.add(image)
            self._yard.users[image] += 1
        return await activated(self._yard.sandbox, image, runner, self._yard.settings.limits())


def _unstartable(instance: Instance, problem: str) -> BuildFailed:
    return BuildFailed(
        f"The tests of {printable(instance.id)} cannot be started in its image ({problem}): the vote decides; "
        "--test-cmd may name another way."
    )
