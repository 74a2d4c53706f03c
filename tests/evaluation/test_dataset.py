"""Rows become instances and answers, and what is no dataset is told in one sentence."""

import json
import math
import os
import subprocess
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
from agentless_mini.testing.plans import command_for, harness_of_command
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


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 5))
def test_shards_are_parts_of_the_whole(count: int, of: int, limit: int) -> None:
    dataset = dataset_of("d", rows(count))
    shards = [selected(dataset, shard=(which, of)) for which in range(1, of + 1)]
    assert sorted(one.id for shard in shards for one in shard) == sorted(dataset.solutions)
    first = selected(dataset, limit=limit)
    assert first == dataset.instances[: limit or None]


# Rows made after the published columns of the datasets, not taken from them.
PULL = {
    "org": "Acme", "repo": "shop", "number": 12, "state": "closed", "title": "MARKER-title", "body": "MARKER-body",
    "base": {"label": "acme:main", "ref": "main", "sha": "d" * 40}, "lang": "go", "fix_patch": row()["patch"],
    "test_patch": "MARKER-test_patch", "f2p_tests": {"TestTotal": {"run": "PASS", "test": "FAIL", "fix": "PASS"}},
    "resolved_issues": [
        {"number": 3, "title": "Totals", "body": "are wrong"}, {"number": 4, "title": "So", "body": None},
    ],
}  # fmt: skip


def test_a_row_of_multi_swe_bench_is_read_and_is_not_swebench_s_to_grade() -> None:
    dataset = dataset_of("multi", [PULL])
    (one,), (answer,) = dataset.instances, dataset.solutions.values()
    assert (one.id, one.repo, one.base_commit) == ("Acme__shop-12", "Acme/shop", "d" * 40)
    assert (one.image, one.folder) == ("mswebench/acme_m_shop:pr-12", "/home/shop")
    assert one.issue.text == "Totals\nare wrong\n\nSo"
    assert "MARKER" not in repr(one)
    assert (answer.files, answer.gradable, json.loads(answer.row)) == (("shop/cart.py",), False, PULL)
    for name in ("base", "resolved_issues", "number"):
        with pytest.raises(UsageError, match="Multi-SWE-bench"):
            dataset_of("multi", [{**PULL, name: "x"}])


def test_a_row_of_swe_bench_live_names_its_image_and_its_runner() -> None:
    live = {name: value for name, value in row().items() if name not in {"image", "eval_script", "log_parser"}}
    live |= {"docker_image": "starryzhang/sweb.eval.x86_64.acme_1776_shop-1", "test_cmds": ["go test -v ./..."]}
    dataset = dataset_of("live", [live])
    (one,), (answer,) = dataset.instances, dataset.solutions.values()
    assert (one.image, one.test_command) == (live["docker_image"], 'go test "./$(dirname {tests})"')
    assert not answer.gradable
    assert dataset_of("d", [row()]).solutions["acme__shop-1"].gradable


@pytest.mark.parametrize(
    ("parser", "path", "ran"),
    [
        ("parse_log_gotest", "a b/c_test.go", "go|test|./a b"),
        ("parse_log_jest", "a/b.test.js", "npx|jest|a/b.test.js"),
        ("parse_log_vitest", "a/b.spec.ts", "npx|vitest|run|a/b.spec.ts"),
        ("parse_log_tap", "test/a.js", "npx|mocha|test/a.js"),
        ("parse_log_phpunit", "tests/ATest.php", "vendor/bin/phpunit|tests/ATest.php"),
        ("parse_log_rspec_transformed_json", "spec/a_spec.rb", "bundle|exec|rspec|spec/a_spec.rb"),
        ("parse_log_ruby_unit", "test/a_test.rb", "bundle|exec|ruby|-Ilib:test|test/a_test.rb"),
        ("parse_log_cargo", "tests/cli.rs", "cargo|test|--offline|--test|cli"),
        ("parse_log_gradle_custom", "src/test/java/a/BTest.java", "./gradlew|--offline|test|--tests|*BTest"),
        ("parse_log_maven", "gson/src/test/java/a/BTest.java", "mvn|-o|-q|test|-Dtest=BTest|-pl|gson"),
        ("parse_log_maven", "src/test/java/a/BTest.java", "mvn|-o|-q|test|-Dtest=BTest|-pl|."),
    ],
)
def test_the_runner_that_a_row_names_says_how_a_test_file_is_run(
    tmp_path: Path, parser: str, path: str, ran: str
) -> None:
    (one,) = dataset_of("d", [{**row(), "log_parser": parser}]).instances
    program, _, arguments = ran.partition("|")
    stand_in = tmp_path / program
    stand_in.parent.mkdir(parents=True, exist_ok=True)
    stand_in.write_text("#!/bin/sh\nprintf '|%s' \"$@\"\n")
    stand_in.chmod(0o755)
    command = command_for(harness_of_command(one.test_command, ()), path)
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, check=True)
    assert done.stdout == f"|{arguments}"


def test_a_runner_that_is_not_known_or_another_one_is_left_to_the_tree() -> None:
    (plain,) = dataset_of("d", [row()]).instances
    assert plain.test_command == ""
    (three,) = dataset_of("d", [{**row(repo="mrdoob/three.js"), "log_parser": "parse_log_tap"}]).instances
    assert three.test_command == "npx qunit {tests}"
