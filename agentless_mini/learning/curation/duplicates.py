"""Near-duplicates: rows whose issue and change are almost the same, as backports and forks make them.

A row is the set of its shingles: runs of three words of the issue and of the lines that the change adds and removes.
Its mark is a MinHash of one permutation: shingles are hashed once (64 bits of BLAKE2b) and dealt into 128 bins, the
least of each bin counts, an empty bin borrows from the next one that is not. The share of equal bins estimates the
similarity of Jaccard, with a standard error of 0.04 near 0.8. Candidates are those that agree in one of 32 bands of 4
bins: at a similarity of 0.8 all but one of 10 million pairs are, at 0.5 seven of eight.

A mark is 512 bytes. The index is an SQLite file, so memory does not grow with the rows.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

from agentless_mini.learning.rows import Row, RowFile

BINS, BANDS = 128, 32
WORDS = 3
MOST_SHINGLES = 20_000
MOST_CANDIDATES = 256
_DEPTH = BINS // BANDS
_VALUE = 32  # bits of a bin
_EMPTY = b"\0" * (BINS * 4)


def mark_of(row: Row) -> bytes:
    """Return the mark of a row: 128 numbers of 32 bits, to be compared by `similarity` alone."""
    least: list[int | None] = [None] * BINS
    for shingle in _shingles(row):
        digest = int.from_bytes(blake2b(shingle.encode("utf-8", "replace"), digest_size=8).digest())
        place, value = digest % BINS, digest >> (64 - _VALUE)
        known = least[place]
        least[place] = value if known is None else min(known, value)
    return b"".join(value.to_bytes(4) for value in _filled(least)) if any(v is not None for v in least) else _EMPTY


def similarity(one: bytes, other: bytes) -> float:
    """Return the estimated share of shingles that two rows have in common."""
    return sum(one[at : at + 4] == other[at : at + 4] for at in range(0, BINS * 4, 4)) / BINS


class MarkIndex:
    """The marks of the rows that were kept."""

    def __init__(self, database: sqlite3.Connection, similar: float) -> None:
        """Keep the index in a database; rows are near-duplicates from a similarity of `similar` on."""
        self._database = database
        self._similar = similar
        database.executescript(
            "CREATE TABLE mark (number INTEGER PRIMARY KEY, mark BLOB);"
            "CREATE TABLE band (key INTEGER, number INTEGER, PRIMARY KEY (key, number)) WITHOUT ROWID;"
        )

    def is_new(self, mark: bytes) -> bool:
        """Tell whether no mark that was taken in is similar, and take this one in if so."""
        keys = tuple(_bands(mark))
        if any(similarity(mark, known) >= self._similar for known in self._candidates(keys)):
            return False
        number = self._database.execute("INSERT INTO mark (mark) VALUES (?)", (mark,)).lastrowid
        self._database.executemany("INSERT OR IGNORE INTO band VALUES (?, ?)", [(key, number) for key in keys])
        return True

    def _candidates(self, keys: tuple[int, ...]) -> list[bytes]:
        """Return the marks that share a band, those that share most first."""
        places = ", ".join("?" * len(keys))
        asked = (
            "SELECT mark FROM mark JOIN (SELECT number, count(*) AS shared FROM band "  # noqa: S608 - only places
            f"WHERE key IN ({places}) GROUP BY number ORDER BY shared DESC LIMIT {MOST_CANDIDATES}) USING (number)"
        )
        return [mark for (mark,) in self._database.execute(asked, keys)]


def _bands(mark: bytes) -> Iterator[int]:
    for band in range(BANDS):
        part = mark[band * _DEPTH * 4 : (band + 1) * _DEPTH * 4]
        yield int.from_bytes(blake2b(bytes([band]) + part, digest_size=8).digest(), signed=True)


def _filled(least: list[int | None]) -> Iterator[int]:
    """Yield the bins, an empty one with what the next has that is not, and how far it is."""
    for place in range(BINS):
        steps = next(steps for steps in range(BINS) if least[(place + steps) % BINS] is not None)
        yield ((least[(place + steps) % BINS] or 0) + steps * 0x9E3779B1) % 2**_VALUE


def _shingles(row: Row) -> set[str]:
    words = _words(row.issue)
    for file in row.files:
        words += [word for line in _changed_lines(file) for word in _words(line)]
    words = words[:MOST_SHINGLES]
    return {" ".join(words[at : at + WORDS]) for at in range(max(1, len(words) - WORDS + 1))} if words else set()


def _changed_lines(file: RowFile) -> list[str]:
    """Return the lines that only one side has, counted, in the order of the sides."""
    before, after = ((text or "").split("\n") for text in (file.before, file.after))
    if before == after:
        return []
    removed, added = Counter(before) - Counter(after), Counter(after) - Counter(before)
    return [line for side, kept in ((before, removed), (after, added)) for line in _taken(side, kept)]


def _taken(lines: list[str], kept: Counter[str]) -> Iterator[str]:
    for line in lines:
        if kept[line] > 0:
            kept[line] -= 1
            yield line


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())
