"""The processes of this machine (who is alive, whose child, since when), and the guard that ends a family of them.

Numbers are used again: a process is known by its number and its birth, and is sent no signal on its number alone.

The guard stands above a model server, so that none outlives the run that started it: `python -m
agentless_mini.model.process_table COMMAND...` with a pipe on its standard input. A byte from the run says that the
server may stay for good, the end of the pipe without one that the run is gone, however it went, and the server is
stopped.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.errors import EnvironmentFailed, boundary

PAUSE = 0.05
PROC = Path("/proc")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What the guard is asked to do, the server is."""
KEEP = b"k"
"""Written by the run once the server is to outlive it."""
GRACE = 10.0
"""Seconds that a server whose run is gone has to stop."""
REMAINDER_GRACE = 2.0
"""Seconds that the processes left by a server that ended have to do so too."""
PS = ("/bin/ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,lstart=")


@dataclass(frozen=True, slots=True)
class Process:
    """A living process. `birth` is the system's own notation of when it began, to be compared and nothing else."""

    pid: int
    parent: int
    group: int
    birth: str


def processes() -> dict[int, Process]:
    """Return the living processes by number; those that ended and wait to be collected are left out."""
    found = from_proc() if (PROC / "self" / "stat").exists() else from_ps()
    return {process.pid: process for process in found}


def find_process(pid: int) -> Process | None:
    """Return the living process with this number, None where there is none."""
    return processes().get(pid)


def is_alive(process: Process) -> bool:
    """Return whether the process lives, itself and not another under the same number."""
    now = find_process(process.pid)
    return now is not None and now.birth == process.birth


class Family:
    """A group's leader, the group, and all that its members started, groups of their own too.

    A member that outlives its parent stays one once it was seen, so make the family before anything is ended.
    """

    def __init__(self, leader: Process, spared: frozenset[int] = frozenset()) -> None:
        """Begin with the leader of the group, and leave the `spared` numbers out of all that is asked and done."""
        self._group = leader.pid
        self._spared = spared
        self._births = {leader.pid: leader.birth}
        self.alive()

    def alive(self) -> tuple[int, ...]:
        """Return the numbers of the members that live now, ascending."""
        table = processes()
        living = {pid for pid, birth in self._births.items() if pid in table and table[pid].birth == birth}
        found = living | {process.pid for process in table.values() if process.group == self._group}
        while found:
            living |= found
            found = {process.pid for process in table.values() if process.parent in living} - living
        self._births.update((pid, table[pid].birth) for pid in living)
        return tuple(sorted(living - self._spared))

    def wait(self, seconds: float) -> tuple[int, ...]:
        """Wait until no member lives, `seconds` at most; return those that still do."""
        deadline = time.monotonic() + seconds
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(PAUSE)
        return left

    def kill(self) -> None:
        """End the members that live now without asking them."""
        for pid in self.alive():
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(pid, signal.SIGKILL)


def from_proc() -> tuple[Process, ...]:
    """Read the table from Linux's /proc; the birth is the boot's identity and the clock ticks since then."""
    boot = _read(PROC / "sys" / "kernel" / "random" / "boot_id").strip()
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and (stat := _read(folder / "stat")):
            state, parent, group, *others = stat.rpartition(")")[2].split()
            if state not in "ZX":
                found.append(Process(int(folder.name), int(parent), int(group), f"{boot}/{others[16]}"))
    return tuple(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended between the listing and now
        return ""


def from_ps() -> tuple[Process, ...]:
    """Read the table from `ps`, where there is no /proc; the birth is a time of day, to the second."""

    def refused(error: BaseException) -> EnvironmentFailed:
        advice = "install it (package procps), or start the model server yourself and pass --base-url"
        return EnvironmentFailed(f"The program ps cannot be run ({error}): {advice}.")

    with boundary({OSError: refused, subprocess.SubprocessError: refused}):
        done = subprocess.run(PS, env={"LC_ALL": "C"}, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    rows = (line.split(None, 4) for line in done.stdout.splitlines())
    return tuple(
        Process(int(pid), int(parent), int(group), birth.strip())
        for pid, parent, group, state, birth in rows
        if state[0] not in "ZX"
    )


def main() -> int:
    """Guard the command of the arguments, and return its exit code as a shell would give it."""
    if sys.platform == "linux":  # become the parent of whatever below this process loses its own
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    myself = processes()[os.getpid()]
    family = Family(myself, spared=frozenset({myself.pid}))
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # those that come before there is a child wait for it
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, preexec_fn=_begin_as_child)  # noqa: S603 - the run's own argument list
    for kind in PASSED_ON:
        signal.signal(kind, lambda number, _frame: child.send_signal(number))
    threading.Thread(target=_watch, args=(child, family), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = child.wait()
    family.wait(REMAINDER_GRACE)
    family.kill()
    return code if code >= 0 else 128 - code


def _begin_as_child() -> None:
    """Hear signals again, and be asked to stop where the guard is killed, which then can ask nobody."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _watch(child: subprocess.Popen[bytes], family: Family) -> None:
    """End the family once the run is gone, unless it said that the server may stay."""
    if os.read(sys.stdin.fileno(), 1) != KEEP:
        child.terminate()
        family.wait(GRACE)
        family.kill()


if __name__ == "__main__":
    sys.exit(main())
