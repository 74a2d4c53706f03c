"""Testbeds on this machine's Docker: images of instances that are held, and how tests are run in them.

All testbeds share one sandbox; containers start from the image itself, so that what was built in it is there. An image
has its Pythons in the way that SWE-bench lays them out (see `environment.activated`), and what its evaluation scripts
call, which is not pytest everywhere: where it is missing it is installed in a derived image.
"""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agentless_mini.chain.session import Boxes, NoBoxes, Opening
from agentless_mini.domain import (
    MIB,
    BoxLimits,
    BoxUser,
    Environment,
    ImageTree,
    Job,
    Note,
    Phase,
    PhaseStarted,
    Place,
    Runner,
    Snapshot,
    Step,
)
from agentless_mini.domain.sampling import canonical_json
from agentless_mini.environment.activated import ACTIVATE, PLAIN_PATH, Activated, activate, last_line
from agentless_mini.environment.imaged import network
from agentless_mini.environment.machine import CERTIFICATES, Index, find_index
from agentless_mini.environment.proxy import open_proxy
from agentless_mini.errors import BuildFailed, GradingFailed, printable
from agentless_mini.evaluation.dataset import Instance, Solution
from agentless_mini.evaluation.images import Images, PulledImages
from agentless_mini.evaluation.ports import Grade, Testbeds
from agentless_mini.evaluation.tree import read_tree
from agentless_mini.ports import Watch
from agentless_mini.sandbox.daemon import Image, capacity, connect, daemon_name, find_image
from agentless_mini.sandbox.docker import DockerSandbox
from agentless_mini.sandbox.host import Scratch, uninterrupted
from agentless_mini.settings.run import ImageSettings, SandboxSettings
from agentless_mini.testing import harness_of

if TYPE_CHECKING:
    from docker import DockerClient

PULLED = "images"
"""The folder with the records of pulled images, one for each daemon, in that for records."""
REPOSITORY = "amini-testbed"
"""The name of derived images; the tag says what went into one."""


class GradesPatches(Protocol):
    """Who grades: the official harness, in processes of its own."""

    async def grade(self, row: str, diff: bytes) -> Grade:
        """Return what it says of a patch. `row` is the dataset's row as JSON. Raises `GradingFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How the testbeds of a machine are kept: `state` is for records, `variables` tell where packages are found."""

    images: ImageSettings
    sandbox: SandboxSettings
    state: Path
    variables: Mapping[str, str] = field(repr=False)


@asynccontextmanager
async def open_testbeds(
    settings: HostSettings, solutions: Mapping[str, Solution], grader: GradesPatches
) -> AsyncIterator[Testbeds]:
    """Give the testbeds of this machine, without the containers that dead runs left. Raises `EnvironmentFailed`."""
    async with AsyncExitStack() as stack:
        client = await asyncio.to_thread(connect, settings.sandbox.boxes or os.cpu_count() or 1)
        stack.callback(client.close)
        room = await asyncio.to_thread(capacity, client, settings.sandbox.limits())
        sandbox = DockerSandbox(client, {}, settings.sandbox.boxes or room)
        stack.push_async_callback(sandbox.aclose)
        await sandbox.sweep()
        record = PulledImages(settings.state / PULLED / await asyncio.to_thread(daemon_name, client))
        images = Images(client, settings.images, record)
        yield _DockerTestbeds(client, sandbox, images, settings, solutions, grader)


@dataclass(eq=False, slots=True)
class _DockerTestbeds:
    """`ports.Testbeds` on one Docker daemon. `users` counts the testbeds that have started containers, by image."""

    client: "DockerClient"
    sandbox: DockerSandbox
    images: Images
    settings: HostSettings
    solutions: Mapping[str, Solution]
    grader: GradesPatches
    users: Counter[str] = field(default_factory=Counter)
    deriving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def open(self, instance: Instance, watch: Watch) -> AsyncIterator["_DockerTestbed"]:
        async with self.images.held(instance.image, watch) as image:
            solution = self.solutions.get(instance.id)
            testbed = _DockerTestbed(self, instance, image, solution.row if solution else "")
            try:
                yield testbed
            finally:
                await uninterrupted(testbed.aclose())


@dataclass(eq=False, slots=True)
class _DockerTestbed:
    """One image that is held: `ports.Testbed`. `used` are the ids of images that containers were started from."""

    shared: _DockerTestbeds
    instance: Instance
    image: Image
    row: str
    used: set[str] = field(default_factory=set)

    async def tree(self) -> Snapshot:
        return await asyncio.to_thread(read_tree, self.shared.client, self.image.id, self.instance)

    def opening(self, snapshot: Snapshot) -> Opening | NoBoxes:
        """Return how the tests are run. Where the image lacks pytest, one is derived from it when they are opened."""
        settings, sandbox = self.shared.settings.sandbox, self.shared.sandbox
        command = settings.test_command or self.instance.test_command
        harness = harness_of(snapshot, command, settings.test_report)

        async def open_boxes(watch: Watch) -> Boxes | NoBoxes:
            watch(PhaseStarted(Phase.ENVIRONMENT))
            try:
                ready = await self._ready(harness.runner, watch)
            except BuildFailed as error:
                return NoBoxes(str(error))
            place = Place(ready.environment, ImageTree(self.instance.folder))
            own = replace(harness, variables=(*harness.variables, *ready.variables))
            return Boxes(sandbox, place, own, snapshot, watch, settings.limits(), settings.case_seconds)

        return Opening(harness, open_boxes)

    async def grade(self, diff: bytes) -> Grade:
        if not self.row:
            raise GradingFailed(f"There is no row of {printable(self.instance.id)} to grade by: see the dataset.")
        return await self.shared.grader.grade(self.row, diff)

    async def aclose(self) -> None:
        """Let go what the sandbox keeps of images that no other testbed uses."""
        for image in self.used:
            self.shared.users[image] -= 1
            if not self.shared.users[image]:
                await self.shared.sandbox.forget(image)

    async def _ready(self, runner: Runner, watch: Watch) -> Activated:
        """Return how tests are run in the image. Raises `BuildFailed` where they cannot be started."""
        found = await self._activated(self.image.id, runner)
        name = printable(self.instance.id)
        if found.problem and runner is Runner.PYTEST:
            watch(Note(f"The image of {name} has no pytest: it is installed in a copy of it."))
            derived, identity = await self._with_pytest(found.environment.python, watch)
            await self.shared.images.note_derived(self.instance.image, derived)
            found = await self._activated(identity, runner)
        if found.problem:
            raise BuildFailed(
                f"The tests of {name} cannot be started in its image ({found.problem}): the vote decides; --test-cmd "
                "may name another way."
            )
        return found

    async def _with_pytest(self, python: str, watch: Watch) -> tuple[str, str]:
        """Return the name and the id of the image with pytest of the tree's time. `python` starts containers of it.

        It is built once however many ask for it, with the user's package index for all its network. Raises
        `BuildFailed` where pytest cannot be installed.
        """
        shared, base, wanted = self.shared, self.image, wanted_pytest(self.instance.created)
        name = f"{REPOSITORY}:{hashlib.sha256(canonical_json(['1', base.id, wanted]).encode()).hexdigest()[:32]}"

        def note(text: str) -> None:
            watch(Note(text))

        async with shared.deriving:
            if (found := await asyncio.to_thread(find_image, shared.client, name)) is not None:
                return name, found.id
            index, hosts = find_index(shared.settings.variables), shared.settings.sandbox.build_hosts
            environment = Environment(base.id, python, BoxUser.ROOT)
            with closing(Scratch()) as scratch:
                proxy = partial(open_proxy, index, hosts, scratch.file(""), note)
                async with network(shared.sandbox, environment, index, proxy, note) as (told, door):
                    result, image = await shared.sandbox.build(
                        _installing(told, environment, wanted, ImageTree(self.instance.folder)),
                        name,
                        base.path or PLAIN_PATH,
                        lambda done: not done.refusal and done.steps[0].succeeded,
                        proxy=door,
                    )
        if image:
            return name, image
        reason = printable(result.refusal[:200]) or last_line(result.steps[0])
        raise BuildFailed(
            f"pytest could not be installed in the image ({reason}): see that a package index can be reached, or "
            "install it in the image."
        )

    async def _activated(self, image: str, runner: Runner) -> Activated:
        if image not in self.used:
            self.used.add(image)
            self.shared.users[image] += 1
        return await activate(
            self.shared.sandbox, image, ImageTree(self.instance.folder), runner, self.shared.settings.sandbox.limits()
        )


# When new major versions of pytest came. A project is written for the one of its time, and 7 is the oldest that works
# with all of Python 3.7 to 3.12.
_MAJORS = (("2024-01-27", "pytest<8"), ("2025-11-08", "pytest<9"))
_BUNDLE = ".amini-build/certificates.pem"


def wanted_pytest(day: str) -> str:
    """Return which pytest is installed for a tree of that day (ISO form), as pip has it; "" is taken for long ago."""
    return next((wanted for came, wanted in _MAJORS if day < came), "pytest")


def _installing(index: Index, environment: Environment, wanted: str, place: ImageTree) -> Job:
    variables = {**dict(index.variables()), "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_CACHE_DIR": "1"}
    if index.certificates:
        variables |= dict.fromkeys(CERTIFICATES, f"{place.folder}/{_BUNDLE}")
    command = ("bash", "-c", f"{ACTIVATE} && python -m pip install '{wanted}'")
    step = Step(command, seconds=600.0, variables=tuple(sorted(variables.items())))
    limits = BoxLimits(memory=4096 * MIB, pids=1024, disk=2048 * MIB, seconds=605.0)
    return Job(environment, place, index.placed(_BUNDLE), (step,), limits)
