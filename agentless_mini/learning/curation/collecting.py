"""All shards of rows -> train, valid and test: near-duplicates go, families stay together, parquet is written.

It reads the shards in the order of their parts, so its result does not hang on who made them. What it has to remember
of all rows lies in a temporary database; of the rows themselves one group is in memory at a time.
"""

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agentless_mini.learning.curation.duplicates import MarkIndex
from agentless_mini.learning.curation.event_shards import connect, part_of
from agentless_mini.learning.curation.exclusions import NAMES
from agentless_mini.learning.curation.families import Families, split_of
from agentless_mini.learning.curation.row_shards import aside_of, open_shard
from agentless_mini.learning.curation.settings import CurateSettings
from agentless_mini.learning.curation.steps import Step
from agentless_mini.learning.rows import SPLITS, Row, write_rows

_SCHEMA = "CREATE TABLE kept (split TEXT, shard INTEGER, number INTEGER, PRIMARY KEY (split, shard, number))"


class Collector:
    """Collects the shards of a curation into a folder."""

    def __init__(self, shards: Sequence[Path], out: Path, settings: CurateSettings) -> None:
        """Collect `shards`, in the order of their parts."""
        self._shards = tuple(shards)
        self._out = out
        self._settings = settings

    def collect(self) -> Counter[str]:
        """Write the splits; return the rows in each by its name, and what was left out by its step."""
        with (
            tempfile.TemporaryDirectory(prefix="amini-collect-") as folder,
            closing(connect(Path(folder, "collect.sqlite"))) as database,
        ):
            database.execute(_SCHEMA)
            counts = self._choose(database, self._families(database))
            for split in SPLITS:
                self._write(database, split)
        return counts

    def _families(self, database: sqlite3.Connection) -> Families:
        families = Families(database)
        for path in self._shards:
            with open_shard(path) as shard:
                for repo, kin in shard.repos():
                    families.join(repo, kin)
                    for origin in (name for name in kin if "/" in name):
                        self._join_origins(families, origin.lower())
        return families

    def _join_origins(self, families: Families, repo: str) -> None:
        """Join a repository with what it was forked from, and that with its own: any part may know of it."""
        seen = {repo}
        while True:
            with open_shard(self._shards[part_of(repo, len(self._shards))]) as shard:
                origin = shard.origin(repo)
            if not origin or origin in seen:
                return
            families.join(repo, [origin])
            seen.add(origin)
            repo = origin

    def _choose(self, database: sqlite3.Connection, families: Families) -> Counter[str]:
        """Note which rows are kept, and in which split."""
        index = MarkIndex(database, self._settings.similar)
        barred = {families.of(name) for name in NAMES}
        counts: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
        for place, path in enumerate(self._shards):
            with open_shard(path) as shard:
                for one in shard.kept():
                    family = families.of(one.repo)
                    if family in barred:
                        counts[Step.BENCHMARK_FORK] += 1
                        continue
                    if not index.is_new(one.mark):
                        counts[Step.DUPLICATE] += 1
                        continue
                    split = split_of(family, self._settings)
                    counts[split] += 1
                    database.execute("INSERT INTO kept VALUES (?, ?, ?)", (split, place, one.number))
        return counts

    def _write(self, database: sqlite3.Connection, split: str) -> None:
        """Write a split as files of at most so many rows; the folder takes the place of the one before when whole."""
        partial, folder = self._out / f".{split}.partial", self._out / split
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        rows, number = self._rows(database, split), 0
        while (first := next(rows, None)) is not None:
            write_rows(partial / f"{number:05}.parquet", _first(first, rows, self._settings.rows_per_file))
            number += 1
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def _rows(self, database: sqlite3.Connection, split: str) -> Iterator[Row]:
        for place, path in enumerate(self._shards):
            asked = "SELECT number FROM kept WHERE split = ? AND shard = ? ORDER BY number"
            with open_shard(path) as shard:
                for (number,) in database.execute(asked, (split, place)):
                    yield replace(shard.row(number), split=split)


def write_aside(shards: Sequence[Path], path: Path) -> Counter[str]:
    """Write what could not be read for these shards as JSON lines; return how much of it there is by reason."""
    counts: Counter[str] = Counter()
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        for shard in shards:
            for one in aside_of(shard):
                counts[one.reason] += 1
                file.write(json.dumps({"place": one.place, "reason": one.reason, "start": one.start}) + "\n")
    partial.rename(path)
    return counts


def _first(first: Row, rest: Iterator[Row], most: int) -> Iterator[Row]:
    """Yield a row and at most so many in all of those after it."""
    yield first
    for _ in range(most - 1):
        row = next(rest, None)
        if row is None:
            return
        yield row
