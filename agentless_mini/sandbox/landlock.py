"""Runs jobs on this machine where no namespace can be made: in containers, where a system or its AppArmor refuses them.

Landlock says which files a step sees, seccomp which calls it makes, and `inside.fence` makes those calls whose
arguments must be checked first. What is guaranteed beside what every sandbox does:

* Of this machine's files a step can read /usr and the like, what of /etc its user may, a little of /proc, the virtual
  environment and its Python. It can write those of its box alone: a private copy of the tree, and a folder for HOME,
  TMPDIR and /dev/shm, removed at the end.
* Of the network it has what listens in the box itself (TCP, at an address of its own on the loopback device; sockets by
  path). No signal to, no memory, variable or descriptor of any process outside. As root, a user number that nobody else
  has.

What is not, beside what `bubblewrap` says of memory, CPU time and the kernel:

* A step sees the names, sizes and times of all files that the user can reach, the settings in /etc, the processors and
  the load of the machine. /tmp is the machine's: a test that writes there by that name fails. There are no terminals.
* The disk is watched, as memory is: a box can exceed its limit for a twentieth of a second before it is ended, and
  other users of the disk slow the watch.
* Other users and boxes of this machine can connect to the ports at which a box listens, but are not told them.
* Threads are limited by the user's count at the start of the box, which others' change. As root it is exact.
* Without root, a box runs under the user's own number: a hole in Landlock is a hole to the user's files. Files that
  can be read can be locked.
* If the runner itself is killed from outside, what it ran may go on without it.
"""

import base64
import ctypes
import errno
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agentless_mini.domain import Job, JobResult
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox import filter as kernel
from agentless_mini.sandbox.host import PROXY_PORT, SYSTEM, Box, LocalSandbox, VirtualEnvironment, program
from agentless_mini.sandbox.wire import Pack, Room

TREE = "tree"
"""Where a box has the tree, in its folder."""
OLDEST, SCOPED = 2, 6
"""The versions of Landlock that know files moved between folders, and signals."""
_READ = 1 | 1 << 2 | 1 << 3  # execute, read files, list folders
_USE = 1 << 1 | 1 << 2
_NO_DEVICES = ~(1 << 6 | 1 << 11 | 1 << 15)
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PROC = ("cpuinfo", "meminfo", "stat", "version", "uptime", "loadavg", "filesystems", "sys", "self")
_MORE = ("/etc", "/sys/devices/system")  # programs that look into a file of /etc expect none or one that can be read
_SLACK = 32  # threads that the user may start elsewhere meanwhile
_THREAD, _FAST_OPEN = 0x00010000, 0x20000000
_CALLS = kernel.numbers(
    """clone 56 220, fork 57 -1, vfork 58 -1, kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138,
    rt_tgsigqueueinfo 297 240, socket 41 198, socketpair 53 199, bind 49 200, connect 42 203, sendto 44 206,
    sendmsg 46 211, sendmmsg 307 269, openat 257 56, open 2 -1, link 86 -1, linkat 265 37, unlink 87 -1,
    unlinkat 263 35, chmod 90 -1, fchmod 91 52, fchmodat 268 53, utimensat 280 88, fcntl 72 25, truncate 76 45,
    prlimit64 302 261, setpriority 141 140, sched_setparam 142 118, sched_setscheduler 144 119,
    sched_setaffinity 203 122, sched_setattr 314 274, ioprio_set 251 30, seccomp 317 277"""
)
# What would go round the fence, refused as by a kernel that lacks it, beside what is refused to every box.
# System V IPC and message queues are the machine's; inotify sees files that are not shown.
_ABSENT = kernel.numbers(
    """openat2 437 437, fchmodat2 452 452, setxattrat 463 463, removexattrat 466 466, file_setattr 469 469,
    pidfd_send_signal 424 424, shmget 29 194, semget 64 190, msgget 68 186, mq_open 240 180, inotify_init 253 -1,
    inotify_init1 294 26"""
)
# Landlock does not see to owners, attributes and old ways to set times; nor, before its third version, to cutting.
_UNSEEN = kernel.numbers(
    """chown 92 -1, fchown 93 55, lchown 94 -1, fchownat 260 54, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7,
    removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, utime 132 -1, utimes 235 -1, futimesat 261 -1"""
)
_FORKING, _SIGNALS = ("clone", "fork", "vfork"), ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# What the fence does for a step: the method of `inside.fence.Warden`, and the places of arguments that differ.
_ASKED: dict[str, tuple[str | int, ...]] = {
    **{name: (name,) for name in ("socket", "bind", "connect", "openat", "fchmod", "utimensat")},
    **dict.fromkeys(_FORKING, ("fork",)),
    **dict.fromkeys(_SIGNALS, ("signal",)),
    "chmod": ("chmod", 0, 1),
    "fchmodat": ("chmod", 1, 2, 0),
    "link": ("link", 0, 1),
    "linkat": ("link", 1, 3),
    "unlink": ("unlink", 0),
    "unlinkat": ("unlink", 1),
}


@dataclass(frozen=True, slots=True)
class Landlock:
    """What this kernel has: the version of Landlock (its ABI), and the kind of machine."""

    version: int
    machine: str


def find_landlock() -> Landlock:
    """Return what this kernel has. Raises `EnvironmentFailed` where it does not do, saying what to do."""
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in kernel.MACHINES:
        raise _unusable("it needs Linux on x86_64 or aarch64", "use --sandbox docker")
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_long(1))
    if version >= OLDEST:
        return Landlock(version, machine)
    advice = {
        errno.EOPNOTSUPP: ("it is switched off", "add landlock to the kernel's parameter lsm="),
        errno.EPERM: ("the container refuses it", "run a newer Docker, or with a seccomp profile that allows it"),
    }
    raise _unusable(*advice.get(ctypes.get_errno(), ("the kernel is too old", "use Linux 5.19 or newer")))


def _unusable(why: str, advice: str) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"Landlock cannot be used ({why}): {advice}, use --sandbox docker or local, or --unsafe-local at your own risk."
    )


def _not_set_up(words: str) -> EnvironmentFailed:
    return _unusable(printable(words), "see that containers allow Landlock and seccomp")


class LandlockSandbox(LocalSandbox):
    """Boxes behind a fence of Landlock and seccomp. See the module for what they keep in."""

    def __init__(
        self,
        landlock: Landlock,
        environments: Mapping[str, VirtualEnvironment],
        packs: Mapping[str, Pack],
        boxes: int,
        folder: Callable[[], Path],
    ) -> None:
        """Keep boxes below the folder, which is asked for with the first."""
        super().__init__(environments, packs, boxes)
        self._landlock = landlock
        self._folder = folder

    async def run_in(self, job: Job, pack: Pack, box: Box) -> JobResult:
        """Run a job in a box that is made for it, in a folder that is removed afterwards."""
        with boundary({OSError: lambda error: _not_set_up(str(error))}):
            folder = box.folder or self._folder() / f"box-{secrets.token_hex(8)}"
            room = _room(self._landlock, job, box, folder)
            shutil.rmtree(folder, ignore_errors=True)  # of a build that was killed
            folder.mkdir(0o700)
            if box.uid is not None:
                os.chown(folder, box.uid, box.uid)
        arguments = ("/usr/bin/env", "-i", sys.executable, "-I", "-S", "-c", program(fenced=True))
        try:
            return await self.serve(arguments, job, pack, room, _not_set_up)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # the runner does it, unless it was killed


def _room(landlock: Landlock, job: Job, box: Box, folder: Path) -> Room:
    """Return the box's room, fenced in. The fence counts processes, the kernel threads."""
    root, room = box.uid is not None, box.room(job)
    if root:
        for path in (*box.environment.prefixes(), folder.parent):
            if (closed := _closed(path)) is not None:
                raise EnvironmentFailed(
                    f"A box of root's cannot see {printable(str(path))}, for only root may enter "
                    f"{printable(str(closed))}: use a Python, a cache (XDG_CACHE_HOME) and temporary files (TMPDIR) "
                    "elsewhere, or run as another user."
                )
    tree = str(folder / TREE)
    imported = os.pathsep.join(str(Path(tree, path)) for path in box.environment.imported)
    threads = 1 if root else _threads() + _SLACK
    # What Landlock is to see to: files, TCP, and signals and sockets beyond the box.
    files = (1 << _FILE_RIGHTS.get(landlock.version, 16)) - 1
    handled = (files, 3 if landlock.version >= 4 else 0, 3 if landlock.version >= SCOPED else 0)
    written = [(str(path), (1 << 16) - 1 & _NO_DEVICES) for path in (folder, *box.writable)]
    proc = (f"/proc/{name}" for name in _PROC)
    read = (*SYSTEM, *_MORE, *proc, *box.environment.prefixes(), *box.readable)
    devices = [(path, _USE) for path in _DEVICES]
    column = [*kernel.MACHINES].index(landlock.machine)
    fence = {
        "handled": handled,
        "rules": [*((str(path), _READ) for path in read), *devices, *written],
        "kept": (files & ~_READ, 0, 0),
        "own": [*written, ("/proc", _USE), *devices],
        "filter": base64.b64encode(fence_of(landlock, root)).decode(),
        "seccomp": _CALLS["seccomp"][column],
        "calls": [(_CALLS[name][column], *does) for name, does in _ASKED.items()],
        "writable": [str(folder), *map(str, box.writable)],
        "address": f"127.{16 + secrets.randbelow(200)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}",
        "ports": [PROXY_PORT] if box.proxy else [],
        "pids": job.limits.pids,
        "disk": job.limits.disk,
    }
    return replace(
        room,
        folder=tree,
        scratch=str(folder),
        rlimits={"NPROC": threads + job.limits.pids},
        variables={**room.variables, **({"PYTHONPATH": imported} if imported else {})},
        fence=fence,
        filter="",
    )


def is_open(path: Path) -> bool:
    """Tell whether every user may go to a path, as far as it is there."""
    return _closed(path) is None


def _closed(path: Path) -> Path | None:
    """Return the first folder on the way to a path, or itself, that not everybody may enter."""
    return next((at for at in (*reversed(path.parents), path) if at.exists() and not at.stat().st_mode & 0o001), None)


def _threads() -> int:
    """Return how many threads this user has."""
    count, uid = 0, os.geteuid()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += len([*(process / "task").iterdir()]) if process.stat().st_uid == uid else 0
        except OSError:  # it ended meanwhile
            continue
    return count


def fence_of(landlock: Landlock, root: bool) -> bytes:
    """Return the program that decides on the calls of a step: allowed, refused, or handed over to the runner."""
    rules = (*_process_rules(), *_file_rules(landlock, root), *_socket_rules())
    return kernel.filter_of(_CALLS | _ABSENT | _UNSEEN, rules)


def _process_rules() -> Iterator[kernel.Rule]:
    """Yield what no process may do, and that it may set its own limits, turns and processors alone."""
    for absent in _ABSENT:
        yield absent, kernel.ABSENT
    yield "clone", kernel.ALLOW, 0, _THREAD, (_THREAD,)
    for name in _FORKING:
        yield name, kernel.ASK
    for name in ("prlimit64", "sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"):
        yield name, kernel.ALLOW, 0, kernel.WHOLE, (0,)
        yield name, kernel.REFUSE
    for name, whole in (("setpriority", (1, 2)), ("ioprio_set", (2, 3))):  # groups and users
        yield name, kernel.REFUSE, 0, kernel.WHOLE, whole
        yield name, kernel.ALLOW, 1, kernel.WHOLE, (0,)
        yield name, kernel.REFUSE


def _file_rules(landlock: Landlock, root: bool) -> Iterator[kernel.Rule]:
    """Yield what Landlock does not see to: without root, files outside that are this user's; in old versions, signals.

    What may be about /dev/shm is handed over: the C library opens files there in these two ways.
    """
    if not root:
        for name in ("chmod", "fchmod", "fchmodat", "utimensat"):
            yield name, kernel.ASK
        for call in _UNSEEN:
            yield call, kernel.UNSUPPORTED
    if not root and landlock.version < 3:
        yield "truncate", kernel.REFUSE
        for name, flags in (("openat", 2), ("open", 1)):
            yield name, kernel.REFUSE, flags, os.O_ACCMODE | os.O_TRUNC, (os.O_RDONLY | os.O_TRUNC,)
    if landlock.version < SCOPED:
        for name in _SIGNALS:
            yield name, kernel.ASK
        yield "fcntl", kernel.REFUSE, 1, kernel.WHOLE, (8, 15)  # whom a descriptor signals
    for flags in (os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_NOFOLLOW):
        yield "openat", kernel.ASK, 2, os.O_ACCMODE | flags, (flags,)
    for name in ("link", "linkat", "unlink"):
        yield name, kernel.ASK
    yield "unlinkat", kernel.ASK, 0, kernel.WHOLE, (-100 & kernel.WHOLE,)


def _socket_rules() -> Iterator[kernel.Rule]:
    """Hand sockets over; nothing is sent where it was not connected to."""
    for name, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        yield name, kernel.UNSUPPORTED, flags, _FAST_OPEN, (_FAST_OPEN,)
    yield "socketpair", kernel.ALLOW, 1, 0xF, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    yield "socketpair", kernel.NO_FAMILY
    for name in ("socket", "bind", "connect"):
        yield name, kernel.ASK
