"""Rows become instances and answers, and what is no dataset is told in one sentence."""

import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import FileChange
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.writing import make_patch
from agentless_mini.errors import UsageError
from agentless_mini.evaluation.dataset import dataset_of, read_dataset, selected
from tests.evaluation.bugs import HIDDEN, row, rows


def test_an_instance_has_nothing_of_the_answer() -> None:
    dataset = dataset_of("shop", rows())
    told = repr(dataset.instances) + repr(dataset)
    assert not [name for name in HIDDEN if f"MARKER-{name}" in told]
    answer = dataset.solutions["acme__shop-1"]
    assert answer.files == ("shop/cart.py",)
    assert all(f"MARKER-{name}" in answer.row for name in HIDDEN)


def test_files_that_the_true_fix_creates_are_not_there_to_be_found() -> None:
    created = "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n"
    dataset = dataset_of("shop", [{**row(), "patch": row()["patch"] + created}])
    assert dataset.solutions["acme__shop-1"].files == ("shop/cart.py",)


@pytest.mark.parametrize("name", ["caf\u00e9.py", "a b.py", 'a"b.py', "a\\b.py", "a\tb.py", "\udce9.py"])
def test_names_that_git_quotes_are_read(name: str) -> None:
    patch = make_patch([FileChange(f"shop/{name}", b"a\n", b"b\n", "100644")], Forms()).diff.decode()
    (answer,) = dataset_of("shop", [{**row(), "patch": patch}]).solutions.values()
    assert answer.files == (f"shop/{name}",)


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


def test_columns_that_json_does_not_know_are_text_and_no_number_is_none(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'eval' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    day = datetime(2023, 1, 2, 3, 4, 5)
    odd = {
        **row(),
        "created_at": day,
        "version": math.nan,
        "blob": b"\xe9",
        "deep": {"days": [day], "lengths": [math.inf]},
    }
    parquet.write_table(pyarrow.Table.from_pylist([odd]), tmp_path / "d.parquet")
    read = read_dataset(tmp_path / "d.parquet")
    assert [one.created for one in read.instances] == ["2023-01-02 03:04:05"]
    kept = json.loads(read.solutions["acme__shop-1"].row)
    assert (kept["version"], kept["blob"]) == (None, "b'\\xe9'")
    assert kept["deep"] == {"days": ["2023-01-02 03:04:05"], "lengths": [None]}


def test_text_of_a_parquet_file_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'eval' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    broken = pyarrow.array([b"caf\xe9"]).cast(pyarrow.string(), safe=False)
    parquet.write_table(pyarrow.table({"patch": broken}), tmp_path / "d.parquet")
    with pytest.raises(UsageError, match="cannot be read"):
        read_dataset(tmp_path / "d.parquet")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (json.dumps({**row(), "hints_text": "é"}, ensure_ascii=False).encode("latin-1"), "cannot be read"),
        (b"[" * 200_000, "neither a JSON list nor JSON lines"),
        (b'{"a": ' * 400 + b"1" + b"}" * 400, "lacks instance_id"),
        (b'{"instance_id": NaN}', "lacks instance_id"),
    ],
)
def test_bytes_that_are_no_dataset_are_one_sentence(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(data)
    with pytest.raises(UsageError, match=said) as refused:
        read_dataset(tmp_path / "d.jsonl")
    assert len(str(refused.value)) < 500


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


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../../up",
        "/home/precious",
        "a/b",
        "a\\b",
        "-a",
        "a b",
        "a\nb",
        "a\n",
        "a\0",
        "\udce9",
        "é",
        "i" * 201,
    ],
)
def test_an_id_that_could_not_name_a_folder_is_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a folder") as refused:
        dataset_of("d", [{**row(), "instance_id": name}])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dataset"):
        read_dataset(tmp_path / "none.jsonl")


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 5))
def test_shards_are_parts_of_the_whole(count: int, of: int, limit: int) -> None:
    dataset = dataset_of("d", rows(count))
    shards = [selected(dataset, shard=(which, of)) for which in range(1, of + 1)]
    assert sorted(one.id for shard in shards for one in shard) == sorted(dataset.solutions)
    first = selected(dataset, limit=limit)
    assert first == dataset.instances[: limit or None]


def test_instances_are_chosen_by_name() -> None:
    dataset = dataset_of("d", rows())
    assert [one.id for one in selected(dataset, ("acme__shop-2",))] == ["acme__shop-2"]
    with pytest.raises(UsageError, match="no instance nowhere-1"):
        selected(dataset, ("nowhere-1",))
