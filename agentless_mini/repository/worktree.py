"""Reads the files of a working tree off the disk as they are now, without git and without following one symlink.

git is not asked for contents because answering would run what the repository configures (filters) and refresh the
index. Every folder on the way to a file is opened from the one above it and refused where it is a symlink, so that no
path leads out of the tree, not even one that is swapped while it is read.

It does not decide what belongs to the tree: git's lists of names do, see `repository`. Needs a POSIX system.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from agentless_mini.domain import FileKind, SourceFile

# A text of 1 MiB is some 300,000 tokens, more than a prompt can show: what is larger is data or generated code.
LARGE_OVER = 1024 * 1024
# A larger file is in no snapshot: boxes get every file, and have a disk of a GiB. GitHub takes none.
HUGE_OVER = 100 * 1024 * 1024
# git's own rule, with its own number: a NUL byte in the first 8,000 bytes; rounded up to the page.
BINARY_PREFIX = 8 * 1024

REGULAR, EXECUTABLE, LINK, GITLINK = "100644", "100755", "120000", "160000"

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO put in the place of a file must not make the reader wait.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class DiskReading:
    """What the disk holds of the names: the entries in order of path, and the names that it holds but does not give.

    `unreadable` cannot be opened; `special` are sockets, FIFOs and devices; `huge` are over `HUGE_OVER`. A name that is
    not there is in none.
    """

    files: list[SourceFile] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    huge: list[str] = field(default_factory=list)


class _LeftOut(Exception):
    """The name is no file that is read; the argument is the list of a `DiskReading` that it belongs to."""


def read_worktree(top: bytes, modes: Mapping[bytes, str], executable: bool, symlinks: bool) -> DiskReading:
    """Read the names below the folder `top`, raw bytes with the modes that the index has for them.

    `executable` and `symlinks` tell which modes on the disk git believes (`core.fileMode`, `core.symlinks`); the others
    are the index's. Raises OSError only where `top` itself cannot be opened.
    """
    found = DiskReading()
    with _Folders.below(top) as folders:
        for path in sorted(modes):  # all names of a folder stand together, so that each folder is opened once
            try:
                found.files.extend(_read_entry(folders, path, modes[path], executable, symlinks))
            except _LeftOut as error:
                getattr(found, error.args[0]).append(decode_path(path))
            except OSError as error:
                if error.errno not in _GONE:
                    found.unreadable.append(decode_path(path))
    found.files.sort(key=lambda file: file.path)
    return found


def decode_path(raw: bytes) -> str:
    """Return a raw name as `domain.SourceFile.path` has it."""
    return raw.decode("utf-8", "surrogateescape")


def file_entry(path: bytes, mode: str, data: bytes, size: int) -> SourceFile:
    """Build the entry of a file that begins with `data`, which only a TEXT keeps: of that it is all."""
    if len(data) <= LARGE_OVER and b"\0" not in data[:BINARY_PREFIX]:
        return SourceFile(decode_path(path), mode, FileKind.TEXT, data)
    kind = FileKind.LARGE if len(data) > LARGE_OVER else FileKind.BINARY
    return SourceFile(decode_path(path), mode, kind, size=size)


class _Folders:
    """The open folders from the top down to one path; at most its depth in descriptors."""

    def __init__(self, top: bytes) -> None:
        self._open = [os.open(top, _FOLDER_FLAGS)]
        self._names: list[bytes] = []

    @classmethod
    @contextmanager
    def below(cls, top: bytes) -> Iterator["_Folders"]:
        folders = cls(top)
        try:
            yield folders
        finally:
            folders._leave(0)
            os.close(folders._open.pop())

    def enter(self, names: list[bytes]) -> int:
        """Return the descriptor of the folder with these names, from the top down. Raises OSError."""
        while names[: len(self._names)] != self._names:
            self._leave(len(self._names) - 1)
        for name in names[len(self._names) :]:
            self._open.append(os.open(name, _FOLDER_FLAGS, dir_fd=self._open[-1]))
            self._names.append(name)
        return self._open[-1]

    def _leave(self, depth: int) -> None:
        while len(self._names) > depth:
            os.close(self._open.pop())
            self._names.pop()


def _read_entry(folders: _Folders, path: bytes, mode: str, executable: bool, symlinks: bool) -> Iterator[SourceFile]:
    """Yield what stands at the name: nothing where it is a folder of files. Raises OSError, _LeftOut."""
    *parents, name = path.split(b"/")
    folder = folders.enter(parents)
    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        if mode == GITLINK:
            yield SourceFile(decode_path(path), GITLINK, FileKind.SUBMODULE)
    elif stat.S_ISLNK(info.st_mode) or (mode == LINK and not symlinks):
        yield SourceFile(decode_path(path), LINK, FileKind.SYMLINK)
    elif stat.S_ISREG(info.st_mode):
        if info.st_size > HUGE_OVER:
            raise _LeftOut("huge")
        runs = info.st_mode & stat.S_IXUSR if executable else mode == EXECUTABLE
        yield file_entry(path, EXECUTABLE if runs else REGULAR, _read_file(folder, name), info.st_size)
    else:
        raise _LeftOut("special")


def _read_file(folder: int, name: bytes) -> bytes:
    """Read a regular file up to one byte more than is ever used."""
    with os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=folder), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _LeftOut("special")
        parts, wanted = [], LARGE_OVER + 1
        while wanted and (part := file.read(wanted)):  # one call may return less than is asked for
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


def digest(files: Sequence[SourceFile]) -> str:
    """Return the digest of a tree by its entries, sorted by path.

    Each field is preceded by its length, so that no two trees are written alike.
    """
    total = hashlib.sha256()
    for file in files:
        path = file.path.encode("utf-8", "surrogateescape")
        fields = (path, file.mode.encode(), file.kind.encode(), hashlib.sha256(file.data).digest())
        total.update(b"".join(len(field).to_bytes(8, "big") + field for field in fields))
    return total.hexdigest()
