"""A SQLite file with one writer at a time.

A transaction that was committed survives the death of the process (SIGKILL at any moment), because the write-ahead
log is then with the kernel. After a loss of power the last commits may be missing, never half there: that is what
`synchronous = NORMAL` trades for not waiting on the disk at each sample. It knows no tables: see `schema`.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from agentless_mini.errors import AminiError, StoreBusy, StoreError, boundary, printable

APPLICATION_ID = 0x616D696E  # "amin": tells a store from other programs' databases
LOCK_TRIES = 10
LOCK_PAUSE_SECONDS = 0.02  # a reader that asks whether a run is alive holds the lock for less than this

Value = str | bytes | int | float | None
Row = tuple[Any, ...]
Waiting = Callable[[str], None]
"""Is told, in a sentence, whom a process waits for."""


class Database:
    """One open file. Each `write` is committed when it returns, unless a `transaction` is open around it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        """Own the connection and the lock's descriptor (None for a reader); `create` and `view` make both."""
        self.path = path
        self._connection = connection
        self._lock = lock

    @classmethod
    def create(cls, path: Path, migrations: tuple[str, ...], waiting: Waiting | None = None) -> Self:
        """Open the file to write, made if it is missing, brought up to date, and locked for this process.

        While another process has it, `waiting` is told so once and waited for; without it `StoreBusy` is raised.
        Raises `StoreError` if it cannot be used.
        """
        with translated(path):
            path = _resolved(path)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.ExitStack() as undo:
                lock = _lock(path, waiting)
                undo.callback(os.close, lock)
                if not path.exists():
                    path.touch(mode=0o600)  # it holds source code that may be private
                connection = undo.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
                _migrate(path, connection, migrations)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
                undo.pop_all()
                return cls(path, connection, lock)

    @classmethod
    def view(cls, path: Path, migrations: tuple[str, ...]) -> Self:
        """Open the file to read, also while another process writes it. Raises `StoreError` if it cannot be used."""
        with translated(path), contextlib.ExitStack() as undo:
            if not path.exists():
                raise StoreError(
                    f"There is no store at {named(path)}: amini repair makes one, or name another with --store."
                )
            path = _resolved(path)
            connection = sqlite3.connect(_view_uri(path), uri=True, isolation_level=None)
            undo.enter_context(contextlib.closing(connection))
            version = _version(path, connection, len(migrations))
            if version < len(migrations):
                raise StoreError(
                    f"The store {named(path)} is of an older amini: run amini repair with it once to update it."
                )
            undo.pop_all()
            return cls(path, connection, None)

    def read(self, query: str, values: tuple[Value, ...] = ()) -> list[Row]:
        """Return the rows that a query finds."""
        with translated(self.path):
            return self._connection.execute(query, _bound(values)).fetchall()

    def write(self, statement: str, values: tuple[Value, ...] = ()) -> int:
        """Run one statement; return the rowid of the last row inserted."""
        with translated(self.path):
            return self._connection.execute(statement, _bound(values)).lastrowid or 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the writes inside take effect together, or not at all if one raises."""
        with translated(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let the reads inside see the file at one moment, whatever a run writes meanwhile."""
        with translated(self.path), self._connection:
            self._connection.execute("BEGIN")
            yield

    def close(self) -> None:
        """Close the file and let go of the lock."""
        try:
            with translated(self.path):
                self._connection.close()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def held(self) -> bool:
        """Return whether some process, this one included, has the file open to write. If it cannot be told: yes."""
        try:
            descriptor = os.open(_lock_path(self.path), os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


def text(value: str | bytes) -> str:
    """Return a text as it was given to `Database.write`, which stores text that is no valid Unicode as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def _bound(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(_storable(value) if isinstance(value, str) else value for value in values)


def _storable(value: str) -> str | bytes:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


# --- opening ---------------------------------------------------------------------------------------------------------


def _resolved(path: Path) -> Path:
    """Follow links, so that two names of one file have one lock."""
    path = path.resolve()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return path


def _migrate(path: Path, connection: sqlite3.Connection, migrations: tuple[str, ...]) -> None:
    done = _version(path, connection, len(migrations))
    for number, step in enumerate(migrations[done:], done + 1):
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        connection.executescript(f"BEGIN IMMEDIATE; {step} {marks} COMMIT;")


def _version(path: Path, connection: sqlite3.Connection, newest: int) -> int:
    """Return the steps that the file has seen: 0 for an empty file. Raises `StoreError` if it is not for us."""
    ((program,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    if program != APPLICATION_ID and (program, version, tables) != (0, 0, 0):
        raise StoreError(f"{named(path)} is a database of another program: name another file with --store.")
    if version > newest:
        raise StoreError(
            f"The store {named(path)} is of a newer amini (version {version}, this one knows {newest}): "
            "update amini, or name another file with --store."
        )
    return int(version)


def _view_uri(path: Path) -> str:
    """Return the address for reading. Where SQLite cannot put its index beside the file, nobody else can write it."""
    closed = not path.with_name(path.name + "-wal").exists()
    unwritable = not os.access(path.parent, os.W_OK)
    return path.as_uri() + ("?mode=ro&immutable=1" if closed and unwritable else "?mode=ro")


# --- the lock --------------------------------------------------------------------------------------------------------


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path, waiting: Waiting | None) -> int:
    """Take the lock and return its descriptor; the kernel gives it back when the process ends, however it ends.

    The lock is on a file of its own, because SQLite keeps locks on the database that closing any descriptor drops.
    """
    descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _flock(path, descriptor, waiting)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _flock(path: Path, descriptor: int, waiting: Waiting | None) -> None:
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return
    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
    process = f" (process {holder})" if holder.isdigit() else ""
    busy = f"Another amini run{process} uses {named(path)}"
    own = "give this one a record of its own (--store; of eval: --out)."
    if waiting is None:
        raise StoreBusy(f"{busy}: wait for it, or {own}")
    waiting(f"{busy}: waiting for its end; to have both at once, {own}")
    fcntl.flock(descriptor, fcntl.LOCK_EX)


# --- errors of SQLite and of the disk, as ours ------------------------------------------------------------------------


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
