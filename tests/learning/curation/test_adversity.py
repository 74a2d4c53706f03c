"""What GitHub's history does to a curation: trimmed events, renames, forks of benchmarks, broken mirrors and files."""

import os
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.learning.curation.curation import curate, one_by_one
from agentless_mini.learning.curation.filters import Step
from agentless_mini.settings.learning import CurateSettings
from tests.gitrepo import git
from tests.learning.curation.test_curation import many
from tests.learning.curation.world import (
    AFTER,
    AT,
    BEFORE,
    CODE,
    FIXED,
    Values,
    World,
    comment_event,
    event,
    issue_event,
    left_out,
    pull_event,
    rows_of,
    small_world,
    trimmed_event,
)

for library in ("pyarrow", "duckdb", "datasketch"):
    pytest.importorskip(library, reason="a library is not installed (the extra 'train')")


# --- joins -----------------------------------------------------------------------------------------------------------


def trimmed(world: World, *actions: str, at: str = AT, subject: str = "Halve (#12)") -> World:
    """Make a world of a squash that only trimmed events tell of."""
    world.repository()
    world.change({"half.py": FIXED}, f"{subject}\n\nFixes #1")
    world.events += [issue_event(1, "half(3) is 1.5")]
    world.events += [{**trimmed_event(12, action), "created_at": at} for action in actions]
    world.write()
    return world


@pytest.mark.parametrize(
    "actions", [("opened", "closed"), ("opened", "closed", "reopened", "closed"), ("closed", "labeled"), ("labeled",)]
)
def test_what_trimmed_events_do_not_say_the_history_tells(tmp_path: Path, actions: tuple[str, ...]) -> None:
    assert trimmed(World(tmp_path), *actions).curate()["rows"]["train"] == 1


def test_what_was_only_opened_is_not_merged(tmp_path: Path) -> None:
    assert left_out(trimmed(World(tmp_path), "opened").curate()) == {Step.NOT_MERGED: 1}


def test_the_number_of_an_origins_pull_request_is_not_taken_for_a_forks_own(tmp_path: Path) -> None:
    assert left_out(trimmed(World(tmp_path), "closed", at=AFTER).curate()) == {Step.NOT_MERGED: 1}


@pytest.mark.parametrize(("title", "step"), [("Bump x from 1 to 2", Step.VERSION_BUMP), ("Automerge", Step.BOT)])
def test_titles_that_only_the_history_tells_are_judged(tmp_path: Path, title: str, step: Step) -> None:
    assert left_out(trimmed(World(tmp_path), "closed", subject=f"{title} (#12)").curate()) == {step: 1}


def rebase_event(number: int, lines: int, last: str) -> Values:
    return pull_event(number, last, commits=2, changed_files=1, additions=lines, deletions=0)


@pytest.mark.parametrize(("lines", "first"), [(2, CODE), (1, CODE + b"# one\n")])
def test_a_rebase_is_told_from_a_squash_by_the_number_of_lines(tmp_path: Path, lines: int, first: bytes) -> None:
    world = World(tmp_path)
    world.repository()
    world.change({"half.py": CODE + b"# one\n"}, "one")
    last = world.change({"half.py": CODE + b"# one\n# two\n"}, "two")
    world.events += [issue_event(1, "half(3) is 1.5"), *(rebase_event(*told, last) for told in ((12, lines), (13, 9)))]
    world.write()
    assert left_out(world.curate()) == {Step.HISTORY_UNCLEAR: 1}
    assert [row.files[0].before for row in rows_of(tmp_path / "out")] == [first.decode()]


def test_a_repository_is_known_by_its_number_where_its_name_changes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.repository("ada/first")
    merge = world.change({"half.py": FIXED}, "l (#12)", "ada/first")
    said = comment_event(1, "It is so", BEFORE)
    world.events += [
        {**issue_event(1, "half(3) is 1.5"), "repo": {"id": 7, "name": "ada/First"}},
        {**said, "repo": {"id": 7, "name": "ada/second"}, "created_at": "2023-02-01T00:00:00Z"},
        {**pull_event(12, merge, body="Fixes ada/first#1"), "repo": {"id": 7, "name": "ada/third"}},
    ]
    said["payload"]["comment"]["created_at"] = "2023-02-01T00:00:00Z"
    world.write()
    assert world.curate()["rows"]["train"] == 1
    (row,) = rows_of(tmp_path / "out")
    assert (row.id, row.issue) == ("ada/third#12", "half(3) is 1.5")
    assert row.conversation.endswith("It is so")


def test_a_number_that_all_repositories_share_joins_none(tmp_path: Path) -> None:
    world = many(tmp_path, 2)
    events = [issue_event(1, "x", repo="owner1/engine"), issue_event(2, "y", repo="owner1/other")]
    events += [issue_event(3, "z", repo="owner1/engine", at=AFTER)]
    world.write("same.json.gz", [{**one, "repo": {**one["repo"], "id": 7}} for one in events])
    assert world.curate()["rows"]["train"] == 2


# --- leaks -----------------------------------------------------------------------------------------------------------


def lone(folder: Path, repo: str) -> World:
    """Make a world of one row of a repository."""
    world = World(folder)
    world.repository(repo)
    merge = world.change({"half.py": FIXED}, "l (#12)", repo)
    world.events += [issue_event(1, "half(3) is 1.5", repo=repo), pull_event(12, merge, repo)]
    return world


@pytest.mark.parametrize("parts", [1, 7])
def test_a_fork_of_a_fork_of_a_benchmark_is_left_out_whichever_part_knows(tmp_path: Path, parts: int) -> None:
    world = lone(tmp_path, "mal/web")
    world.events += [event("ForkEvent", {"forkee": {"full_name": "mal/web"}}, "Eve/web")]
    world.events += [event("ForkEvent", {"forkee": {"full_name": "eve/web"}}, "django/django")]
    world.write()
    found = world.curate(world.curation("out", CurateSettings(partitions=parts)))
    assert left_out(found) == {Step.BENCHMARK_FORK: 1}


def test_forks_that_go_in_a_circle_end(tmp_path: Path) -> None:
    world = lone(tmp_path, "mal/web")
    for one, other in (("mal/web", "eve/web"), ("eve/web", "cy/web"), ("cy/web", "eve/web")):
        world.events += [event("ForkEvent", {"forkee": {"full_name": one}}, other)]
    world.write()
    assert world.curate()["rows"]["train"] == 1


def test_what_was_a_benchmark_under_an_earlier_name_is_left_out(tmp_path: Path) -> None:
    world = lone(tmp_path, "django/other")
    for one in world.events:
        assert isinstance(one, dict)
        one["repo"]["id"] = 7
    world.events += [{**issue_event(2, "x", at="2020-01-01T00:00:00Z"), "repo": {"id": 7, "name": "django/django"}}]
    world.write()
    assert left_out(world.curate()) == {Step.BENCHMARK_FORK: 1}


def test_what_begins_as_the_mirror_of_a_benchmark_does_is_left_out(tmp_path: Path) -> None:
    world = lone(tmp_path, "mal/web")
    git(tmp_path, "clone", "--quiet", str(world.mirrors / "mal+web"), str(world.mirrors / "matplotlib+matplotlib"))
    world.write()
    assert left_out(world.curate()) == {Step.BENCHMARK_FORK: 1}


def test_one_late_word_that_a_repository_is_a_fork_is_enough(tmp_path: Path) -> None:
    world = lone(tmp_path, "mal/Flask")
    side = {"ref": "main", "sha": "b" * 40, "repo": {"name": "mal/Flask", "fork": True}}
    world.events += [pull_event(99, "c" * 40, "mal/Flask", base=side, merged=False)]
    world.write()
    assert left_out(world.curate()) == {Step.NOT_MERGED: 1, Step.BENCHMARK_FORK: 1}


# --- what is broken --------------------------------------------------------------------------------------------------


def forged(repository: Path, head: str) -> str:
    """Write a commit object as git would not, and return its id."""
    data = head.encode("utf-8", "surrogateescape") + b"\n\nforged (#13)\n"
    return git(repository, "hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=data).decode().strip()


@pytest.mark.parametrize(
    ("head", "step"),
    [
        ("tree {tree}\nparent {parent}\nauthor \ncommitter ", Step.UNREADABLE),
        ("tree {tree}\nparent \udcff\nauthor \ncommitter a <b> 1 +0000", Step.HISTORY_UNCLEAR),
        ("tree {tree}\nparent --help\nparent {parent}\ncommitter a <b> -99999999999 +0000", Step.UNREADABLE),
        ("tree {none}\nparent {parent}\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000", Step.MIRROR_BROKEN),
    ],
)
def test_a_broken_commit_costs_its_own_pull_request_alone(tmp_path: Path, head: str, step: Step) -> None:
    world = small_world(tmp_path)
    repository = world.mirrors / "ada+engine"
    tree, parent = (git(repository, "rev-parse", name).decode().strip() for name in ("HEAD^{tree}", "HEAD"))
    world.events += [pull_event(13, forged(repository, head.format(tree=tree, parent=parent, none="1" * 40)))]
    world.write()
    found = world.curate()
    assert found["rows"]["train"] == 1
    assert set(left_out(found).values()) == {1}
    assert step is not Step.MIRROR_BROKEN or left_out(found) == {step: 1}


def test_a_mirror_without_a_tip_or_with_a_cut_history_says_so(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    folder = world.mirrors / "ada+engine" / ".git"
    head = (folder / "HEAD").read_text()
    (folder / "HEAD").write_text("ref: refs/heads/gone\n")
    assert left_out(world.curate()) == {Step.MIRROR_BROKEN: 1}
    assert "names no commit" in (tmp_path / "out" / "rejected.jsonl").read_text()
    (folder / "HEAD").write_text(head)
    (folder / "shallow").write_bytes(git(folder, "rev-parse", "HEAD"))
    assert left_out(world.curate(world.curation("again"))) == {Step.MIRROR_BROKEN: 1}
    assert "shallow" in (tmp_path / "again" / "rejected.jsonl").read_text()


def test_names_of_files_that_are_no_text_stop_nothing(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    (world.folder / "events" / os.fsdecode(b"\xff.json")).write_bytes(b"{torn\n")
    (world.folder / "events" / "folder.json").mkdir()
    found = world.curate()
    assert (found["rejected"], found["rows"]["train"]) == ({"no JSON": 1}, 1)


def test_a_mirror_that_comes_later_is_found(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    (world.mirrors / "ada+engine").rename(tmp_path / "away")
    assert left_out(world.curate()) == {Step.NO_MIRROR: 1}
    (tmp_path / "away").rename(world.mirrors / "ada+engine")
    assert world.curate()["rows"]["train"] == 1


def test_two_curations_do_not_write_to_one_folder(tmp_path: Path) -> None:
    world, found = small_world(tmp_path), list[str]()

    def meanwhile(step: str, done: int, total: int) -> None:
        if not found:
            with pytest.raises(UsageError, match=r"Another curation writes to .*: wait for it, or"):
                world.curate()
            found.append(step)

    curate(world.curation(), one_by_one, meanwhile)
    assert found
    assert len(rows_of(tmp_path / "out")) == 1


def test_a_shard_that_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    world.curate()
    for shard in (tmp_path / "out" / "work").glob("parts-*/*/rows.parquet"):
        shard.write_bytes(b"")
    with pytest.raises(EnvironmentFailed, match="and run this again"):
        world.curate()
