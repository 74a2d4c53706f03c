"""The records of one part of the owners, of all shards of events, joined on disk by DuckDB.

Records that say the same count once, as of the earliest. What was told of a repository under an earlier name goes to
its last one, but only where one name follows the other in time.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.installing import install_command

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MEMORY = "256MB"  # what is more goes to the disk
_AT_ONCE = 256  # pull requests

_JOIN = (
    "CREATE TABLE told AS SELECT *, lower(repo) AS key FROM read_parquet($shards) WHERE part = $part",
    """
    CREATE TABLE renamed AS
    WITH spelled AS (
        SELECT repo_id, key, min(moment) AS since, max(moment) AS until FROM told WHERE repo_id > 0 GROUP BY ALL
    ), followed AS (
        SELECT *, lead(since) OVER (PARTITION BY repo_id ORDER BY since, key) AS next FROM spelled
    ), chain AS (
        SELECT repo_id, list(key ORDER BY since, key) AS names FROM followed GROUP BY repo_id
        HAVING count(*) > 1 AND bool_and(next IS NULL OR until < next)
    ), last AS (SELECT repo_id, unnest(names[:-2]) AS former, names[-1] AS key FROM chain)
    SELECT last.*, (SELECT max(repo) FROM told WHERE told.key = last.key) AS repo FROM last
    """,
    """
    CREATE TABLE record AS SELECT * FROM (
        SELECT told.* REPLACE (coalesce(renamed.key, told.key) AS key, coalesce(renamed.repo, told.repo) AS repo)
        FROM told LEFT JOIN renamed ON told.repo_id = renamed.repo_id AND told.key = renamed.former
    ) QUALIFY row_number() OVER (PARTITION BY key, number, kind, uid ORDER BY moment, login, body, place, repo) = 1
    ORDER BY key, number
    """,
    "DROP TABLE told",
)
# Of what several events say the latest that says something counts; words that none says come from texts.
_LATEST = "coalesce(arg_max({0}, moment || uid) FILTER (kind = 'pull' AND {0} <> {1}), {2})"
_WORDS = "coalesce(arg_max({0}, moment || uid) FILTER (kind = 'text' AND is_pull), '')"
_TOLD = (
    *((name, "''", _WORDS.format(name)) for name in ("title", "body", "login")),
    *((name, "''", "''") for name in ("branch", "merge", "merged_at")),
    *((name, "0", "0") for name in ("commits", "changed_files", "lines")),
)
_PULLS = f"""
SELECT number,
    CASE WHEN bool_or(merged) THEN true WHEN count(merged) < count(*) FILTER (kind = 'pull') THEN NULL ELSE false END,
    bool_or(bot) FILTER (kind = 'pull'), min(moment) FILTER (kind = 'pull'),
    {", ".join(_LATEST.format(*told) for told in _TOLD)}
FROM record WHERE key = $1 AND number BETWEEN $2 AND $3 AND kind IN ('pull', 'text')
GROUP BY number HAVING count(*) FILTER (kind = 'pull') > 0 ORDER BY number
"""  # noqa: S608 - its parts stand above
_CONVERSATION = r"""
WITH thread AS (SELECT unnest($keys::VARCHAR[]) AS key, unnest($numbers::BIGINT[]) AS number), said AS (
    SELECT moment, uid, concat(if(login = '', 'somebody', login), if(place = '', '', ' on ' || place), ', ', moment,
        ':', chr(10), replace(regexp_replace(body, '^\s+|\s+$', '', 'g'), chr(13) || chr(10), chr(10))) AS piece
    FROM record SEMI JOIN thread USING (key, number)
    WHERE kind = 'comment' AND NOT bot AND moment <= $until
), counted AS (SELECT *, sum(length(piece)) OVER (ORDER BY moment, uid ROWS UNBOUNDED PRECEDING) AS size FROM said)
SELECT string_agg(piece, chr(10) || chr(10) ORDER BY moment, uid) FROM counted WHERE size <= $most
"""


class Pull(NamedTuple):
    """What the events together say of a pull request: None, "" or 0 where they do not say.

    `merged_at` is when it was merged if it was, `since` when the first event tells of it.
    """

    merged: bool | None
    bot: bool = False
    since: str = ""
    title: str = ""
    body: str = ""
    login: str = ""
    branch: str = ""
    merge: str = ""
    merged_at: str = ""
    commits: int = 0
    changed_files: int = 0
    lines: int = 0


class Known(NamedTuple):
    """A repository, the names that it had before in lower case, and what it was forked from: "" where nobody says."""

    repo: str
    former: list[str]
    origins: list[str]


@contextmanager
def engine() -> Iterator["DuckDBPyConnection"]:
    """Open an empty database on disk, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="amini-join-") as folder:
        settings = {"threads": 1, "memory_limit": _MEMORY, "temp_directory": folder}
        with _duckdb().connect(str(Path(folder, "join.duckdb")), config=settings) as database:
            yield database


def engine_failures() -> tuple[type[Exception], ...]:
    """Return what the database raises where a disk is full or a file damaged."""
    duckdb = _duckdb()
    return duckdb.IOException, duckdb.InvalidInputException, duckdb.OutOfMemoryException


def _duckdb() -> Any:  # noqa: ANN401 - a module
    with boundary({ImportError: lambda _: EnvironmentFailed(f"Curation needs DuckDB: {install_command('curate')}.")}):
        import duckdb
    return duckdb


class Joined:
    """The records of a part. Repositories are known by any spelling of their names, and by earlier ones."""

    def __init__(self, database: "DuckDBPyConnection", shards: Sequence[Path], part: int) -> None:
        """Join the records of a part into an empty database."""
        self._database = database
        for step in _JOIN:
            given = {"shards": [str(shard) for shard in shards], "part": part} if "$part" in step else {}
            database.execute(step, given)
        asked = "SELECT former, arg_max(key, repo_id) FROM renamed ANTI JOIN record ON former = record.key GROUP BY 1"
        self._former: dict[str, str] = dict(database.execute(asked).fetchall())

    def repos(self) -> list[Known]:
        """Return the repositories that have pull requests, sorted by their names in lower case."""
        asked = """
            SELECT max(repo) FILTER (kind = 'pull'), list(origin ORDER BY origin) FILTER (kind = 'fork') FROM record
            WHERE kind IN ('pull', 'fork') GROUP BY key HAVING bool_or(kind = 'pull') ORDER BY key
        """
        former: defaultdict[str, list[str]] = defaultdict(list)
        for name, key in sorted(self._former.items()):
            former[key].append(name)
        told = self._database.execute(asked).fetchall()
        return [Known(repo, former.get(repo.lower(), []), origins or []) for repo, origins in told]

    def pulls(self, repo: str) -> Iterator[tuple[int, Pull]]:
        """Yield the pull requests of a repository by number."""
        asked = "SELECT DISTINCT number FROM record WHERE key = ? AND kind = 'pull' ORDER BY number"
        numbers = [number for (number,) in self._database.execute(asked, [self._key(repo)]).fetchall()]
        for at in range(0, len(numbers), _AT_ONCE):
            some = numbers[at : at + _AT_ONCE]
            for row in self._database.execute(_PULLS, [self._key(repo), some[0], some[-1]]).fetchall():
                yield row[0], Pull(*row[1:])

    def issue(self, repo: str, number: int, until: str) -> str:
        """Return an issue as it was first told of; "" where it is unknown, a pull request or was not there until then.

        It is the title, an empty line and the body.
        """
        asked = (
            "SELECT title, body, kind = 'text' AND NOT is_pull AND created_at < ? FROM record WHERE key = ? "
            "AND number = ? AND kind IN ('pull', 'text') ORDER BY kind, moment, uid LIMIT 1"
        )
        row = self._database.execute(asked, [until, self._key(repo), number]).fetchone()
        title, body, fits = row or ("", "", False)
        return f"{title.strip()}\n\n{body.strip()}".strip().replace("\r\n", "\n") if fits and title.strip() else ""

    def conversation(self, threads: Sequence[tuple[str, int]], until: str, most: int) -> str:
        """Return what people said until then in these pull requests and issues, in order of time.

        From the first comment on that makes it longer than `most` characters all is left out.
        """
        given = {"keys": [self._key(repo) for repo, _ in threads], "numbers": [number for _, number in threads]}
        said = self._database.execute(_CONVERSATION, {**given, "until": until, "most": most}).fetchone()
        return said[0] if said and said[0] else ""

    def _key(self, repo: str) -> str:
        return self._former.get(repo.lower(), repo.lower())
