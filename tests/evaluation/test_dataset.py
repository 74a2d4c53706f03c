"""Rows become instances and answers, and what is no dataset is told in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.errors import UsageError
from agentless_mini.evaluation.dataset import Selection, dataset_of, read_dataset, selected
from tests.evaluation.bugs import HIDDEN, row, rows


def test_an_instance_has_nothing_of_the_answer() -> None:
    dataset = dataset_of("shop", rows())
    told = repr(dataset.instances) + repr(dataset)
    assert not [name for name in HIDDEN if f"MARKER-{name}" in told]
    answer = dataset.answers["acme__shop-1"]
    assert answer.files == ("shop/cart.py",)
    assert all(f"MARKER-{name}" in answer.row for name in HIDDEN)


def test_files_that_the_true_fix_creates_are_not_there_to_be_found() -> None:
    created = "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n"
    dataset = dataset_of("shop", [{**row(), "patch": row()["patch"] + created}])
    assert dataset.answers["acme__shop-1"].files == ("shop/cart.py",)


def as_lines(some: list[Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in some)


@pytest.mark.parametrize(("name", "write"), [("d.json", json.dumps), ("d.jsonl", as_lines)])
def test_a_list_and_lines_of_json_are_one_dataset(tmp_path: Path, name: str, write: Callable[[Any], str]) -> None:
    (tmp_path / name).write_text(write(rows()))
    read = read_dataset(tmp_path / name)
    assert read.fingerprint == dataset_of("any", rows()).fingerprint
    assert [instance.id for instance in read.instances] == ["acme__shop-1", "acme__shop-2", "acme__shop-3"]


def test_parquet_is_the_same_dataset(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'eval' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows()), tmp_path / "d.parquet")
    assert read_dataset(tmp_path / "d.parquet").fingerprint == dataset_of("any", rows()).fingerprint


def test_the_order_of_rows_makes_no_difference_and_a_change_does() -> None:
    known = dataset_of("d", rows()).fingerprint
    assert dataset_of("d", rows()[::-1]).fingerprint == known
    assert dataset_of("d", [*rows(2), {**row(3), "hints_text": ""}]).fingerprint != known


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "neither a JSON list nor JSON lines"),
        ("[1]", "no object"),
        ("[]", "empty"),
        (json.dumps([row(), row()]), "twice"),
        (json.dumps([{"instance_id": "a"}]), "a of the dataset lacks repo, base_commit"),
        (json.dumps([{**row(), "patch": "@@ -1 +1 @@\n-a\n+b\n"}]), "cannot be read"),
    ],
)
def test_what_is_no_dataset_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_dataset(tmp_path / "d.json")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dataset"):
        read_dataset(tmp_path / "none.jsonl")


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 5))
def test_shards_are_parts_of_the_whole(count: int, of: int, limit: int) -> None:
    dataset = dataset_of("d", rows(count))
    shards = [selected(dataset, Selection(shard=(which, of))) for which in range(1, of + 1)]
    assert sorted(one.id for shard in shards for one in shard) == sorted(dataset.answers)
    first = selected(dataset, Selection(limit=limit))
    assert first == dataset.instances[: limit or None]


def test_instances_are_chosen_by_name() -> None:
    dataset = dataset_of("d", rows())
    assert [one.id for one in selected(dataset, Selection(ids=("acme__shop-2",)))] == ["acme__shop-2"]
    with pytest.raises(UsageError, match="no instance nowhere-1"):
        selected(dataset, Selection(ids=("nowhere-1",)))
