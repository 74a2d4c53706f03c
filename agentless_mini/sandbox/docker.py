"""Runs jobs in Docker containers, a fresh one for each, through the Docker SDK.

What is guaranteed beside what every sandbox does:

* The daemon's seccomp profile and our `filter`; a session keyring of its own; not root, unless the environment asks for
  it (root without capabilities then, who can still read what root may read in the image).
* Nothing of this machine is mounted. The image cannot be written. What a job writes lies in memory.
* Memory (files and all processes together, no swap), processes and CPU time are limited by control groups. If this
  process dies, the container ends by itself; `sweep` removes what is left of it.

What is not: the CPU time and memory of the daemon, which copies the tree in, are not limited.
"""

import asyncio
import hashlib
import math
import re
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentless_mini.domain import (
    BoxLimits,
    BoxUser,
    Ending,
    Environment,
    ImageTree,
    Job,
    JobResult,
    PackedTree,
    starting,
)
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.sandbox.daemon import (
    STEADY,
    commit,
    engine,
    folder_archive,
    remove,
    require_image,
    sweep,
    translated,
)
from agentless_mini.sandbox.filter import filter_of_namespaces
from agentless_mini.sandbox.host import LABEL, OWNER, Scratch, myself, program, sweep_scratch, to_the_end
from agentless_mini.sandbox.wire import Hear, Pack, Room, Transcript, compose, converse, last_line, pack_tar, too_slow

if TYPE_CHECKING:
    from docker import DockerClient

T = TypeVar("T")
NOBODY = 65534
SHM = 64 * 1024 * 1024
_RUNNER_MEMORY = 64 * 1024 * 1024
"""Bytes for the runner, so that what a job may use is what its limits say."""
_WORDS_LIMIT = 4096
_STDOUT = 1
_PROXY = "/dev/amini-proxy"  # in a file system of the container that no image keeps
_NOT_REACHED = ("the proxy cannot be reached", "bind source path")  # by the runner, and the daemon
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied|exec format error")
_FOR_BUILDS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID")


class DockerSandbox:
    """Boxes of a Docker daemon, at most `boxes` at once. See the module for what they keep in."""

    def __init__(self, client: "DockerClient", packs: Mapping[str, Pack], boxes: int) -> None:
        """Use a client that answers (`connect`). `packs` has the trees by digest; it may grow later."""
        self._client = client
        self._packs = packs
        self._slots = asyncio.Semaphore(boxes)
        self._threads = ThreadPoolExecutor(boxes + STEADY, thread_name_prefix="amini-box")
        self._scratch = Scratch()
        self._trees: dict[tuple[str, str], asyncio.Task[Pack]] = {}
        self._volumes: dict[str, tuple[str, ...]] = {}

    async def run(self, job: Job) -> JobResult:
        """Run a job in a fresh container, as `ports.Sandbox` says."""
        pack, image = await self._pack(job), job.environment.identity
        async with self._slots:
            if image not in self._volumes:
                self._volumes[image] = (await self._in_thread(lambda: require_image(self._client, image))).volumes
            return await self._serve(job, pack, asked_for(job, self._volumes[image]))

    async def build(
        self, job: Job, name: str, path: str, is_worth: "_Worth", hear: Hear | None = None, proxy: str | None = ""
    ) -> tuple[JobResult, str]:
        """Run a job in a container that can be written, and make an image of it.

        The image gets the name, with its tag, and the PATH. Return what came of the job and the id of the image, ""
        where the result was not worth keeping it. `hear` follows what the job prints, from another thread. By `proxy`
        the container has its network (see `host.Box`), with "" none, with None that of the daemon. Raises as `run`;
        when it is cancelled, the container is removed before it returns.
        """
        pack, image = await self._pack(job), ""
        base = await self._in_thread(lambda: require_image(self._client, job.environment.identity))

        def keep(number: str, result: JobResult) -> None:
            nonlocal image
            if is_worth(result):
                image = commit(self._client, number, base, name, path)

        result = await self._serve(job, pack, asked_for(job, base.volumes, builds=True, proxy=proxy), hear, keep)
        return result, image

    async def reaches(self, environment: Environment, proxy: str) -> bool:
        """Return whether a container reaches a proxy by its socket on this machine. Raises `EnvironmentFailed`."""
        job = Job(environment, PackedTree(""), (), (), BoxLimits())
        try:
            await self._serve(job, Pack("", (), Path("/dev/null")), asked_for(job, (), builds=True, proxy=proxy))
        except EnvironmentFailed as error:
            if not any(words in str(error) for words in _NOT_REACHED):
                raise
            return False
        return True

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

    async def _serve(
        self, job: Job, pack: Pack, asked: dict[str, Any], hear: Hear | None = None, done: "_Done | None" = None
    ) -> JobResult:
        container = _Container(self._client, asked)
        proxy = _PROXY if asked["HostConfig"]["Mounts"] else ""
        room = Room(job.tree.folder, hear=hear, filter=filter_of_namespaces(), proxy=proxy)
        return await to_the_end(self._threads, lambda: container.serve(job, pack, room, done), container.abort)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _pack(self, job: Job) -> Pack:
        if isinstance(job.tree, ImageTree):
            key = (job.environment.identity, job.tree.folder)
            made = self._trees.get(key)
            if made is None or (made.done() and (made.cancelled() or made.exception() is not None)):
                self._trees[key] = asyncio.ensure_future(self._in_thread(lambda: self._copy_out(*key)))
            return await asyncio.shield(self._trees[key])
        if job.tree.digest not in self._packs:
            raise EnvironmentFailed(f"There is no tree {job.tree.digest} to put into a box: pack it first.")
        return self._packs[job.tree.digest]

    def _copy_out(self, image: str, folder: str) -> Pack:
        name = self._scratch.file(hashlib.sha256(f"{image} {folder}".encode()).hexdigest())
        archive = name.with_suffix(".tar")
        with folder_archive(self._client, image, folder) as chunks, archive.open("wb") as file:
            file.writelines(chunks)
        try:
            return pack_tar(archive, name)
        finally:
            archive.unlink()


def asked_for(job: Job, volumes: tuple[str, ...], *, builds: bool = False, proxy: str | None = "") -> dict[str, Any]:
    """Return what the daemon is asked to create, as the Engine's API has it.

    For a test: no network, no capability, no new privilege, a user without rights, a root that cannot be written, and
    no place to write but file systems in memory with a size: the tree, /tmp, /dev/shm, and what the image calls
    volumes.

    For what `builds`, packages come from the network and are installed as root: it has the socket of a `proxy`, or with
    None the daemon's default network, its system can be written, and it has those capabilities that package managers
    need. It has nothing else of this machine, its limits on memory, processes and time, and no new privileges.
    """
    limits = job.limits
    inodes = max(16384, limits.disk // 4096)
    user = NOBODY if job.environment.user is BoxUser.NOBODY else 0
    # Owned by the user: over a folder that the image has, runc sets that folder's permissions.
    place = f"rw,exec,nosuid,nodev,mode=1777,uid={user},gid={user},size={limits.disk},nr_inodes={inodes}"
    memory = limits.memory + _RUNNER_MEMORY
    return {
        "Image": job.environment.identity,
        "Entrypoint": [*starting(job.environment.python), "-I", "-S", "-c", program()],
        "Cmd": [],
        "User": f"{user}:{user}",
        "WorkingDir": "/",
        "Hostname": "box",
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {LABEL: "1", OWNER: myself()},
        "HostConfig": {
            "NetworkMode": "none" if proxy is not None else "default",
            "Mounts": [{"Type": "bind", "Source": proxy, "Target": _PROXY, "ReadOnly": True}] if proxy else [],
            "CapDrop": ["ALL"],
            "CapAdd": _FOR_BUILDS if builds else (),
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": not builds,
            "Tmpfs": dict.fromkeys([*volumes, job.tree.folder, "/tmp"], place),  # noqa: S108 - the box's own
            "ShmSize": SHM,
            "IpcMode": "private",
            "PidsLimit": limits.pids + 1,
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": math.ceil(limits.cpus * 1e9),
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
        },
    }


_Worth = Callable[[JobResult], bool]
_Done = Callable[[str, JobResult], None]
"""Told the id of a container when its job is done, and what came of it."""


class _Container:
    """A box for one job. `serve` is called once, from a thread; `abort` from any other."""

    def __init__(self, client: "DockerClient", asked: dict[str, Any]) -> None:
        self._client, self._api = client, engine(client)
        self._asked = asked
        self._id = ""
        self._aborted = threading.Event()

    def serve(self, job: Job, pack: Pack, room: Room, done: _Done | None) -> JobResult:
        """Create the container, do the job in it and remove it. Raises `EnvironmentFailed`.

        `done` is called before it is removed, unless it was aborted.
        """
        with translated():
            try:
                result = self._serve(job, pack, room)
                if done and not self._aborted.is_set():
                    done(self._id, result)
                return result
            finally:
                if self._id:
                    remove(self._client, self._id)

    def abort(self) -> None:
        """End the box at once: `serve` returns soon after."""
        self._aborted.set()
        self._kill()

    def _serve(self, job: Job, pack: Pack, room: Room) -> JobResult:
        self._id = self._api.create_container_from_config(self._asked)["Id"]
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        line = self._api.attach_socket(self._id, params=params)
        transcript, words = Transcript(job, room.hear), bytearray()
        try:
            # docker-py hands out a file object over the socket where there is no TLS, the socket itself where there is
            with closing(getattr(line, "_sock", line)) as talking:
                if self._aborted.is_set():  # one that is never started would be listened to until its time is over
                    return transcript.result(Ending.NOT_RUN)
                self._start()
                if self._aborted.is_set():  # it came when there was nothing to kill yet
                    self._kill()
                sent = compose(job, pack, room)
                ending = converse(talking, sent, transcript, job.limits.seconds, lambda data: _output(data, words))
        finally:
            # The response owns the file object, which docker-py keeps alive by it.
            getattr(line, "_response", line).close()
        if transcript.complete:
            return transcript.result(ending)
        self._kill()
        state = self._api.inspect_container(self._id)["State"]
        if transcript.ready:
            return transcript.result(Ending.OUT_OF_MEMORY if state.get("OOMKilled") else ending)
        if ending is Ending.TIMED_OUT:
            raise too_slow()
        reason = printable(state.get("Error") or "") or last_line(bytes(words)) or f"status {state.get('ExitCode')}"
        raise EnvironmentFailed(
            f"A box cannot be set up in the image ({reason}): it needs Python 3.7 or newer, with ctypes; add one to "
            "it, or name another image."
        )

    def _start(self) -> None:
        from docker.errors import APIError

        try:
            self._api.start(self._id)
        except APIError as error:
            said = printable(str(error.explanation or error))
            if not _NO_PROGRAM.search(said):
                raise
            python = printable(self._asked["Entrypoint"][0])
            raise EnvironmentFailed(
                f"A box cannot be set up in the image (it has no {python} that starts): it needs Python 3.7 or newer, "
                "with ctypes; add one to it, or name another image."
            ) from error

    def _kill(self) -> None:
        from docker.errors import APIError

        if self._id:
            with suppress(APIError):  # it has ended, or not begun
                self._api.kill(self._id)


def _output(received: Iterator[bytes], words: bytearray) -> Iterator[bytes]:
    """Yield the standard output out of the frames of a container's streams; the last of its errors goes to `words`."""
    waiting = b""
    for data in received:
        waiting += data
        while len(waiting) >= 8 and len(waiting) >= 8 + (size := struct.unpack(">xxxxI", waiting[:8])[0]):
            stream, body, waiting = waiting[0], waiting[8 : 8 + size], waiting[8 + size :]
            if stream == _STDOUT:
                yield body
            else:
                words[:] = (words + body)[-_WORDS_LIMIT:]
