"""Reads what a `Snapshot` leaves out, for a `Pack`: binary and large files, and where symlinks point to."""

import os
from collections.abc import Iterator
from pathlib import Path

from agentless_mini.domain import FileKind, SourceFile
from agentless_mini.errors import RepositoryError, boundary, printable
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.sandbox.packs import Contents

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def of_folder(top: Path) -> Contents:
    """Read from a working tree, following no symlink. Raises `RepositoryError` where a file is gone meanwhile."""

    def read(files: tuple[SourceFile, ...]) -> Iterator[bytes]:
        for file in files:
            with boundary({OSError: _changed}):
                yield _read(os.fsencode(top), file)

    return read


def _changed(error: BaseException) -> RepositoryError:
    return RepositoryError(f"A file cannot be read any more ({printable(str(error))}): run again.")


def _read(top: bytes, file: SourceFile) -> bytes:
    *parents, name = file.path.encode("utf-8", "surrogateescape").split(b"/")
    folder = os.open(top, _FOLDER)
    try:
        for parent in parents:
            inner = os.open(parent, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        if file.kind is FileKind.SYMLINK:
            return os.readlink(name, dir_fd=folder)
        with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as opened:
            return opened.read()
    finally:
        os.close(folder)


def of_commit(git: GitCommand, commit: str) -> Contents:
    """Read from a commit's tree: its blobs as they are, no attribute or filter applied. Raises `RepositoryError`."""

    def read(files: tuple[SourceFile, ...]) -> Iterator[bytes]:
        small = [file for file in files if file.kind is not FileKind.LARGE]
        batch = iter(_blobs(git, [ids[file.path] for file in small])) if (ids := _ids(git, commit)) else iter(())
        for file in files:
            yield git.read("cat-file", "blob", ids[file.path]) if file.kind is FileKind.LARGE else next(batch)

    return read


def _ids(git: GitCommand, commit: str) -> dict[str, str]:
    rows = git.read("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")[:-1]
    pairs = (row.partition(b"\t") for row in rows)
    return {path.decode("utf-8", "surrogateescape"): head.split()[2].decode() for head, _, path in pairs}


def _blobs(git: GitCommand, ids: list[str]) -> Iterator[bytes]:
    out, at = git.read("cat-file", "--batch", stdin="".join(f"{name}\n" for name in ids).encode()), 0
    while at < len(out):
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[2])
        yield out[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
