"""Runs jobs on this machine where no namespace can be made: in containers, where a system or its AppArmor refuses them.

Landlock says which files a step sees, seccomp which calls it makes, and `inside.fence` makes those calls whose
arguments must be checked first. What is guaranteed, as far as the kernel keeps its word:

* Of this machine's files a step can read /usr and the like, what of /etc its user may, a little of /proc, the virtual
  environment and its Python. It can write those of its box alone: a private copy of the tree, and a folder for HOME,
  TMPDIR and /dev/shm.
* No network, save what listens in the box itself (TCP, at an address of its own on the loopback device; sockets by
  path). No signal to, no memory, variable or descriptor of any process outside. No new privilege. As root, a user
  number that nobody else has, and no capability.
* A step ends at its time limit with all processes that it started, whatever session they are in. The box's folder is
  removed then. Its status and time are measured, and its output bounded, by a process that no step can reach.

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
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agentless_mini.domain import Job, JobResult
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox.inside import program
from agentless_mini.sandbox.local import SYSTEM, Box, LocalSandbox, VirtualEnvironment
from agentless_mini.sandbox.packs import Pack
from agentless_mini.sandbox.wire import Room

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
_ALLOW, _ASK, _ERROR = 0x7FFF0000, 0x7FC00000, 0x00050000
_SLACK = 32  # threads that the user may start elsewhere meanwhile
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_THREAD, _NAMESPACES, _FAST_OPEN = 0x00010000, 0x7E020000, 0x20000000
# The numbers of system calls, x86_64's and aarch64's; -1 where a machine lacks one.
_CALLS = {
    "clone": (56, 220),
    "fork": (57, -1),
    "vfork": (58, -1),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "connect": (42, 203),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "openat": (257, 56),
    "open": (2, -1),
    "link": (86, -1),
    "linkat": (265, 37),
    "unlink": (87, -1),
    "unlinkat": (263, 35),
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "utimensat": (280, 88),
    "fcntl": (72, 25),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "seccomp": (317, 277),
}
# What no test needs and what would go round the fence. Refused as a kernel does that has not got them, which programs
# know: clone3, openat2, fchmodat2, set/removexattrat, file_setattr, io_uring, pidfd_send_signal, pidfd_getfd;
# System V IPC and message queues, which are the machine's; inotify and fanotify, which see files that are not shown;
# keys; bpf, perf_event_open, userfaultfd; unshare, setns.
_ABSENT = (
    *((number, number) for number in (435, 437, 452, 463, 466, 469, 425, 426, 427, 424, 438)),
    *((29, 194), (64, 190), (68, 186), (240, 180), (253, -1), (294, 26), (300, 262)),
    *((248, 217), (249, 218), (250, 219), (321, 280), (298, 241), (323, 282), (272, 97), (308, 268)),
)
# Landlock does not see to owners, attributes and old ways to set times; nor, before its third version, to cutting.
_UNSEEN = (
    *((92, -1), (93, 55), (94, -1), (260, 54)),  # chown
    *((188, 5), (189, 6), (190, 7), (197, 14), (198, 15), (199, 16)),  # extended attributes
    *((132, -1), (235, -1), (261, -1)),  # utime, utimes, futimesat
)
_TRUNCATE = (76, 45)
# What the fence does for a step under the call's own name.
_ASKED = (
    *("socket", "bind", "connect", "openat", "link", "linkat", "unlink", "unlinkat"),
    *("chmod", "fchmod", "fchmodat", "utimensat"),
)
_FORKING, _SIGNALS = ("clone", "fork", "vfork"), ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, 16)  # and netlink, by which the C library looks up addresses


@dataclass(frozen=True, slots=True)
class Landlock:
    """What this kernel has: the version of Landlock (its ABI), and the kind of machine."""

    version: int
    machine: str


def find_landlock() -> Landlock:
    """Return what this kernel has. Raises `EnvironmentFailed` where it does not do, saying what to do."""
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _MACHINES:
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
            _require_open(path)
    tree = str(folder / TREE)
    variables = dict(room.variables)
    if box.environment.imported:
        variables["PYTHONPATH"] = os.pathsep.join(str(Path(tree, path)) for path in box.environment.imported)
    threads = 1 if root else _threads() + _SLACK
    # What Landlock is to see to: files, TCP, and signals and sockets beyond the box.
    files = (1 << _FILE_RIGHTS.get(landlock.version, 16)) - 1
    handled = (files, 3 if landlock.version >= 4 and not box.online else 0, 3 if landlock.version >= SCOPED else 0)
    written = [(str(path), (1 << 16) - 1 & _NO_DEVICES) for path in (folder, *box.writable)]
    network = ("/etc/resolv.conf",) if box.online else ()
    proc = (f"/proc/{name}" for name in _PROC)
    read = (*SYSTEM, *_MORE, *network, *proc, *box.environment.prefixes(), *box.readable)
    devices = [(path, _USE) for path in _DEVICES]
    column = _MACHINES[landlock.machine][1]
    asked = [(name, name) for name in _ASKED]
    asked += [("fork", name) for name in _FORKING] + [("signal", name) for name in _SIGNALS]
    fence = {
        "handled": handled,
        "rules": [*((str(path), _READ) for path in read), *devices, *written],
        "kept": (files & ~_READ, 0, 0),
        "own": [*written, ("/proc", _USE), *devices],
        "filter": base64.b64encode(filter_of(landlock, box.online, root)).decode(),
        "seccomp": _CALLS["seccomp"][column],
        "calls": [(does, _CALLS[name][column]) for does, name in asked],
        "writable": [str(folder), *map(str, box.writable)],
        "address": f"127.{16 + secrets.randbelow(200)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}",
        "pids": job.limits.pids,
        "disk": job.limits.disk,
    }
    return replace(
        room,
        folder=tree,
        scratch=str(folder),
        rlimits=tuple({**dict(room.rlimits), "NPROC": threads + job.limits.pids}.items()),
        variables=tuple(variables.items()),
        fence=fence,
    )


def is_open(path: Path) -> bool:
    """Tell whether every user may go to a path, as far as it is there."""
    return _closed(path) is None


def _closed(path: Path) -> Path | None:
    """Return the first folder on the way to a path, or itself, that not everybody may enter."""
    return next((at for at in (*reversed(path.parents), path) if at.exists() and not at.stat().st_mode & 0o001), None)


def _require_open(path: Path) -> None:
    closed = _closed(path)
    if closed is not None:
        raise EnvironmentFailed(
            f"A box of root's cannot see {printable(str(path))}, for only root may enter {printable(str(closed))}: "
            "use a Python, a cache (XDG_CACHE_HOME) and temporary files (TMPDIR) elsewhere, or run as another user."
        )


def _threads() -> int:
    """Return how many threads this user has."""
    count, uid = 0, os.geteuid()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += len([*(process / "task").iterdir()]) if process.stat().st_uid == uid else 0
        except OSError:  # it ended meanwhile
            continue
    return count


class _Filter:
    """A program for seccomp, rule by rule; the first that holds decides."""

    def __init__(self, landlock: Landlock) -> None:
        self._column = _MACHINES[landlock.machine][1]
        self._code = [
            (0x20, 0, 0, 4),  # the machine's kind
            (0x15, 1, 0, _MACHINES[landlock.machine][0]),
            (0x06, 0, 0, _ERROR | errno.ENOSYS),
            (0x20, 0, 0, 0),  # the call's number
            (0x35, 0, 1, 0x40000000),
            (0x06, 0, 0, _ERROR | errno.ENOSYS),
        ]

    def rule(
        self, call: str | tuple[int, int], action: int, argument: int = 0, mask: int = 0, values: tuple[int, ...] = ()
    ) -> None:
        """Add a rule for a call, one that holds where an argument's lower half has one of the values under a mask."""
        number = (_CALLS[call] if isinstance(call, str) else call)[self._column]
        if number < 0:
            return
        after = [(0x06, 0, 0, action)]
        if mask:
            last = len(values) - 1
            tests = [(0x15, last - place, int(place == last), value) for place, value in enumerate(values)]
            after = [(0x20, 0, 0, 16 + 8 * argument), (0x54, 0, 0, mask), *tests, *after]
        self._code += [(0x20, 0, 0, 0), (0x15, 0, len(after), number), *after]

    def code(self) -> bytes:
        """Return it, with all else allowed."""
        return b"".join(struct.pack("=HBBI", *line) for line in (*self._code, (0x06, 0, 0, _ALLOW)))


def filter_of(landlock: Landlock, online: bool, root: bool) -> bytes:
    """Return the program that decides on the calls of a step: allowed, refused, or handed over to the runner."""
    made = _Filter(landlock)
    for absent in _ABSENT:
        made.rule(absent, _ERROR | errno.ENOSYS)
    refused = _ERROR | errno.EPERM
    for bit in (1 << place for place in range(32) if _NAMESPACES >> place & 1):
        made.rule("clone", refused, 0, bit, (bit,))
    made.rule("clone", _ALLOW, 0, _THREAD, (_THREAD,))
    for name in _FORKING:
        made.rule(name, _ASK)
    _others(made, refused)
    if not root:
        _files(made, landlock, refused)
    if landlock.version < SCOPED:
        for name in _SIGNALS:
            made.rule(name, _ASK)
        made.rule("fcntl", refused, 1, 0xFFFFFFFF, (8, 15))  # whom a descriptor signals
    _shared_memory(made)
    _sockets(made, online)
    return made.code()


def _others(made: _Filter, refused: int) -> None:
    """Allow a process to set its own limits, turns and processors alone."""
    for name in ("prlimit64", "sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"):
        made.rule(name, _ALLOW, 0, 0xFFFFFFFF, (0,))
        made.rule(name, refused)
    for name, whole in (("setpriority", (1, 2)), ("ioprio_set", (2, 3))):  # groups and users
        made.rule(name, refused, 0, 0xFFFFFFFF, whole)
        made.rule(name, _ALLOW, 1, 0xFFFFFFFF, (0,))
        made.rule(name, refused)


def _files(made: _Filter, landlock: Landlock, refused: int) -> None:
    """See to what Landlock does not, where files outside are this user's own."""
    for name in ("chmod", "fchmod", "fchmodat", "utimensat"):
        made.rule(name, _ASK)
    for call in _UNSEEN:
        made.rule(call, _ERROR | errno.EOPNOTSUPP)
    if landlock.version < 3:
        made.rule(_TRUNCATE, refused)
        made.rule("openat", refused, 2, os.O_ACCMODE | os.O_TRUNC, (os.O_RDONLY | os.O_TRUNC,))
        made.rule("open", refused, 1, os.O_ACCMODE | os.O_TRUNC, (os.O_RDONLY | os.O_TRUNC,))


def _shared_memory(made: _Filter) -> None:
    """Hand over what may be about /dev/shm: the C library opens files there in these two ways."""
    for flags in (os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_NOFOLLOW):
        made.rule("openat", _ASK, 2, os.O_ACCMODE | flags, (flags,))
    for name in ("link", "linkat", "unlink"):
        made.rule(name, _ASK)
    made.rule("unlinkat", _ASK, 0, 0xFFFFFFFF, (-100 & 0xFFFFFFFF,))


def _sockets(made: _Filter, online: bool) -> None:
    """Hand sockets over, or with the network allow those of it; nothing is sent where it was not connected to."""
    for name, argument in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        made.rule(name, _ERROR | errno.EOPNOTSUPP, argument, _FAST_OPEN, (_FAST_OPEN,))
    made.rule("socketpair", _ALLOW, 1, 0xF, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET))
    made.rule("socketpair", _ERROR | errno.EAFNOSUPPORT)
    if online:
        made.rule("socket", _ALLOW, 0, 0xFFFFFFFF, _FAMILIES)
        made.rule("socket", _ERROR | errno.EAFNOSUPPORT)
    else:
        for name in ("socket", "bind", "connect"):
            made.rule(name, _ASK)
