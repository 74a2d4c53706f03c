"""Which repositories are forks of one another, and the split that a family falls into.

Repositories are of one family where they have a first commit in common, or events say that one was forked from the
other. A family is known by the least first commit of its members, or by the least name in lower case where none is
known: more input can join families, but does not rename one whose members are cloned. It is kept in SQLite.
"""

import hashlib
import sqlite3
from collections.abc import Iterable

from agentless_mini.learning.curation.settings import CurateSettings

_RANGE = 2**64


class Families:
    """Repositories and first commits, joined as they are told of: a forest of union and find, on disk."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Keep the families in a database."""
        self._database = database
        database.execute("CREATE TABLE kin (name TEXT PRIMARY KEY, parent TEXT) WITHOUT ROWID")

    def join(self, repo: str, kin: Iterable[str]) -> None:
        """Say that a repository is of one family with others: repositories by name, or first commits by id.

        Names hold a "/" and ids do not; of the two an id becomes the family's.
        """
        for other in kin:
            one, two = sorted((self._top(repo.lower()), self._top(other.lower())), key=lambda n: ("/" in n, n))
            if one != two:
                self._put(two, one)

    def of(self, repo: str) -> str:
        """Return the name of the family of a repository."""
        return self._top(repo.lower())

    def _top(self, name: str) -> str:
        path = []
        while (parent := self._parent(name)) not in {name, ""}:
            path.append(name)
            name = parent
        for passed in path[:-1]:
            self._put(passed, name)
        return name

    def _parent(self, name: str) -> str:
        row = self._database.execute("SELECT parent FROM kin WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def _put(self, name: str, parent: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO kin VALUES (?, ?)", (name, parent))


def split_of(family: str, settings: CurateSettings) -> str:
    """Return the split of a family: by its name and the seed. More input moves no row unless families join."""
    digest = hashlib.sha256(f"{settings.seed} {family}".encode()).digest()
    place = int.from_bytes(digest[:8]) / _RANGE
    if place < settings.test:
        return "test"
    return "valid" if place < settings.test + settings.valid else "train"
