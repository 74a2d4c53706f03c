"""What boxes need of the machine they run on, and boxes that are child processes of ours: bubblewrap's and Landlock's.

Of the machine: how many fit it, which run owns what, and a temporary folder for trees. An owner is a process. Its
number says little; with the boot, the time of its birth and its process namespace it names one process for good, so
that a later run can remove what a dead one left. Another machine's or namespace's processes are never judged.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentless_mini.domain import BoxLimits, Ending, Job, JobResult, PackedTree
from agentless_mini.errors import AminiError, EnvironmentFailed, Translation, boundary
from agentless_mini.model.process_table import find_process
from agentless_mini.sandbox.filter import filter_of_namespaces, join_keyring
from agentless_mini.sandbox.wire import Hear, Pack, Room, Transcript, compose, converse, last_line, too_slow

if TYPE_CHECKING:
    from collections.abc import Coroutine

LABEL = "amini"
OWNER = "amini.owner"
MEMORY_SHARE = 0.8
"""Of the memory that is free; the rest is for the run itself and whatever else the machine does."""
_PREFIX = "amini-trees-"
_INSIDE = "agentless_mini.sandbox.inside"
_BEGINNING = """
import sys, types
def load(name, text):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
"""
LEAVING = 5.0
"""Seconds that a box has to end once nobody listens to it, before it is killed."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""The folders of this machine that every box sees, read-only."""
PROXY_PORT = 3128
"""Where a box with a proxy has it, on its own loopback device."""
_MADE_UP = (0x60000000, 0x7FFFFFFF)
_WORDS = 4096
"""Bytes that are kept of what a box complained of."""

Complaint = Callable[[str], AminiError]
"""Makes the error for a box that could not be set up from the last line that it printed."""


def boxes_for(cores: int, memory: int, limits: BoxLimits) -> int:
    """Return how many boxes with these limits fit so many cores and bytes of memory, one at least."""
    return max(1, min(int(cores / limits.cpus), int(memory * MEMORY_SHARE) // limits.memory))


def boxes_here(limits: BoxLimits) -> int:
    """Return how many boxes with these limits fit this machine as it is now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            memory = int(line.split()[1]) * 1024
    return boxes_for(cores, memory, limits)


def myself() -> str:
    """Return the name of this process, as an owner."""
    process = find_process(os.getpid())
    return f"{_namespace()} {os.getpid()} {process.birth if process else ''}"


def is_dead(owner: str) -> bool:
    """Return whether the owner ended: it was a process here, and is none now."""
    namespace, _, rest = owner.partition(" ")
    number, _, birth = rest.partition(" ")
    if namespace != _namespace() or not number.isdecimal():
        return False
    process = find_process(int(number))
    return process is None or process.birth != birth


def _namespace() -> str:
    """Name the machine and, on it, the process namespace. A machine is known by its boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():  # no Linux: there is one namespace, and births distinguish boots
        return os.uname().nodename.replace(" ", "-")
    return f"{boot.read_text().strip()}/{Path('/proc/self/ns/pid').readlink()}"


def program(*, fenced: bool = False) -> str:
    """Return the Python program, as `python -I -S -c` takes it, that serves one job, with or without a fence."""
    names = ("files", "processes", *(("fence",) if fenced else ()), "runner")
    texts = ((f"{_INSIDE}.{name}", (resources.files(_INSIDE) / f"{name}.py").read_text("utf-8")) for name in names)
    loading = "".join(f"load({name!r}, {text!r})\n" for name, text in texts)
    return f"{_BEGINNING}{loading}sys.modules[{_INSIDE + '.runner'!r}].main()\n"


class Scratch:
    """A temporary folder of this run, made when it is first asked for. A later run removes it if this one is killed."""

    def __init__(self) -> None:
        """Make nothing yet."""
        self._folder: Path | None = None

    def file(self, name: str) -> Path:
        """Return the path for a file in it. Raises `EnvironmentFailed` where it cannot be made."""
        if self._folder is None:
            advice = "make room, or set TMPDIR to another place"
            failed = "No temporary folder can be made"
            with boundary({OSError: lambda error: EnvironmentFailed(f"{failed} ({error}): {advice}.")}):
                self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
                (self._folder / "owner").write_text(myself())
        return self._folder / name

    def close(self) -> None:
        """Remove it. It may be used again."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def sweep_scratch() -> None:
    """Remove the temporary folders of runs that are dead."""
    for owner in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner")):
        with contextlib.suppress(OSError):  # somebody else's, or swept by another run
            if is_dead(owner.read_text()):
                shutil.rmtree(owner.parent)


async def to_the_end(
    threads: ThreadPoolExecutor, serve: "Callable[[], JobResult]", abort: "Callable[[], None]"
) -> JobResult:
    """Serve a job in a thread; when this is cancelled, `abort` it from another one and wait until it is over."""
    loop = asyncio.get_running_loop()
    serving = loop.run_in_executor(threads, serve)
    try:
        return await asyncio.shield(serving)
    except asyncio.CancelledError:
        aborting = loop.run_in_executor(threads, abort)
        await uninterrupted(asyncio.gather(aborting, serving, return_exceptions=True))
        raise


async def uninterrupted(work: "Coroutine[Any, Any, None] | asyncio.Future[Any]") -> None:
    """Wait until it is done, however often this is cancelled meanwhile, and only then pass the cancellation on."""
    running = asyncio.ensure_future(work)
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    running.result()


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """A virtual environment on this machine, by the identity that jobs give it. Boxes see it, read-only.

    `imported` are the folders of the tree from which it is to import, where the tree lies elsewhere than in its build.
    `tools` are folders of this machine with programs in their `bin`, of another language.
    """

    identity: str
    folder: Path
    imported: tuple[str, ...] = ()
    tools: tuple[Path, ...] = ()

    @property
    def python(self) -> str:
        """Return the path of its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def behind(self) -> Path:
        """Return the interpreter that it was made from: nothing in the environment says where its library is."""
        return (self.folder / "bin" / "python").resolve()

    def prefixes(self) -> tuple[Path, ...]:
        """Return the folders that it needs: its own, and that of the Python that it was made from."""
        return tuple(dict.fromkeys((self.folder, self.behind.parent.parent, *self.tools)))


def _nobody() -> int | None:
    """Return the number of a user that nobody is, a new one for each box, where this is root.

    As root there is no user namespace: the root in it would be this machine's, without capabilities but with the files.
    """
    low, high = _MADE_UP
    return low + secrets.randbelow(high - low) if os.geteuid() == 0 else None


@dataclass(frozen=True, slots=True)
class Box:
    """A box to be made: the environment that it sees, its user, and what else of this machine it reaches.

    `proxy` is a socket by which it hands out a listener of its own, at `PROXY_PORT`, behind which is all the network
    that it has. Only a box that builds an environment has one, or folders to write or read, or is heard, or lies at a
    `folder` that was chosen before.
    """

    environment: VirtualEnvironment
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    proxy: Path | None = None
    hear: Hear | None = None
    folder: Path | None = None
    uid: int | None = field(default_factory=_nobody)

    def room(self, job: Job) -> Room:
        """Return what the runner is told of it."""
        tools = "".join(f"{folder}/bin:" for folder in self.environment.tools)
        path = f"{self.environment.folder}/bin:{tools}/usr/local/bin:/usr/bin:/bin"
        variables = {"PATH": path, "VIRTUAL_ENV": str(self.environment.folder)}
        processes = {"NPROC": job.limits.pids + 1}
        room = Room(job.tree.folder, rlimits=processes, uid=self.uid, variables=variables, hear=self.hear)
        return replace(room, filter=filter_of_namespaces(), proxy=str(self.proxy or ""))


class LocalSandbox(ABC):
    """Jobs in child processes on this machine, at most `boxes` at once. An adapter says how a box is made."""

    def __init__(self, environments: Mapping[str, VirtualEnvironment], packs: Mapping[str, Pack], boxes: int) -> None:
        """Take environments by identity and trees by digest. The mappings may grow later."""
        self._environments = environments
        self._packs = packs
        self._slots = asyncio.Semaphore(boxes)
        # A box of bubblewrap ends with the thread that started it; a thread more than boxes ends one.
        self._threads = ThreadPoolExecutor(boxes + 1, thread_name_prefix="amini-box")

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
            return await self.run_in(job, pack, Box(environment))

    @abstractmethod
    async def run_in(self, job: Job, pack: Pack, box: Box) -> JobResult:
        """Run a job with this tree in a box that is made for it. Raises `EnvironmentFailed` where it cannot be made."""

    async def serve(
        self,
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
        not_started: Translation = {OSError: lambda error: complaint(str(error))}
        with boundary(not_started):
            line, theirs = socket.socketpair()

        def work() -> JobResult:
            join_keyring()
            with theirs, boundary(not_started):
                process = subprocess.Popen(  # noqa: S603 - the program of a box
                    arguments,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    pass_fds=descriptors,
                    start_new_session=True,  # an interrupt from the keyboard is for the run, which ends its boxes
                )
            return _served(process, line, job, pack, room, complaint)

        with line:
            return await to_the_end(self._threads, work, lambda: line.shutdown(socket.SHUT_RDWR))


def _served(
    process: "subprocess.Popen[bytes]", line: socket.socket, job: Job, pack: Pack, room: Room, complaint: Complaint
) -> JobResult:
    """Talk to a box until it is done, and see that it ends."""
    transcript, words = Transcript(job, room.hear), b""

    def drain() -> None:  # a pipe that nobody reads would stop the box
        nonlocal words
        while process.stderr and (said := os.read(process.stderr.fileno(), _WORDS)):
            words = (words + said)[-_WORDS:]

    draining = threading.Thread(target=drain, daemon=True)
    with process:
        draining.start()
        try:
            ending = converse(line, compose(job, pack, room), transcript, job.limits.seconds)
        finally:
            with suppress(OSError):  # it was aborted
                line.shutdown(socket.SHUT_RDWR)
            try:
                process.wait(LEAVING)
            except subprocess.TimeoutExpired:
                process.kill()
            draining.join()  # it ends with the last process of the box
    if transcript.ready or transcript.complete:
        return transcript.result(ending)
    if ending is Ending.TIMED_OUT:
        raise too_slow()
    raise complaint(last_line(words) or f"it ended with {process.returncode}")


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

    async def run_in(self, job: Job, pack: Pack, box: Box) -> JobResult:
        """Run a job in a new folder, which is removed afterwards."""

        def complaint(words: str) -> EnvironmentFailed:
            return EnvironmentFailed(f"Steps cannot be run ({words}): see that the virtual environment's python works.")

        self._warn("The tests run without a sandbox: they can read, change and send whatever you can.")
        scratch = self._folder / f"amini-unsafe-{secrets.token_hex(8)}"
        path = f"{box.environment.folder}/bin{os.pathsep}{os.defpath}"
        room = Room(str(scratch / "tree"), str(scratch), variables={"PATH": path}, hear=box.hear)
        arguments = ("/usr/bin/env", "-i", box.environment.python, "-I", "-S", "-c", program())
        try:
            return await self.serve(arguments, job, pack, room, complaint)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # the runner does it, unless it was killed
