"""One file of GH Archive -> a shard: a parquet file of the records in it, sorted by the part that the owner belongs to.

Two shapes of payloads are read. Until 7 October 2025 a PullRequestEvent held the whole pull request. Since then
GitHub's Events API gives of it only url, id, number, and ref, sha and repository of head and base. What such trimmed
events lack is looked for elsewhere: words in events about comments, whose `issue` still has them; the author in the
event of its opening; that it was merged in the action "merged" or, as is the merge commit, in the history of the
mirror. The numbers of commits, files and lines, and whether a repository is a fork stay unknown.

Lines of the schema of before 2015 (`repository` instead of `repo`), others that are malformed or over `MOST_LINE`
bytes, and a torn end are kept aside in the shard. Nothing in a line is trusted: names and ids have passed the patterns
below, texts are any Unicode without surrogates and NUL, and what should be a text and is none is its JSON.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from agentless_mini.errors import UsageError, boundary, printable
from agentless_mini.learning.curation.joined import engine

MOST_LINE = 8 * 2**20  # of JSON, which may take thirty times as much in memory
_AT_ONCE = 2048  # lines
_BOT_NAME = r"(?i)\[bot\]$|^(dependabot|renovate|greenkeeper|pyup|snyk|mergify|automerge)\b|-bot$"
_REPO_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}/[A-Za-z0-9_.-]{1,100}"

# What is read of an event. A number may be written as 12.0.
_USER = {"login": "VARCHAR", "type": "VARCHAR"}
_SIDE = {"ref": "VARCHAR", "sha": "VARCHAR", "repo": {"fork": "BOOLEAN"}}
_COMMENT = {
    **dict.fromkeys(("body", "created_at", "submitted_at", "path"), "VARCHAR"), "id": "DOUBLE", "user": _USER,
}  # fmt: skip
_THREAD = {"number": "DOUBLE", "title": "VARCHAR", "body": "VARCHAR", "user": _USER}
_PULL = {
    **_THREAD, "head": _SIDE, "base": _SIDE, "merged": "BOOLEAN", "merged_at": "VARCHAR", "merge_commit_sha": "VARCHAR",
    **dict.fromkeys(("commits", "changed_files", "additions", "deletions"), "DOUBLE"),
}  # fmt: skip
_SCHEMA = {
    "type": "VARCHAR", "created_at": "VARCHAR", "actor": _USER, "repo": {"id": "DOUBLE", "name": "VARCHAR"},
    "payload": {
        "action": "VARCHAR", "number": "DOUBLE", "forkee": {"id": "DOUBLE", "full_name": "VARCHAR"},
        "comment": _COMMENT, "review": _COMMENT, "pull_request": _PULL,
        "issue": {**_THREAD, "created_at": "VARCHAR", "pull_request": "JSON"},
    },
}  # fmt: skip

# A record is a fact about one number of a repository (0: the repository itself), as of `moment` (ISO 8601, UTC). Its
# kind is "pull", "text" (an issue, or a pull request as issues show it), "comment", "fork"; or "seen" (a type of
# events, counted by `number`) or "rejected" (a line by its place, reason and start), whose part is -1. Records of one
# repository, number, kind and `uid` say the same. `repo_id` is the number that GitHub gives a repository, which stays
# when its name changes. What an event does not say is NULL, "" or 0.
# Who opened a pull request is the author, whom a trimmed event does not name. Of one that was only opened it is known
# that it is not merged; other trimmed events come after a merge as well. The merge commit of an open one is for tests.
_READING = (
    "CREATE MACRO said(words) AS replace(coalesce(words, ''), chr(0), '')",
    "CREATE MACRO whole(n) AS CASE WHEN n > 0 AND n < 2::DOUBLE ** 53 AND n % 1 = 0 THEN n::BIGINT ELSE 0 END",
    """
    CREATE MACRO utc(date) AS CASE
        WHEN regexp_full_match(date, '[2-9]\\d{3}-.+T.+(Z|[+-]\\d\\d:?\\d\\d)')
        THEN strftime(make_timestamp(epoch_us(try_cast(date AS TIMESTAMPTZ))), '%Y-%m-%dT%H:%M:%SZ')
    END
    """,
    f"CREATE MACRO is_bot(who) AS coalesce(who.type = 'Bot', false) OR regexp_matches(said(who.login), '{_BOT_NAME}')",
    "CREATE MACRO is_id(sha) AS said(sha) = '' OR regexp_full_match(sha, '[0-9a-f]{40}|[0-9a-f]{64}')",
    f"""
    CREATE MACRO is_repo(name) AS
        regexp_full_match(said(name), '{_REPO_NAME}') AND NOT regexp_matches(name, '/[.]{{1,2}}$')
    """,
    """
    CREATE TABLE event AS
    WITH read AS (
        SELECT *, CASE WHEN wrong = '' AND json_valid(line) AND json_type(line) = 'OBJECT'
            THEN json_transform(line, $schema) END AS e
        FROM raw
    ), opened AS (
        SELECT *, said(coalesce(e.type, '?')) AS type, e.repo.name AS repo, whole(e.repo.id) AS repo_id,
            utc(e.created_at) AS moment, e.payload AS p, e.payload.pull_request AS q, e.payload.issue AS about,
            said(e.payload.action) AS action,
            if(type = 'PullRequestReviewEvent', e.payload.review, e.payload.comment) AS c
        FROM read
    ), told AS (
        SELECT *, coalesce(q.user, CASE WHEN action = 'opened' THEN e.actor END) AS who,
            CASE WHEN type = 'PullRequestEvent' THEN whole(coalesce(p.number, q.number))
                WHEN type IN ('IssuesEvent', 'IssueCommentEvent') THEN whole(about.number)
                WHEN type IN ('PullRequestReviewEvent', 'PullRequestReviewCommentEvent') THEN whole(q.number)
                WHEN type = 'ForkEvent' THEN -1 END AS number
        FROM opened
    )
    SELECT * REPLACE (left(line, 200) AS line), CASE
        WHEN wrong <> '' THEN wrong
        WHEN NOT json_valid(line) THEN 'no JSON'
        WHEN e IS NULL THEN 'no object'
        WHEN number IS NULL THEN ''
        WHEN NOT is_repo(repo) OR (type = 'ForkEvent' AND NOT is_repo(p.forkee.full_name)) THEN 'repo is no owner/name'
        WHEN moment IS NULL THEN 'date is none'
        WHEN number = 0 THEN 'number is none'
        WHEN NOT (is_id(q.merge_commit_sha) AND is_id(q.head.sha) AND is_id(q.base.sha)) THEN 'sha is no commit id'
        ELSE '' END AS reason
    FROM told
    """,
    """
    COPY (
        WITH fine AS (FROM event WHERE reason = ''), record AS (
            SELECT 'rejected' AS kind, $name || ':' || place AS repo, place AS number, reason AS uid, line AS body
            FROM event WHERE reason <> ''
            UNION ALL BY NAME
            SELECT 'seen' AS kind, '' AS repo, left(type, 60) AS uid, count(*) AS number FROM fine GROUP BY uid
            UNION ALL BY NAME
            SELECT 'pull' AS kind, repo, repo_id, number, moment, unnest(told),
                md5((told, q.head.sha, q.base.sha)::VARCHAR) AS uid
            FROM (SELECT *, {
                    'title': said(q.title), 'body': said(q.body), 'login': said(who.login), 'bot': is_bot(who),
                    'merged': CASE WHEN action = 'merged' THEN true
                        WHEN q.merged IS NULL AND action IN ('opened', 'reopened') THEN false ELSE q.merged END,
                    'merged_at': coalesce(utc(q.merged_at), CASE
                        WHEN action = 'merged' OR (action = 'closed' AND q.merged IS NULL) THEN moment ELSE '' END),
                    'branch': said(q.head.ref),
                    'merge': CASE WHEN q.merged OR action = 'merged' THEN said(q.merge_commit_sha) ELSE '' END,
                    'commits': whole(q.commits), 'changed_files': whole(q.changed_files),
                    'lines': whole(q.additions) + whole(q.deletions)
                } AS told FROM fine WHERE type = 'PullRequestEvent')
            UNION ALL BY NAME
            SELECT 'text' AS kind, repo, repo_id, number, moment, unnest(told), md5(told::VARCHAR) AS uid
            FROM (SELECT *, {
                    'title': said(about.title), 'body': said(about.body), 'login': said(about.user.login),
                    'created_at': coalesce(utc(about.created_at), moment), 'is_pull': about.pull_request IS NOT NULL
                } AS told FROM fine WHERE type IN ('IssuesEvent', 'IssueCommentEvent'))
            UNION ALL BY NAME
            SELECT 'comment' AS kind, repo, repo_id, number, said(c.body) AS body, said(c.user.login) AS login,
                coalesce(utc(c.created_at), utc(c.submitted_at), moment) AS moment, is_bot(c.user) AS bot,
                if(type = 'PullRequestReviewEvent', 'review', 'comment') || whole(c.id) AS uid, said(c.path) AS place
            FROM fine WHERE regexp_matches(said(c.body), '\\S')
                AND type IN ('IssueCommentEvent', 'PullRequestReviewEvent', 'PullRequestReviewCommentEvent')
            UNION ALL BY NAME
            SELECT 'fork' AS kind, 0 AS number, 'origin' AS uid, p.forkee.full_name AS repo,
                whole(p.forkee.id) AS repo_id, moment, repo AS origin FROM fine WHERE type = 'ForkEvent'
            UNION ALL BY NAME
            SELECT 'fork' AS kind, 0 AS number, 'said' AS uid, repo, repo_id, moment, '' AS origin FROM fine
            WHERE type = 'PullRequestEvent' AND q.base.repo.fork
        )
        SELECT *, CASE WHEN kind IN ('seen', 'rejected') THEN -1 ELSE
            (('0x' || left(sha256(lower(split_part(repo, '/', 1))), 16))::UBIGINT % $parts::UBIGINT)::BIGINT END AS part
        FROM record ORDER BY part
    ) TO $shard (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096)
    """,
)


def part_of(repo: str, parts: int) -> int:
    """Return the part of a repository: all of one owner's are in one, so that links among them resolve."""
    owner = repo.partition("/")[0].lower()
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8]) % parts


def is_bot(login: str) -> bool:
    """Tell whether an account is a program, by its name."""
    return bool(re.search(_BOT_NAME, login))


def shard_events(path: Path, parts: int, shard: Path) -> None:
    """Write the shard of a file of events, plain or gzip. Raises `UsageError` where the file cannot be opened."""
    import pyarrow

    shown = printable(str(path))
    with boundary({OSError: lambda error: UsageError(f"The events {shown} cannot be read ({error}): check the path.")}):
        file = path.open("rb")
    given = {"schema": json.dumps(_SCHEMA), "name": printable(path.name), "parts": parts, "shard": str(shard)}
    columns = pyarrow.schema({"place": pyarrow.int64(), "line": pyarrow.string(), "wrong": pyarrow.string()})
    with file, engine() as database:
        lines = _lines(file)
        some = iter(lambda: list(islice(lines, _AT_ONCE)), [])
        batches = (pyarrow.record_batch([*zip(*one, strict=True)], schema=columns) for one in some)
        database.register("raw", pyarrow.RecordBatchReader.from_batches(columns, batches))
        for step in _READING:
            database.execute(step, {name: value for name, value in given.items() if f"${name}" in step})


def _lines(file: BinaryIO) -> Iterator[tuple[int, str, str]]:
    """Yield the number of each line with a word, the line, and why it cannot be read, "" where it can."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if zipped else file
    number = 0
    try:
        while line := stream.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                yield number, line[:200].decode("utf-8", "replace"), "over-long line"
                while not line.endswith(b"\n"):
                    line = stream.readline(MOST_LINE) or b"\n"
            elif line.strip():
                yield number, line.decode("utf-8", "replace"), ""
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield number + 1, str(error), "torn file"
