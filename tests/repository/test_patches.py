"""What is accepted is what git apply accepts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gitrepo import commit_all, git, make_repository, write_files
from tests.repository.reading import FILES, changing, contents, creating, error_of, everything_below, opened


@pytest.mark.parametrize("rev", [None, "HEAD"])
def test_a_patch_is_accepted_as_git_apply_would(tmp_path: Path, rev: str | None) -> None:
    repository = opened(make_repository(tmp_path / "r", FILES) / "src", rev)
    assert repository.refuses(changing("src/a.py", b"a = 1\n", b"a = 2\n")) == ""
    assert repository.refuses(creating("new/file")) == ""
    refused = {
        changing("src/a.py", b"a = 0\n", b"a = 2\n"): "patch failed: src/a.py:1",
        creating("README.md"): "README.md: already exists in " + ("working directory" if rev is None else "index"),
        creating("../out"): "invalid path '../out'",
        creating(".git/hooks/x"): "invalid path '.git/hooks/x'",
        b"": 'No valid patches in input (allow with "--allow-empty")',
        b"\0\xff garbage": 'No valid patches in input (allow with "--allow-empty")',
    }
    for diff, message in refused.items():
        assert repository.refuses(diff) == message


def test_the_users_own_settings_for_patches_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_repository(tmp_path / "r", FILES)
    patch = changing("src/a.py", b"a = 1\n", b"a = 2 \n")
    assert not opened(top).refuses(patch)
    git(top, "config", "apply.whitespace", "error")
    for rev in (None, "HEAD"):
        assert opened(top, rev).refuses(patch)


def test_a_commit_accepts_what_the_working_tree_does_not(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"1\n"})
    first = git(top, "rev-parse", "HEAD").decode().strip()
    write_files(top, {"a": b"2\n"})
    commit_all(top)
    patch = changing("a", b"1\n", b"3\n")
    assert not opened(top, first[:10]).refuses(patch)
    assert not opened(top, "HEAD~1").refuses(patch)
    assert opened(top).refuses(patch)


@pytest.mark.parametrize("rev", [None, "HEAD"])
def test_patches_can_be_checked_from_many_threads(tmp_path: Path, rev: str | None) -> None:
    repository = opened(make_repository(tmp_path / "r", FILES), rev)
    good, bad = changing("src/a.py", b"a = 1\n", b"x\n"), changing("src/a.py", b"?\n", b"x\n")
    with ThreadPoolExecutor(8) as pool:
        refusals = list(pool.map(repository.refuses, [good, bad] * 20))
    assert [not refusal for refusal in refusals] == [True, False] * 20


def test_applying_changes_the_tree_and_not_the_index(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    before = everything_below(top / ".git")
    opened(top / "src").apply(changing("README.md", b"hello\n", b"bye\n"))
    assert (top / "README.md").read_bytes() == b"bye\n"
    assert everything_below(top / ".git") == before


def test_what_cannot_be_applied_is_an_error_that_leaves_the_tree(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    patch = changing("src/a.py", b"a = 1\n", b"x\n") + changing("README.md", b"?\n", b"bye\n")
    assert "patch failed: README.md:1" in error_of(lambda: opened(top).apply(patch))
    assert contents(opened(top).snapshot()) == FILES
    assert "cannot be applied to a commit" in error_of(lambda: opened(top, "HEAD").apply(patch))
