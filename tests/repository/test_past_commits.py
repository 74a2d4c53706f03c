"""What is read of a history, and what is not."""

from pathlib import Path

import pytest

from agentless_mini.repository.gitcommand import MOST_COMMITS, MOST_PATHS, PORTIONS, GitCommand, past_commits
from tests.gitrepo import commit_all, git, make_repository, write_files
from tests.repository.reading import opened


def told(path: Path, rev: str | None = None) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.message, one.paths) for one in opened(path, rev).history()]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Return a repository of three commits, the second of them merged."""
    top = make_repository(tmp_path / "top", {"a.py": b"1\n", "b.py": b"1\n"})
    git(top, "checkout", "--quiet", "-b", "side")
    write_files(top, {"b.py": b"2\n", "pkg/c.py": b"2\n"})
    commit_all(top, "Counted to two\n\nIt was one.")
    git(top, "checkout", "--quiet", "-")
    git(top, "merge", "--quiet", "--no-ff", "--message", "Merged", "side")
    write_files(top, {"a.py": b"3\n"})
    commit_all(top, "Counted to three")
    return top


def test_commits_come_newest_first_without_merges_and_the_first(top: Path) -> None:
    two = ("Counted to two\n\nIt was one.", ("b.py", "pkg/c.py"))
    assert told(top) == [("Counted to three", ("a.py",)), two]
    assert opened(top).snapshot().history == ()  # who does not ask for it does not wait for it


def test_no_commit_after_the_base_is_read(top: Path) -> None:
    assert [paths for _, paths in told(top, "side")] == [("b.py", "pkg/c.py")]
    assert told(top, "side~1") == []


def test_names_and_messages_may_be_anything(top: Path) -> None:
    write_files(top, {":odd\n\udcff": b"", "100644": b""})
    git(top, "add", "--all")
    tree = git(top, "write-tree").decode().strip()
    head = f"tree {tree}\nparent {git(top, 'rev-parse', 'HEAD').decode().strip()}\n"
    for who in (b"x <y> 1 +0000", b"no time"):
        raw = head.encode() + b"author %b\ncommitter %b\n\n:\xff says\0more\n" % (who, who)
        commit = git(top, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw).decode().strip()
        first = opened(top, commit).history()[0]
        assert (first.message, first.paths) == (":\ufffd says", ("100644", ":odd\n\udcff"))


def test_commits_that_say_nothing_of_a_file_are_left_out(top: Path) -> None:
    before = told(top)
    commit_all(top, "Nothing")
    write_files(top, {f"many/{n}": b"" for n in range(MOST_PATHS + 1)})
    commit_all(top, "Everything")
    assert told(top) == before
    assert told(top, "side")


def test_a_shallow_clone_has_less_history(top: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "2", top.as_uri(), "shallow")
    assert [message for message, _ in told(tmp_path / "shallow")] == ["Counted to three"]


def test_without_all_objects_or_time_it_is_told_that_there_is_no_history(top: Path) -> None:
    commit, command, notes = git(top, "rev-parse", "HEAD").decode().strip(), GitCommand(str(top)), list[str]()
    assert past_commits(command, commit, notes.append)
    assert notes == []
    assert past_commits(command, commit, notes.append, 0.0001) == ()
    lost = git(top, "rev-parse", "side^{tree}").decode().strip()
    (top / ".git/objects" / lost[:2] / lost[2:]).unlink()
    assert past_commits(command, commit, notes.append) == ()
    late, missing = notes
    assert late.startswith("Of the history the ranking of files knows 0 commits alone: git took more than")
    assert missing.startswith("Of the history the ranking of files knows 0 commits alone: git cannot read")
    repository = opened(top)
    repository.snapshot()
    assert (repository.history(), repository.notes) == ((), (missing,))


def test_a_history_of_several_portions_is_one(tmp_path: Path) -> None:
    top, size = make_repository(tmp_path / "top", {"a.py": b""}), MOST_COMMITS // PORTIONS
    commits = (
        f"commit refs/heads/long\ncommitter a <b> {n} +0000\ndata <<.\n{n}\n.\nM 100644 inline a.py\ndata <<.\n{n}\n.\n"
        for n in range(size + 3)
    )
    git(top, "-c", "fastimport.unpackLimit=1000000", "fast-import", "--quiet", stdin="".join(commits).encode())
    whole = [(str(n), ("a.py",)) for n in range(size + 2, 0, -1)]
    assert told(top, "long") == whole
    lost, notes = git(top, "rev-parse", "long~" + str(size + 1) + "^{tree}").decode().strip(), list[str]()
    (top / ".git/objects" / lost[:2] / lost[2:]).unlink()
    commit = git(top, "rev-parse", "long").decode().strip()
    found = past_commits(GitCommand(str(top)), commit, notes.append)
    assert [(one.message, one.paths) for one in found] == whole[:size]
    assert notes[0].startswith(f"Of the history the ranking of files knows {size} commits alone: ")
