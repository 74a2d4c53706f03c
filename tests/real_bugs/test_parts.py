"""What recipes rest on: places of a difference, mutants, and sdists that are what they should be."""

import ast
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.real_bugs.checkout import shuffled
from tests.real_bugs.differences import applied, chosen, new_lines, places, without
from tests.real_bugs.index import WrongContents, sdist_files
from tests.real_bugs.mutants import mutants

TEXTS = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n"]), max_size=12).map(b"".join)
CODE = b"def sign(n):\n    if n < 0 and n:\n        return -1\n    return int(bool(n))\n"


@given(TEXTS, TEXTS)
def test_all_places_make_the_other_file_and_none_leaves_this_one(before: bytes, after: bytes) -> None:
    found = places(before, after)
    assert applied(before, list(found.values())) == after
    assert applied(before, []) == before


@given(TEXTS, TEXTS)
def test_new_lines_are_those_that_came_with_the_change(before: bytes, after: bytes) -> None:
    changes = list(places(before, after).values())
    lines = after.splitlines(keepends=True)
    assert [lines[number - 1] for number in sorted(new_lines(changes))] == [
        line for change in changes for line in change.lines
    ]


def test_new_lines_are_left_out_by_their_number_through_all_places() -> None:
    before, after = b"a\nb\nc\n", b"x\ny\nb\nz\n"
    changes = chosen(before, after, (1, 3))
    assert applied(before, without(changes, {2, 3})) == b"x\nb\n"


def test_a_place_that_is_none_is_an_error() -> None:
    with pytest.raises(KeyError):
        chosen(b"a\nb\n", b"a\nc\n", (1,))


def test_mutants_differ_parse_and_keep_the_other_lines() -> None:
    found = mutants(CODE, {2})
    assert len(found) >= 5
    assert len({ast.dump(ast.parse(mutant)) for mutant in [CODE, *found]}) == len(found) + 1
    assert all(mutant.endswith(b"    return int(bool(n))\n") for mutant in found)
    assert found == mutants(CODE, {2})
    assert mutants(CODE, set()) == []


def test_an_order_is_decided_by_its_seed_alone() -> None:
    things = list(range(10))
    assert shuffled(things, "7 a") == shuffled(things, "7 a")
    assert sorted(shuffled(things, "7 a")) == things
    assert len({shuffled(things, f"7 {name}") for name in "abcdef"}) > 1


def kept(cache: Path, *names: str) -> str:
    """Put a sdist with such members into a cache and return its SHA-256."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"1\n"))
    sha256 = hashlib.sha256(body.getvalue()).hexdigest()
    (cache / "sdists").mkdir()
    (cache / "sdists" / f"{sha256}.tar.gz").write_bytes(body.getvalue())
    return sha256


def test_a_kept_sdist_is_read_below_its_top_folder(tmp_path: Path) -> None:
    sha256 = kept(tmp_path, "shop-1.0/setup.py", "shop-1.0/shop/cart.py")
    assert sdist_files("shop", "1.0", sha256, tmp_path) == {"setup.py": b"1\n", "shop/cart.py": b"1\n"}


def test_a_kept_sdist_that_was_changed_is_refused(tmp_path: Path) -> None:
    sha256 = kept(tmp_path, "shop-1.0/setup.py")
    (tmp_path / "sdists" / f"{sha256}.tar.gz").write_bytes(b"something else")
    with pytest.raises(WrongContents):
        sdist_files("shop", "1.0", sha256, tmp_path)


def test_a_member_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tarfile.FilterError):
        sdist_files("shop", "1.0", kept(tmp_path, "shop-1.0/../../out.py"), tmp_path)
