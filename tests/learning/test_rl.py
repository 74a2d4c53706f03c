"""Reinforcement learning on a tiny model: each reward, finite loss, checkpoint, resume, rollouts on record."""

import importlib.util
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Patch, RewardKind
from agentless_mini.errors import UsageError
from agentless_mini.learning.rewarding import Measure
from agentless_mini.learning.rows import Row
from agentless_mini.settings.learning import Device, Generation, Potential, Precision, RlSettings
from tests.learning import tiny

pytestmark = pytest.mark.slow

SMALL = RlSettings(
    batch=2,
    accumulate=1,
    group=2,
    steps=1,
    save_every=1,
    log_every=1,
    answer_tokens=8,
    max_tokens=tiny.CONTEXT,
    learning_rate=1e-3,
)


def train(model: Path, data: Path, settings: RlSettings, checking: Measure | None = None) -> dict[str, object]:
    from agentless_mini.learning.rl import train_rl
    from agentless_mini.learning.training import Task

    task = Task("rl", str(model), data, data.parent / "out", load_prompts(None), lambda said: None)
    found: dict[str, object] = json.loads(train_rl(task, settings, checking).document())
    return found


def test_it_trains_saves_and_resumes(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    first = train(model, data, SMALL)
    assert (first["steps"], first["finished"]) == (1, True)
    second = train(model, data, SMALL.model_copy(update={"steps": 2}))
    assert (second["steps"], second["finished"]) == (2, True)
    assert math.isfinite(float(str(second["loss"])))
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    logged = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert {line["step"] for line in logged} == {0, 1}
    assert {(line["outcome"], line["reward"]) for line in logged} == {("truncated", -1.0)}
    assert "END ISSUE" in logged[0]["prompt"][1]["content"]


def test_the_last_layer_is_trained_in_bfloat16(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    settings = SMALL.model_copy(update={"upper_layers": 1, "precision": Precision.BFLOAT16, "batch": 4})
    done = train(model, data, settings)
    assert (done["steps"], done["finished"]) == (1, True)
    assert math.isfinite(float(str(done["loss"])))


def test_a_shaped_reward_is_over_the_rows_that_have_earlier_patches(
    model: Path, tmp_path: Path, bred: list[Row], rows: list[Row]
) -> None:
    data = tiny.write_data(tmp_path, [*bred[:4], *rows[4:]])
    done = train(model, data, SMALL.model_copy(update={"reward": RewardKind.SHAPED}))
    assert done["rows"] == {"kept": 4, "without parents": 4, "of another split": 2}
    logged = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert all(line["reward"] < -1 for line in logged)
    assert "70 + number" in logged[0]["prompt"][1]["content"]


def test_a_shaped_reward_by_tests_is_over_the_rows_that_have_a_check(
    model: Path, tmp_path: Path, bred: list[Row]
) -> None:
    asked: list[Patch] = []

    def checking(wanted: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        asked.extend(patch for _, patch in wanted)
        return [0.5] * len(wanted)

    checked = [replace(row, check="raise SystemExit(0)") for row in bred[:4]]
    data = tiny.write_data(tmp_path, [*checked, *bred[4:6], *tiny.rows(8, check="x")[6:]])
    settings = SMALL.model_copy(update={"reward": RewardKind.SHAPED, "potential": Potential.TESTS})
    done = train(model, data, settings, checking)
    assert done["rows"] == {"kept": 4, "without a check": 2, "without parents": 2, "of another split": 2}
    logged = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert {line["reward"] for line in logged} == {-1.5}
    assert len(asked) == 1  # the parent of the one row in the batch


def test_a_shaped_reward_by_a_reward_model_is_below_the_penalty(
    model: Path, scorer: Path, tmp_path: Path, bred: list[Row]
) -> None:
    shaped = {"reward": RewardKind.SHAPED, "potential": Potential.REWARD_MODEL, "scorer": scorer}
    train(model, tiny.write_data(tmp_path, bred), SMALL.model_copy(update=shaped))
    logged = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert all(-2 < line["reward"] < -1 for line in logged)


def test_tests_as_the_reward_are_asked_for_patches_alone(model: Path, tmp_path: Path) -> None:
    asked: list[Patch] = []

    def checking(wanted: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        asked.extend(patch for _, patch in wanted)
        return [1.0] * len(wanted)

    data = tiny.write_data(tmp_path, [*tiny.rows(4, check="raise SystemExit(0)"), *tiny.rows(6)[4:]])
    done = train(model, data, SMALL.model_copy(update={"reward": RewardKind.TESTS}), checking)
    assert done["rows"] == {"kept": 4, "without a check": 2, "of another split": 2}
    assert asked == []


def test_a_step_that_is_no_whole_number_of_groups_is_refused(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(UsageError, match="parted into groups"):
        train(model, tiny.write_data(tmp_path, rows), SMALL.model_copy(update={"group": 3}))


def test_every_end_that_the_model_knows_ends_a_rollout(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    settings = json.loads((other / "generation_config.json").read_text())
    ends = list(range(100, 600))  # of 603 tokens
    (other / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": ends}))
    train(other, tiny.write_data(tmp_path, rows), SMALL.model_copy(update={"batch": 8, "answer_tokens": 16}))
    logged = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert "truncated" not in {line["outcome"] for line in logged}


def test_a_named_server_is_what_writes_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.need_training()
    from agentless_mini.learning import policies, rl

    monkeypatch.setattr(policies, "on_cpu", lambda settings: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    asked = rl._generation(RlSettings(server="http://gpu2:8000"))
    assert asked == {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://gpu2:8000"}
    assert rl._generation(RlSettings())["vllm_mode"] == "colocate"


def test_groups_are_over_all_devices() -> None:
    tiny.need_training()
    from agentless_mini.learning import planning

    settings = RlSettings(batch=1, accumulate=2, group=8)
    assert planning.whole_groups(settings, 8) == settings
    with pytest.raises(UsageError, match="3 x 1 x 2 rollouts"):
        planning.whole_groups(settings, 3)
    asked = settings.model_copy(update={"trl": {"steps_per_generation": 8}})  # which TRL checks
    assert planning.whole_groups(asked, 3) == asked


def test_the_rollouts_of_a_step_are_those_of_all_devices() -> None:
    tiny.need_training()
    from agentless_mini.learning import planning

    assert planning.whole_groups(RlSettings(batch=2, group=16, rollouts=512), 8).accumulate == 32
    with pytest.raises(UsageError, match="no multiple of 3 x 2"):
        planning.whole_groups(RlSettings(batch=2, rollouts=512), 3)


def test_vllm_without_a_gpu_is_refused(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    settings = SMALL.model_copy(update={"generation": Generation.COLOCATE, "device": Device.CPU})
    with pytest.raises(UsageError, match="on a GPU"):
        train(model, tiny.write_data(tmp_path, rows), settings)
