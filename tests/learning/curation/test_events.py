"""Lines of GH Archive, in both shapes, and the lines that are none."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.learning.curation.events import is_bot, part_of, shard_events
from tests.learning.curation.world import AT, BEFORE, comment_event, event, issue_event, pull_event, trimmed_event, user

pytest.importorskip("duckdb", reason="DuckDB is not installed (the extra 'train')")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra 'train')")

Record = dict[str, Any]
JOINS = {"uid", "repo_id", "part"}


def shard(*lines: bytes) -> list[Record]:
    """Return what the shard of some lines holds, without what is absent or empty."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "events.json")
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        shard_events(file, 7, Path(folder, "shard"))
        rows = parquet.read_table(Path(folder, "shard")).to_pylist()
    order = ["pull", "text", "comment", "fork", "rejected", "seen"]
    rows.sort(key=lambda row: (order.index(row["kind"]), row["number"], row["uid"]))
    return [
        {
            name: value
            for name, value in row.items()
            if value not in {None, "", 0} or (value is False and name == "merged")
        }
        for row in rows
    ]


def told(*events: Record) -> list[Record]:
    """Return the records of events."""
    return [row for row in shard(*(json.dumps(one).encode() for one in events)) if row["kind"] != "seen"]


def read(one: Record) -> list[Record]:
    """Return the records of an event, without what only serves to join them."""
    return [{name: value for name, value in row.items() if name not in JOINS} for row in told(one)]


def record(number: int, kind: str, moment: str = AT, repo: str = "ada/engine", **facts: object) -> Record:
    return {"repo": repo, "kind": kind, "moment": moment, **({"number": number} if number else {}), **facts}


def pull(number: int = 12, **facts: object) -> Record:
    return record(number, "pull", **{"branch": "topic", **facts})  # type: ignore[arg-type]


def test_a_whole_pull_request_is_read() -> None:
    facts: dict[str, Any] = {
        "merged": True,
        "merged_at": AT,
        "title": "Halve whole numbers",
        "body": "Fixes #1",
        "login": "ada",
    }
    event = pull_event(12, "c" * 40, changed_files=3)
    assert read(event) == [pull(merge="c" * 40, commits=1, changed_files=3, **facts)]


def test_the_test_merge_of_an_open_pull_request_is_not_its_merge_commit() -> None:
    opened = pull_event(12, "c" * 40, merged=False, merged_at=None)
    opened["payload"]["action"] = "opened"
    (found,) = read(opened)
    assert (found["merged"], "merge" in found) == (False, False)


@pytest.mark.parametrize(
    ("action", "merged"), [("merged", True), ("closed", None), ("opened", False), ("labeled", None)]
)
def test_a_trimmed_pull_request_says_less(action: str, merged: bool | None) -> None:
    facts: Record = {"login": "ada"} if action == "opened" else {}
    facts |= {"merged_at": AT} if action in {"merged", "closed"} else {}
    facts |= {} if merged is None else {"merged": merged}
    assert read(trimmed_event(12, action)) == [pull(**facts)]


def test_what_is_told_again_later_has_the_same_uid_and_other_words_have_another() -> None:
    events = [issue_event(3, "words"), issue_event(3, "words") | {"created_at": AT}, issue_event(3, "others")]
    first, again, other = (told(one)[0] for one in events)
    assert (first["uid"], first["repo_id"]) == (again["uid"], again["repo_id"])
    assert first["moment"] < again["moment"]
    assert first["uid"] != other["uid"]


def test_issues_comments_and_forks_are_read() -> None:
    text: Record = {"login": "ada", "created_at": BEFORE}
    assert read(issue_event(3, "words", "more")) == [record(3, "text", BEFORE, title="words", body="more", **text)]
    shown, comment = read(comment_event(3, "said\0 more", AT, login="ci[bot]", pull_request={}))
    assert shown["is_pull"]
    assert comment == record(3, "comment", body="said more", login="ci[bot]", bot=True)
    assert len(read(comment_event(3, "  ", AT))) == 1
    fork = event("ForkEvent", {"forkee": {"full_name": "eve/engine"}})
    assert read(fork) == [record(0, "fork", repo="eve/engine", origin="ada/engine")]
    assert told(fork)[0]["part"] == part_of("Eve/engine", 7)


def test_numbers_may_be_floats_and_what_is_absent_null() -> None:
    (found,) = read(pull_event(12.0, "c" * 40, user=None, additions=3.0, deletions=2, head=None))  # type: ignore[arg-type]
    assert (found["number"], found["lines"], "login" in found) == (12, 5, False)
    assert read(issue_event(3, "words")) == read(issue_event(3, "words") | {"actor": None})
    (issue,) = read(event("IssuesEvent", {"issue": {"number": 3, "title": "t", "pull_request": None}}))
    assert "is_pull" not in issue


def test_a_pull_request_tells_that_its_repository_is_a_fork() -> None:
    side = {"ref": "main", "sha": "b" * 40, "repo": {"name": "ada/engine", "fork": True}}
    assert read(pull_event(12, "c" * 40, base=side))[1] == record(0, "fork")


def test_types_that_tell_nothing_are_counted_alone() -> None:
    seen = shard(json.dumps(event("PushEvent", {"ref": "x"})).encode(), b"{}")
    assert [(row["kind"], row["uid"], row["number"]) for row in seen] == [("seen", "?", 1), ("seen", "PushEvent", 1)]


def test_what_should_be_a_text_and_is_none_is_its_json() -> None:
    assert read(issue_event(3, ["no", "text"]))[0]["title"] == '["no","text"]'  # type: ignore[arg-type]


def wrong(**changes: object) -> dict[str, Any]:
    return {**pull_event(12, "c" * 40), **changes}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"3", "no object"),
        (json.dumps(wrong(payload=3)).encode(), "number is none"),
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
        (json.dumps(comment_event(3, "\ud800", AT)).encode(), "no JSON"),
    ],
)
def test_a_line_that_is_no_event_says_why(line: bytes, reason: str) -> None:
    (rejected,) = shard(line)
    assert (rejected["kind"], rejected["repo"], rejected["uid"]) == ("rejected", "events.json:1", reason)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["payload", "repo", "created_at", "pull_request", "issue", "comment", "forkee", "number"])
kinds = st.sampled_from(["PullRequestEvent", "IssuesEvent", "IssueCommentEvent", "ForkEvent", "PullRequestReviewEvent"])


@settings(max_examples=20, deadline=None)
@given(kinds, st.dictionaries(names, values), st.dictionaries(names, values))
def test_any_values_are_records_or_kept_aside(kind: str, outer: dict[str, Any], inner: dict[str, Any]) -> None:
    made = (
        {**issue_event(1, "x"), "type": kind, **outer},
        event(kind, {**issue_event(1, "x")["payload"], **pull_event(1, "c" * 40)["payload"], **inner}),
    )
    for row in told(*made):
        assert row["kind"] == "rejected" or row["moment"]


@pytest.mark.parametrize("login", ["dependabot[bot]", "renovate-bot", "Dependabot-preview", "pyup-bot", "x[bot]"])
def test_programs_are_known_by_name(login: str) -> None:
    assert is_bot(login)


def test_people_are_no_programs() -> None:
    assert not any(map(is_bot, ("abbott", "robota", "botond", "")))
    assert read(pull_event(12, "c" * 40, user=user("somebody", "Bot")))[0]["bot"]
