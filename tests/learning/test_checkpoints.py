"""The folder of a training: whose it is, from where it goes on, and how it is asked to stop."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from agentless_mini.errors import UsageError
from agentless_mini.learning.checkpoints import Stop, claim, deadline_of, identity, last_checkpoint

SETTINGS = {"rank": 16, "steps": 5, "minutes": None}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "rows.parquet").write_bytes(b"rows")
    return tmp_path / "rows.parquet"


def test_a_training_may_go_on_for_longer_but_not_with_other_settings(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    claim(out, identity("sft", "m", data, SETTINGS))
    claim(out, identity("sft", "m", data, {**SETTINGS, "steps": 9, "minutes": 3}))
    for other in (
        identity("rl", "m", data, SETTINGS),
        identity("sft", "n", data, SETTINGS),
        identity("sft", "m", data, {**SETTINGS, "rank": 8}),
    ):
        with pytest.raises(UsageError, match="another training"):
            claim(out, other)


def test_who_writes_rollouts_may_change(tmp_path: Path, data: Path) -> None:
    before = identity("rl", "m", data, {**SETTINGS, "generation": "server", "server": "http://a:1", "gpu_share": 0.3})
    other = identity("rl", "m", data, {**SETTINGS, "generation": "colocate", "server": None, "gpu_share": 0.5})
    assert before == other


@pytest.mark.parametrize("left", ["config.json", "adapter_config.json", "checkpoint-7"])
def test_a_folder_with_somebody_elses_model_is_not_taken(tmp_path: Path, data: Path, left: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / left).write_text("{}")
    with pytest.raises(UsageError, match="not of this training"):
        claim(tmp_path / "out", identity("sft", "m", data, SETTINGS))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [left]


def test_other_data_is_another_training(tmp_path: Path, data: Path) -> None:
    before = identity("sft", "m", data, SETTINGS)
    data.write_bytes(b"other rows")
    assert identity("sft", "m", data, SETTINGS) != before
    assert identity("sft", "m", tmp_path, SETTINGS) == identity("sft", "m", data, SETTINGS)


def test_data_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        identity("sft", "m", tmp_path / "none.parquet", SETTINGS)


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
    assert deadline_of(None, now) is None
    assert Stop(now - 1).wanted
    assert not Stop(deadline_of(1, now)).wanted
    assert Stop(deadline_of(1, now - 61)).wanted  # what came before the first step counts, too
