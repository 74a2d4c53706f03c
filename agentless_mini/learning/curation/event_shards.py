"""One file of events -> one shard: an SQLite file of its records, filed by the part that the owner belongs to.

Lines are read one by one, so memory does not grow with the file. A line that cannot be read, a torn end and a line over
`MOST_LINE` bytes are kept aside in the shard; nothing of that is fatal.
"""

import gzip
import hashlib
import os
import platform
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from agentless_mini.errors import UsageError, boundary, printable
from agentless_mini.learning.curation.events import Malformed, read_event
from agentless_mini.learning.curation.records import Record, facts_json

MOST_LINE = 8 * 2**20  # of JSON, which may take thirty times as much in memory
_QUOTED = 200  # bytes of a malformed line that are kept
_SCHEMA = """
CREATE TABLE record (
    part INTEGER, repo TEXT, number INTEGER, kind TEXT, uid TEXT, at TEXT, facts BLOB, repo_id INTEGER
);
CREATE TABLE seen (type TEXT, count INTEGER);
CREATE TABLE rejected (place TEXT, reason TEXT, start TEXT);
"""


@dataclass(frozen=True, slots=True)
class Aside:
    """Something that could not be read: where, why, and how it begins."""

    place: str
    reason: str
    start: str


def part_of(repo: str, parts: int) -> int:
    """Return the part of a repository: all of one owner's are in one, so that links among them resolve."""
    owner = repo.partition("/")[0].lower()
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8]) % parts


def shard_events(path: Path, shard: Path, parts: int) -> None:
    """Write the shard of a file of events, plain or gzip. Raises `UsageError` where the file cannot be opened."""
    partial = partial_of(shard)
    shown = printable(str(path))
    with boundary({OSError: lambda error: UsageError(f"The events {shown} cannot be read ({error}): check the path.")}):
        file = path.open("rb")
    with file, closing(connect(partial)) as database:
        database.executescript(_SCHEMA)
        _fill(database, Lines(file, printable(path.name)), parts)
        database.execute("CREATE INDEX by_part ON record (part)")
        database.commit()
    name_whole(partial, shard)


def name_whole(partial: Path, shard: Path) -> None:
    """Give a shard its name, once the disk has it: a machine that stops must not leave a named one that is torn."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(shard)


def partial_of(shard: Path) -> Path:
    """Return where a shard is written until it is whole: no two processes of a cluster write to the same place."""
    partial = shard.with_name(f"{shard.name}.{platform.node()}-{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    return partial


def connect(path: Path) -> sqlite3.Connection:
    """Open a new database that a crash may lose: it has its name only once it is whole."""
    database = sqlite3.connect(path)
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;")
    return database


class Lines:
    """The lines of a file of events, with what could not be read of it in `aside`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read a file, which is gzip where it begins as such."""
        self._file = file
        self._name = name
        self.aside: list[Aside] = []

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Yield each line with its place (`name:number`)."""
        zipped = self._file.read(2) == b"\x1f\x8b"
        self._file.seek(0)
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=self._file)) if zipped else self._file
        number = 0
        try:
            while line := stream.readline(MOST_LINE + 1):
                number += 1
                if len(line) > MOST_LINE:
                    self._leave(f"{self._name}:{number}", "over-long line", line)
                    _skip_line(stream, line)
                elif line.strip():
                    yield f"{self._name}:{number}", line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._leave(f"{self._name}:{number + 1}", "torn file", str(error).encode())

    def leave(self, place: str, reason: str, line: bytes) -> None:
        """Keep a line aside."""
        self._leave(place, reason, line)

    def _leave(self, place: str, reason: str, line: bytes) -> None:
        self.aside.append(Aside(place, reason, line[:_QUOTED].decode("utf-8", "replace")))


def _skip_line(stream: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(MOST_LINE)


def _fill(database: sqlite3.Connection, lines: Lines, parts: int) -> None:
    seen: Counter[str] = Counter()
    for place, line in lines:
        try:
            kind, records = read_event(line)
        except Malformed as error:
            lines.leave(place, str(error), line)
        else:
            seen[kind[:60]] += 1
            database.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _rows(records, parts))
        if len(lines.aside) > 1000:
            _put_aside(database, lines.aside)
    _put_aside(database, lines.aside)
    database.executemany("INSERT INTO seen VALUES (?, ?)", sorted(seen.items()))


def _rows(records: tuple[Record, ...], parts: int) -> Iterator[tuple[int, str, int, str, str, str, bytes, int]]:
    for one in records:
        data = zlib.compress(facts_json(one.facts), 1)
        yield part_of(one.repo, parts), one.repo, one.number, one.kind, one.uid, one.at, data, one.repo_id


def _put_aside(database: sqlite3.Connection, aside: list[Aside]) -> None:
    database.executemany("INSERT INTO rejected VALUES (?, ?, ?)", [(o.place, o.reason, o.start) for o in aside])
    aside.clear()
