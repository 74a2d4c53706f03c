"""Reinforcement learning on a tiny model: each reward, finite loss, checkpoint, resume, rollouts on record."""

import importlib.util
import itertools
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Patch, RewardKind
from agentless_mini.errors import UsageError
from agentless_mini.learning.rewarding import Answer, Measure, read_rollout, read_row
from agentless_mini.learning.rows import Row
from agentless_mini.learning.texts import ChatTokens
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


def rollouts(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]


def test_it_learns_saves_and_resumes(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    from agentless_mini.learning import rl

    asked: list[Patch] = []

    def checking(wanted: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        asked.extend(patch for _, patch in wanted)
        return [1.0] * len(wanted)

    data, out = tiny.write_data(tmp_path, tiny.rows(8, check="raise SystemExit(0)")), tmp_path / "out"
    settings = SMALL.model_copy(update={"answer_tokens": 16, "reward": RewardKind.TESTS})
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = json.loads((other / "generation_config.json").read_text())
    ends = list(range(100, 600))  # of 603 tokens: every end that the model knows ends a rollout
    (other / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": ends}))
    first = train(other, data, settings, checking)
    assert (first["steps"], first["finished"]) == (1, True)
    (ended,) = rollouts(out)[:1]
    assert (ended["step"], ended["reward"], ended["outcome"] != "truncated") == (0, -1.0, True)
    assert "END ISSUE" in ended["prompt"][1]["content"]
    # So small a model says nothing that could be read: of each pair of rollouts one is taken to be right.
    right = itertools.cycle([True, False])
    monkeypatch.setattr(rl, "read_rollout", lambda row, said, ended: answer_of(row) if next(right) else read(row, said))
    second = train(other, data, settings.model_copy(update={"steps": 2}), checking)
    assert (second["steps"], second["finished"]) == (2, True)
    assert math.isfinite(float(str(second["loss"])))
    assert [(one["step"], one["reward"]) for one in rollouts(out)[-2:]] == [(1, 1.0), (1, -1.0)]
    assert len(asked) == 1  # for patches alone
    before, after = (
        safetensors.torch.load_file(place / "adapter_model.safetensors") for place in (out / "checkpoint-1", out)
    )
    assert any(not weights.equal(after[name]) for name, weights in before.items())


def answer_of(row: Row) -> Answer:
    return read_rollout(row, row.answer(), ended=True)


def read(row: Row, said: str) -> Answer:
    return read_rollout(row, said, ended=False)


def test_the_last_layer_is_trained_in_bfloat16_by_a_shaped_reward_of_a_reward_model(
    model: Path, scorer: Path, tmp_path: Path, bred: list[Row]
) -> None:
    shaped = {"reward": RewardKind.SHAPED, "potential": Potential.REWARD_MODEL, "scorer": scorer}
    upper = {"upper_layers": 1, "precision": Precision.BFLOAT16}
    done = train(model, tiny.write_data(tmp_path, bred), SMALL.model_copy(update={**shaped, **upper}))
    assert (done["steps"], done["finished"]) == (1, True)
    assert math.isfinite(float(str(done["loss"])))
    for one in rollouts(tmp_path / "out"):
        assert one["outcome"] == "truncated"
        assert -2 < one["reward"] < -1
        assert "70 + number" in one["prompt"][1]["content"]


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, {"kept": 8}),
        ({"reward": RewardKind.TESTS}, {"kept": 4, "without a check": 4}),
        ({"reward": RewardKind.SHAPED}, {"kept": 5, "without parents": 3}),
        ({"reward": RewardKind.SHAPED, "potential": Potential.TESTS},
         {"kept": 3, "without a check": 2, "without parents": 3}),
        ({"max_tokens": 64}, {"too long": 8}),
    ],
)  # fmt: skip
def test_rows_without_what_the_reward_needs_are_left_out(
    model: Path, bred: list[Row], settings: dict[str, Any], counts: dict[str, int]
) -> None:
    from agentless_mini.learning.policies import load_tokenizer
    from agentless_mini.learning.rl import _chats
    from agentless_mini.learning.training import Seen

    checked = [replace(row, check="raise SystemExit(0)") for row in bred[:4]]
    rows = [*checked[:3], replace(checked[3], parents=()), *bred[4:6], *tiny.rows(8)[6:]]
    seen, tokens = Seen(), ChatTokens(load_tokenizer(str(model)))
    made = list(_chats(iter(rows), load_prompts(None), tokens, SMALL.model_copy(update=settings), seen))
    assert seen.rows == counts
    assert [read_row(one["row"]).id for one in made] == [one.id for one in rows if one.id in str(made)]


def test_a_step_that_is_no_whole_number_of_groups_is_refused(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(UsageError, match="parted into groups"):
        train(model, tiny.write_data(tmp_path, rows), SMALL.model_copy(update={"group": 3}))


def test_a_named_server_is_what_writes_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.need_training()
    from agentless_mini.learning import policies, rl

    monkeypatch.setattr(policies, "on_cpu", lambda settings: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    asked = rl._generation(RlSettings(server="http://gpu2:8000"))
    assert asked == {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://gpu2:8000"}
    assert rl._generation(RlSettings())["vllm_mode"] == "colocate"


def test_the_rollouts_of_a_step_are_whole_groups_over_all_devices() -> None:
    tiny.need_training()
    from agentless_mini.learning import planning

    settings = RlSettings(batch=1, accumulate=2, group=8)
    assert planning.whole_groups(settings, 8) == settings
    with pytest.raises(UsageError, match="3 x 1 x 2 rollouts"):
        planning.whole_groups(settings, 3)
    asked = settings.model_copy(update={"trl": {"steps_per_generation": 8}})  # which TRL checks
    assert planning.whole_groups(asked, 3) == asked
    assert planning.whole_groups(RlSettings(batch=2, group=16, rollouts=512), 8).accumulate == 32
    with pytest.raises(UsageError, match="no multiple of 3 x 2"):
        planning.whole_groups(RlSettings(batch=2, rollouts=512), 3)


def test_vllm_without_a_gpu_is_refused(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    settings = SMALL.model_copy(update={"generation": Generation.COLOCATE, "device": Device.CPU})
    with pytest.raises(UsageError, match="on a GPU"):
        train(model, tiny.write_data(tmp_path, rows), settings)
