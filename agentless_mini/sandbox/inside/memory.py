"""How much the box uses of memory: its processes and the file systems that are kept in memory.

It is a look from time to time, not a limit: between two looks more can be used. What is neither mapped nor in a file
system that can be seen (a memfd, a detached System V segment) is not counted. Where the box has a control group the
kernel counts all of it, and this only tells in time and by name what happened.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from agentless_mini.sandbox.inside.processes import fellows

if TYPE_CHECKING:
    from agentless_mini.sandbox.inside.wire import Message

PAGE = os.sysconf("SC_PAGE_SIZE")
INODE = 1024  # bytes of the kernel's memory, about
COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def kills() -> int:
    """Return how many processes the kernel has ended in this control group for want of memory."""
    for path in COUNTERS:
        with suppress(OSError), open(path) as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


def exceeds(limit: int, places: list[str]) -> bool:
    """Return whether the other processes and the file systems at `places` use more than `limit` bytes."""
    files = sum(map(stored, places))
    resident = {pid: size(pid) for pid in map(str, fellows())}
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


def size(pid: str) -> int:
    """Return the resident size of a process."""
    with suppress(OSError), open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * PAGE
    return 0


def proportional(pid: str, most: int) -> int:
    """Return the size of a process with its part of what it shares, or `most` where that is not to be known."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return most
