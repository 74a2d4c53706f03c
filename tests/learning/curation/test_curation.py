"""Whole curations: events and repositories in, rows and the funnel out; every filter is met by a pull request."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.learning.curation.curation import Task, in_processes, one_by_one
from agentless_mini.learning.curation.filters import Step
from agentless_mini.learning.rows import Row, RowFile
from agentless_mini.settings.learning import CurateSettings, Oracle, Relevant
from tests.gitrepo import git
from tests.learning.curation.world import (
    AFTER,
    AT,
    BEFORE,
    CODE,
    FIXED,
    REPO,
    SETTINGS,
    World,
    comment_event,
    event,
    issue_event,
    left_out,
    pull_event,
    rows_of,
    small_world,
    trimmed_event,
    user,
)

for library in ("pyarrow", "duckdb", "datasketch"):
    pytest.importorskip(library, reason="a library is not installed (the extra 'train')")


def test_a_pull_request_becomes_a_row(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    found = world.curate()
    base = git(world.mirrors / "ada+engine", "rev-parse", "HEAD~1").decode().strip()
    assert rows_of(tmp_path / "out") == [
        Row(
            id="ada/engine#12",
            repo=REPO,
            title="Halve whole numbers",
            issue="half(3) is 1.5\n\nIt must be 1.",
            conversation="",
            files=(RowFile("half.py", CODE.decode(), FIXED.decode()),),
            base=base,
            merged_at=AT,
            licence="MIT",
            split="train",
        )
    ]
    assert found == json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert found["rows"] == {"train": 1, "valid": 0, "test": 0}
    assert found["events"] == {"IssuesEvent": 1, "PullRequestEvent": 1}
    assert found["steps"][-1] == {"step": "duplicate", "left_out": 0, "kept": 1}


def test_a_merge_commit_is_read_from_the_merge_base_to_the_branch(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository()
    merge = world.merge(12, {"half.py": FIXED}, "Halve, closes #1")
    world.events += [issue_event(1, "half(3) is 1.5"), pull_event(12, merge, body="", title="Halve")]
    world.write()
    world.curate()
    (row,) = rows_of(tmp_path / "out")
    assert row.files == (RowFile("half.py", CODE.decode(), FIXED.decode()),)
    assert row.base == git(world.mirrors / "ada+engine", "rev-parse", f"{merge}~2").decode().strip()


def test_a_rebase_is_told_from_a_squash_by_the_number_of_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository()
    world.change({"half.py": FIXED}, "one")
    last = world.change({"other.py": b"x = 1\n"}, "two")
    world.events += [issue_event(1, "half(3) is 1.5"), pull_event(12, last, commits=2, changed_files=2)]
    world.write()
    world.curate()
    (row,) = rows_of(tmp_path / "out")
    assert [file.path for file in row.files] == ["half.py", "other.py"]


def test_trimmed_events_are_filled_from_comments_and_the_history(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository()
    world.change({"half.py": FIXED}, "Halve (#12)\n\nFixes #1")
    world.change({"half.py": FIXED + b"\n# told\n"}, "Tell (#13)")
    world.change({"half.py": FIXED + b"\n# untold\n"}, "no number")
    words: dict[str, Any] = {"title": "Tell of halves", "body": "Closes #2", "pull_request": {"url": "u"}}
    world.events += [
        issue_event(1, "half(3) is 1.5"),
        issue_event(2, "Nobody tells of halves and what they are good for"),
        trimmed_event(12, "closed"),
        trimmed_event(13, "merged"),
        comment_event(13, "Thanks", AT, login="bob", **words),
        trimmed_event(14, "closed"),  # closed, and no commit says that it was merged
    ]
    world.write()
    found = world.curate()
    rows = rows_of(tmp_path / "out")
    assert [(row.id, row.title, row.merged_at) for row in rows] == [
        ("ada/engine#12", "Halve", AT),
        ("ada/engine#13", "Tell of halves", AT),
    ]
    assert left_out(found) == {Step.NOT_MERGED: 1}


def test_the_conversation_is_what_people_said_until_the_merge_in_order_of_time(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    review = {"id": 5, "body": "Nice", "user": user("cy"), "submitted_at": "2023-03-01T00:00:00Z"}
    line = {"id": 6, "body": "Why?", "user": user("cy"), "created_at": "2023-03-02T00:00:00Z", "path": "half.py"}
    pull = {"number": 12}
    world.events += [
        comment_event(12, "later", "2023-05-01T00:00:00Z"),
        comment_event(1, "first", "2023-02-01T00:00:00+01:00"),
        comment_event(1, "first", "2023-02-01T00:00:00+01:00"),
        comment_event(1, "beep", "2023-02-02T00:00:00Z", login="ci[bot]"),
        comment_event(1, "released", AFTER),
        event("PullRequestReviewEvent", {"action": "created", "review": review, "pull_request": pull}),
        event("PullRequestReviewCommentEvent", {"action": "created", "comment": line, "pull_request": pull}),
    ]
    world.write()
    world.curate()
    (row,) = rows_of(tmp_path / "out")
    assert row.conversation == (
        "bob, 2023-01-31T23:00:00Z:\nfirst\n\ncy, 2023-03-01T00:00:00Z:\nNice\n\n"
        "cy on half.py, 2023-03-02T00:00:00Z:\nWhy?\n\nbob, 2023-05-01T00:00:00Z:\nlater"
    )


def fill_with_every_step(world: World) -> None:
    """Add a pull request for each step of the funnel, and one that is kept."""
    lines = "".join(f"line_{number} = {number}\n" for number in range(3000)).encode()
    world.repository()
    world.repository("django/django")
    world.repository("bob/flask")
    world.repository("eve/mirror", {"half.py": CODE + b"# eve's\n"})
    fix = {"half.py": FIXED}
    kept = world.change(fix, "Halve (#1)")
    change = world.change
    events = world.events
    events += [issue_event(1, "half(3) is 1.5 where I need a whole number"), pull_event(100, kept)]
    events += [pull_event(101, kept, merged=False)]
    events += [issue_event(1, "x", repo="django/django"), pull_event(102, kept, "django/django")]
    events += [pull_event(103, kept, user=user("renovate[bot]", "Bot"))]
    events += [pull_event(104, kept, title="Bump requests from 2.0 to 2.1")]
    events += [pull_event(105, kept, "nobody/nothing")]
    side = {"ref": "main", "sha": "b" * 40, "repo": {"name": "bob/flask", "fork": True}}
    events += [pull_event(106, kept, "bob/flask", base=side)]
    events += [pull_event(107, "f" * 40)]
    events += [pull_event(108, change({"half.py": CODE}, "two"), commits=2, changed_files=7)]
    events += [pull_event(109, change({}, "nothing"))]
    events += [pull_event(110, change({"big.py": lines}, "big"))]
    events += [pull_event(111, change({"uv.lock": b"x = 1\n"}, "lock"))]
    events += [pull_event(112, change({"doc.md": b"# Halves\n"}, "documents"))]
    events += [pull_event(113, change({"new.py": b"x = 1\n"}, "new"))]
    events += [pull_event(114, change({"half.py": FIXED + b"# a\n"}, "mention #1"), body="See #1")]
    events += [pull_event(115, change({"half.py": FIXED + b"# b\n"}, "b"), body="Fixes #404")]
    events += [pull_event(116, change({"half.py": FIXED + b"# \xff\n"}, "c"))]
    change({"half.py": CODE}, "back")
    events += [pull_event(117, change({"half.py": b"def half(\n"}, "d"), body="Fixes #1")]
    change({"half.py": CODE}, "back")
    events += [pull_event(118, change(fix, "Halve again (#118)"), body="Fixes #1")]
    events += [issue_event(2, "broken", repo="eve/mirror"), pull_event(119, kept, "eve/mirror")]
    (world.mirrors / "eve+mirror" / ".git" / "HEAD").write_text("nonsense\n")


def test_every_step_leaves_out_what_it_is_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    fill_with_every_step(world)
    world.write()
    found = world.curate()
    asked_alone = {Step.NO_CHANGE_ASKED.value}  # the model says that, which is not named here
    assert left_out(found) == dict.fromkeys({step.value for step in Step} - asked_alone, 1)
    assert [row.id for row in rows_of(tmp_path / "out")] == ["ada/engine#100"]
    assert found["pulls"] == len(Step)
    assert found["rejected"] == {"mirror-broken": 1, "unreadable": 1}


def test_a_hostile_path_in_a_tree_is_kept_aside(tmp_path: Path) -> None:
    world = World(tmp_path)
    path = world.repository()
    old, new = (git(path, "hash-object", "-w", "--stdin", stdin=data).strip() for data in (CODE, FIXED))
    outside = git(path, "mktree", stdin=b"100644 blob %b\tescape.py\n" % new).strip()
    entries = git(path, "ls-tree", "HEAD").replace(old, new) + b"040000 tree %b\t..\n" % outside
    tree = git(path, "mktree", stdin=entries).decode().strip()
    commit = git(path, "commit-tree", tree, "-p", "HEAD", "-m", "evil").decode().strip()
    world.events += [issue_event(1, "half(3) is 1.5"), pull_event(12, commit)]
    world.write()
    assert left_out(world.curate()) == {Step.UNREADABLE: 1}
    assert "hostile path" in (tmp_path / "out" / "rejected.jsonl").read_text()
    assert rows_of(tmp_path / "out") == []


def test_links_and_blobs_that_are_no_text_are_kept_aside(tmp_path: Path) -> None:
    world = World(tmp_path)
    path = world.repository()
    (path / "half.py").unlink()
    (path / "half.py").symlink_to("/etc/passwd")
    link = world.change({}, "link")
    (path / "half.py").unlink()
    binary = world.change({"half.py": b"\0\1"}, "binary")
    world.events += [issue_event(1, "half(3) is 1.5"), pull_event(12, link), pull_event(13, binary)]
    world.write()
    assert left_out(world.curate()) == {Step.UNREADABLE: 2}
    aside = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [one["place"] for one in aside] == ["ada/engine#12", "ada/engine#13"]
    assert aside[0]["start"] == "b'half.py': link or submodule"


def test_lines_that_are_no_events_are_kept_aside_and_stop_nothing(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    broken = pull_event(13, "c" * 40)
    hostile = pull_event(14, "c" * 40, repo="../..")
    broken["payload"]["pull_request"]["number"] = broken["payload"]["number"] = ["no", "number"]
    world.events += [b"{torn", b"[]", b"", broken, hostile, b'"' + b"x" * 200 + b'"', {"type": "WatchEvent"}]
    world.write()
    torn = world.folder / "events" / "torn.json.gz"
    torn.write_bytes((world.folder / "events" / "2024-01-02-3.json.gz").read_bytes()[:-40])
    found = world.curate()
    assert found["rejected"].pop("torn file") == 1
    assert set(found["rejected"]) == {"no JSON", "no object", "number is none", "repo is no owner/name"}
    assert len(rows_of(tmp_path / "out")) == 1


def test_all_text_files_can_be_the_oracle(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository(files={"test_half.py": b"assert 1\n"})
    files = {"half.py": FIXED, "test_half.py": b"assert 2\n", "NEWS.md": b"Halves\n", "uv.lock": b"1\n"}
    world.events += [issue_event(1, "half(3) is 1.5"), pull_event(12, world.change(files))]
    world.write()
    world.curate()
    world.curate(world.curation("all", CurateSettings(oracle=Oracle.ALL)))
    assert [[file.path for file in rows_of(tmp_path / name)[0].files] for name in ("out", "all")] == [
        ["half.py"],
        ["NEWS.md", "half.py", "test_half.py"],
    ]


@pytest.mark.parametrize(("relevant", "others"), [(Relevant.NONE, []), (Relevant.LEXICAL, ["double.py"])])
def test_files_that_matter_and_are_not_changed_can_be_in_a_row(
    tmp_path: Path, relevant: Relevant, others: list[str]
) -> None:
    world = World(tmp_path)
    world.repository(files={"double.py": b"def double(n):\n    return n * 2\n", "other.py": b"x = 1\n"})
    merge = world.change({"half.py": FIXED})
    world.events += [issue_event(1, "half and double are wrong"), pull_event(12, merge)]
    world.write()
    world.curate(world.curation("out", CurateSettings(relevant=relevant, most_relevant=1)))
    (row,) = rows_of(tmp_path / "out")
    assert [file.path for file in row.files] == ["half.py", *others]


def test_an_issue_of_the_same_owner_is_found_in_another_repository(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository()
    merge = world.change({"half.py": FIXED})
    words = "Resolves https://github.com/Ada/Tracker/issues/9 and fixes other/place#3"
    world.events += [issue_event(9, "half(3) is 1.5", repo="ada/tracker"), pull_event(12, merge, body=words)]
    world.write()
    world.curate()
    assert [row.issue for row in rows_of(tmp_path / "out")] == ["half(3) is 1.5"]


def test_forks_stay_in_one_split_and_forks_of_benchmarks_are_left_out(tmp_path: Path) -> None:
    world = World(tmp_path)
    for repo in ("ada/engine", "bob/engine", "cy/other"):
        world.repository(repo)
        change = {"half.py": FIXED + f"# {repo} has its own way to say it\n".encode()}
        merge = world.change(change, repo, repo)
        world.events += [issue_event(1, f"{repo} halves badly", repo=repo), pull_event(12, merge, repo)]
    world.events += [
        event("ForkEvent", {"forkee": {"full_name": "bob/engine"}}, "ada/engine"),
        event("ForkEvent", {"forkee": {"full_name": "cy/other"}}, "psf/requests"),
    ]
    world.write()
    for seed in range(8):
        settings = CurateSettings(partitions=2, valid=0.3, test=0.3, seed=seed)
        found = world.curate(world.curation("out", settings))
        assert left_out(found) == {Step.BENCHMARK_FORK: 1}
        assert len({row.split for row in rows_of(tmp_path / "out")}) == 1


# --- going on --------------------------------------------------------------------------------------------------------


def many(folder: Path, pulls: int = 6) -> World:
    """Make a world of so many pull requests of as many owners, whose events are in as many files."""
    world = World(folder)
    for number in range(1, pulls + 1):
        repo = f"owner{number}/engine"
        world.repository(repo)
        words = " ".join(f"word{number}x{place}" for place in range(20))
        merge = world.change({"half.py": FIXED + f"# {words}\n".encode()}, f"Halve (#{number})", repo)
        events = [issue_event(1, words, repo=repo), pull_event(number + 20, merge, repo)]
        world.write(f"{number}.json.gz", list(events))
    return world


def test_a_run_that_was_stopped_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    world = many(tmp_path)
    settings = CurateSettings(partitions=3)
    whole = world.curate(world.curation("whole", settings))
    did: list[Path] = []

    def stopping(most: int) -> Callable[[Sequence[Task]], Iterator[Path]]:
        def do(tasks: Sequence[Task]) -> Iterator[Path]:
            for shard in one_by_one(tasks):
                did.append(shard)
                shard.with_name(f"{shard.name}.partial").write_bytes(b"torn")
                if len(did) == most:
                    raise KeyboardInterrupt
                yield shard

        return do

    for most in (2, 5, 8):
        with pytest.raises(KeyboardInterrupt):
            world.curate(world.curation("out", settings), stopping(most))
    assert world.curate(world.curation("out", settings), stopping(-1)) == whole
    assert len(did) == len(set(did)) == 6 + 3
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")
    assert world.curate(world.curation("out", settings), stopping(10)) == whole  # nothing is owed


def test_other_settings_and_more_events_make_the_rows_anew(tmp_path: Path) -> None:
    world = many(tmp_path, 2)
    assert world.curate()["pulls"] == 2
    many(tmp_path / "more", 3)
    fewer = world.curate(world.curation("out", SETTINGS.model_copy(update={"most_lines": 1})))
    assert left_out(fewer) == {Step.HUGE: 2}
    with_more = replace(world.curation(), events=(tmp_path / "more" / "events",), mirrors=tmp_path / "more" / "mirrors")
    assert world.curate(with_more)["pulls"] == 3
    assert len(rows_of(tmp_path / "out")) == 3


@pytest.mark.thorough
def test_processes_come_to_the_same(tmp_path: Path) -> None:
    world = many(tmp_path, 4)
    assert world.curate(world.curation("many"), in_processes(2)) == world.curate()
    assert rows_of(tmp_path / "many") == rows_of(tmp_path / "out")


def test_rows_are_dealt_into_files(tmp_path: Path) -> None:
    world = many(tmp_path, 5)
    world.curate(world.curation("out", CurateSettings(rows_per_file=2)))
    assert [path.name for path in sorted((tmp_path / "out" / "train").iterdir())] == [
        "00000.parquet",
        "00001.parquet",
        "00002.parquet",
    ]
    assert len(rows_of(tmp_path / "out")) == 5


def test_an_issue_that_came_after_the_merge_is_not_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository()
    merge = world.change({"half.py": FIXED})
    world.events += [issue_event(1, "half(3) is 1.5", at=AFTER), pull_event(12, merge)]
    world.events += [issue_event(2, "", at=BEFORE)]
    world.write()
    assert left_out(world.curate()) == {Step.ISSUE_UNKNOWN: 1}
