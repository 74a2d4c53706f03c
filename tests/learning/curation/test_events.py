"""Lines of GH Archive, in both shapes, and the lines that are none."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.learning.curation.events import Malformed, Record, is_bot, read_event
from tests.learning.curation.world import AT, BEFORE, comment_event, event, issue_event, pull_event, trimmed_event, user


def read(one: dict[str, Any]) -> tuple[Record, ...]:
    """Return the records of an event, without what only serves to join them."""
    return tuple(record._replace(uid="", repo_id=0) for record in read_event(json.dumps(one).encode())[1])


def pull(number: int = 12, **facts: Any) -> Record:  # noqa: ANN401 - the fields of a record
    return Record("ada/engine", number, "pull", "", AT, **{"branch": "topic", **facts})


def test_a_whole_pull_request_is_read() -> None:
    facts: dict[str, Any] = {
        "merged": True,
        "merged_at": AT,
        "title": "Halve whole numbers",
        "body": "Fixes #1",
        "login": "ada",
    }
    told = pull_event(12, "c" * 40, changed_files=3)
    assert read(told) == (pull(merge="c" * 40, commits=1, changed_files=3, **facts),)


def test_the_test_merge_of_an_open_pull_request_is_not_its_merge_commit() -> None:
    opened = pull_event(12, "c" * 40, merged=False, merged_at=None)
    opened["payload"]["action"] = "opened"
    (record,) = read(opened)
    assert (record.merged, record.merge) == (False, "")


@pytest.mark.parametrize(
    ("action", "merged"), [("merged", True), ("closed", None), ("opened", False), ("labeled", None)]
)
def test_a_trimmed_pull_request_says_less(action: str, merged: bool | None) -> None:
    login = "ada" if action == "opened" else ""
    at = AT if action in {"merged", "closed"} else ""
    assert read(trimmed_event(12, action)) == (pull(merged=merged, merged_at=at, login=login),)


def test_what_is_told_again_later_has_the_same_uid_and_other_words_have_another() -> None:
    events = [issue_event(3, "words"), issue_event(3, "words") | {"created_at": AT}, issue_event(3, "others")]
    first, again, other = (read_event(json.dumps(one).encode())[1][0] for one in events)
    assert (first.uid, first.repo_id) == (again.uid, again.repo_id) != (other.uid, 0)
    assert first.moment < again.moment
    assert first.uid != other.uid


def test_issues_comments_and_forks_are_read() -> None:
    text: dict[str, Any] = {"login": "ada", "created_at": BEFORE}
    assert read(issue_event(3, "words", "more")) == (
        Record("ada/engine", 3, "text", "", BEFORE, title="words", body="more", **text),
    )
    shown, comment = read(comment_event(3, "said\0 \ud800", AT, login="ci[bot]", pull_request={}))
    assert shown.is_pull
    assert comment == Record("ada/engine", 3, "comment", "", AT, body="said ?", login="ci[bot]", bot=True)
    assert len(read(comment_event(3, "  ", AT))) == 1
    fork = event("ForkEvent", {"forkee": {"full_name": "eve/engine"}})
    assert read(fork) == (Record("eve/engine", 0, "fork", "", AT, origin="ada/engine"),)


def test_numbers_may_be_floats_and_what_is_absent_null() -> None:
    (record,) = read(pull_event(12.0, "c" * 40, user=None, additions=3.0, deletions=2, head=None))  # type: ignore[arg-type]
    assert (record.number, record.lines, record.login) == (12, 5, "")
    assert read(issue_event(3, "words")) == read(issue_event(3, "words") | {"actor": None})
    (told,) = read(event("IssuesEvent", {"issue": {"number": 3, "title": "t", "pull_request": None}}))
    assert not told.is_pull


def test_a_pull_request_tells_that_its_repository_is_a_fork() -> None:
    side = {"ref": "main", "sha": "b" * 40, "repo": {"name": "ada/engine", "fork": True}}
    assert read(pull_event(12, "c" * 40, base=side))[1] == Record("ada/engine", 0, "fork", "", AT)


def test_types_that_tell_nothing_give_nothing() -> None:
    assert read_event(json.dumps(event("PushEvent", {"ref": "x"})).encode()) == ("PushEvent", ())
    assert read_event(b"{}") == ("?", ())


def wrong(**changes: object) -> dict[str, Any]:
    return {**pull_event(12, "c" * 40), **changes}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"3", "no object"),
        (json.dumps(wrong(payload=3)).encode(), "payload is no object"),
        (json.dumps(wrong(repo={"name": "a/../../b"})).encode(), "repo is no owner/name"),
        (json.dumps(wrong(repo={"name": "a/.."})).encode(), "repo is no owner/name"),
        (json.dumps(wrong(repo="ada/engine")).encode(), "repo is no owner/name"),
        (json.dumps(wrong(created_at="2012/04/01")).encode(), "date is none"),
        (json.dumps(wrong(created_at="2024-01-01T00:00:00")).encode(), "date is none"),
        (json.dumps(wrong(created_at=7)).encode(), "date is none"),
        (json.dumps(wrong(created_at="0001-01-01T00:00:00Z")).encode(), "date is none"),
        (json.dumps(pull_event(12.5, "c" * 40)).encode(), "number is none"),  # type: ignore[arg-type]
        (json.dumps(pull_event(12, "HEAD; rm")).encode(), "sha is no commit id"),
        (json.dumps(pull_event(-1, "c" * 40)).encode(), "number is none"),
        (json.dumps(pull_event(2**60, "c" * 40)).encode(), "number is none"),
        (json.dumps(pull_event(1, "c" * 40, title=3)).encode(), "title is no text"),
        (json.dumps(pull_event(1, "c" * 40, user=[])).encode(), "user is no object"),
    ],
)
def test_a_line_that_is_no_event_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read_event(line)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["payload", "repo", "created_at", "pull_request", "issue", "comment", "forkee", "number"])
kinds = st.sampled_from(["PullRequestEvent", "IssuesEvent", "IssueCommentEvent", "ForkEvent", "PullRequestReviewEvent"])


@settings(max_examples=60)
@given(kinds, st.dictionaries(names, values), st.dictionaries(names, values))
def test_nothing_but_malformed_comes_of_any_values(kind: str, outer: dict[str, Any], inner: dict[str, Any]) -> None:
    for made in (
        {**issue_event(1, "x"), "type": kind, **outer},
        event(kind, {**issue_event(1, "x")["payload"], **pull_event(1, "c" * 40)["payload"], **inner}),
    ):
        try:
            records = read_event(json.dumps(made).encode())[1]
        except Malformed:
            continue
        for record in records:
            assert record.kind in {"pull", "text", "comment", "fork"}
            assert record.moment


@pytest.mark.parametrize("login", ["dependabot[bot]", "renovate-bot", "Dependabot-preview", "pyup-bot", "x[bot]"])
def test_programs_are_known_by_name(login: str) -> None:
    assert is_bot(login)


def test_people_are_no_programs() -> None:
    assert not any(map(is_bot, ("abbott", "robota", "botond", "")))
    assert is_bot("somebody", user("somebody", "Bot")["type"])
