"""Files of the working tree: which of them count, and their names, bytes, kinds and modes."""

import subprocess
from pathlib import Path

import pytest

from agentless_mini.domain import FileKind
from agentless_mini.repository.gitcommand import BINARY_PREFIX, LARGE_OVER
from tests.gitrepo import commit_all, git, make_repository, write_files
from tests.repository.reading import FILES, contents, error_of, kinds, opened


def test_a_clean_tree_is_the_commit_it_came_from(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "project", FILES)
    now, then = opened(top).snapshot(), opened(top, "HEAD").snapshot()
    assert contents(now) == FILES
    assert [file.path for file in now.files] == sorted(FILES)
    assert now.commit == git(top, "rev-parse", "HEAD").decode().strip()
    assert now.name == "project"
    assert now == then


def test_the_working_tree_counts_with_what_is_uncommitted(tmp_path: Path) -> None:
    top = make_repository(
        tmp_path / "r", {**FILES, "gone.py": b"", "unstaged.py": b"", ".gitignore": b"*.log\nbuild/\n"}
    )
    write_files(top, {"src/a.py": b"staged\n", "added.py": b"added\n"})
    git(top, "add", "src/a.py", "added.py")
    write_files(
        top, {"src/a.py": b"on disk\n", "new/b c.py": b"untracked\n", "x.log": b"", "build/o/y": b"", "z/w.log": b""}
    )
    (top / "gone.py").unlink()
    git(top, "rm", "--quiet", "--cached", "unstaged.py")
    git(top, "add", "--intent-to-add", "new/b c.py")
    snapshot = opened(top).snapshot()
    assert contents(snapshot) == {
        ".gitignore": b"*.log\nbuild/\n",
        "README.md": b"hello\n",
        "added.py": b"added\n",
        "new/b c.py": b"untracked\n",
        "src/a.py": b"on disk\n",
        "src/b.py": b"b = 2\n",
        "unstaged.py": b"",
    }
    assert snapshot.ignored == ("build/", "x.log", "z/w.log")


def test_a_subfolder_means_the_whole_tree(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", FILES)
    (top / "empty").mkdir()
    link = tmp_path / "link"
    link.symlink_to(top / "src")
    for folder in (top / "src", top / "empty", link):
        snapshot = opened(folder).snapshot()
        assert (contents(snapshot), snapshot.name, snapshot.ignored) == (FILES, "r", ())


def test_a_merge_conflict_is_one_file_with_its_markers(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"1\n"})
    git(top, "checkout", "--quiet", "-b", "other")
    write_files(top, {"a": b"2\n"})
    commit_all(top)
    git(top, "checkout", "--quiet", "main")
    write_files(top, {"a": b"3\n"})
    commit_all(top)
    with pytest.raises(subprocess.CalledProcessError):
        git(top, "merge", "--quiet", "other")
    (file,) = opened(top).snapshot().files
    assert file.data.startswith(b"<<<<<<< HEAD\n3\n")


def test_names_keep_their_bytes(tmp_path: Path) -> None:
    names = ["caf\udce9.py", "größe.py", "a b.py", "new\nline.py", "tab\t.py", 'quo"te.py', "back\\slash", "-dash", " "]
    top = make_repository(tmp_path / "r", {name: name.encode("utf-8", "surrogateescape") for name in names})
    write_files(top, {"un\udcfftracked\n": b"u"})
    now, then = contents(opened(top).snapshot()), contents(opened(top, "HEAD").snapshot())
    assert now.pop("un\udcfftracked\n") == b"u"
    assert now == then == {name: name.encode("utf-8", "surrogateescape") for name in names}


def test_contents_are_the_bytes_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make_repository(tmp_path / "r", {"crlf.txt": b"a\nb\n", "x.txt": b"", "bom.txt": b"\xef\xbb\xbfa\xff"})
    git(top, "config", "core.autocrlf", "true")
    (top / "crlf.txt").unlink()
    git(top, "checkout", "--", "crlf.txt")
    repository = opened(top)
    assert contents(repository.snapshot()) == {"bom.txt": b"\xef\xbb\xbfa\xff", "crlf.txt": b"a\r\nb\r\n", "x.txt": b""}
    patch = b"--- a/crlf.txt\n+++ b/crlf.txt\n@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n"
    assert repository.refuses(patch) == ""
    repository.apply(patch)
    assert (top / "crlf.txt").read_bytes() == b"a\r\nc\r\n"


def test_kinds_follow_the_contents_and_only_text_keeps_them(tmp_path: Path) -> None:
    files = {
        "binary": b"a\0b",
        "empty": b"",
        "large": b"x" * (LARGE_OVER + 1),
        "late": b"x" * BINARY_PREFIX + b"\0",
        "most": b"x" * LARGE_OVER,
    }
    top = make_repository(tmp_path / "r", files)
    for snapshot in (opened(top).snapshot(), opened(top, "main").snapshot()):
        found = [kind for _, (_, kind) in sorted(kinds(snapshot).items())]
        assert found == [FileKind.BINARY, FileKind.TEXT, FileKind.LARGE, FileKind.TEXT, FileKind.TEXT]
        assert contents(snapshot) == {**files, "binary": b"", "large": b""}


def test_modes_come_from_the_disk_unless_git_does_not_believe_it(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"plain": b"", "tool": b""})
    (top / "tool").chmod(0o755)
    commit_all(top)
    (top / "tool").chmod(0o644)
    (top / "plain").chmod(0o755)
    write_files(top, {"new": b""})
    (top / "new").chmod(0o755)
    modes = ("100755", "100755", "100644"), ("100644", "100644", "100755")
    for setting, expected in zip(("yes", "no"), modes, strict=True):
        git(top, "config", "core.fileMode", setting)
        found = kinds(opened(top).snapshot())
        assert tuple(found[name][0] for name in ("new", "plain", "tool")) == expected


def test_a_switch_that_stands_alone_in_the_configuration_is_on(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"tool": b""})
    (top / "tool").chmod(0o755)
    with (top / ".git" / "config").open("a") as file:
        file.write("[core]\n\tfileMode\n")
    assert kinds(opened(top).snapshot())["tool"] == ("100755", FileKind.TEXT)


def test_unreadable_files_are_left_out_with_a_note(unprivileged: Path) -> None:
    top = make_repository(unprivileged / "r", {"a": b"a", "closed": b"c", "shut/x": b"x", "shut/y": b"y"})
    (top / "closed").chmod(0)
    (top / "shut").chmod(0)
    repository = opened(top)
    snapshot = repository.snapshot()
    assert contents(snapshot) == {"a": b"a"}
    assert snapshot.ignored == ("closed", "shut/x", "shut/y")
    assert list(repository.notes) == ["Files that cannot be read are left out: 3, the first of them closed."]
    (top / "shut").chmod(0o700)
    (top / "closed").chmod(0o600)
    assert len(repository.snapshot().files) == 4
    assert list(repository.notes) == []


def test_a_folder_that_cannot_be_read_is_an_error(unprivileged: Path) -> None:
    top = make_repository(unprivileged / "r", {"a": b"a"})
    top.chmod(0o300)
    assert "no permission to read" in error_of(lambda: opened(top).snapshot())
    top.chmod(0)
    assert "no permission to read" in error_of(lambda: opened(top))
    assert "no permission to read" in error_of(lambda: opened(top / "src"))
    top.chmod(0o700)
    (top / ".git" / "index").chmod(0)
    assert "no permission to read" in error_of(lambda: opened(top).snapshot())


def test_the_digest_changes_with_every_part_of_an_entry(tmp_path: Path) -> None:
    trees: dict[str, dict[str, bytes]] = {
        "base": {"a": b"1", "b": b"2"},
        "path": {"a": b"1", "c": b"2"},
        "data": {"a": b"1", "b": b"3"},
        "kind": {"a": b"1", "b": b"\0"},
        "fewer": {"a": b"1"},
        "swapped": {"a": b"2", "b": b"1"},
        "joined": {"a1": b"", "b": b"2"},
    }
    digests = {opened(make_repository(tmp_path / name, files)).snapshot().digest for name, files in trees.items()}
    (tmp_path / "base" / "b").chmod(0o755)
    digests.add(opened(tmp_path / "base").snapshot().digest)
    assert len(digests) == len(trees) + 1


def test_the_digest_is_stable(tmp_path: Path) -> None:
    digest = opened(make_repository(tmp_path / "r", FILES)).snapshot().digest
    assert digest == "7038ebcf239563d0725cdbc9fda6aafbfc33bf07dee75d720de91eb2a8dc88c2"
