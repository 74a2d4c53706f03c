"""The reward model: which patches are compared, and a result that scores as it was trained."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.chain.evolve import answer_text
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Patch
from agentless_mini.edits import make_patch
from agentless_mini.errors import ModelUnknown, UsageError
from agentless_mini.learning.rewarding import Measure
from agentless_mini.learning.rows import Row
from agentless_mini.settings.learning import Device, Preference, RewardModelSettings, Tuning
from tests.learning import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")]

SMALL = RewardModelSettings(
    batch=2, accumulate=1, steps=1, save_every=1, log_every=1, learning_rate=1e-3, max_tokens=tiny.CONTEXT
)


def train(model: Path, data: Path, settings: RewardModelSettings) -> dict[str, object]:
    from agentless_mini.learning.reward_model import train_reward_model
    from agentless_mini.learning.training import Task

    task = Task("reward-model", str(model), data, data.parent / "out", load_prompts(None), lambda said: None)
    found: dict[str, object] = json.loads(train_reward_model(task, settings).document())
    return found


@pytest.mark.parametrize("kind", list(Preference))
def test_it_trains_saves_resumes_and_scores(model: Path, tmp_path: Path, bred: list[Row], kind: Preference) -> None:
    data = tiny.write_data(tmp_path, bred)
    settings = SMALL.model_copy(update={"kind": kind})
    done = train(model, data, settings)
    if kind is Preference.BINARY:  # TRL's trainer, of the other kind, resumes as those of the other files do
        done = train(model, data, settings.model_copy(update={"steps": 2}))
    assert (done["steps"], done["finished"]) == (2 if kind is Preference.BINARY else 1, True)
    assert math.isfinite(float(str(done["loss"])))
    assert done["rows"] == {"kept": 8, "of another split": 2}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "It scores patches" in card
    assert score(tmp_path / "out", bred[0]) == pytest.approx(score(tmp_path / "out", bred[0], padding=3), abs=1e-5)


def test_it_starts_from_the_policy_with_its_adapter(model: Path, tmp_path: Path, bred: list[Row]) -> None:
    import transformers
    from peft import LoraConfig, get_peft_model

    from agentless_mini.learning.policies import quiet

    quiet()
    bare: Any = transformers.AutoModelForCausalLM.from_pretrained(str(model))
    adapted: Any = get_peft_model(bare, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "policy")
    settings = SMALL.model_copy(update={"adapter": tmp_path / "policy", "learning_rate": 1e-12})
    train(model, tiny.write_data(tmp_path, bred), settings)
    made: Any = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    expected = adapted.merge_and_unload().base_model.state_dict()
    for name, weights in made.base_model.state_dict().items():
        assert weights.allclose(expected[name], atol=1e-6), name


def test_of_all_weights_those_of_the_last_layers_and_the_head_alone_are_trained(
    model: Path, tmp_path: Path, bred: list[Row]
) -> None:
    import transformers

    upper = {"tuning": Tuning.FULL, "upper_layers": 1, "device": Device.CPU, "steps": 2}
    train(model, tiny.write_data(tmp_path, bred), SMALL.model_copy(update=upper))
    before, after = (
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / name).state_dict()
        for name in ("checkpoint-1", "checkpoint-2")
    )
    changed = {name for name, weights in before.items() if not weights.allclose(after[name], atol=1e-6)}
    assert "score.weight" in changed
    assert {name.rpartition("layers.")[2][:2] for name in changed - {"score.weight"}} == {"1."}


def score(folder: Path, row: Row, diff: str = "", padding: int = 0) -> float:
    """Return what the model on disk says of a patch, or of a row's oracle, read at the last token of the chat."""
    import torch
    import transformers

    from agentless_mini.learning.reward_model import judged, score_messages
    from agentless_mini.learning.texts import ChatTokens

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    said = score_messages(load_prompts(None), row.issue, diff or judged(row)[0].diff)
    tokens = ChatTokens(tokenizer).chat(said)
    with torch.no_grad():
        ids = torch.tensor([[*tokens, *[model.config.pad_token_id] * padding]])
        return float(
            model(input_ids=ids, attention_mask=(torch.arange(ids.shape[1]) < len(tokens))[None].long()).logits
        )


def test_the_oracle_is_judged_best_and_pairs_have_a_margin(model: Path, bred: list[Row]) -> None:
    from agentless_mini.learning.reward_model import judged, pairs

    found = judged(bred[0])
    assert [one.value for one in found] == sorted((one.value for one in found), reverse=True)
    assert found[0].value == 1
    assert "70 + number" in found[1].diff
    assert pairs(found, SMALL, "x") == [(found[0], found[1])]
    assert pairs(found, SMALL.model_copy(update={"margin": 1.0}), "x") == []


def test_rows_without_other_patches_are_left_out(model: Path, tmp_path: Path, bred: list[Row], rows: list[Row]) -> None:
    from agentless_mini.learning import reward_model
    from agentless_mini.learning.training import Seen

    seen = Seen()
    tokens: Any = type("Tokens", (), {"chat": lambda self, messages: (1, 2)})()
    made = list(reward_model.examples([*bred[:2], *rows[2:]], load_prompts(None), tokens, SMALL, seen))
    assert len(made) == 2
    assert seen.rows == Counter({"kept": 2, "without patches to compare": 6})


# --- the model as a potential ---


def scores(folder: Path, at_once: int = 3) -> Measure:
    from agentless_mini.learning.reward_model import PatchScores

    return PatchScores(folder, load_prompts(None), at_once)


def asked(rows: list[Row]) -> list[tuple[Row, Patch]]:
    return [
        (replace(row, issue=row.issue + " again" * number), make_patch(row.oracle(), row.tree().forms))
        for number, row in enumerate(rows)
    ]


def test_a_score_is_the_logistic_of_the_models_number_alone_and_in_company(scorer: Path, rows: list[Row]) -> None:
    wanted = [1 / (1 + math.exp(-score(scorer, row, answer_text(patch)))) for row, patch in asked(rows)]
    assert len({round(value, 4) for value in wanted}) > 1
    for at_once in (1, 3, 100):
        assert scores(scorer, at_once)(asked(rows)) == pytest.approx(wanted, abs=1e-5)
    assert scores(scorer)([]) == []


def test_what_is_too_long_for_the_model_cannot_be_told(scorer: Path, rows: list[Row]) -> None:
    (row, patch), other = asked(rows)[:2]
    told = scores(scorer)([(replace(row, issue="x " * 7_000), patch), other])
    assert told[0] is None
    assert told[1] is not None


def test_a_model_that_was_not_trained_to_score_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no reward model"):
        scores(model)
    with pytest.raises(UsageError, match="one number"):
        scores(tiny.write_scorer(model, tmp_path / "two", numbers=2))
    with pytest.raises(ModelUnknown):
        scores(tmp_path / "none")
