"""The records of one part, of all event shards, joined on disk: what is known of a pull request or an issue."""

import os
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from agentless_mini.learning.curation.event_shards import connect
from agentless_mini.learning.curation.records import Comment, Fork, PullFacts, Record, Text, read_facts

_SCHEMA = """
CREATE TABLE record (
    key TEXT, number INTEGER, kind TEXT, uid TEXT, at TEXT, repo TEXT, repo_id INTEGER, facts BLOB,
    PRIMARY KEY (key, number, kind, uid)
) WITHOUT ROWID;
CREATE TABLE spelled (repo_id INTEGER, key TEXT, since TEXT, until TEXT, PRIMARY KEY (repo_id, key)) WITHOUT ROWID;
CREATE TABLE former (name TEXT PRIMARY KEY, key TEXT);
"""
# Of records that say the same the earliest counts, whatever the order of the shards.
_COPY = """
INSERT INTO record SELECT lower(repo), number, kind, uid, at, repo, repo_id, facts FROM shard.record WHERE part = ?
ON CONFLICT DO UPDATE SET at = excluded.at, repo = excluded.repo, repo_id = excluded.repo_id, facts = excluded.facts
WHERE (excluded.at, excluded.facts, excluded.repo) < (at, facts, repo)
"""
_SPELL = """
INSERT INTO spelled SELECT repo_id, lower(repo), min(at), max(at) FROM shard.record WHERE part = ? AND repo_id > 0
GROUP BY 1, 2 ON CONFLICT DO UPDATE SET since = min(since, excluded.since), until = max(until, excluded.until)
"""
_RENAMED = """
SELECT repo_id, key, since, until FROM spelled
WHERE repo_id IN (SELECT repo_id FROM spelled GROUP BY repo_id HAVING count(*) > 1) ORDER BY repo_id, since, key
"""
_RENAME = "UPDATE OR IGNORE record SET key = ?, repo = ? WHERE key = ? AND repo_id = ?"
_TOLD = ("title", "body", "login", "branch", "head", "base", "merge", "merged_at", "commits", "changed_files", "lines")


@dataclass(frozen=True, slots=True)
class Said:
    """A comment, who made it and when."""

    at: str
    comment: Comment


class Joined:
    """The records of a part. Repositories are known by any spelling of their names."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Read a database that `joined` has filled."""
        self._database = database

    def repos(self) -> Iterator[str]:
        """Yield the repositories that have pull requests, sorted by their names in lower case."""
        rows = self._database.execute("SELECT key, max(repo) FROM record WHERE kind = 'pull' GROUP BY key ORDER BY key")
        return (repo for _, repo in rows)

    def former(self, repo: str) -> tuple[str, ...]:
        """Return the names that a repository had before, in lower case, sorted."""
        rows = self._database.execute("SELECT name FROM former WHERE key = ? ORDER BY name", (repo.lower(),))
        return tuple(name for (name,) in rows)

    def forks(self) -> Iterator[tuple[str, str]]:
        """Yield all forks whose origin is known, each with it, by their names in lower case."""
        rows = self._database.execute("SELECT key, facts FROM record WHERE kind = 'fork' AND uid = 'origin'")
        for key, data in rows:
            facts = read_facts("fork", zlib.decompress(data))
            if isinstance(facts, Fork):
                yield key, facts.origin.lower()

    def is_fork(self, repo: str) -> bool:
        """Tell whether any event calls a repository a fork."""
        return next(self._records(repo, 0, "fork"), None) is not None

    def pulls(self, repo: str) -> Iterator[int]:
        """Yield the numbers of the pull requests of a repository, ascending."""
        asked = "SELECT DISTINCT number FROM record WHERE key = ? AND kind = 'pull' ORDER BY number"
        return (number for (number,) in self._database.execute(asked, (repo.lower(),)))

    def pull(self, repo: str, number: int) -> PullFacts:
        """Return what the events together say of a pull request: the latest that say something count.

        Titles and bodies that no event of its own tells come from events about comments on it. Whether it was merged is
        unknown (None) where an event that could tell does not.
        """
        facts = PullFacts(False)
        for record in self._records(repo, number, "text"):
            if isinstance(record.facts, Text) and record.facts.is_pull:
                text = record.facts
                facts = replace(facts, title=text.title, body=text.body, login=text.login)
        for record in self._records(repo, number, "pull"):
            if isinstance(record.facts, PullFacts):
                facts = replace(_later(facts, record.facts), since=facts.since or record.at)
        return facts

    def issue(self, repo: str, number: int) -> Text | None:
        """Return an issue as it was first told of; None where it is unknown, or a pull request."""
        first = next(self._records(repo, number, "text"), None)
        text = first.facts if first is not None and isinstance(first.facts, Text) else None
        is_pull = text is None or text.is_pull or next(self._records(repo, number, "pull"), None) is not None
        return None if is_pull else text

    def said(self, repo: str, number: int) -> Iterator[Said]:
        """Yield the comments of a pull request or issue in order of time, without those of bots."""
        for record in self._records(repo, number, "comment"):
            if isinstance(record.facts, Comment) and not record.facts.bot:
                yield Said(record.at, record.facts)

    def origins(self, repo: str) -> tuple[str, ...]:
        """Return the repositories that this one was forked from, the nearest first, as far as this part knows."""
        found: list[str] = []
        while (repo := self._origin(repo)) and repo not in found:
            found.append(repo)
        return tuple(found)

    def _origin(self, repo: str) -> str:
        facts = (record.facts for record in self._records(repo, 0, "fork"))
        return next((one.origin for one in facts if isinstance(one, Fork) and one.origin), "")

    def _records(self, repo: str, number: int, kind: str) -> Iterator[Record]:
        asked = (
            "SELECT uid, at, facts FROM record WHERE key = coalesce((SELECT key FROM former WHERE name = ?1), ?1) "
            "AND number = ?2 AND kind = ?3 ORDER BY at, uid"
        )
        for uid, at, data in self._database.execute(asked, (repo.lower(), number, kind)):
            yield Record(repo, number, uid, at, read_facts(kind, zlib.decompress(data)))


def _later(known: PullFacts, told: PullFacts) -> PullFacts:
    """Return what is known with what a later event tells put over it. What was merged stays so."""
    changes = {name: value for name in _TOLD if (value := getattr(told, name))}
    merged = True if known.merged or told.merged else None if None in {known.merged, told.merged} else False
    return replace(known, **changes, merged=merged, bot=known.bot or told.bot)


@contextmanager
def joined(shards: Iterable[Path], part: int) -> Iterator[Joined]:
    """Join the records of a part in a temporary database, which is removed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="amini-join-") as folder,
        closing(connect(Path(folder, "join.sqlite"))) as database,
    ):
        database.executescript(_SCHEMA)
        for shard in shards:
            database.execute("ATTACH ? AS shard", (os.fsencode(shard),))
            database.execute(_COPY, (part,))
            database.execute(_SPELL, (part,))
            database.commit()
            database.execute("DETACH shard")
        _follow_names(database)
        yield Joined(database)


def _follow_names(database: sqlite3.Connection) -> None:
    """Put what was told of a repository under an earlier name to its last one.

    Only where one name follows the other in time: events whose numbers mean nothing interleave.
    """
    for repo_id, rows in groupby(database.execute(_RENAMED).fetchall(), key=lambda row: row[0]):
        _, names, since, until = zip(*rows, strict=True)
        if all(end < start for end, start in zip(until, since[1:], strict=False)):
            for name in names[:-1]:
                _rename(database, repo_id, name, names[-1])


def _rename(database: sqlite3.Connection, repo_id: int, name: str, last: str) -> None:
    (spelled,) = database.execute("SELECT max(repo) FROM record WHERE key = ?", (last,)).fetchone()
    database.execute(_RENAME, (last, spelled, name, repo_id))
    database.execute("DELETE FROM record WHERE key = ? AND repo_id = ?", (name, repo_id))
    if database.execute("SELECT 1 FROM record WHERE key = ?", (name,)).fetchone() is None:
        database.execute("INSERT OR REPLACE INTO former VALUES (?, ?)", (name, last))
