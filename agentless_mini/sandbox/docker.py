"""Runs jobs in Docker containers, a fresh one for each, through the Docker SDK.

What is guaranteed, as far as the kernel and the daemon keep their word:

* No network but a loopback of its own; no capability; no new privilege; the daemon's seccomp profile; not root, unless
  the environment asks for it (root without capabilities then, who can still read what root may read in the image).
* Nothing of this machine is mounted. The image cannot be written. What a job writes lies in memory, has a size, and
  is gone with the container: nothing reaches the next box.
* Memory (files and all processes together, no swap), processes and CPU time are limited by control groups. A step
  ends at its time limit with all processes that it started, whatever session they are in; the container ends at its
  own. If this process dies, the container ends by itself; `sweep` removes what is left of it.
* A step's status and time are measured by a process that no step can end, trace or write to (see `inside.runner`).
  Output is bounded while it is read, and nothing of it is believed.

What is not:

* A kernel or daemon with a hole. This is a container, not a virtual machine.
* A test's word about itself: what runs in the process of the tests can make that process exit with 0 and write any
  result file of its own step. It cannot do so for another step that starts later with its own files put there, unless
  that one runs code of the tree, which a patch may have changed: a patch can always fail or pass itself.
* Fairness: a box may use all of its limits for all of its time, and slow down its neighbours (caches, disk).
* CPU time or memory of the daemon, which copies the tree in.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agentless_mini.domain import BoxLimits, ImageTree, Job, JobResult
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.containers import Container, remove, require_daemon, settings, translated
from agentless_mini.sandbox.host import (
    LABEL,
    OWNER,
    Scratch,
    boxes_for,
    is_dead,
    myself,
    sweep_scratch,
    uninterrupted,
)
from agentless_mini.sandbox.images import build_settings, commit, folder_archive, require_image
from agentless_mini.sandbox.packs import Pack, pack_tar
from agentless_mini.sandbox.wire import Hear, Room, rlimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

T = TypeVar("T")

_NEEDED = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "CPU time"}
ANSWERING = 120
"""Seconds that the daemon may take to answer."""
_STEADY = 3
"""Threads beside those that boxes occupy, so that there is always one to abort a box from."""


class DockerSandbox:
    """Boxes of a Docker daemon, at most `boxes` at once. See the module for what they keep in."""

    def __init__(self, client: "DockerClient", packs: Mapping[str, Pack], boxes: int) -> None:
        """Use a client that answers (`connect`). `packs` has the trees by digest; it may grow later."""
        self._client = client
        self._packs = packs
        self._slots = asyncio.Semaphore(boxes)
        self._threads = ThreadPoolExecutor(boxes + _STEADY, thread_name_prefix="amini-box")
        self._owner = myself()
        self._scratch = Scratch()
        self._trees: dict[tuple[str, str], asyncio.Task[Pack]] = {}
        self._volumes: dict[str, list[str]] = {}

    async def run(self, job: Job) -> JobResult:
        """Run a job in a fresh container, as `ports.Sandbox` says."""
        pack = await self._pack(job)
        async with self._slots:
            volumes = await self._in_thread(lambda: self._volumes_of(job.environment.identity))
            asked = settings(job, job.tree.folder, volumes, self._owner)
            container = Container(self._client, asked)
            room = Room(folder=job.tree.folder, rlimits=rlimits(job))
            return await self._to_the_end(container, lambda: container.serve(job, pack, room))

    async def build(
        self, job: Job, name: str, path: str, is_worth: "Callable[[JobResult], bool]", hear: Hear | None = None
    ) -> tuple[JobResult, str]:
        """Run a job in a container that has a network and can be written, and make an image of it.

        The image gets the name, with its tag, and the PATH. Return what came of the job and the id of the image, ""
        where the result was not worth keeping it. `hear` follows what the job prints, from another thread. Raises as
        `run`; when it is cancelled, the container is removed before it returns.
        """
        pack = await self._pack(job)
        base = await self._in_thread(lambda: require_image(self._client, job.environment.identity))
        asked = build_settings(settings(job, job.tree.folder, list(base.volumes), self._owner))
        container, image = Container(self._client, asked), ""

        def keep(number: str, result: JobResult) -> None:
            nonlocal image
            if is_worth(result):
                image = commit(self._client, number, base, name, path)

        room = Room(folder=job.tree.folder, rlimits=rlimits(job), hear=hear)
        result = await self._to_the_end(container, lambda: container.serve(job, pack, room, keep))
        return result, image

    async def forget(self, image: str) -> None:
        """Remove the copies of trees that came out of an image. No job on it may be running or waiting."""
        tasks = [self._trees.pop(key) for key in sorted(self._trees) if key[0] == image]
        for pack in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(pack, Pack):
                await self._in_thread(partial(pack.body.unlink, missing_ok=True))

    async def sweep(self) -> None:
        """Remove the containers and copies of trees of runs that are dead. Raises `EnvironmentFailed`."""
        sweep_scratch()
        await self._in_thread(lambda: sweep(self._client))

    async def aclose(self) -> None:
        """Let go of threads, connections and copies of trees. No job may be running."""
        for task in self._trees.values():
            task.cancel()
        self._threads.shutdown()
        self._scratch.close()
        self._client.close()

    async def _to_the_end(self, container: Container, serve: "Callable[[], JobResult]") -> JobResult:
        """Wait for a container; when this is cancelled, end it and wait until it is removed."""
        serving = asyncio.ensure_future(self._in_thread(serve))
        try:
            return await asyncio.shield(serving)
        except asyncio.CancelledError:
            aborting = asyncio.ensure_future(self._in_thread(container.abort))
            await uninterrupted(asyncio.gather(aborting, serving, return_exceptions=True))
            raise

    async def _in_thread(self, work: "Callable[[], T]") -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _volumes_of(self, image: str) -> list[str]:
        """Return the folders for which the image wants volumes: unlimited places to write, were they granted."""
        if image not in self._volumes:
            self._volumes[image] = list(require_image(self._client, image).volumes)
        return self._volumes[image]

    async def _pack(self, job: Job) -> Pack:
        if isinstance(job.tree, ImageTree):
            key = (job.environment.identity, job.tree.folder)
            if key not in self._trees or _failed(self._trees[key]):
                self._trees[key] = asyncio.ensure_future(self._in_thread(lambda: self._copy_out(*key)))
            return await asyncio.shield(self._trees[key])
        if job.tree.digest not in self._packs:
            raise EnvironmentFailed(f"There is no tree {job.tree.digest} to put into a box: pack it first.")
        return self._packs[job.tree.digest]

    def _copy_out(self, image: str, folder: str) -> Pack:
        """Copy a folder out of the image."""
        name = self._scratch.file(hashlib.sha256(f"{image} {folder}".encode()).hexdigest())
        archive = name.with_suffix(".tar")
        with folder_archive(self._client, image, folder) as chunks, archive.open("wb") as file:
            file.writelines(chunks)
        try:
            return pack_tar(archive, name)
        finally:
            archive.unlink()


def _failed(task: "asyncio.Task[Pack]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def connect(boxes: int, seconds: int = ANSWERING) -> "DockerClient":
    """Return a client for the daemon that the user's environment names, for so many boxes at once.

    The daemon may take `seconds` to answer. Raises `EnvironmentFailed` where none answers, or it cannot limit what a
    box uses.
    """
    import docker

    require_daemon()
    with translated():
        client = docker.from_env(max_pool_size=2 * boxes + _STEADY, timeout=seconds)
    try:
        with translated():
            found = client.info()
        lacking = [name for key, name in _NEEDED.items() if found.get(key) is False]
        if lacking:
            raise EnvironmentFailed(
                f"This Docker daemon cannot limit {', '.join(lacking)}: see what `docker info` warns of, or use "
                "--sandbox local."
            )
    except BaseException:
        client.close()
        raise
    return client


def capacity(client: "DockerClient", limits: BoxLimits) -> int:
    """Return how many boxes with these limits fit the daemon's machine. Raises `EnvironmentFailed`."""
    with translated():
        found = client.info()
    return boxes_for(int(found["NCPU"]), int(found["MemTotal"]), limits)


def sweep(client: "DockerClient") -> int:
    """Remove the containers of runs that are dead, and return how many. Raises `EnvironmentFailed`."""
    with translated():
        listed = client.api.containers(all=True, filters={"label": f"{LABEL}=1"})
        dead = [found["Id"] for found in listed if is_dead(found["Labels"].get(OWNER, ""))]
        return sum(remove(client, container) for container in dead)
