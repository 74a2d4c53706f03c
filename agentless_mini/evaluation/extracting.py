"""Writes what a foreign tar file holds below a folder: no path leads out of it, and no symlink is followed.

Files, symlinks and hard links are made; folders only where something lies in them; devices, FIFOs and sockets are not.
Owners, times and all of the permissions but "may be executed" are not taken over.
"""

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from agentless_mini.domain import MIB
from agentless_mini.errors import EnvironmentFailed, boundary, printable

LIMIT = 8192 * MIB
"""Bytes of all files together."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = tuple[bytes, ...]
"""A path below the archive's top folder."""


def extract(chunks: Iterator[bytes], top: Path, is_wanted: Callable[[Parts], bool]) -> None:
    """Write the wanted entries of a tar file, less its one top folder, below `top`, which is made.

    Of two with one path the later one counts. Raises `EnvironmentFailed`.
    """
    with (
        boundary({tarfile.TarError: _failed, OSError: _failed, EOFError: _failed}),
        _opened(top) as folder,
        tarfile.open(fileobj=io.BufferedReader(_Stream(chunks), MIB), mode="r|", errors="surrogateescape") as archive,
    ):
        size = 0
        for entry in archive:
            parts = _parts(entry.name)
            if not parts or not is_wanted(parts):
                continue
            size += entry.size if entry.isfile() else 0
            if size > LIMIT:
                raise _failed(ValueError(f"its files are larger than {LIMIT // MIB} MiB"))
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):  # in the way of another entry
                _write(folder, archive, entry, parts)


def _parts(name: str) -> Parts:
    """Return the path of an entry below the top folder, empty where there is none or it leads elsewhere."""
    parts = [part for part in os.fsencode(name).split(b"/")[1:] if part not in {b"", b"."}]
    return () if b".." in parts or any(b"\0" in part for part in parts) else tuple(parts)


def _write(top: int, archive: tarfile.TarFile, entry: tarfile.TarInfo, parts: Parts) -> None:
    if not (entry.isfile() or entry.issym() or entry.islnk()):
        return
    with _parent(top, parts) as folder:
        name = parts[-1]
        source = _parts(entry.linkname) if entry.islnk() else ()
        if entry.islnk() and (not source or source == parts):
            return
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        if entry.issym():
            os.symlink(os.fsencode(entry.linkname), name, dir_fd=folder)
        elif entry.islnk():
            _link(top, source, folder, name)
        else:
            _write_file(folder, archive, entry, name)


def _link(top: int, source: Parts, folder: int, name: bytes) -> None:
    with _parent(top, source) as beside:
        if not stat.S_ISDIR(os.stat(source[-1], dir_fd=beside, follow_symlinks=False).st_mode):
            os.link(source[-1], name, src_dir_fd=beside, dst_dir_fd=folder, follow_symlinks=False)


def _write_file(folder: int, archive: tarfile.TarFile, entry: tarfile.TarInfo, name: bytes) -> None:
    data: IO[bytes] | None = archive.extractfile(entry)
    mode = 0o755 if entry.mode & stat.S_IXUSR else 0o644
    with os.fdopen(os.open(name, _NEW_FILE, mode, dir_fd=folder), "wb") as file:
        if data is not None:
            shutil.copyfileobj(data, file, MIB)


@contextmanager
def _opened(top: Path) -> Iterator[int]:
    top.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(top, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _parent(top: int, parts: Parts) -> Iterator[int]:
    """Give the folder of a path, made where it is not there. Raises OSError where a symlink or a file is on the way."""
    folder = os.dup(top)
    try:
        for part in parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=folder)
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


class _Stream(io.RawIOBase):
    """The pieces as a file that can only be read on."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any, /) -> int:  # noqa: ANN401 - whatever has a buffer
        self._rest = self._rest or next(filter(None, self._chunks), b"")
        part, self._rest = self._rest[: len(room)], self._rest[len(room) :]
        room[: len(part)] = part
        return len(part)


def _failed(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The tree cannot be copied out of the image ({printable(str(error))}): make room on the disk, or see that the "
        "image is whole."
    )
