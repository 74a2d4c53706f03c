"""The processes of a box: the runner, the end of all others, and how much memory they and their files use.

Memory is looked at from time to time, which is no limit: between two looks more can be used. What is neither mapped nor
in a file system that can be seen (a memfd, a detached System V segment) is not counted. Where the box has a control
group the kernel counts all of it, and a look only tells in time and by name what happened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentless_mini.sandbox.inside.files import Message

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, NO_NEW_PRIVILEGES = 4, 22, 36, 38
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
PAGE = os.sysconf("SC_PAGE_SIZE")
INODE = 1024  # bytes of the kernel's memory, about
COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def alone() -> bool:
    """Return whether this is process 1, whose every fellow process is of its own box."""
    return os.getpid() == 1


def become(uid: int | None) -> None:
    """Give up root where it is held only to be given up, and close this process to every other."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    os.umask(0o022)
    prctl(PR_SET_DUMPABLE, 0)
    if not alone():
        prctl(PR_SET_CHILD_SUBREAPER, 1)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def refuse(program: bytes) -> None:
    """Give up for good the calls that a program for seccomp refuses. An emulator takes none."""
    held = ctypes.create_string_buffer(program, len(program))
    asked = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held))
    prctl(NO_NEW_PRIVILEGES, 1)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, 2, asked, 0, 0) and ctypes.get_errno() != errno.EINVAL:
        raise OSError(ctypes.get_errno(), "seccomp")


def kill_all() -> None:
    """End every other process of the box and collect them: when it returns there is none."""
    while True:
        with suppress(ProcessLookupError):
            if alone():
                os.kill(-1, signal.SIGKILL)  # in one go: no fork escapes it
            for pid in () if alone() else descendants():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def descendants() -> set[int]:
    """Return the numbers of the processes below this one."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    found: set[int] = set()
    more = {os.getpid()}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return found


def fellows() -> set[int]:
    """Return the numbers of all other processes of the box."""
    return {int(pid) for pid in os.listdir("/proc") if pid.isdigit()} - {os.getpid()} if alone() else descendants()


def waits() -> tuple[float, float]:
    """Return how many seconds one of them waited for a processor at most, and how many all of them had one."""
    waited, had = 0, 0
    for pid in fellows():
        with suppress(OSError, ValueError), open(f"/proc/{pid}/schedstat") as file:
            running, waiting, _ = map(int, file.read().split())
            waited, had = max(waited, waiting), had + running
    return waited / 1e9, had / 1e9


def kills() -> int:
    """Return how many processes the kernel has ended in this control group for want of memory."""
    for path in COUNTERS:
        with suppress(OSError), open(path) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


def exceeds(limit: int, places: list[str]) -> bool:
    """Return whether the other processes and the file systems at `places` use more than `limit` bytes."""
    files, resident = sum(map(stored, places)), {}
    for pid in fellows():
        with suppress(OSError), open(f"/proc/{pid}/statm") as file:
            resident[pid] = int(file.read().split()[1]) * PAGE
    # What processes share is counted for each of them here, which is quick and mostly enough.
    if files + sum(resident.values()) <= limit:
        return False
    return files + sum(proportional(pid, most) for pid, most in resident.items()) > limit


def stored(place: str) -> int:
    """Return what lies in the file system at a folder."""
    with suppress(OSError):
        found = os.statvfs(place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize + (found.f_files - found.f_ffree) * INODE
    return 0


def overflows(place: str, fence: Message) -> bool:
    """Return whether more than `disk` bytes lie below a folder of a file system that others use, too.

    It is only gone through where so much more is in use than when it was last, which is noted in `used`.
    """
    used = stored(place)
    if used - fence["used"] <= fence["disk"]:
        return False
    own = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):
                own += os.lstat(os.path.join(folder, name)).st_blocks * 512 + INODE
    fence["used"] = used - own
    return own > int(fence["disk"])


def proportional(pid: int, most: int) -> int:
    """Return the size of a process with its part of what it shares, or `most` where that is not to be known."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return most
