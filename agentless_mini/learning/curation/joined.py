"""The records of one part, of all event shards, joined on disk: what is known of a pull request or an issue."""

import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agentless_mini.learning.curation.event_shards import connect
from agentless_mini.learning.curation.records import Comment, Fork, PullFacts, Record, Text, read_facts

_SCHEMA = """
CREATE TABLE record (
    key TEXT, number INTEGER, kind TEXT, uid TEXT, at TEXT, repo TEXT, facts BLOB,
    PRIMARY KEY (key, number, kind, uid)
) WITHOUT ROWID;
"""
# Of records that say the same the earliest counts, whatever the order of the shards.
_COPY = """
INSERT INTO record SELECT lower(repo), number, kind, uid, at, repo, facts FROM shard.record WHERE part = ?
ON CONFLICT DO UPDATE SET at = excluded.at, repo = excluded.repo, facts = excluded.facts WHERE excluded.at < at
"""


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

    def pulls(self, repo: str) -> Iterator[int]:
        """Yield the numbers of the pull requests of a repository, ascending."""
        asked = "SELECT DISTINCT number FROM record WHERE key = ? AND kind = 'pull' ORDER BY number"
        return (number for (number,) in self._database.execute(asked, (repo.lower(),)))

    def pull(self, repo: str, number: int) -> PullFacts:
        """Return what the events together say of a pull request: the latest that say something count.

        Titles and bodies that no event of its own tells come from events about comments on it.
        """
        facts = PullFacts(None)
        for record in self._records(repo, number, "text"):
            if isinstance(record.facts, Text) and record.facts.is_pull:
                text = record.facts
                facts = replace(facts, title=text.title, body=text.body, login=text.login)
        for record in self._records(repo, number, "pull"):
            if isinstance(record.facts, PullFacts):
                facts = _later(facts, record.facts)
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
        while (record := next(self._records(repo, 0, "fork"), None)) is not None:
            if not isinstance(record.facts, Fork) or record.facts.origin in found:
                break
            repo = record.facts.origin
            found.append(repo)
        return tuple(found)

    def _records(self, repo: str, number: int, kind: str) -> Iterator[Record]:
        asked = "SELECT uid, at, facts FROM record WHERE key = ? AND number = ? AND kind = ? ORDER BY at, uid"
        for uid, at, data in self._database.execute(asked, (repo.lower(), number, kind)):
            yield Record(repo, number, uid, at, read_facts(kind, zlib.decompress(data)))


def _later(known: PullFacts, told: PullFacts) -> PullFacts:
    """Return what is known with what a later event tells put over it. What was merged stays so."""
    changes = {
        name: value
        for name in (
            "title",
            "body",
            "login",
            "branch",
            "head",
            "base",
            "merge",
            "merged_at",
            "commits",
            "changed_files",
        )
        if (value := getattr(told, name))
    }
    merged = known.merged if known.merged or told.merged is None else told.merged
    return replace(known, **changes, merged=merged, bot=known.bot or told.bot, fork=known.fork or told.fork)


@contextmanager
def joined(shards: Iterable[Path], part: int) -> Iterator[Joined]:
    """Join the records of a part in a temporary database, which is removed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="amini-join-") as folder,
        closing(connect(Path(folder, "join.sqlite"))) as database,
    ):
        database.executescript(_SCHEMA)
        for shard in shards:
            database.execute("ATTACH ? AS shard", (f"{shard}",))
            database.execute(_COPY, (part,))
            database.commit()
            database.execute("DETACH shard")
        yield Joined(database)
