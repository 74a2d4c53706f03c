"""Predictions come back as they were written, and are what the official harness reads."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.evaluation.submission import FILE, slug, write_predictions
from tests.evaluation.bugs import read_predictions

DIFF = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-é\r\n+\u2028\n".encode()


def test_a_line_for_each_instance_in_the_order_of_their_ids(tmp_path: Path) -> None:
    write_predictions(tmp_path / FILE, "org/model", {"b__b-2": b"", "a__a-1": DIFF})
    lines = [json.loads(line) for line in (tmp_path / FILE).read_bytes().splitlines()]
    assert lines == [
        {"instance_id": "a__a-1", "model_name_or_path": "org__model", "model_patch": DIFF.decode()},
        {"instance_id": "b__b-2", "model_name_or_path": "org__model", "model_patch": ""},
    ]


def test_what_is_written_again_replaces_what_was_there_and_leaves_no_other_file(tmp_path: Path) -> None:
    write_predictions(tmp_path / FILE, "m", {"a": DIFF, "b": DIFF})
    write_predictions(tmp_path / FILE, "m", {"a": b""})
    assert read_predictions(tmp_path / FILE) == {"a": b""}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@given(st.dictionaries(st.text(min_size=1), st.text().map(str.encode), max_size=4))
def test_patches_of_any_text_come_back(tmp_path_factory: pytest.TempPathFactory, diffs: dict[str, bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / FILE
    write_predictions(path, "m", diffs)
    assert read_predictions(path) == diffs


@given(st.binary())
def test_patches_of_any_bytes_are_text_that_a_file_can_hold(
    tmp_path_factory: pytest.TempPathFactory, diff: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / FILE
    write_predictions(path, "m", {"a": diff})
    text = json.loads(path.read_text())["model_patch"]
    assert text.encode().decode() == text
    assert text == diff.decode(errors="replace")


@given(st.text())
def test_a_models_name_can_name_a_folder_and_stays_once_it_can(model: str) -> None:
    name = slug(model)
    assert name
    assert not set(name) & set("/\\ \0")
    assert name not in {".", ".."}
    assert len(name) <= 100
    assert slug(name) == name


@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen3-8B", "Qwen__Qwen3-8B"), ("../../etc", "__..__etc"), ("/my model", "__my-model"), ("", "model")],
)
def test_names(model: str, name: str) -> None:
    assert slug(model) == name
