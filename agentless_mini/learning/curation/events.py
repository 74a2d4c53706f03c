"""One line of GH Archive -> the records in it.

Two shapes of payloads are read. Until 7 October 2025 a PullRequestEvent held the whole pull request: title, body, user,
merged, merge_commit_sha, counts. Since then GitHub's Events API, which GH Archive records, gives of it only url, id,
number, and ref, sha and repository of head and base. What such trimmed events lack is looked for elsewhere: words in
events about comments, whose `issue` still has them; the author in the event of its opening; that it was merged in the
action "merged" or, as is the merge commit, in the history of the mirror. The numbers of commits, files and lines, and
whether a repository is a fork stay unknown where only trimmed events tell of it.

The other schema of before 2015 (`repository` instead of `repo`) is not read: its lines are malformed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agentless_mini.learning.curation.records import (
    COMMIT_ID,
    MOST_NUMBER,
    REPO_NAME,
    Comment,
    Fork,
    PullFacts,
    Record,
    Text,
)

Values = Mapping[str, Any]

_BOT_NAME = re.compile(
    r"\[bot\]$|^(dependabot|renovate|greenkeeper|pyup|snyk|mergify|automerge)\b|-bot$", re.IGNORECASE
)
_FIRST_YEAR = 2000  # any before GitHub's


class Malformed(ValueError):
    """A line that is no event in a known schema. Its text is a short reason that can be counted."""


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
    reader = _READERS.get(kind)
    if reader is None:
        return kind, ()
    payload = {**_object(event, "payload"), "actor": event.get("actor")}
    repo = _repo(event.get("repo"))
    records = reader(payload, repo, _moment(event.get("created_at")))
    number = _count(_object(event, "repo").get("id"))
    return kind, tuple(replace(one, repo_id=number) if one.repo == repo else one for one in records)


def is_bot(login: str, said: str = "") -> bool:
    """Tell whether an account is a program, by its name or by the type that GitHub gives it."""
    return said == "Bot" or bool(_BOT_NAME.search(login))


def _pull_request(payload: Values, repo: str, at: str) -> tuple[Record, ...]:
    pull = _object(payload, "pull_request")
    action = _text(payload, "action")
    user = _object(pull, "user", needed=False) or _opener(payload, action)
    head, base = (_object(pull, name, needed=False) for name in ("head", "base"))
    said = pull.get("merged")
    facts = PullFacts(
        merged=True if action == "merged" else said if isinstance(said, bool) else _unsaid(action),
        merged_at=_moment(pull["merged_at"]) if pull.get("merged_at") else at if _ends(action, said) else "",
        title=_text(pull, "title"),
        body=_text(pull, "body"),
        login=_text(user, "login"),
        bot=is_bot(_text(user, "login"), _text(user, "type")),
        branch=_text(head, "ref"),
        head=_commit(head.get("sha")),
        base=_commit(base.get("sha")),
        # Of one that is open it is a commit made for tests.
        merge=_commit(pull.get("merge_commit_sha")) if said is True or action == "merged" else "",
        commits=_count(pull.get("commits")),
        changed_files=_count(pull.get("changed_files")),
        lines=_count(pull.get("additions")) + _count(pull.get("deletions")),
    )
    number = payload.get("number")
    record = Record(repo, _number(pull.get("number") if number is None else number), _digest(facts), at, facts)
    forked = _object(base, "repo", needed=False).get("fork") is True
    return (record, Record(repo, 0, "said", at, Fork(""))) if forked else (record,)


def _opener(payload: Values, action: str) -> Values:
    """Return who opened a pull request, where the event is about that: the author, whom a trimmed one does not name."""
    return _object(payload, "actor", needed=False) if action == "opened" else {}


def _unsaid(action: str) -> bool | None:
    """Only a trimmed event of an opening says that it is not merged: others come after a merge as well."""
    return False if action in {"opened", "reopened"} else None


def _ends(action: str, said: object) -> bool:
    """Tell whether an event is the merge, or may be it: a trimmed one that something was closed does not say."""
    return action == "merged" or (action == "closed" and said is None)


def _issue(payload: Values, repo: str, at: str) -> tuple[Record, ...]:
    issue = _object(payload, "issue")
    login = _text(_object(issue, "user", needed=False), "login")
    created = _moment(issue["created_at"]) if issue.get("created_at") else at
    text = Text(_text(issue, "title"), _text(issue, "body"), login, created, issue.get("pull_request") is not None)
    return (Record(repo, _number(issue.get("number")), _digest(text), at, text),)


def _issue_comment(payload: Values, repo: str, at: str) -> tuple[Record, ...]:
    records = _issue(payload, repo, at)
    return (*records, *_said(payload, "comment", (repo, records[0].number, at)))


def _review(payload: Values, repo: str, at: str) -> tuple[Record, ...]:
    number = _number(_object(payload, "pull_request").get("number"))
    return _said(payload, "review", (repo, number, at))


def _review_comment(payload: Values, repo: str, at: str) -> tuple[Record, ...]:
    number = _number(_object(payload, "pull_request").get("number"))
    return _said(payload, "comment", (repo, number, at))


def _said(payload: Values, name: str, where: tuple[str, int, str]) -> tuple[Record, ...]:
    """Return the comment in a payload; one without words is none."""
    said = _object(payload, name)
    user = _object(said, "user", needed=False)
    login = _text(user, "login")
    comment = Comment(login, _text(said, "body"), is_bot(login, _text(user, "type")), _text(said, "path"))
    repo, number, at = where
    when = said.get("created_at") or said.get("submitted_at")
    uid = f"{name}{_number(said.get('id'))}"
    return (Record(repo, number, uid, _moment(when) if when else at, comment),) if comment.body.strip() else ()


def _fork(payload: Values, repo: str, at: str) -> tuple[Record, ...]:
    fork = _object(payload, "forkee")
    name = _repo({"name": _text(fork, "full_name")})
    return (Record(name, 0, "origin", at, Fork(repo), _count(fork.get("id"))),)


_READERS: Mapping[str, Callable[[Values, str, str], tuple[Record, ...]]] = {
    "PullRequestEvent": _pull_request,
    "IssuesEvent": _issue,
    "IssueCommentEvent": _issue_comment,
    "PullRequestReviewEvent": _review,
    "PullRequestReviewCommentEvent": _review_comment,
    "ForkEvent": _fork,
}


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


def _digest(facts: PullFacts | Text) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
