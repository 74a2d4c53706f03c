import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentless_mini.domain import FileKind, Issue
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.tree import extract, read_copy
from tests.gitrepo import commit_all, git, make_repository

INSTANCE = Instance("a__b-1", "a/b", "c" * 40, Issue("It breaks."), "image", created="2024-05-06T07:08:09Z")
Entry = tuple[str, bytes, bytes]  # name, type, contents or where it points


def archive(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, data in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(data)
            else:
                entry.linkname = data.decode()
            tar.addfile(entry, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def unpack(data: bytes, top: Path) -> None:
    extract(pieces(data), top)


def packed(folder: Path) -> bytes:
    """Return the tar file that Docker makes of a folder of an image."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder, "testbed")
    return out.getvalue()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {"a.py": b"x = 1\n", "pkg/b.py": b"y = 2\n", ".gitignore": b"*.so\nbuild/\n", "data": b"\0\1"}
    folder = make_repository(tmp_path / "checkout", files)
    (folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("a.py")
    (folder / "forced.so").write_bytes(b"tracked")
    git(folder, "add", "--force", "forced.so")
    commit_all(folder)
    (folder / "built.so").write_bytes(b"ignored")
    (folder / "loose.py").write_bytes(b"z = 3\n")
    (folder / ".git/info/exclude").write_text("secret\n")
    (folder / "secret").write_bytes(b"excluded")
    return folder


def test_a_copy_has_what_git_lists_in_the_image(checkout: Path, tmp_path: Path) -> None:
    unpack(packed(checkout), tmp_path / "copy")
    snapshot = read_copy(tmp_path / "copy", INSTANCE)
    listed = git(checkout, "ls-files", "--cached", "--others", "--exclude-standard", "-z").decode().split("\0")
    assert [file.path for file in snapshot.files] == sorted(filter(None, listed))
    assert {file.path: file.data for file in snapshot.files if file.kind is FileKind.TEXT} == {
        name: (checkout / name).read_bytes() for name in listed if name and name not in {"data", "link"}
    }
    assert snapshot.by_path()["run.sh"].mode == "100755"
    assert snapshot.by_path()["link"].kind is FileKind.SYMLINK
    assert snapshot.ignored == ("built.so", "secret")
    assert (snapshot.name, snapshot.commit, snapshot.day) == ("a/b", "c" * 40, "2024-05-06")


@pytest.mark.parametrize("index", [None, b"", b"DIRC broken"])
def test_without_an_index_that_git_can_use_all_files_count_that_are_not_ignored(
    checkout: Path, tmp_path: Path, index: bytes | None
) -> None:
    if index is None:
        (checkout / ".git/index").unlink()
    else:
        (checkout / ".git/index").write_bytes(index)
    unpack(packed(checkout), tmp_path / "copy")
    snapshot = read_copy(tmp_path / "copy", INSTANCE)
    assert [file.path for file in snapshot.files] == [
        ".gitignore", "a.py", "data", "link", "loose.py", "pkg/b.py", "run.sh"
    ]  # fmt: skip


def test_the_history_of_the_base_commit_is_read_out_of_the_image(checkout: Path, tmp_path: Path) -> None:
    (checkout / "a.py").write_bytes(b"x = 2\n")
    base = commit_all(checkout, "Doubled x")
    git(checkout, "repack", "--quiet", "-d")  # objects of both kinds
    commit_all(checkout, "What the makers of images do after it")
    unpack(packed(checkout), tmp_path / "copy")
    history = read_copy(tmp_path / "copy", replace(INSTANCE, base_commit=base)).history
    assert [(one.message, one.paths) for one in history[:1]] == [("Doubled x", ("a.py", "loose.py"))]
    assert git(tmp_path / "copy", "log", "--all", "--format=%s") == b"The files of an image\n"
    assert read_copy(tmp_path / "copy", INSTANCE).history == ()  # the image does not have that commit


def test_objects_that_lie_elsewhere_are_no_history(checkout: Path, tmp_path: Path) -> None:
    (checkout / "a.py").write_bytes(b"x = 2\n")
    base = commit_all(checkout)
    git(checkout, "repack", "--quiet", "-a", "-d")
    (checkout / ".git/objects/pack").rename(tmp_path / "pack")
    (checkout / ".git/objects/pack").mkdir()
    for file in (tmp_path / "pack").iterdir():
        (checkout / ".git/objects/pack" / file.name).symlink_to(file)
    (checkout / ".git/objects/info/alternates").write_text(f"{tmp_path}\n")
    unpack(packed(checkout), tmp_path / "copy")
    assert read_copy(tmp_path / "copy", replace(INSTANCE, base_commit=base)).history == ()


def test_an_index_that_points_elsewhere_is_no_index(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".git/index").rename(tmp_path / "index")
    (checkout / ".git/index").symlink_to(tmp_path / "index")
    unpack(packed(checkout), tmp_path / "copy")
    assert "forced.so" not in read_copy(tmp_path / "copy", INSTANCE).by_path()


def test_a_copy_that_git_cannot_read_is_an_error(tmp_path: Path) -> None:
    unpack(archive(("testbed/a", tarfile.REGTYPE, b"")), tmp_path / "copy")
    (tmp_path / "copy/.git").write_bytes(b"in the way")
    with pytest.raises(EnvironmentFailed, match="copy of the tree cannot be used"):
        read_copy(tmp_path / "copy", INSTANCE)


def test_what_the_user_ignores_everywhere_counts_here(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("*.py\n")
    (tmp_path / "config").write_text(f"[core]\n\texcludesFile = {tmp_path}/mine\n[commit]\n\tgpgSign = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    unpack(packed(checkout), tmp_path / "copy")
    assert "loose.py" in read_copy(tmp_path / "copy", INSTANCE).by_path()


# --- what comes out of an image is not trusted ---------------------------------------------------------------------


def files_below(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize(
    "entries",
    [
        [("testbed/../../out", tarfile.REGTYPE, b"!")],
        [("/out", tarfile.REGTYPE, b"!")],
        [("testbed/a/../../../out", tarfile.REGTYPE, b"!")],
        [("testbed/link", tarfile.SYMTYPE, b".."), ("testbed/link/out", tarfile.REGTYPE, b"!")],
        [("testbed/out", tarfile.SYMTYPE, b"../out"), ("testbed/out", tarfile.REGTYPE, b"!")],
        [("testbed/hard", tarfile.LNKTYPE, b"testbed/../../secret")],
        [("testbed/hard", tarfile.LNKTYPE, b"/secret")],
        [("testbed/s", tarfile.SYMTYPE, b".."), ("testbed/hard", tarfile.LNKTYPE, b"testbed/s/secret")],
        [("testbed/fifo", tarfile.FIFOTYPE, b""), ("testbed/null", tarfile.CHRTYPE, b"")],
        [("testbed/.git/config", tarfile.REGTYPE, b"[core]\n\tfsmonitor = evil\n")],
        [("testbed/.git", tarfile.SYMTYPE, b"..")],
        [("testbed/sub/.git/hooks/post-commit", tarfile.REGTYPE, b"!")],
    ],
)
def test_no_entry_leads_out_of_the_copy_or_into_git(entries: list[Entry], tmp_path: Path) -> None:
    top = tmp_path / "in" / "copy"
    (tmp_path / "in").mkdir()
    (tmp_path / "in/secret").write_bytes(b"secret")
    unpack(archive(*entries, ("testbed/good", tarfile.REGTYPE, b"good")), top)
    assert files_below(tmp_path / "in").keys() - {"copy/out"} == {"secret", "copy/good"}
    assert (tmp_path / "in/secret").read_bytes() == b"secret"
    assert not (tmp_path / "in/out").exists()
    assert {path.name for path in top.iterdir()} <= {"good", "out", "link", "s"}


def test_hard_links_become_links_and_the_later_of_two_entries_counts(tmp_path: Path) -> None:
    data = archive(
        ("testbed/one", tarfile.REGTYPE, b"first"),
        ("testbed/two", tarfile.LNKTYPE, b"testbed/one"),
        ("testbed/one", tarfile.REGTYPE, b"second"),
        ("testbed/one", tarfile.LNKTYPE, b"testbed/one"),
        ("testbed/three", tarfile.LNKTYPE, b"testbed/absent"),
        ("testbed/two/below", tarfile.REGTYPE, b"in the way"),
    )
    unpack(data, tmp_path / "copy")
    assert files_below(tmp_path / "copy") == {"one": b"second", "two": b"first"}


def test_a_broken_archive_is_an_error(tmp_path: Path) -> None:
    data = archive(("testbed/one", tarfile.REGTYPE, b"x" * 5000))
    for broken in (b"no tar", data[:1500], b""):
        with pytest.raises(EnvironmentFailed, match="cannot be copied out of the image"):
            unpack(broken, tmp_path / "copy")


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", ".git", "link", "index"]), min_size=1, max_size=4)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(
        st.tuples(NAMES, KINDS, st.sampled_from(["..", "/", "testbed/a", "a", "../../secret"])), max_size=8
    )
)
def test_whatever_an_archive_says_nothing_outside_is_touched(
    entries: list[tuple[list[str], bytes, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "secret").write_bytes(b"secret")
    told = [("testbed/" + "/".join(parts), kind, target.encode()) for parts, kind, target in entries]
    unpack(archive(*told), home / "copy")
    assert {path.name for path in home.iterdir()} == {"secret", "copy"}
    assert (home / "secret").read_bytes() == b"secret"
    assert (home / "secret").stat().st_nlink == 1
    kept = (home / "copy/.git").rglob("*") if (home / "copy/.git").is_dir() else iter(())
    assert {path.name for path in kept} <= {"index"}
