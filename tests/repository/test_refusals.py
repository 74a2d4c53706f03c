"""What cannot be opened is answered by one sentence."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.repository.opening import open_repository
from tests.gitrepo import git, make_repository
from tests.repository.reading import CACHE, FILES, error_of, opened


def test_what_cannot_be_opened_says_so_in_a_sentence(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is not in a git repository" in error_of(lambda: opened(empty))
    git(empty, "init", "--quiet")
    assert "has no commit yet" in error_of(lambda: opened(empty))
    assert "is not a folder" in error_of(lambda: opened(top / "README.md"))
    for nothing in (str(tmp_path / "none"), "", "x" * 5000, "a\0b", "-x", "ext::sh -c x"):
        assert "There is nothing at" in error_of(partial(open_repository, nothing, None, CACHE))
    for rev in ("none", "", "-x", "HEAD:README.md", "HEAD^{tree}", "a b", "x\n"):
        assert "There is no commit" in error_of(partial(opened, top, rev))


def test_a_repository_of_another_user_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_repository(tmp_path / "r", FILES)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "git config --global --add safe.directory" in error_of(lambda: opened(top))


def test_a_broken_repository_is_explained(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    (top / ".git" / "index").write_bytes(b"garbage" * 10)
    assert "see what `git status` says there" in error_of(lambda: opened(top).snapshot())
    (top / ".git" / "config").write_bytes(b"[core\n")
    assert "see what `git status` says there" in error_of(lambda: opened(top))


def test_a_call_that_takes_too_long_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    said = error_of(lambda: GitCommand(str(tmp_path), limit=0.2).ask("rev-list", "--all"))
    assert said == f"git took more than 0.2 s with {tmp_path}: run `git fsck` and `git gc` there."


def test_a_fresh_process_without_git_is_told_to_install_it(tmp_path: Path) -> None:
    code = "from agentless_mini.repository.opening import *; open_repository('.', None, Path('x'))"
    finished = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert b"EnvironmentFailed: git is not installed or not in the PATH" in finished.stderr


def test_an_old_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.30.2\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "git 2.31 or newer is needed, and this is 'git version 2.30.2'" in error_of(lambda: opened(tmp_path))
