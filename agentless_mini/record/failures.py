"""The one place where errors of SQLite and of the disk become ours: each one sentence with what to try next."""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from agentless_mini.errors import AminiError, StoreBusy, StoreError, boundary, printable


def named(path: Path) -> str:
    """Return the path as part of a sentence."""
    return printable(str(path))


def translated(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turn what SQLite and the disk raise inside into a `StoreError` or `StoreBusy` about the store at `path`."""
    return boundary(
        {
            sqlite3.Error: lambda error: _of_sqlite(path, error),
            OSError: lambda error: _of_disk(path, error),
        }
    )


def _of_sqlite(path: Path, error: BaseException) -> AminiError:
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:  # the low byte is the kind
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return StoreError(
                f"The store {named(path)} is damaged or no store at all ({error}): "
                "move it away, or name another file with --store."
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _not_allowed(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(
                f"Another program has the store {named(path)} open and locked: close it there and try again."
            )
        case _:
            return _failing(path, str(error))


def _of_disk(path: Path, error: BaseException) -> AminiError:
    kind = error.errno if isinstance(error, OSError) else None
    if kind in (errno.ENOSPC, errno.EDQUOT):
        return _full(path)
    cause = os.strerror(kind) if kind else str(error)
    if kind in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return _not_allowed(path, cause)
    return _failing(path, cause)


def _full(path: Path) -> StoreError:
    return StoreError(
        f"The disk of the store {named(path)} is full: make room and run the same command again to go on from what is "
        "recorded, or name another place with --store."
    )


def _not_allowed(path: Path, cause: str) -> StoreError:
    return StoreError(
        f"The store {named(path)} cannot be opened or written ({cause}): "
        "check the permissions of the file and its folder, or name another place with --store."
    )


def _failing(path: Path, cause: str) -> StoreError:
    return StoreError(
        f"The store {named(path)} cannot be used ({cause}): check its disk, or name another with --store."
    )
