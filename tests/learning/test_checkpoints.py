"""The folder of a training: whose it is, from where it goes on, and how it is asked to stop."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from agentless_mini.errors import UsageError
from agentless_mini.learning.checkpoints import Stop, claim, identity, last_checkpoint, weights_digest

SETTINGS = {"rank": 16, "steps": 5, "minutes": None}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "rows.parquet").write_bytes(b"rows")
    return tmp_path / "rows.parquet"


def test_a_training_may_go_on_for_longer_but_not_with_other_settings(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    claim(out, identity("sft", "m", data, SETTINGS, "p"))
    claim(out, identity("sft", "m", data, {**SETTINGS, "steps": 9, "minutes": 3}, "p"))
    (out / "checkpoint-1").mkdir()
    for other in (
        identity("sft", "m", data, SETTINGS, "other prompts"),
        identity("rl", "m", data, SETTINGS, "p"),
        identity("sft", "n", data, SETTINGS, "p"),
        identity("sft", "m", data, {**SETTINGS, "rank": 8}, "p"),
    ):
        with pytest.raises(UsageError, match="another training"):
            claim(out, other)


def test_what_has_no_checkpoint_yet_may_be_corrected(tmp_path: Path, data: Path) -> None:
    claim(tmp_path / "out", identity("sft", "mistyped", data, SETTINGS, "p"))
    claim(tmp_path / "out", identity("sft", "m", data, SETTINGS, "p"))


def test_models_and_adapters_are_known_by_what_they_hold(tmp_path: Path, data: Path) -> None:
    for name in ("one", "same", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name[-1].encode())  # e, e, r
    by_model = {name: identity("sft", str(tmp_path / name), data, SETTINGS, "p") for name in ("one", "same", "other")}
    adapters = {name: {**SETTINGS, "adapter": str(tmp_path / name)} for name in ("one", "same", "other")}
    by_adapter = {name: identity("rl", "m", data, settings, "p") for name, settings in adapters.items()}
    for by in (by_model, by_adapter):
        assert by["one"] == by["same"] != by["other"]


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "vocab.json", "merges.txt"])
def test_another_tokenizer_is_another_training(tmp_path: Path, name: str) -> None:
    before = weights_digest([tmp_path])
    (tmp_path / name).write_text("x")
    assert weights_digest([tmp_path]) != before


@pytest.mark.parametrize("changed", [0, 20_000_000, 69_999_000])
def test_weights_that_change_within_a_large_file_are_others(tmp_path: Path, changed: int) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as weights:
        weights.truncate(70_000_000)
    before = weights_digest([tmp_path])
    with file.open("r+b") as weights:
        weights.seek(changed)
        weights.write(b"trained" * 20_000)
    assert weights_digest([tmp_path]) != before


def test_who_writes_rollouts_may_change(tmp_path: Path, data: Path) -> None:
    before = identity(
        "rl", "m", data, {**SETTINGS, "generation": "server", "server": "http://a:1", "gpu_share": 0.3}, "p"
    )
    other = identity("rl", "m", data, {**SETTINGS, "generation": "colocate", "server": None, "gpu_share": 0.5}, "p")
    assert before == other


@pytest.mark.parametrize("left", ["config.json", "adapter_config.json", "checkpoint-7"])
def test_a_folder_with_somebody_elses_model_is_not_taken(tmp_path: Path, data: Path, left: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / left).write_text("{}")
    with pytest.raises(UsageError, match="not of this training"):
        claim(tmp_path / "out", identity("sft", "m", data, SETTINGS, "p"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [left]


def test_other_data_is_another_training(tmp_path: Path, data: Path) -> None:
    before = identity("sft", "m", data, SETTINGS, "p")
    data.write_bytes(b"other rows")
    assert identity("sft", "m", data, SETTINGS, "p") != before
    assert identity("sft", "m", tmp_path, SETTINGS, "p") == identity("sft", "m", data, SETTINGS, "p")


def test_data_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is nothing at"):
        identity("sft", "m", tmp_path / "none.parquet", SETTINGS, "p")


def checkpoint(out: Path, steps: int, state: str) -> Path:
    folder = out / f"checkpoint-{steps}"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(state)
    return folder


def test_the_newest_whole_checkpoint_is_resumed(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    whole = json.dumps({"global_step": 1})
    checkpoint(tmp_path, 2, whole)
    newest = checkpoint(tmp_path, 10, whole)
    checkpoint(tmp_path, 12, whole[:5])
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-14").mkdir()
    assert last_checkpoint(tmp_path) == newest


def test_a_signal_asks_once_and_ends_the_second_time() -> None:
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM)
    with stop.on_signals():
        assert not stop.wanted
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_time_that_is_up_asks_to_stop() -> None:
    now = time.monotonic()
    assert not Stop().wanted
    assert Stop(now - 1).wanted
    assert not Stop(now + 600).wanted
