"""Every field of TRL's configurations can be set: by a setting of ours, or handed on to TRL as it is."""

import dataclasses
import re
from pathlib import Path

import pytest

import agentless_mini
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.learn import TrainingOptions
from agentless_mini.errors import UsageError
from agentless_mini.settings import Config, load_config
from agentless_mini.settings.learning import Preset, RlSettings, TrainingSettings, Tuning
from tests.learning import tiny

KINDS = {"sft": "SFTConfig", "rl": "GRPOConfig", "reward_model": "RewardConfig"}
MANUAL = (Path(agentless_mini.__file__).parent / "docs/learn.md").read_text()


def configured(section: str, settings: TrainingSettings, house: dict[str, object]) -> object:
    import trl

    from agentless_mini.learning.training import Task, configured

    task = Task(section.replace("_", "-"), "m", Path("rows"), Path("out"), load_prompts(None), lambda said: None)
    return configured(getattr(trl, KINDS[section]), task, house, settings)


@pytest.mark.parametrize("section", KINDS)
def test_every_field_is_a_setting_of_ours_or_handed_on_unchanged(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.need_training()
    import trl

    from agentless_mini.learning.training import OURS

    kind = getattr(trl, KINDS[section])
    monkeypatch.setattr(kind, "__post_init__", lambda self: None)  # what TRL thinks of the values is not asked
    settings = getattr(Config(), section)
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    assert len(fields) > 100
    handed = [name for name in fields if name not in OURS and not name.endswith("hub_token")]
    sevens = settings.model_copy(update={"trl": dict.fromkeys(handed, 7)})
    made = configured(section, sevens, dict.fromkeys(handed, 8))
    assert {getattr(made, name) for name in handed} == {7}
    for name in set(fields).difference(handed):
        assert name not in OURS or OURS[name] == "--out" or OURS[name] in type(settings).model_fields
        said = "a setting of amini's own" if name in OURS else "would be written down with the settings"
        with pytest.raises(UsageError, match=said):
            configured(section, settings.model_copy(update={"trl": {name: 7}}), {})


def test_the_manual_lists_what_the_house_sets() -> None:
    tiny.need_training()
    from agentless_mini.learning import rl, training

    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", MANUAL, re.MULTILINE)
    assert {name: setting.strip("`") for name, setting in listed if name in training.OURS} == training.OURS
    task = training.Task("rl", "m", Path("rows"), Path("out"), load_prompts(None), lambda said: None)
    house = rl._house(task, RlSettings())
    assert house.keys() <= {name for name, _ in listed}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("section", "given", "said"),
    [
        ("rl", {"los_type": "grpo"}, "GRPOConfig has no field 'los_type': correct rl.trl.los_type, as 'loss_type'."),
        ("sft", {"packed": True}, "SFTConfig has no field 'packed'"),
        ("reward_model", {"seed": 1}, "reward_model.trl.seed is a setting of amini's own: set seed in [reward_model]"),
        ("rl", {"num_iterations": "two"}, "rl.trl.num_iterations must not be a text ('two')"),
        ("rl", {"log_completions_hub_repo": "me/mine"}, "TRL refuses its settings"),
        ("rl", {"scale_rewards": {}}, "TRL refuses its settings"),
    ],
)
def test_what_is_no_field_or_refused_is_told_in_a_sentence(section: str, given: dict[str, object], said: str) -> None:
    tiny.need_training()
    settings = getattr(Config(), section).model_copy(update={"trl": given})
    with pytest.raises(UsageError) as told:
        configured(section, settings, {"output_dir": "out", "use_cpu": True, "bf16": False})
    assert said in str(told.value)


def test_flags_go_before_the_table_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[rl.trl]\nloss_type = "dapo"\nnum_iterations = 2\n')
    said = ["num_iterations=3", "mask_truncated_completions=True", "model_init_kwargs.attn_implementation=sdpa", "a=="]
    options = TrainingOptions(Path("rows"), "m", Path("out"), trl=said)
    trl = load_config(file, options.over("rl", {"rl.seed": 3})).rl.trl
    assert trl == {
        "loss_type": "dapo",
        "num_iterations": 3,
        "mask_truncated_completions": True,
        "model_init_kwargs": {"attn_implementation": "sdpa"},
        "a": "=",
    }
    for wrong in ("loss_type", "=3"):
        with pytest.raises(UsageError, match="is no KEY=VALUE"):
            TrainingOptions(Path("rows"), "m", Path("out"), trl=[wrong]).over("rl", {})


def test_a_preset_is_what_other_settings_go_before() -> None:
    swe_rl = load_config(None, {"rl.preset": "swe-rl", "rl.group": 8}).rl
    assert (swe_rl.steps, swe_rl.rollouts, swe_rl.group, swe_rl.max_tokens) == (1600, 512, 8, 16_384)
    assert (swe_rl.tuning, swe_rl.rate) == (Tuning.FULL, 1e-6)
    satori = RlSettings(preset=Preset.SATORI)
    assert (satori.reward, satori.shown_parents, satori.compared) == ("shaped", 5, "rollout")
    for wrong in ("swe", ["swe-rl"]):
        with pytest.raises(UsageError, match=r"rl\.preset in the options must be 'swe-rl' or 'satori'"):
            load_config(None, {"rl.preset": wrong})
    with pytest.raises(UsageError, match=r"rl\.trl in the options"):
        load_config(None, TrainingOptions(Path("rows"), "m", Path("out"), trl=["delta=NaN"]).over("rl", {}))
    with pytest.raises(UsageError, match="rl in the options must be a table"):
        load_config(None, {"rl": 3})


def test_adapters_have_a_learning_rate_of_their_own() -> None:
    config = Config()
    assert (config.sft.rate, config.rl.rate, config.reward_model.rate) == (1e-4, 1e-5, 1e-4)
    full = {"tuning": Tuning.FULL}
    assert (config.sft.model_copy(update=full).rate, config.rl.model_copy(update=full).rate) == (1e-5, 1e-6)
    assert RlSettings(learning_rate=3e-4).rate == 3e-4
