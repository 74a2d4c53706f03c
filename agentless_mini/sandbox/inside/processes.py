"""The runner as a process, and the end of all others in its box."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


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


def kill_all() -> None:
    """End every other process of the box and collect them: when it returns there is none."""
    while True:
        with suppress(ProcessLookupError):
            if alone():
                os.kill(-1, signal.SIGKILL)  # in one go: no fork escapes it
            else:
                kill_descendants()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def kill_descendants() -> None:
    """End what this process started and what that started."""
    for pid in descendants():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


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
