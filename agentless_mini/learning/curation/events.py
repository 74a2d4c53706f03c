"""One file of GH Archive -> a shard: a parquet file of the records in it, sorted by the part that the owner belongs to.

Two shapes of payloads are read. Until 7 October 2025 a PullRequestEvent held the whole pull request. Since then
GitHub's Events API, which GH Archive records, gives of it only url, id, number, and ref, sha and repository of head and
base. What such trimmed events lack is looked for elsewhere: words in events about comments, whose `issue` still has
them; the author in the event of its opening; that it was merged in the action "merged" or, as is the merge commit, in
the history of the mirror. The numbers of commits, files and lines, and whether a repository is a fork stay unknown.

The other schema of before 2015 (`repository` instead of `repo`) is not read: its lines are malformed. Such lines, a
torn end and lines over `MOST_LINE` bytes are kept aside in the shard; nothing of that is fatal. Nothing in a line is
trusted: names and ids have passed the patterns below, texts are any Unicode without surrogates.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from agentless_mini.errors import UsageError, boundary, printable
from agentless_mini.learning.curation.joined import engine

REPO_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}/[A-Za-z0-9_.-]{1,100}")
COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MOST_NUMBER = 2**53
MOST_LINE = 8 * 2**20  # of JSON, which may take thirty times as much in memory
_AT_ONCE = 2048  # records
_FIRST_YEAR = 2000  # any before GitHub's
_BOT_NAME = re.compile(
    r"\[bot\]$|^(dependabot|renovate|greenkeeper|pyup|snyk|mergify|automerge)\b|-bot$", re.IGNORECASE
)

Values = Mapping[str, Any]


class Record(NamedTuple):
    """A fact about one number of a repository (0: the repository itself), as of `moment` (ISO 8601, UTC).

    `kind` is one of "pull", "text" (an issue, or a pull request as issues show it), "comment" and "fork"; in a shard
    also of "seen" (a type of events, counted by `number`) and "rejected" (a line by its place, reason and start).
    Records of one repository, number, kind and `uid` say the same. `repo_id` is the number that GitHub gives a
    repository, which stays when its name changes. What an event does not say is None, "" or 0.
    """

    repo: str
    number: int
    kind: str
    uid: str
    moment: str
    repo_id: int = 0
    title: str = ""
    body: str = ""
    login: str = ""
    bot: bool = False
    created_at: str = ""  # of a text
    is_pull: bool = False  # of a text
    place: str = ""  # the path of the line that a comment stands at
    origin: str = ""  # of a fork
    merged: bool | None = None  # this and what follows of a pull request; `merged_at` is when it was merged if it was
    merged_at: str = ""
    branch: str = ""
    merge: str = ""
    commits: int = 0
    changed_files: int = 0
    lines: int = 0


_TYPES = {str: "VARCHAR", int: "BIGINT", bool: "BOOLEAN", bool | None: "BOOLEAN"}
_COLUMNS = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in Record.__annotations__.items())


class Malformed(ValueError):
    """A line that is no event in a known schema. Its text is a short reason that can be counted."""


def part_of(repo: str, parts: int) -> int:
    """Return the part of a repository: all of one owner's are in one, so that links among them resolve."""
    owner = repo.partition("/")[0].lower()
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8]) % parts


def shard_events(path: Path, parts: int, shard: Path) -> None:
    """Write the shard of a file of events, plain or gzip. Raises `UsageError` where the file cannot be opened."""
    import pyarrow

    shown = printable(str(path))
    with boundary({OSError: lambda error: UsageError(f"The events {shown} cannot be read ({error}): check the path.")}):
        file = path.open("rb")
    with file, engine() as database:
        database.execute(f"CREATE TABLE record (part BIGINT, {_COLUMNS})")
        records = _records_in(file, printable(path.name))
        while batch := list(islice(records, _AT_ONCE)):
            own = [-1 if one.kind in {"seen", "rejected"} else part_of(one.repo, parts) for one in batch]
            database.register("batch", pyarrow.table([own, *zip(*batch, strict=True)], ["part", *Record._fields]))
            database.execute("INSERT INTO record SELECT * FROM batch")
        database.execute(
            "COPY (SELECT * FROM record ORDER BY part) TO $1 (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096)",
            [str(shard)],
        )


def _records_in(file: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the records of all lines, then how many events of each type there were."""
    seen: Counter[str] = Counter()
    for number, (line, wrong) in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            if wrong:
                raise Malformed(wrong)
            kind, records = read_event(line)
            seen[kind[:60]] += 1
            yield from records
        except Malformed as error:
            start = line[:200].decode("utf-8", "replace")
            yield Record(f"{name}:{number}", number, "rejected", str(error), "", body=start)
    for kind, count in sorted(seen.items()):
        yield Record("", count, "seen", kind, "")


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """Yield the lines, each with why it cannot be read, "" where it can."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if zipped else file
    try:
        while line := stream.readline(MOST_LINE + 1):
            yield line, "over-long line" if len(line) > MOST_LINE else ""
            while len(line) > MOST_LINE and not line.endswith(b"\n"):
                line = stream.readline(MOST_LINE) or b"\n"
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield str(error).encode(), "torn file"


def read_event(line: bytes) -> tuple[str, tuple[Record, ...]]:
    """Return the type of the event of a line, and its records: none for a type that tells nothing of repairs.

    Raises `Malformed`.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed("no JSON") from error
    if not isinstance(event, dict):
        raise Malformed("no object")
    kind = _text(event, "type") or "?"
    if kind not in _TELLING:
        return kind, ()
    payload, repo = _object(event, "payload"), _repo(event.get("repo"))
    records = _records(kind, {**payload, "actor": event.get("actor")}, repo, _moment(event.get("created_at")))
    number = _count(_object(event, "repo").get("id"))
    return kind, tuple(one._replace(repo_id=number) if one.repo == repo else one for one in records)


def is_bot(login: str, said: str = "") -> bool:
    """Tell whether an account is a program, by its name or by the type that GitHub gives it."""
    return said == "Bot" or bool(_BOT_NAME.search(login))


# The events that tell of repairs, each with the name of the comment in it.
_TELLING = {
    "PullRequestEvent": "",
    "IssuesEvent": "",
    "IssueCommentEvent": "comment",
    "PullRequestReviewEvent": "review",
    "PullRequestReviewCommentEvent": "comment",
    "ForkEvent": "",
}


def _records(kind: str, payload: Values, repo: str, at: str) -> Iterator[Record]:
    if kind == "PullRequestEvent":
        yield from _pull_request(payload, repo, at)
    elif kind == "ForkEvent":
        fork = _object(payload, "forkee")
        name = _repo({"name": _text(fork, "full_name")})
        yield Record(name, 0, "fork", "origin", at, _count(fork.get("id")), origin=repo)
    else:
        about = _object(payload, "issue" if kind in {"IssuesEvent", "IssueCommentEvent"} else "pull_request")
        number = _number(about.get("number"))
        if kind in {"IssuesEvent", "IssueCommentEvent"}:
            yield _told_once(
                Record(
                    repo, number, "text", "", at,
                    title=_text(about, "title"),
                    body=_text(about, "body"),
                    login=_text(_object(about, "user", needed=False), "login"),
                    created_at=_moment(about["created_at"]) if about.get("created_at") else at,
                    is_pull=about.get("pull_request") is not None,
                )
            )  # fmt: skip
        if _TELLING[kind]:
            yield from _comment(_object(payload, _TELLING[kind]), _TELLING[kind], repo, number, at)


def _pull_request(payload: Values, repo: str, at: str) -> Iterator[Record]:
    pull, action = _object(payload, "pull_request"), _text(payload, "action")
    # Who opened it is the author, whom a trimmed event does not name.
    opener = _object(payload, "actor", needed=False) if action == "opened" else {}
    user = _object(pull, "user", needed=False) or opener
    head, base = (_object(pull, name, needed=False) for name in ("head", "base"))
    said, number = pull.get("merged"), payload.get("number")
    merged = True if action == "merged" else said if isinstance(said, bool) else None
    if merged is None and action in {"opened", "reopened"}:
        merged = False  # other trimmed events come after a merge as well
    ends = action == "merged" or (action == "closed" and said is None)  # it is the merge, or may be
    record = Record(
        repo, _number(pull.get("number") if number is None else number), "pull", "", at,
        title=_text(pull, "title"),
        body=_text(pull, "body"),
        login=_text(user, "login"),
        bot=is_bot(_text(user, "login"), _text(user, "type")),
        merged=merged,
        merged_at=_moment(pull["merged_at"]) if pull.get("merged_at") else at if ends else "",
        branch=_text(head, "ref"),
        # Of one that is open it is a commit made for tests.
        merge=_commit(pull.get("merge_commit_sha")) if said is True or action == "merged" else "",
        commits=_count(pull.get("commits")),
        changed_files=_count(pull.get("changed_files")),
        lines=_count(pull.get("additions")) + _count(pull.get("deletions")),
    )  # fmt: skip
    yield _told_once(record, _commit(head.get("sha")), _commit(base.get("sha")))
    if _object(base, "repo", needed=False).get("fork") is True:
        yield Record(repo, 0, "fork", "said", at)


def _told_once(record: Record, *more: str) -> Record:
    """Return a record with a `uid` that it shares with those that say the same at another time."""
    said = repr((record._replace(moment=""), more))
    return record._replace(uid=hashlib.sha256(said.encode()).hexdigest()[:16])


def _comment(said: Values, name: str, repo: str, number: int, at: str) -> Iterator[Record]:
    """Yield the comment; one without words is none."""
    user, when = _object(said, "user", needed=False), said.get("created_at") or said.get("submitted_at")
    login = _text(user, "login")
    record = Record(
        repo, number, "comment", f"{name}{_number(said.get('id'))}", _moment(when) if when else at,
        body=_text(said, "body"), login=login, bot=is_bot(login, _text(user, "type")), place=_text(said, "path"),
    )  # fmt: skip
    if record.body.strip():
        yield record


# --- values ----------------------------------------------------------------------------------------------------------


def _object(values: Values, name: str, *, needed: bool = True) -> Values:
    found = values.get(name)
    if isinstance(found, dict):
        return found
    if needed or found is not None:
        raise Malformed(f"{name} is no object")
    return {}


def _text(values: Values, name: str) -> str:
    found = values.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Malformed(f"{name} is no text")
    return found.encode("utf-8", "replace").decode().replace("\0", "")


def _repo(said: object) -> str:
    name = said.get("name") if isinstance(said, dict) else None
    if not isinstance(name, str) or not REPO_NAME.fullmatch(name) or name.rpartition("/")[2] in {".", ".."}:
        raise Malformed("repo is no owner/name")
    return name


def _number(said: object) -> int:
    number = _count(said)
    if not number:
        raise Malformed("number is none")
    return number


def _count(said: object) -> int:
    """Return a positive whole number, which some exports write as 12.0; 0 for anything else."""
    whole = isinstance(said, int | float) and not isinstance(said, bool) and 0 < said < MOST_NUMBER and said % 1 == 0
    return int(said) if whole and isinstance(said, int | float) else 0


def _commit(said: object) -> str:
    if said is None or said == "":
        return ""
    if not isinstance(said, str) or not COMMIT_ID.fullmatch(said):
        raise Malformed("sha is no commit id")
    return said


def _moment(said: object) -> str:
    """Return a date in the one form that sorts by time."""
    try:
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
        if moment is not None and moment.tzinfo is not None and moment.year >= _FIRST_YEAR:
            return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError) as error:
        raise Malformed("date is none") from error
    raise Malformed("date is none")
