"""Placing files over a tree, at the functions that do it in the box: no path of a patch leads out of the tree."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentless_mini.sandbox.inside.files import FOLDER, NotPlaced, clear_result, place, read_result

PARTS = st.sampled_from(
    ["", ".", "..", ".git", ".GIT", "pkg", "way", "loop", "module.py", "new", "\0", "\ud800", "\udcff"]
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "pkg").mkdir(parents=True)
    (top / "pkg" / "module.py").write_text("old")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("kept")
    (top / "way").symlink_to("../outside")
    (top / "loop").symlink_to("loop")
    (top / "end").symlink_to("../outside/file")
    return top


@pytest.fixture
def top(tree: Path) -> Iterator[int]:
    descriptor = os.open(tree, FOLDER)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("data", [b"planted", None])
@pytest.mark.parametrize(
    "path",
    ["../up", "/etc/passwd", "pkg/../../x", ".git/config", "pkg/.GIT/x", "a//b", "", "pkg/", "nul\0", "lone\ud800"],
)
def test_a_path_out_of_the_tree_is_refused(top: int, tree: Path, path: str, data: bytes | None) -> None:
    before = sorted(tree.parent.rglob("*"))
    with pytest.raises(NotPlaced):
        place(top, path, "100644", data)
    assert sorted(tree.parent.rglob("*")) == before


@pytest.mark.parametrize("path", ["way/file", "loop/x", "pkg/module.py/x", "pkg", "x" * 300])
def test_a_path_through_a_link_or_a_file_is_refused(top: int, tree: Path, path: str) -> None:
    with pytest.raises(NotPlaced):
        place(top, path, "100644", b"planted")
    assert (tree.parent / "outside" / "file").read_text() == "kept"


def test_a_link_at_the_end_is_replaced_and_not_followed(top: int, tree: Path) -> None:
    place(top, "end", "100755", b"new")
    assert ((tree / "end").read_text(), (tree / "end").is_symlink()) == ("new", False)
    assert (tree / "end").stat().st_mode & 0o777 == 0o755
    assert (tree.parent / "outside" / "file").read_text() == "kept"


def test_a_file_is_removed_with_the_folders_that_it_leaves_empty(top: int, tree: Path) -> None:
    place(top, "deep/er/file", "100644", b"x")
    place(top, "deep/er/file", "100644", None)
    assert not (tree / "deep").exists()
    place(top, "pkg/absent", "100644", None)
    place(top, "no/where", "100644", None)
    assert (tree / "pkg" / "module.py").exists()
    with pytest.raises(NotPlaced):
        place(top, "way/file", "100644", None)
    assert (tree.parent / "outside" / "file").exists()


def test_a_result_is_read_only_where_it_is_a_plain_file_in_the_tree(top: int, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    assert read_result(top, "pkg/module.py", 3) == b"old"
    for path in ("pkg/module.py/x", "end", "way/file", "fifo", "pkg", "../outside/file", "absent", "lone\ud800"):
        assert read_result(top, path, 100) is None
    assert read_result(top, "pkg/module.py", 2) is None
    clear_result(top, "way/file")
    clear_result(top, "new/pkg/module.py")
    assert ((tree.parent / "outside" / "file").read_text(), list((tree / "new" / "pkg").iterdir())) == ("kept", [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(PARTS, max_size=4), st.one_of(st.none(), st.binary(max_size=3))), max_size=6))
def test_no_paths_reach_outside(top: int, tree: Path, files: list[tuple[list[str], bytes | None]]) -> None:
    for parts, data in files:
        try:
            place(top, "/".join(parts), "100644", data)
        except NotPlaced:
            continue
    assert [path.name for path in sorted(tree.parent.iterdir())] == ["outside", "tree"]
    assert (tree.parent / "outside" / "file").read_text() == "kept"
    assert [path.name for path in (tree.parent / "outside").iterdir()] == ["file"]
