"""The shard of one part of the owners: an SQLite file of its rows, its counts, and what could not be read."""

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agentless_mini.learning.curation.duplicates import mark_of
from agentless_mini.learning.curation.event_shards import Aside, connect, name_whole, partial_of
from agentless_mini.learning.curation.steps import Step
from agentless_mini.learning.rows import Row, RowFile

PULLS = "pulls"
_SCHEMA = """
CREATE TABLE repo (name TEXT PRIMARY KEY, kin TEXT);
CREATE TABLE fork (name TEXT PRIMARY KEY, origin TEXT) WITHOUT ROWID;
CREATE TABLE row (number INTEGER PRIMARY KEY, repo TEXT, mark BLOB, data BLOB);
CREATE TABLE count (name TEXT, count INTEGER);
CREATE TABLE rejected (place TEXT, reason TEXT, start TEXT);
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of a shard by its number, with its mark; `row` has to be read."""

    number: int
    repo: str
    mark: bytes


class RowSink:
    """Takes in what becomes of the pull requests of a part."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Write to a new database."""
        self._database = database
        self._counts: Counter[str] = Counter()
        database.executescript(_SCHEMA)

    def pull(self) -> None:
        """Count a pull request."""
        self._counts[PULLS] += 1

    def leave_out(self, step: Step) -> None:
        """Count a pull request that is left out."""
        self._counts[step] += 1

    def put_aside(self, aside: Aside) -> None:
        """Keep a sentence about what could not be read."""
        self._database.execute("INSERT INTO rejected VALUES (?, ?, ?)", (aside.place, aside.reason, aside.start[:200]))

    def repo(self, name: str, kin: tuple[str, ...]) -> None:
        """Note what a repository is of one family with."""
        self._database.execute("INSERT OR REPLACE INTO repo VALUES (?, ?)", (name, json.dumps(kin)))

    def fork(self, name: str, origin: str) -> None:
        """Note that a repository, with pull requests or none, was forked from another; the first word counts."""
        self._database.execute("INSERT OR IGNORE INTO fork VALUES (?, ?)", (name, origin))

    def keep(self, row: Row) -> None:
        """Take in a row."""
        data = zlib.compress(json.dumps(asdict(row), ensure_ascii=False).encode(), 3)
        self._database.execute("INSERT INTO row (repo, mark, data) VALUES (?, ?, ?)", (row.repo, mark_of(row), data))

    def close(self) -> None:
        """Write what was counted."""
        self._database.executemany("INSERT INTO count VALUES (?, ?)", sorted(self._counts.items()))
        self._database.commit()


@contextmanager
def row_sink(shard: Path) -> Iterator[RowSink]:
    """Write a shard, which has its name once it is whole."""
    partial = partial_of(shard)
    with closing(connect(partial)) as database:
        sink = RowSink(database)
        yield sink
        sink.close()
    name_whole(partial, shard)


class ShardReader:
    """Reads a shard of rows that is whole."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Read a database."""
        self._database = database

    def repos(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the repositories, each with its kin."""
        rows = self._database.execute("SELECT name, kin FROM repo ORDER BY name")
        return ((name, tuple(json.loads(kin))) for name, kin in rows)

    def origin(self, name: str) -> str:
        """Return what a repository was forked from, "" where the shard does not say."""
        found = self._database.execute("SELECT origin FROM fork WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def kept(self) -> Iterator[Kept]:
        """Yield the rows in order, without their contents."""
        rows = self._database.execute("SELECT number, repo, mark FROM row ORDER BY number")
        return (Kept(number, repo, mark) for number, repo, mark in rows)

    def row(self, number: int) -> Row:
        """Return a row."""
        (data,) = self._database.execute("SELECT data FROM row WHERE number = ?", (number,)).fetchone()
        values = json.loads(zlib.decompress(data))
        files = tuple(RowFile(**file) for file in values["files"])
        return Row(**{**values, "files": files, "parents": tuple(values["parents"])})


@contextmanager
def open_shard(path: Path) -> Iterator[ShardReader]:
    """Open a shard for reading."""
    with closing(sqlite3.connect(path)) as database:
        yield ShardReader(database)


def counts_of(shard: Path, table: str = "count") -> Counter[str]:
    """Return the counts in a shard of rows, or those of the types of events in one of events (table "seen")."""
    asked = {"count": "SELECT name, count FROM count", "seen": "SELECT type, count FROM seen"}[table]
    with closing(sqlite3.connect(shard)) as database:
        return Counter(dict(database.execute(asked).fetchall()))


def aside_of(shard: Path) -> Iterator[Aside]:
    """Yield what could not be read for a shard, of rows or of events."""
    with closing(sqlite3.connect(shard)) as database:
        for place, reason, start in database.execute("SELECT place, reason, start FROM rejected ORDER BY rowid"):
            yield Aside(place, reason, start)
