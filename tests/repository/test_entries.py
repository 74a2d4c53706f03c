"""What lies in a working tree beside files, and working trees of other shapes."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from agentless_mini.domain import FileKind
from agentless_mini.repository.gitcommand import HUGE_OVER
from agentless_mini.repository.opening import open_repository
from agentless_mini.sandbox.wire import pack_snapshot
from tests.gitrepo import commit_all, git, make_repository, write_files
from tests.repository.reading import FILES, changing, contents, kinds, opened


def test_symlinks_are_entries_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write_files(outside, {"secret": b"secret"})
    top = make_repository(tmp_path / "r", {"d/secret": b"mine", "e/f/secret": b"mine", "keep": b"k"})
    (top / "passwd").symlink_to("/etc/passwd")
    commit_all(top)
    (top / "untracked").symlink_to(outside / "secret")
    for folder in ("d", "e"):
        subprocess.run(["rm", "-r", folder], cwd=top, check=True)
    (top / "d").symlink_to(outside)
    (top / "e").symlink_to(outside)
    snapshot = opened(top).snapshot()
    link = ("120000", FileKind.SYMLINK)
    assert kinds(snapshot) == {
        "d": link,
        "e": link,
        "keep": ("100644", FileKind.TEXT),
        "passwd": link,
        "untracked": link,
    }
    assert contents(snapshot) == {"d": b"", "e": b"", "keep": b"k", "passwd": b"", "untracked": b""}
    assert kinds(opened(top, "HEAD").snapshot())["passwd"] == link


def test_a_symlink_that_git_wrote_as_a_file_stays_one(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"target": b"t"})
    (top / "link").symlink_to("target")
    commit_all(top)
    git(top, "config", "core.symlinks", "false")
    (top / "link").unlink()
    git(top, "checkout", "--", "link")
    assert not (top / "link").is_symlink()
    assert opened(top).snapshot() == opened(top, "HEAD").snapshot()


def test_sockets_fifos_and_devices_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_repository(tmp_path / "r", {"a": b"a", "pipe": b"was a file", "sock": b"was a file"})
    (top / "pipe").unlink()
    os.mkfifo(top / "pipe")
    os.mkfifo(top / "untracked")
    (top / "sock").unlink()
    monkeypatch.chdir(top)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        snapshot = opened(top).snapshot()
    assert contents(snapshot) == {"a": b"a"}
    assert snapshot.ignored == ("pipe", "sock")


def test_a_folder_in_the_place_of_a_file_counts_with_its_files(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"file", "b/c": b"nested"})
    (top / "a").unlink()
    write_files(top, {"a/x": b"x"})
    (top / "b" / "c").unlink()
    (top / "b").rmdir()
    write_files(top, {"b": b"flat"})
    assert contents(opened(top).snapshot()) == {"a/x": b"x", "b": b"flat"}


def test_a_submodule_is_for_tests_alone_and_a_repository_of_its_own(tmp_path: Path) -> None:
    inner = make_repository(tmp_path / "inner", {"i.py": b"i\n"})
    top = make_repository(tmp_path / "outer", {"o.py": b"o\n"})
    git(top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.as_uri(), "lib/inner")
    commit_all(top)
    for snapshot in (opened(top).snapshot(), opened(top, "HEAD").snapshot()):
        assert kinds(snapshot)["lib/inner"] == ("160000", FileKind.SUBMODULE)
        assert sorted({*kinds(snapshot)} - {"lib/inner/i.py"}) == [".gitmodules", "lib/inner", "o.py"]
    assert "lib/inner/i.py" not in kinds(snapshot)
    pack = pack_snapshot(opened(top).snapshot(), opened(top).contents(), tmp_path / "body")
    assert kinds(opened(top).snapshot())["lib/inner/i.py"] == ("100644", FileKind.LARGE)
    assert [entry.path for entry in pack.entries] == [".gitmodules", "lib/inner", "lib/inner/i.py", "o.py"]
    assert b"".join(pack.chunks()).endswith(b"i\no\n")
    for repository in (opened(top), opened(top, "HEAD")):
        repository.snapshot()
        assert repository.notes == ("Not looked into: submodules (lib/inner).",)
    assert contents(opened(top / "lib" / "inner").snapshot()) == {"i.py": b"i\n"}
    assert not opened(top / "lib" / "inner").refuses(changing("i.py", b"i\n", b"j\n"))
    subprocess.run(["rm", "-r", "lib"], cwd=top, check=True)
    assert sorted(kinds(opened(top).snapshot())) == [".gitmodules", "o.py"]


def test_a_repository_inside_is_not_entered(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"a"})
    make_repository(top / "deep" / "nested", {"n": b"n"})
    repository = opened(top)
    snapshot = repository.snapshot()
    assert contents(snapshot) == {"a": b"a"}
    assert snapshot.ignored == ("deep/nested/",)
    assert repository.notes == ("Not looked into: repositories inside this one (deep/nested/).",)


def test_trees_that_git_ignores_are_named_but_for_caches(tmp_path: Path) -> None:
    ignored = ["build/", *(f"v{number}/" for number in range(5)), "src/__pycache__/", ".pytest_cache/", "log.txt"]
    top = make_repository(tmp_path / "r", {"a": b"a", "src/b": b"b", ".gitignore": "\n".join(ignored).encode()})
    write_files(top, {f"{name}x" if name.endswith("/") else name: b"x" for name in ignored})
    repository = opened(top)
    assert contents(repository.snapshot()).keys() == {"a", "src/b", ".gitignore"}
    assert repository.notes == ("Not looked into: what git ignores (build/, v0/, v1/, v2/, v3/ and 1 more).",)


def test_a_huge_file_is_left_out_and_named(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"a"})
    for name, size in (("just", HUGE_OVER), ("big", HUGE_OVER + 1)):
        with (top / name).open("wb") as file:
            file.truncate(size)
    repository = opened(top)
    snapshot = repository.snapshot()
    assert kinds(snapshot).keys() == {"a", "just"}
    assert snapshot.ignored == ("big",)
    assert repository.notes == ("Files over 100 MiB are left out, of the tests too: big.",)
    (top / "just").unlink()
    repository = opened(top, commit_all(top))
    assert kinds(repository.snapshot()).keys() == {"a"}
    assert repository.notes == ("Files over 100 MiB are left out, of the tests too: big.",)


def test_a_linked_worktree_is_read_where_it_is(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"a\n"})
    git(top, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "linked"))
    write_files(tmp_path / "linked", {"a": b"b\n"})
    repository = opened(tmp_path / "linked")
    assert contents(repository.snapshot()) == {"a": b"b\n"}
    assert contents(opened(tmp_path / "linked", "HEAD").snapshot()) == {"a": b"a\n"}
    repository.apply(changing("a", b"b\n", b"c\n"))
    assert (tmp_path / "linked" / "a").read_bytes() == b"c\n"
    assert (top / "a").read_bytes() == b"a\n"


def test_a_sparse_checkout_is_what_is_on_the_disk(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"in/a": b"a\n", "out/b": b"b\n", "assumed": b"c\n"})
    git(top, "sparse-checkout", "set", "--cone", "--sparse-index", "in")
    git(top, "update-index", "--assume-unchanged", "assumed")
    write_files(top, {"assumed": b"changed\n"})
    assert contents(opened(top).snapshot()) == {"assumed": b"changed\n", "in/a": b"a\n"}
    committed = opened(top, "HEAD")
    assert contents(committed.snapshot()) == {"assumed": b"c\n", "in/a": b"a\n", "out/b": b"b\n"}
    assert not committed.refuses(changing("out/b", b"b\n", b"x\n"))


def test_sha256_repositories_are_read(tmp_path: Path) -> None:
    top = tmp_path / "r"
    top.mkdir()
    git(top, "init", "--quiet", "--object-format=sha256")
    write_files(top, FILES)
    commit = commit_all(top)
    assert len(commit) == 64
    for rev in (None, commit):
        assert contents(opened(top, rev).snapshot()) == FILES
    copy = open_repository(top.as_uri(), commit, tmp_path / "cache")
    assert contents(copy.snapshot()) == FILES


def test_a_snapshot_knows_the_day_of_its_commit_and_runs_no_program_for_it(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    git(top, "config", "log.showSignature", "true")
    git(top, "config", "gpg.program", str(tmp_path / "never"))
    assert opened(top).snapshot().day == "2024-01-02"
    assert opened(top, "HEAD").snapshot().day == "2024-01-02"
