"""What is named on the command line of a training is looked at before a library of training is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from agentless_mini.errors import UsageError
from agentless_mini.learning.rows import Row, require_rows, write_rows
from tests.learning.tiny import need_training
from tests.model.embedded.hub import hub

PROGRAM = """
import sys
from agentless_mini.cli import app
try:
    app(["learn", *sys.argv[1:]])
finally:
    print("torch" in sys.modules or "transformers" in sys.modules)
"""


@pytest.fixture(autouse=True)
def _trainers() -> None:
    need_training()


def refused(*arguments: str | Path, status: int = 2) -> str:
    """Return what a command says that is refused, making sure that no library was imported for it."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout) == (status, "False\n"), done.stderr
    return done.stderr


def test_missing_rows_are_told_at_once(tmp_path: Path) -> None:
    told = refused("rl", tmp_path / "none.parquet", "--model", "org/base", "--out", tmp_path / "out")
    assert told.startswith("amini: There is nothing at ")
    assert "none.parquet" in told
    assert not (tmp_path / "out").exists()


def test_other_inputs_that_are_missing_are_told_at_once(tmp_path: Path) -> None:
    data = tmp_path / "rows" / "part.parquet"
    write_rows(data, [Row("a", "r", "", "i", "", (), "", "", "", "train")])
    asked = ("sft", data, "--out", tmp_path / "out", "--model")
    assert "There is no model in a folder" in refused(*asked, tmp_path / "base")
    assert "There is no LoRA adapter" in refused(*asked, "org/base", "--adapter", tmp_path / "adapter")
    assert "is no folder" in refused("sft", data, "--model", "org/base", "--out", data)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    parents = (*asked, tmp_path / "base", "--kind", "mutation", "--parents-from", tmp_path / "gone")
    assert "holds no checkpoint" in refused(*parents)


def test_a_model_that_the_hub_does_not_have_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "rows" / "part.parquet"
    write_rows(data, [Row("a", "r", "", "i", "", (), "", "", "", "train")])
    asked = ("sft", data, "--out", tmp_path / "out", "--model")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with hub({"org/there": {"config.json": b"{}"}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert "has no org/gone, or not for you: check the name" in refused(*asked, "org/gone", status=3)
        assert not any("/resolve/main/config.json" in path for method, path in server.asked if method == "GET")
    told = refused(*asked, "org/there", status=3)
    assert "does not answer: name the folder of a model" in told
    assert not (tmp_path / "out").exists()


def test_an_export_of_nothing_is_told_at_once(tmp_path: Path) -> None:
    assert "holds no checkpoint" in refused("export", tmp_path / "gone", "--merge", tmp_path / "out")
    (tmp_path / "config.json").write_text("{}")
    gguf = ("export", tmp_path, "--gguf", tmp_path / "out.gguf", "--base", tmp_path / "base.gguf")
    assert "There is no file" in refused(*gguf)


def test_rows_of_the_split_are_wanted(tmp_path: Path) -> None:
    write_rows(tmp_path / "valid.parquet", [Row("a", "r", "", "i", "", (), "", "", "", "valid")])
    write_rows(tmp_path / "none.parquet", [])
    require_rows(tmp_path)
    with pytest.raises(UsageError, match="no row of the split train"):
        require_rows(tmp_path, "train")
    with pytest.raises(UsageError, match="holds no row:"):
        require_rows(tmp_path / "none.parquet")
    (tmp_path / "other.parquet").write_text("text")
    with pytest.raises(UsageError, match="holds no rows of amini"):
        require_rows(tmp_path)
