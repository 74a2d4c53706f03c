"""What comes into the box and goes out of it: messages, and the files of the tree.

A job is a description and the contents that it counts. Every message is two lengths of four bytes, a JSON object, and
the blobs that it counts; the other end is `sandbox.wire`. The tree is written once, its files are replaced by those
of a patch, and results are read back, without following one symlink.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
from contextlib import contextmanager, suppress
from typing import IO, Any, Iterator  # noqa: UP035 - collections.abc has no generic Iterator before Python 3.9

CHUNK = 1 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
FULL = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
Message = Any  # a JSON object


class Abandoned(Exception):
    """Nobody waits for the box any more."""


def receive(stream: IO[bytes]) -> Message:
    """Read the job's description; the contents that it lists follow it."""
    (size,) = struct.unpack(">I", read(stream, 4))
    return json.loads(read(stream, size))


def read(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes. Raises Abandoned where they end before."""
    data = stream.read(size)
    if len(data) < size:
        raise Abandoned
    return data


def say(message: Message, *blobs: bytes) -> None:
    """Write one message with its blobs. Raises Abandoned where nobody reads it."""
    text = json.dumps(message).encode()
    data = memoryview(b"".join((struct.pack(">II", len(text), sum(map(len, blobs))), text, *blobs)))
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError as error:
        raise Abandoned from error


class NotPlaced(Exception):
    """A file cannot be placed."""


def raw(path: str) -> bytes:
    """Return a path in its own bytes."""
    return path.encode("utf-8", "surrogateescape")


def create(name: bytes, mode: str, folder: int | None = None) -> IO[bytes]:
    """Open a file that is not there yet, with the permissions of git's mode."""
    return os.fdopen(os.open(name, CREATE, 0o755 if mode == "100755" else 0o644, dir_fd=folder), "wb")


def unpack(stream: IO[bytes], root: str, entries: list[list[Any]]) -> None:
    """Write the tree into an empty folder. Symlinks come last, so that nothing is written through one."""
    top, made, links = raw(root) + b"/", set(), []
    for path, mode, size in entries:
        full = top + raw(path)
        folder = os.path.dirname(full)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        if mode == "040000":
            os.makedirs(full, exist_ok=True)
        elif mode == "120000":
            links.append((read(stream, size), full))
        else:
            with create(full, mode) as file:
                for begin in range(0, size, CHUNK):
                    file.write(read(stream, min(size - begin, CHUNK)))
    for target, full in links:
        os.symlink(target, full)


def place(top: int, path: str, mode: str, data: bytes | None) -> None:
    """Put a file there, or take it away with the folders that it leaves empty, as git does. Raises NotPlaced."""
    try:
        *above, name = split(path)
        if data is None:
            remove(top, above, name)
            return
        with folders(top, above, make=True) as opened:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=opened[-1])
            with create(name, mode, opened[-1]) as file:
                file.write(data)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise NotPlaced(f"{path!r} cannot be put there: {error.strerror}") from error


def split(path: str) -> list[bytes]:
    """Return the names on a path that stays in the tree and out of its git folder. Raises NotPlaced."""
    try:
        parts = raw(path).split(b"/")
    except UnicodeEncodeError as error:
        raise NotPlaced(f"{path!r} is not a path") from error
    if any(part in (b"", b".", b"..") or part.lower() == b".git" or b"\0" in part for part in parts):
        raise NotPlaced(f"{path!r} is not a path inside the tree")
    return parts


@contextmanager
def folders(top: int, parts: list[bytes], make: bool) -> Iterator[list[int]]:
    """Open the folders on a way, from the top down, and where it is wanted make them. Raises OSError at a link."""
    opened = [os.dup(top)]
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=opened[-1])
            opened.append(os.open(part, FOLDER, dir_fd=opened[-1]))
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def remove(top: int, above: list[bytes], name: bytes) -> None:
    """Take a file away, and the folders that are empty then. Nothing to do where it is not there."""
    with suppress(FileNotFoundError), folders(top, above, make=False) as opened:
        os.unlink(name, dir_fd=opened[-1])
        with suppress(OSError):  # it is not empty
            for depth in reversed(range(len(above))):
                os.rmdir(above[depth], dir_fd=opened[depth])


def clear_result(top: int, path: str) -> None:
    """Make the folder of a result file, and remove the file that lies in its place."""
    with suppress(OSError, NotPlaced):
        *above, name = split(path)
        with folders(top, above, make=True) as opened:
            os.unlink(name, dir_fd=opened[-1])


def read_result(top: int, path: str, limit: int) -> bytes | None:
    """Return the bytes of a regular file of at most `limit`, None where there is none such."""
    with suppress(OSError, NotPlaced):
        *above, name = split(path)
        with folders(top, above, make=False) as opened, os.fdopen(os.open(name, READ, dir_fd=opened[-1]), "rb") as file:
            data = file.read(limit + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
            return data if data is None or len(data) <= limit else None
    return None
