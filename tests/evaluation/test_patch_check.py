"""The check from a snapshot says of every patch what git says in the repository that the snapshot is of."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentless_mini.domain import Patch, Rejected, Snapshot
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.repository.opening import Repository, open_repository
from agentless_mini.repository.patches import snapshot_check
from tests.evaluation.sick_git import DEATHS, no_git, sick_git
from tests.gitrepo import ISOLATED, commit_all, git, make_repository, write_files

FILES = {
    "src/a.py": b"a = 1\nb = 2\nc = 3\n",
    "src/deep/b.py": b"crlf\r\nlines\r\n",
    "tool.sh": b"#!/bin/sh\n",
    "data.bin": b"\0\1\2",
    "sub/.gitattributes": b"*.txt text eol=crlf\n",
    "sub/a.txt": b"one\r\ntwo\r\n",
    "caf\udce9.py": b"x = 1\n",
}


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ISOLATED.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = make_repository(tmp_path / "r", FILES)
    (top / "link").symlink_to("src")
    (top / "tool.sh").chmod(0o755)
    commit_all(top)
    return top


def opened(top: Path) -> tuple[Repository, Snapshot]:
    repository = open_repository(str(top), None, top.parent / "cache")
    return repository, repository.snapshot()


def patch(diff: bytes, *paths: str) -> Patch:
    return Patch(diff, "normal", tuple(paths))


def changed(top: Path, **files: bytes) -> bytes:
    """Return git's own diff of writing these files (`__` is a slash, `_py` the suffix), and take it back."""
    write_files(top, {name.replace("__", "/").replace("_py", ".py"): data for name, data in files.items()})
    git(top, "add", "--all", "--intent-to-add")
    diff = git(top, "diff", "--binary")
    git(top, "reset", "--hard", "--quiet")
    return diff


def creating(path: str) -> bytes:
    header = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
    return f"{header}@@ -0,0 +1 @@\n+x\n".encode()


def changing(path: str, before: bytes, after: bytes) -> bytes:
    header = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n".encode(errors="surrogateescape")
    return header + b"-" + before + b"\n+" + after + b"\n"


HUNK = b"@@ -1,3 +1,3 @@\n-a = 1\n+a = 9\n b = 2\n c = 3\n"
CASES = {
    "a change": (b"diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n" + HUNK, "src/a.py"),
    "one that does not fit": (changing("src/a.py", b"a = 0", b"a = 2"), "src/a.py"),
    "CRLF": (changing("sub/a.txt", b"one\r", b"1\r"), "sub/a.txt"),
    "LF where attributes say CRLF": (changing("sub/a.txt", b"one", b"1"), "sub/a.txt"),
    "a new file": (creating("src/new/c.py"), "src/new/c.py"),
    "a new file that exists": (creating("src/a.py"), "src/a.py"),
    "one where there is a folder": (creating("src"), "src"),
    "one below a file": (creating("src/a.py/x"), "src/a.py/x"),
    "one below a symlink": (creating("link/x.py"), "link/x.py"),
    "one in the place of a symlink": (creating("link"), "link"),
    "one in the place of binary data": (creating("data.bin"), "data.bin"),
    "outside": (creating("../out"), "../out"),
    "in git's folder": (creating(".git/hooks/x"), ".git/hooks/x"),
    "no patch": (b"", "src/a.py"),
    "garbage": (b"\0\xff garbage", "src/a.py"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_it_says_what_git_says_in_the_repository(top: Path, case: str) -> None:
    repository, snapshot = opened(top)
    diff, *paths = CASES[case]
    said = snapshot_check(snapshot)(patch(diff, *paths))
    refusal = repository.refuses(diff)
    assert (said == patch(diff, *paths), getattr(said, "detail", "")) == (not refusal, refusal)


def test_a_mode_a_deletion_and_several_files_are_seen(top: Path) -> None:
    _, snapshot = opened(top)
    (top / "src/deep/b.py").unlink()
    diff = changed(top, src__a_py=b"a = 1\nb = 3\nc = 3\n", src__new_py=b"n\n")
    whole = patch(diff, "src/a.py", "src/deep/b.py", "src/new.py")
    assert snapshot_check(snapshot)(whole) is whole


def test_nothing_is_left_behind_and_threads_do_not_meet(top: Path, tmp_path: Path) -> None:
    _, snapshot = opened(top)
    check = snapshot_check(snapshot)
    good, bad = patch(*CASES["a change"]), patch(*CASES["one that does not fit"])
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(check, [good, bad] * 10))
    assert [isinstance(one, Rejected) for one in said] == [False, True] * 10


@pytest.mark.parametrize("death", DEATHS)
def test_a_git_that_comes_to_no_verdict_refuses_no_patch(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    check = snapshot_check(opened(top)[1])
    sick_git(tmp_path / "bin", death, monkeypatch)
    with pytest.raises(EnvironmentFailed, match="git cannot check a patch"):
        check(patch(*CASES["a change"]))


def test_without_git_no_patch_is_refused(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = snapshot_check(opened(top)[1])
    no_git(monkeypatch)
    with pytest.raises(EnvironmentFailed, match="install git"):
        check(patch(*CASES["a change"]))


def test_a_patch_whose_path_says_that_the_disk_is_full_is_refused(top: Path) -> None:
    _, snapshot = opened(top)
    for path in ("cannot change to ", "a: No space left on device", "fatal: Out of memory"):
        said = snapshot_check(snapshot)(patch(changing(path, b"a", b"b"), path))
        assert isinstance(said, Rejected)
