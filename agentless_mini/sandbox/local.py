"""What boxes on this machine share, bubblewrap's and Landlock's: a child process that serves one job.

`UnsafeLocal` is such a process without any box.
"""

import asyncio
import os
import secrets
import shutil
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import Ending, Job, JobResult, PackedTree
from agentless_mini.errors import AminiError, EnvironmentFailed, boundary
from agentless_mini.sandbox.host import uninterrupted
from agentless_mini.sandbox.inside import program
from agentless_mini.sandbox.packs import Pack
from agentless_mini.sandbox.wire import (
    PATIENCE,
    SETTING_UP,
    Garbled,
    Room,
    Transcript,
    compose,
    last_line,
    rlimits,
    too_slow,
)

NOTICING = 15.0
"""Seconds that a box has beyond its own limit, to notice that its time is over."""
LEAVING = 5.0
"""Seconds that a box has to end once its input is closed, before it is killed."""
CHUNK = 1 << 16
WORDS_LIMIT = 4096
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""The folders of this machine that every box sees, read-only."""
_MADE_UP = (0x60000000, 0x7FFFFFFF)

Complaint = Callable[[str], AminiError]
"""Makes the error for a box that could not be set up from the last line that it printed."""


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """A virtual environment on this machine, by the identity that jobs give it. Boxes see it, read-only.

    `imported` are the folders of the tree from which it is to import, where the tree lies elsewhere than in its build.
    """

    identity: str
    folder: Path
    imported: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        """Return the path of its interpreter."""
        return str(self.folder / "bin" / "python")

    def prefixes(self) -> tuple[Path, ...]:
        """Return the folders that it needs: its own, and that of the Python that it was made from."""
        behind = (self.folder / "bin" / "python").resolve().parent.parent
        return tuple(dict.fromkeys((self.folder, behind)))


@dataclass(frozen=True, slots=True)
class Box:
    """A box to be made: its room, the environment that it sees, and what else of this machine it reaches.

    `online` gives it the network of this machine: other machines, and what listens on this one. Only a box that builds
    an environment has it, or folders to write or read.
    """

    room: Room
    environment: VirtualEnvironment
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    online: bool = False


def room_for(job: Job, environment: VirtualEnvironment) -> Room:
    """Return the room of a job's box.

    As root there is no user namespace: the root in it would be this machine's, without capabilities but with the files.
    The runner becomes a user that nobody is, instead, a new one for each box.
    """
    low, high = _MADE_UP
    uid = low + secrets.randbelow(high - low) if os.geteuid() == 0 else None
    path = f"{environment.folder}/bin:/usr/local/bin:/usr/bin:/bin"
    limits = (*rlimits(job), ("NPROC", job.limits.pids + 1))
    variables = (("PATH", path), ("VIRTUAL_ENV", str(environment.folder)))
    return Room(job.tree.folder, rlimits=limits, uid=uid, variables=variables)


class LocalSandbox(ABC):
    """Jobs in child processes on this machine, at most `boxes` at once. An adapter says how a box is made."""

    def __init__(self, environments: Mapping[str, VirtualEnvironment], packs: Mapping[str, Pack], boxes: int) -> None:
        """Take environments by identity and trees by digest. The mappings may grow later."""
        self._environments = environments
        self._packs = packs
        self._slots = asyncio.Semaphore(boxes)

    async def run(self, job: Job) -> JobResult:
        """Run a job in a fresh box, as `ports.Sandbox` says."""
        if sys.platform != "linux":
            raise EnvironmentFailed("Boxes without Docker need Linux: use --sandbox docker.")
        if not isinstance(job.tree, PackedTree):
            raise EnvironmentFailed(f"The tree {job.tree.folder} is in an image: use --sandbox docker.")
        pack, environment = self._packs.get(job.tree.digest), self._environments.get(job.environment.identity)
        if pack is None:
            raise EnvironmentFailed(f"There is no tree {job.tree.digest} to put into a box: pack it first.")
        if environment is None:
            raise EnvironmentFailed(f"There is no virtual environment {job.environment.identity} here: build it first.")
        async with self._slots:
            return await self.run_in(job, pack, environment)

    @abstractmethod
    async def run_in(self, job: Job, pack: Pack, environment: VirtualEnvironment) -> JobResult:
        """Run a job in a box that is made for it, with this tree and environment."""


class UnsafeLocal(LocalSandbox):
    """No box at all: steps run as this user, with this user's files and network, and only a time limit.

    Their variables and working folder are their own, their output is bounded, and what they start is ended with them
    unless it gets away. It is for code that is trusted as much as one's own.
    """

    def __init__(
        self,
        environments: Mapping[str, VirtualEnvironment],
        packs: Mapping[str, Pack],
        boxes: int,
        folder: Path,
        warn: Callable[[str], None],
    ) -> None:
        """Put trees below `folder`, and call `warn` with a sentence before each job."""
        super().__init__(environments, packs, boxes)
        self._folder = folder
        self._warn = warn
        self._started = 0

    async def run_in(self, job: Job, pack: Pack, environment: VirtualEnvironment) -> JobResult:
        """Run a job in a new folder, which is removed afterwards."""
        self._warn("The tests run without a sandbox: they can read, change and send whatever you can.")
        self._started += 1
        scratch = self._folder / f"amini-unsafe-{os.getpid()}-{id(self)}-{self._started}"
        path = f"{environment.folder}/bin{os.pathsep}{os.defpath}"
        room = Room(str(scratch / "tree"), str(scratch), rlimits(job), variables=(("PATH", path),))
        arguments = ("/usr/bin/env", "-i", environment.python, "-I", "-S", "-c", program())
        try:
            return await serve(arguments, job, pack, room, _not_started)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # the runner does it, unless it was killed


def _not_started(words: str) -> EnvironmentFailed:
    return EnvironmentFailed(f"Steps cannot be run ({words}): see that the virtual environment's python works.")


async def serve(
    arguments: tuple[str, ...],
    job: Job,
    pack: Pack,
    room: Room,
    complaint: Complaint,
    descriptors: tuple[int, ...] = (),
) -> JobResult:
    """Start a program that serves one job over its standard streams, and end it, also when this is cancelled.

    It inherits the descriptors. Raises `EnvironmentFailed`, and what `complaint` makes.
    """
    process = await _start(arguments, descriptors, complaint)
    listening = asyncio.create_task(_last_words(process))
    sending = asyncio.create_task(_send(process, compose(job, pack, room)))
    transcript, ending = Transcript(job, room.hear), Ending.BOX_DIED
    try:
        async with asyncio.timeout(SETTING_UP) as clock:
            await _follow(process, transcript, lambda: transcript.ready)
            clock.reschedule(asyncio.get_running_loop().time() + job.limits.seconds * PATIENCE + NOTICING)
            await _follow(process, transcript, lambda: False)
    except TimeoutError:
        ending = Ending.TIMED_OUT
    except Garbled:
        pass
    finally:
        await uninterrupted(_end(process, sending, listening))
    if not transcript.ready and not transcript.complete:
        unsent = None if sending.cancelled() else sending.exception()
        late = too_slow() if ending is Ending.TIMED_OUT else None
        raise unsent or late or complaint(listening.result() or f"it ended with {process.returncode}")
    return transcript.result(ending)


async def _start(arguments: tuple[str, ...], descriptors: tuple[int, ...], complaint: Complaint) -> Process:
    creating = asyncio.create_subprocess_exec(
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=descriptors,
        start_new_session=True,  # an interrupt from the keyboard is for the run, which ends its boxes itself
    )
    starting = asyncio.ensure_future(creating)
    try:
        with boundary({OSError: lambda error: complaint(str(error))}):
            return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Killed at this moment, bubblewrap would leave a child that waits for it forever.
        await uninterrupted(_discard(starting))
        raise


async def _discard(starting: "asyncio.Future[Process]") -> None:
    with suppress(OSError):
        process = await starting
        await _end(process, asyncio.create_task(_send(process, iter(()))), asyncio.create_task(_last_words(process)))


async def _last_words(process: Process) -> str:
    """Return the last line that it printed on its standard error."""
    assert process.stderr is not None  # noqa: S101 - asked for
    words = b""
    while data := await process.stderr.read(CHUNK):
        words = (words + data)[-WORDS_LIMIT:]
    return last_line(words)


async def _send(process: Process, sent: Iterator[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for
    try:
        for chunk in sent:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except ConnectionError:  # it ended; what it said before tells why
        pass
    except AminiError:
        process.stdin.close()
        raise


async def _follow(process: Process, transcript: Transcript, enough: Callable[[], bool]) -> None:
    """Take what it says until that is enough, or all."""
    assert process.stdout is not None  # noqa: S101 - asked for
    while not transcript.complete and not enough():
        data = await process.stdout.read(CHUNK)
        if not data:
            return
        transcript.feed(data)


async def _end(process: Process, sending: "asyncio.Task[None]", listening: "asyncio.Task[str]") -> None:
    """Close its input, which ends it; kill it if not. Nothing of it is left open."""
    sending.cancel()
    await asyncio.wait([sending])
    assert process.stdin is not None  # noqa: S101 - asked for
    process.stdin.close()
    try:
        async with asyncio.timeout(LEAVING):
            await _drain(process)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await _drain(process)
    await listening


async def _drain(process: Process) -> None:
    assert process.stdout is not None  # noqa: S101 - asked for
    while await process.stdout.read(CHUNK):
        pass
    await process.wait()
