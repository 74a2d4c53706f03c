"""A SQLite file with one writer at a time, and how frozen values are written in it.

A transaction that was committed survives the death of the process (SIGKILL at any moment), because the write-ahead
log is then with the kernel. After a loss of power the last commits may be missing, never half there: that is what
`synchronous = NORMAL` trades for not waiting on the disk at each sample. It knows no tables: see `schema`.

A value is written as JSON with bytes as base64. Packed it is a text (plain JSON) or bytes (JSON compressed by zlib).
"""

import base64
import contextlib
import enum
import errno
import fcntl
import functools
import json
import os
import sqlite3
import time
import types
import typing
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from agentless_mini.domain import Job, Output, ResultFile, Usage, canonical_json
from agentless_mini.errors import AminiError, StoreBusy, StoreError, boundary, printable

APPLICATION_ID = 0x616D696E  # "amin": tells a store from other programs' databases
LOCK_TRIES = 10
LOCK_PAUSE_SECONDS = 0.02  # a reader that asks whether a run is alive holds the lock for less than this

Value = str | bytes | int | float | None
Row = tuple[Any, ...]
Waiting = Callable[[str], None]
"""Is told, in a sentence, whom a process waits for."""
COMPRESSED_FROM = 1024
ARGUMENT_LETTERS = 200
_UNTOLD = {"prompt_tokens": 1, "cached_tokens": 2, "completion_tokens": 4}

T = TypeVar("T")
Json = Any
"""Any JSON value."""
Packed = str | bytes


class Database:
    """One open file. Each `write` is committed when it returns, unless a `transaction` is open around it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        """Own the connection and the lock's descriptor (None for a reader); `create` and `view` make both."""
        self.path, self._connection, self._lock = path, connection, lock

    @classmethod
    def create(cls, path: Path, version: int, tables: str, waiting: Waiting | None = None) -> Self:
        """Open the file to write, made with these tables if it is missing, and locked for this process.

        While another process has it, `waiting` is told so once and waited for; without it `StoreBusy` is raised.
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
                if not _has_tables(path, connection, version):
                    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
                    connection.executescript(f"BEGIN IMMEDIATE; {tables} {marks} COMMIT;")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
                undo.pop_all()
                return cls(path, connection, lock)

    @classmethod
    def view(cls, path: Path, version: int) -> Self:
        """Open the file to read, also while another process writes it. Raises `StoreError` if it cannot be used."""
        with translated(path), contextlib.ExitStack() as undo:
            missing = f"There is no store at {named(path)}: amini repair makes one, or name another with --store."
            if not path.exists():
                raise StoreError(missing)
            path = _resolved(path)
            # Where SQLite cannot put its index beside the file, nobody else can write it.
            closed = not path.with_name(path.name + "-wal").exists() and not os.access(path.parent, os.W_OK)
            address = path.as_uri() + ("?mode=ro&immutable=1" if closed else "?mode=ro")
            connection = sqlite3.connect(address, uri=True, isolation_level=None)
            undo.enter_context(contextlib.closing(connection))
            if not _has_tables(path, connection, version):
                raise StoreError(missing)
            undo.pop_all()
            return cls(path, connection, None)

    def read(self, query: str, *values: Value) -> list[Row]:
        """Return the rows that a query finds."""
        with translated(self.path):
            return self._connection.execute(query, tuple(map(_storable, values))).fetchall()

    def values(self, kind: type[T], query: str, *values: Value) -> Iterator[T]:
        """Return the rows that a query finds as values of a type, whose fields are the columns, in this order."""
        return (read(kind, list(row)) for row in self.read(query, *values))

    def write(self, statement: str, *values: Value) -> int:
        """Run one statement; return the rowid of the last row inserted."""
        with translated(self.path):
            return self._connection.execute(statement, tuple(map(_storable, values))).lastrowid or 0

    def insert(self, table: str, /, **columns: Value) -> int:
        """Insert a row and return its rowid. Where its key is there, that row stays. Names are the code's constants."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - constants
        return self.write(statement, *columns.values())

    def replace(self, table: str, /, **columns: Value) -> None:
        """Insert a row in the place of one with the same key."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        self.write(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", *columns.values())  # noqa: S608 - constants

    @contextlib.contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Make the writes inside take effect together, or not at all if one raises."""
        with translated(self.path), self._connection:
            self._connection.execute(begin)
            yield

    def snapshot(self) -> contextlib.AbstractContextManager[None]:
        """Let the reads inside see the file at one moment, whatever a run writes meanwhile."""
        return self.transaction("BEGIN")

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
        except OSError as error:
            return not isinstance(error, FileNotFoundError)
        try:
            return not _locked(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def text(value: str | bytes) -> str:
    """Return a text as it was given to `Database.write`, which stores text that is no valid Unicode as bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def _storable(value: Value) -> Value:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def _resolved(path: Path) -> Path:
    """Follow links, so that two names of one file have one lock."""
    path = path.resolve()
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return path


def _has_tables(path: Path, connection: sqlite3.Connection, version: int) -> bool:
    """Return whether the file has our tables: not if it is empty. Raises `StoreError` if it is not for us."""
    ((program,),) = connection.execute("PRAGMA application_id")
    ((found,),) = connection.execute("PRAGMA user_version")
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    if (program, found, tables) == (0, 0, 0):
        return False
    if program != APPLICATION_ID:
        raise StoreError(f"{named(path)} is a database of another program: name another file with --store.")
    if found != version:
        age, advice = ("a newer", "update amini") if found > version else ("an older", "move it away")
        raise StoreError(
            f"The store {named(path)} is of {age} amini (version {found}, this one knows {version}): "
            f"{advice}, or name another place (--store; of eval: --out)."
        )
    return True


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path, waiting: Waiting | None) -> int:
    """Take the lock and return its descriptor; the kernel gives it back when the process ends, however it ends.

    The lock is on a file of its own, because SQLite keeps locks on the database that closing any descriptor drops.
    """
    with contextlib.ExitStack() as undo:
        descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT, 0o600)
        undo.callback(os.close, descriptor)
        for _ in range(LOCK_TRIES):
            if _locked(descriptor, fcntl.LOCK_EX):
                break
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
            process = f" (process {holder})" if holder.isdigit() else ""
            busy = f"Another amini run{process} uses {named(path)}"
            own = "give this one a record of its own (--store; of eval: --out)."
            if waiting is None:
                raise StoreBusy(f"{busy}: wait for it, or {own}")
            waiting(f"{busy}: waiting for its end; to have both at once, {own}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        undo.pop_all()
        return descriptor


def _locked(descriptor: int, kind: int) -> bool:
    """Return whether a lock of this kind could be taken at once."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def named(path: Path) -> str:
    """Return the path as part of a sentence."""
    return printable(str(path))


_FULL = (
    "The disk of the store {store} is full: make room and run the same command again to go on from what is recorded, "
    "or name another place with --store."
)
_DAMAGED = "The store {store} is damaged or no store at all ({cause}): move it away, or name another file with --store."
_REFUSED = (
    "The store {store} cannot be opened or written ({cause}): "
    "check the permissions of the file and its folder, or name another place with --store."
)
_LOCKED = "Another program has the store {store} open and locked: close it there and try again."
_FAILING = "The store {store} cannot be used ({cause}): check its disk, or name another with --store."
_OF_SQLITE = {  # by the low byte of the code, which is the kind
    sqlite3.SQLITE_FULL: _FULL,
    **dict.fromkeys((sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT), _DAMAGED),
    **dict.fromkeys((sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM), _REFUSED),
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), _LOCKED),
}
_OF_DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST), _REFUSED),
}


def translated(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turn what SQLite and the disk raise inside into a `StoreError` or `StoreBusy` about the store at `path`."""

    def ours(error: BaseException) -> AminiError:
        if isinstance(error, OSError):
            cause = os.strerror(error.errno) if error.errno else str(error)
            sentence = _OF_DISK.get(error.errno or 0, _FAILING)
        else:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            cause, sentence = str(error), _OF_SQLITE.get(code & 0xFF, _FAILING)
        kind = StoreBusy if sentence is _LOCKED else StoreError
        return kind(sentence.format(store=named(path), cause=cause))

    return boundary({sqlite3.Error: ours, OSError: ours})


def pack(value: Json) -> Packed:
    """Return the value as it is stored."""
    text = canonical_json(value)
    return text if len(text) < COMPRESSED_FROM else zlib.compress(text.encode())


def unpack(packed: Packed) -> Json:
    """Return the value that was packed."""
    return json.loads(packed if isinstance(packed, str) else zlib.decompress(packed))


def written(value: object) -> Json:
    """Return a frozen value as JSON's own types, from which `read` makes it again."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if (names := _fields(cast("Hashable", type(value)))) is None:
        return value
    if isinstance(value, Output | ResultFile):  # many of each: without their names
        return [written(getattr(value, name)) for name in names]
    return {name: written(getattr(value, name)) for name in names}


@functools.cache
def _fields(kind: type) -> tuple[str, ...] | None:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def read(kind: type[T], values: Json) -> T:
    """Return the value of this type of which `written` made these."""
    found: T = _reader(cast("Hashable", kind))(values)
    return found


_READ: Mapping[type, Callable[[Any], Json]] = {bytes: base64.b64decode, str: text, bool: bool}


@functools.cache
def _reader(kind: Any) -> Callable[[Json], Any]:  # noqa: ANN401 - a type, as an annotation says it
    """Return what makes a value of a type."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        inner = _reader(parts[0])
        return lambda values: tuple(map(inner, values))
    if origin is types.UnionType:  # of a type and None
        inner = _reader(parts[0])
        return lambda value: None if value is None else inner(value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        inners = {field.name: _reader(hints[field.name]) for field in fields(kind)}

        def whole(values: Json) -> Any:  # noqa: ANN401 - a value of this type
            named = zip(inners, values, strict=True) if isinstance(values, list) else values.items()
            return kind(**{name: inners[name](value) for name, value in named})

        return whole
    if kind in _READ:
        return _READ[kind]
    return kind if isinstance(kind, type) and issubclass(kind, enum.Enum) else lambda value: value


def usage_columns(usage: Usage) -> dict[str, int]:
    """Return usage as the columns of `samples` have it: a number that is not known is 0, and its mark in `untold`."""
    told = {name: getattr(usage, name) for name in _UNTOLD}
    untold = sum(_UNTOLD[name] for name, tokens in told.items() if tokens is None)
    return {**{name: tokens or 0 for name, tokens in told.items()}, "untold": untold}


def usage_of(prompt: int, cached: int, answer: int, untold: int) -> Usage:
    """Return the usage that `usage_columns` made columns of."""
    columns = zip((prompt, cached, answer), _UNTOLD.values(), strict=True)
    return Usage(*(None if untold & mark else tokens for tokens, mark in columns))


def job_values(job: Job) -> Json:
    """Return what people may want to know of a job; it cannot be run from this."""
    return {
        "environment": written(job.environment),
        "tree": written(job.tree),
        "files": [file.path for file in job.files],
        "steps": [[argument[:ARGUMENT_LETTERS] for argument in step.argv] for step in job.steps],
    }
