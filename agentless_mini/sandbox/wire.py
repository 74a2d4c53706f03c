"""What a box is sent and what it says: a tree, the job, and messages. The other end is `inside.files`.

A tree is sent as every file's bytes in one file, with a list of what lies where in it; no history. A `Snapshot` has the
contents of text alone; a box needs all of them, binary and large files and the targets of symlinks too. They are read
once for a run, from the working tree, the commit or the image.

What comes from a box is foreign input: it is bounded and checked, and a box that breaks the protocol counts as dead.
"""

import hashlib
import json
import math
import os
import socket
import struct
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentless_mini.domain import (
    Ending,
    FileKind,
    Job,
    JobResult,
    Output,
    PlacedFile,
    ResultFile,
    Snapshot,
    SourceFile,
    Step,
    StepResult,
)
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, printable
from agentless_mini.repository.gitcommand import GitCommand, blobs

FOLDER, LINK, REGULAR, EXECUTABLE = "040000", "120000", "100644", "100755"
_PART = 1 << 20
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Contents = Callable[[tuple[SourceFile, ...]], Iterator[bytes]]
"""Returns what is in each of these files, in their order; of a symlink its target."""
MESSAGE_LIMIT = 1024 * 1024
PATIENCE = 4.0
"""How many times its own limit a box may take on a machine that is too busy."""
SETTING_UP = 120.0
"""Seconds until a box must have its tree. They do not count as its own time."""
GRACE = 15.0
"""Seconds that a box has beyond its own limit, to notice that its time is over."""
CHUNK = 1 << 16
_BASE = {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

Hear = Callable[[str], None]
"""Told, from another thread, the last line that a step has printed so far: foreign text. It must return quickly."""


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One file, symlink or empty folder: `size` bytes of the body, after those of the entries before it."""

    path: str
    mode: str
    size: int


@dataclass(frozen=True, slots=True)
class Pack:
    """The entries of a tree, and the file that has their bytes. Equal trees have equal digests."""

    digest: str
    entries: tuple[PackEntry, ...]
    body: Path

    def chunks(self) -> Iterator[bytes]:
        """Yield the body. Raises `EnvironmentFailed` where it is gone."""
        lost = "The copy of the tree cannot be read"
        with (
            boundary({OSError: lambda error: EnvironmentFailed(f"{lost} ({error}): run again.")}),
            self.body.open("rb") as file,
        ):
            while chunk := file.read(_PART):
                yield chunk


def pack_snapshot(snapshot: Snapshot, contents: Contents, body: Path, overlay: tuple[PlacedFile, ...] = ()) -> Pack:
    """Write the tree of a snapshot into `body`, and files beside it that have no path in common with it.

    Raises `EnvironmentFailed` where that cannot be, and as `contents`.
    """

    def entries() -> Iterator[tuple[str, str, Iterable[bytes]]]:
        own = {FileKind.TEXT, FileKind.SUBMODULE}
        read = contents(tuple(file for file in snapshot.files if file.kind not in own))
        for file in snapshot.files:
            if file.kind is FileKind.SUBMODULE:
                yield file.path, FOLDER, ()
            else:
                yield file.path, file.mode, (file.data if file.kind is FileKind.TEXT else next(read),)
        yield from ((file.path, file.mode, (file.data or b"",)) for file in overlay)

    return _write(entries(), body)


def pack_tar(archive: Path, body: Path) -> Pack:
    """Write what an uncompressed tar file holds below its one top folder into `body`, without any `.git`.

    Hard links become files; devices and sockets are left out. Raises `EnvironmentFailed`.
    """
    broken = "The tree cannot be copied out of the image"
    with (
        boundary({tarfile.TarError: lambda error: EnvironmentFailed(f"{broken} ({error}): run again.")}),
        tarfile.open(archive, "r:") as tar,
    ):
        return _write(_members(tar), body)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, Iterable[bytes]]]:
    for member in tar:
        path = member.name.partition("/")[2]
        if not path or ".git" in path.split("/"):
            continue
        if member.isdir():
            yield path, FOLDER, ()
        elif member.issym():
            yield path, LINK, (member.linkname.encode("utf-8", "surrogateescape"),)
        elif (file := tar.extractfile(member)) is not None:
            yield path, EXECUTABLE if member.mode & 0o100 else REGULAR, iter(lambda: file.read(_PART), b"")


def _write(files: Iterable[tuple[str, str, Iterable[bytes]]], body: Path) -> Pack:
    entries: list[PackEntry] = []
    total = hashlib.sha256()
    failed = "The tree cannot be copied"
    with (
        boundary({OSError: lambda error: EnvironmentFailed(f"{failed} ({error}): make room on the disk.")}),
        body.open("wb") as out,
    ):
        for path, mode, parts in files:
            begin = out.tell()
            for part in parts:
                out.write(part)
                total.update(part)
            entries.append(PackEntry(path, mode, out.tell() - begin))
    total.update(json.dumps([(entry.path, entry.mode, entry.size) for entry in entries]).encode())
    return Pack(total.hexdigest(), tuple(entries), body)


def of_folder(top: Path) -> Contents:
    """Read from a working tree, following no symlink. Raises `RepositoryError` where a file is gone meanwhile."""

    def gone(error: BaseException) -> RepositoryError:
        return RepositoryError(f"A file cannot be read any more ({printable(str(error))}): run again.")

    def read(files: tuple[SourceFile, ...]) -> Iterator[bytes]:
        for file in files:
            with boundary({OSError: gone}):
                yield _read(os.fsencode(top), file)

    return read


def _read(top: bytes, file: SourceFile) -> bytes:
    *parents, name = file.path.encode("utf-8", "surrogateescape").split(b"/")
    folder = os.open(top, _OPEN_FOLDER)
    try:
        for parent in parents:  # one at a time: a path may have more folders than a process may have open
            inner = os.open(parent, _OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        if file.kind is FileKind.SYMLINK:
            return os.readlink(name, dir_fd=folder)
        with os.fdopen(os.open(name, _OPEN_FILE, dir_fd=folder), "rb") as data:
            return data.read()
    finally:
        os.close(folder)


def of_commit(git: GitCommand, commit: str) -> Contents:
    """Read from a commit's tree: its blobs as they are, no attribute or filter applied. Raises `RepositoryError`."""

    def read(files: tuple[SourceFile, ...]) -> Iterator[bytes]:
        rows = git.read("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")[:-1]
        pairs = (row.partition(b"\t") for row in rows)
        ids = {path.decode("utf-8", "surrogateescape"): head.split()[2].decode() for head, _, path in pairs}
        small = blobs(git, [ids[file.path] for file in files if file.kind is not FileKind.LARGE])
        for file in files:
            yield git.read("cat-file", "blob", ids[file.path]) if file.kind is FileKind.LARGE else next(small)

    return read


@dataclass(frozen=True, slots=True)
class Room:
    """A box as its adapter makes it. `uid` is what its runner becomes, where it starts as root to do so.

    `rlimits` are limits on each process beside those that every box has, by their names in `resource`. `hear` is told
    what its steps print. `filter` is a program for seccomp, as base64, `fence` what `inside.fence` keeps steps behind
    where nothing else does, and `proxy` a socket by which the runner hands out the listener of the box's proxy.
    """

    folder: str
    scratch: str = "/tmp"  # noqa: S108 - the box's own
    rlimits: Mapping[str, int] = field(default_factory=dict)
    uid: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    hear: Hear | None = None
    fence: Mapping[str, Any] | None = None
    filter: str = ""
    proxy: str = ""


def compose(job: Job, pack: Pack, room: Room) -> Iterator[bytes]:
    """Yield what the box is sent."""
    limits = job.limits
    message = {
        **{name: getattr(room, name) for name in ("folder", "scratch", "uid", "fence", "filter", "proxy")},
        "rlimits": {"CORE": 0, "FSIZE": limits.disk, "NOFILE": 4096, "AS": 4 * limits.memory, **room.rlimits},
        "variables": {"HOME": f"{room.scratch}/home", "TMPDIR": room.scratch, **_BASE, **room.variables},
        "memory": limits.memory,
        "seconds": limits.seconds,
        "patience": PATIENCE,
        "output": limits.output,
        "result": limits.result,
        "tells": room.hear is not None,
        "tree": [(entry.path, entry.mode, entry.size) for entry in pack.entries],
        "files": [(file.path, file.mode, None if file.data is None else len(file.data)) for file in job.files],
        "steps": [asdict(step) for step in job.steps],
    }
    text = json.dumps(message).encode()
    yield struct.pack(">I", len(text)) + text
    yield from pack.chunks()
    yield b"".join(file.data for file in job.files if file.data is not None)


class Garbled(Exception):
    """The runner in the box violated the protocol, or somebody spoke for it."""


class Transcript:
    """What the runner has reported of a job so far."""

    def __init__(self, job: Job, hear: Hear | None = None) -> None:
        """Begin with nothing; `hear` is that of the box's room."""
        self._job = job
        self._hear = hear
        self._waiting = b""
        self._steps: list[StepResult] = []
        self._refusal = ""
        self._most = job.limits.output + job.limits.result * max((len(step.results) for step in job.steps), default=0)
        self.ready = False

    @property
    def complete(self) -> bool:
        """Return whether nothing more is to come."""
        return bool(self._refusal) or (self.ready and len(self._steps) == len(self._job.steps))

    def feed(self, data: bytes) -> None:
        """Take what the box wrote. Raises Garbled, and `EnvironmentFailed` where it could not be set up."""
        self._waiting += data
        while not self.complete and len(self._waiting) >= 8:
            size, blobs = struct.unpack(">II", self._waiting[:8])
            if size > MESSAGE_LIMIT or blobs > self._most:
                raise Garbled
            if len(self._waiting) < 8 + size + blobs:
                return
            text, blob = self._waiting[8 : 8 + size], self._waiting[8 + size : 8 + size + blobs]
            self._waiting = self._waiting[8 + size + blobs :]
            try:
                self._take(json.loads(text), blob)
            except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
                raise Garbled from error

    def result(self, interrupted: Ending) -> JobResult:
        """Return the result of a box that has ended; the step that it ended under ended as `interrupted`."""
        missing = len(self._job.steps) - len(self._steps)
        rest = [StepResult(Ending.NOT_RUN)] * missing
        if rest and self.ready:
            rest[0] = StepResult(interrupted)
        return JobResult((*self._steps, *rest), self._refusal)

    def _take(self, message: dict[str, Any], blob: bytes) -> None:
        kind = message["kind"]
        if kind == "step" and self.ready:
            self._steps.append(_step_result(message, blob, self._job.steps[len(self._steps)]))
        elif kind == "said" and self.ready and self._hear is not None:
            self._hear(str(message["words"]))
        elif kind == "ready" and not self.ready:
            self.ready = True
        elif kind == "refused" and not self.ready:
            self._refusal = printable(str(message["words"]))
        elif kind == "failed" and not self.ready:
            raise no_room(printable(str(message["words"])))
        else:
            raise Garbled


def _step_result(message: dict[str, Any], blob: bytes, step: Step) -> StepResult:
    ending = Ending(message["ending"])
    if ending is Ending.NOT_RUN:
        return StepResult(ending)
    seconds = float(message["seconds"])
    status = int(message["status"]) if ending is Ending.EXITED else None
    head, tail, cut = (int(value) for value in message["output"])
    sizes = [int(size) for _, size in message["results"]]
    paths = [str(path) for path, _ in message["results"]]
    wellformed = min(head, tail, cut, *sizes, 0) == 0 and head + tail + sum(sizes) == len(blob)
    if not wellformed or not set(paths) <= set(step.results) or not math.isfinite(seconds):
        raise Garbled
    files, at = [], head + tail
    for path, size in zip(paths, sizes, strict=True):
        files.append(ResultFile(path, blob[at : at + size]))
        at += size
    output = Output(blob[:head], blob[head : head + tail], cut)
    return StepResult(ending, status, output, tuple(files), seconds)


class _Line:
    """A line to a box, used until a deadline. Raises TimeoutError then, ConnectionError where the box is gone."""

    def __init__(self, line: socket.socket, seconds: float) -> None:
        self._line = line
        self.ends_in(seconds)

    def ends_in(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def send(self, data: bytes) -> None:
        self._wait()
        self._line.sendall(data)

    def received(self) -> Iterator[bytes]:
        self._wait()
        while data := self._line.recv(CHUNK):
            yield data
            self._wait()

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._line.settimeout(left)


def converse(
    line: socket.socket,
    sent: Iterable[bytes],
    transcript: Transcript,
    seconds: float,
    output: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    setting_up: float = SETTING_UP,
) -> Ending:
    """Send a job, and take what the box says until that is all; return how a step ended that was still under way.

    `seconds` are those of the job, counted once the box has its tree, for which it has `setting_up`. `output` picks
    what the runner wrote from what comes. Another thread may end this by shutting the line down.
    """
    box = _Line(line, setting_up)
    try:
        with suppress(ConnectionError):  # it hung up: what it said before tells why
            for chunk in sent:
                box.send(chunk)
        for data in output(box.received()):
            was_ready = transcript.ready
            transcript.feed(data)
            if transcript.complete:
                break
            if transcript.ready and not was_ready:  # once: a box that drips earns no time
                box.ends_in(seconds * PATIENCE + GRACE)
    except TimeoutError:
        return Ending.TIMED_OUT
    except (Garbled, ConnectionError):
        pass
    return Ending.BOX_DIED


def last_line(words: bytes) -> str:
    """Return the last line of what a box printed that says something, fit to be shown; "" where none does."""
    lines = [line for line in words.decode("utf-8", "replace").splitlines() if line.strip()]
    return printable(lines[-1]) if lines else ""


def no_room(words: str) -> EnvironmentFailed:
    """Return the error for a tree that does not fit into a box."""
    return EnvironmentFailed(
        f"The tree cannot be put into a box ({words}): allow boxes more disk space, and memory for it (disk_mib and "
        "memory_mib of [sandbox])."
    )


def too_slow() -> EnvironmentFailed:
    """Return the error for a box that was not set up in time."""
    return EnvironmentFailed(
        f"The machine is too busy (a box did not have its tree within {SETTING_UP:g} s): run again with fewer boxes at "
        "once (boxes in [sandbox])."
    )
