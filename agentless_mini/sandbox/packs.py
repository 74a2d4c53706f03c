"""A tree as boxes are given it: every file's bytes in one file, with a list of what lies where in it. No history.

A `Snapshot` has the contents of text alone; a box needs all of them, binary and large files and the targets of
symlinks too. They are read once for a run and sent into each box from here.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from agentless_mini.domain import FileKind, PlacedFile, Snapshot, SourceFile
from agentless_mini.errors import EnvironmentFailed, boundary

FOLDER, LINK, REGULAR, EXECUTABLE = "040000", "120000", "100644", "100755"
CHUNK = 1 << 20

Contents = Callable[[tuple[SourceFile, ...]], Iterator[bytes]]
"""Returns what is in each of these files, in their order; of a symlink its target. See `contents`."""


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
        with boundary({OSError: _lost}), self.body.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


def _lost(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"The copy of the tree cannot be read ({error}): run again.")


def pack_snapshot(snapshot: Snapshot, contents: Contents, body: Path, overlay: tuple[PlacedFile, ...] = ()) -> Pack:
    """Write the tree of a snapshot into `body`, and files beside it that have no path in common with it.

    Raises `EnvironmentFailed` where that cannot be, and as `contents`.
    """
    held = [file for file in snapshot.files if file.kind not in {FileKind.TEXT, FileKind.SUBMODULE}]
    read = contents(tuple(held))
    beside = ((file.path, file.mode, (file.data or b"",)) for file in overlay)
    return _write(chain(_entries(snapshot.files, read), beside), body)


def _entries(files: Iterable[SourceFile], read: Iterator[bytes]) -> Iterator[tuple[str, str, Iterable[bytes]]]:
    for file in files:
        if file.kind is FileKind.SUBMODULE:
            yield file.path, FOLDER, ()
        else:
            yield file.path, file.mode, (file.data if file.kind is FileKind.TEXT else next(read),)


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
