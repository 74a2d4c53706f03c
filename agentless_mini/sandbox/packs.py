"""A tree as boxes are given it: every file's bytes in one file, with a list of what lies where in it. No history.

A `Snapshot` has the contents of text alone; a box needs all of them, binary and large files and the targets of
symlinks too. They are read once for a run, from the working tree, the commit or the image, and sent into each box.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import FileKind, PlacedFile, Snapshot, SourceFile
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, printable
from agentless_mini.repository.gitcommand import GitCommand, blobs

FOLDER, LINK, REGULAR, EXECUTABLE = "040000", "120000", "100644", "100755"
CHUNK = 1 << 20
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Contents = Callable[[tuple[SourceFile, ...]], Iterator[bytes]]
"""Returns what is in each of these files, in their order; of a symlink its target."""


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
            while chunk := file.read(CHUNK):
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
            yield path, EXECUTABLE if member.mode & 0o100 else REGULAR, iter(lambda: file.read(CHUNK), b"")


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
