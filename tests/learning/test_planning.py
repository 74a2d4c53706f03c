"""What a training would take: the parameters are those that a training has."""

import json
from pathlib import Path

import pytest

import agentless_mini
from agentless_mini.errors import ModelUnknown
from agentless_mini.settings.learning import Device, RlSettings, SftSettings, TrainingSettings, Tuning
from tests.learning import tiny

ACCELERATE = Path(agentless_mini.__file__).parent / "learning" / "accelerate"


@pytest.fixture(autouse=True)
def _trained() -> None:
    tiny.need_training()


def plan(model: str, settings: TrainingSettings, rows: int, devices: int) -> str:
    from agentless_mini.learning import planning

    return planning.plan(model, settings, rows, devices)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("tuning", [Tuning.LORA, Tuning.FULL])
@pytest.mark.parametrize("upper_layers", [None, 1])
def test_the_parameters_are_those_of_a_training(model: Path, tuning: Tuning, upper_layers: int | None) -> None:
    from peft import get_peft_model

    from agentless_mini.learning.policies import load_policy

    settings = SftSettings(tuning=tuning, upper_layers=upper_layers, device=Device.CPU)
    loaded, lora = load_policy(str(model), settings)
    loaded = get_peft_model(loaded, lora) if lora else loaded
    said = json.loads(plan(str(model), settings, 10, 1))
    assert said["parameters"] == sum(part.numel() for part in loaded.parameters())
    assert said["trained"] == sum(part.numel() for part in loaded.parameters() if part.requires_grad)


def test_a_step_is_of_all_devices_and_more_of_them_share_a_sharded_model(model: Path) -> None:
    settings = TrainingSettings(batch=2, accumulate=3, max_tokens=1000, tuning=Tuning.FULL, epochs=2.0)
    one, four = (json.loads(plan(str(model), settings, 100, devices)) for devices in (1, 4))
    assert (one["sequences_of_a_step"], four["sequences_of_a_step"]) == (6, 24)
    assert four["most_tokens_of_a_step"] == 24_000
    assert (one["steps"], four["steps"]) == (34, 9)
    assert four["least_steps_of_a_day"]["1000"] == 3600.0
    rl = json.loads(plan(str(model), RlSettings(batch=4, accumulate=4, group=8), 100, 1))
    assert (rl["sequences_of_a_step"], rl["prompts_of_a_step"], rl["steps"]) == (16, 2, 50)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnknown, match="cannot be planned for"):
        plan(str(tmp_path), SftSettings(), 1, 1)


@pytest.mark.parametrize("path", sorted(ACCELERATE.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_that_is_shipped_is_read_by_accelerate(path: Path) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    asked = ["--config_file", str(path), "-m", "agentless_mini", "learn"]
    launched, kind, _ = _validate_launch_command(launch_command_parser().parse_args(asked))
    assert launched.module
    assert not launched.use_cpu
    wanted = {"zero3": "DEEPSPEED", "sharded": "FSDP", "sharded_machines": "FSDP"}.get(path.stem, "MULTI_GPU")
    assert str(kind.distributed_type.value) == wanted
    if launched.use_deepspeed:
        launched.deepspeed_fields_from_accelerate_config = (
            ""  # which accelerate's command sets before it starts anything
        )
        _, variables = prepare_deepspeed_cmd_env(launched)
        assert variables["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "3"
        assert variables["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
    else:
        variables = prepare_multi_gpu_env(launched)
        sharded = {"FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"} if launched.use_fsdp else {}
        assert {name: variables[name] for name in sharded} == sharded
    assert (launched.num_machines > 1) == ("machines" in path.stem)
