"""Nothing of the user's repository is written, and no other repository gets in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gitrepo import git, make_repository, write_files
from tests.repository.reading import FILES, changing, contents, error_of, everything_below, opened


@pytest.mark.parametrize("rev", [None, "HEAD"])
@pytest.mark.parametrize("setting", ["core.splitIndex=false", "core.splitIndex=true", "core.untrackedCache=true"])
def test_reading_and_checking_write_nothing(tmp_path: Path, rev: str | None, setting: str) -> None:
    top = make_repository(tmp_path / "r", FILES)
    git(top, "config", *setting.split("="))
    git(top, "update-index", "--refresh")
    git(top, "stash", "list")
    write_files(top, {"src/a.py": b"a = 1\n", "src/b.py": b"staged\n", "new": b"n"})
    git(top, "add", "src/b.py")
    os.utime(top / "README.md", (1, 1))
    before = everything_below(top)
    repository = opened(top, rev)
    repository.snapshot()
    assert not repository.refuses(changing("README.md", b"hello\n", b"bye\n"))
    assert repository.refuses(changing("README.md", b"other\n", b"bye\n"))
    assert everything_below(top) == before


def test_a_temporary_index_goes_with_its_repository(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    code = """
import sys
from pathlib import Path
from agentless_mini.repository.opening import open_repository
scratch, top = map(Path, sys.argv[1:])
first, second = (open_repository(str(top), "HEAD", scratch) for _ in range(2))
assert len(list(scratch.iterdir())) == 2
del first
assert len(list(scratch.iterdir())) == 1
"""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    subprocess.run([sys.executable, "-c", code, str(scratch), str(top)], env=environment, check=True)
    assert list(scratch.iterdir()) == []


def test_the_variables_of_a_surrounding_git_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = make_repository(tmp_path / "wrong", {"w": b"w"})
    right = make_repository(tmp_path / "right", FILES)
    # Tracked though ignored: listed only by the right index.
    write_files(right, {".git/info/exclude": b"README.md\n"})
    monkeypatch.setenv("GIT_DIR", str(wrong / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(wrong))
    monkeypatch.setenv("GIT_INDEX_FILE", str(wrong / ".git" / "index"))
    assert contents(opened(right).snapshot()) == FILES
    assert contents(opened(right, "HEAD").snapshot()) == FILES
    assert "not in a git repository" in error_of(lambda: opened(tmp_path))
