"""The benchmark of the stages measures what it says, on a repository of two files."""

import json
from pathlib import Path

import pytest
from unidiff.patch import PatchSet

from tests.benchmarks.stages import measured, read_rows, table
from tests.benchmarks.stages_measures import changed_lines, lines_around
from tests.gitrepo import commit_all, git, make_repository, write_files

PATCH = "--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-{1}\n+{2}\n"


def test_the_files_of_the_fix_are_looked_for_in_the_ranking(tmp_path: Path) -> None:
    files = {"shop/cart.py": b"total = 1\n", "shop/tax.py": b"rate = 1\n", "tests/test_cart.py": b"x\n"}
    top = make_repository(tmp_path / "top", files)
    base = commit_all(top)
    write_files(top, {"shop/cart.py": b"total = 2\n"})
    commit_all(top, "The total is right")  # what comes after the base is not looked at
    git(tmp_path, "clone", "--quiet", "--bare", str(top), "clones/ada__shop.git")
    row = {
        "instance_id": "ada__shop-1",
        "repo": "ada/shop",
        "base_commit": base,
        "problem_statement": "The total is wrong",
        "patch": PATCH.format("shop/cart.py", "total = 1", "total = 2"),
        "test_patch": PATCH.format("tests/test_cart.py", "x", "y"),
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (one,) = read_rows(tmp_path / "rows.jsonl", ["shop"])
    assert (one.files, one.tests) == (("shop/cart.py",), ("tests/test_cart.py",))
    found = measured(one, tmp_path / "clones", ["ranking"])
    assert found.measures == dict.fromkeys(("files @1", "files @3", "files @5", "files @10", "files @20"), 1.0)
    assert "| **held out** | 1 | 100.0 |" in table([found])
    shown = measured(one, tmp_path / "clones", ["context"]).measures
    assert shown == dict.fromkeys(shown, 1.0)
    assert len(shown) == 10
    assert measured(one, tmp_path / "clones", ["suspicion"]).measures == {"suspicious": 0.0}


ADDING = "--- a/m.py\n+++ b/m.py\n@@ -3,5 +3,6 @@\n c\n-d\n+D\n e\n+new\n f\n g\n"


def test_a_fix_changes_lines_and_adds_some_between_others() -> None:
    (file,) = PatchSet(ADDING)
    assert changed_lines(file) == {4}
    assert lines_around(file) == {5, 6}


@pytest.mark.parametrize(("sample", "expected"), [(0, 4), (2, 2), (9, 4)])
def test_a_sample_is_drawn_once(tmp_path: Path, sample: int, expected: int) -> None:
    common = {"repo": "ada/shop", "base_commit": "c" * 40, "problem_statement": "x", "patch": "", "test_patch": ""}
    rows = "\n".join(json.dumps({"instance_id": f"shop-{n}", **common}) for n in range(4))
    (tmp_path / "rows.jsonl").write_text(rows)
    drawn = read_rows(tmp_path / "rows.jsonl", sample=sample, seed=1)
    assert len(drawn) == expected
    assert drawn == read_rows(tmp_path / "rows.jsonl", sample=sample, seed=1)


def test_the_tests_of_the_fix_are_looked_for_among_the_related_ones(tmp_path: Path) -> None:
    code = b"from shop import cart\ndef test_total(): assert cart.total == 2\n"
    files = {"shop/cart.py": b"total = 1\n", "tests/test_cart.py": code, "tests/data.py": b"x\n", "setup.cfg": b""}
    top = make_repository(tmp_path / "top", {**files, "pytest.ini": b"[pytest]\n"})
    base = commit_all(top)
    git(tmp_path, "clone", "--quiet", "--bare", str(top), "clones/ada__shop.git")
    row = {"instance_id": "ada__shop-1", "repo": "ada/shop", "base_commit": base, "problem_statement": "The total is 1"}
    changed = "".join(PATCH.format(path, "x", "y") for path in ("tests/test_cart.py", "tests/data.py"))
    patches = {"patch": PATCH.format("shop/cart.py", "total = 1", "total = 2"), "test_patch": changed}
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, **patches}))
    (one,) = read_rows(tmp_path / "rows.jsonl")
    found = measured(one, tmp_path / "clones", ["regression"])
    assert found.measures == {"regression @8": 1.0, "regression @16": 1.0, "style folder": 1.0}
