"""What boxes need of the machine they run on: how many fit it, which run owns what, and a temporary folder for trees.

An owner is a process. Its number says little; with the boot, the time of its birth and its process namespace it names
one process for good, so that a later run can remove what a dead one left. Another machine's or namespace's processes
are never judged.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentless_mini.domain import BoxLimits, JobResult
from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.model.process_table import find_process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LABEL = "amini"
OWNER = "amini.owner"
MEMORY_SHARE = 0.8
"""Of the memory that is free; the rest is for the run itself and whatever else the machine does."""
_PREFIX = "amini-trees-"


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
