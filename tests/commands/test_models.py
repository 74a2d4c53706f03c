"""Which model a run asks, and under which name it is recorded."""

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agentless_mini.commands.models import ChosenModel, Machine, Surroundings, choose_model
from agentless_mini.commands.serve import plan_server
from agentless_mini.config import Config
from agentless_mini.errors import UsageError
from agentless_mini.store import Store
from tests.commands.test_scorers import Told
from tests.samplers.contract import run

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "rl"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "peft_type": "LORA"}))
    return folder


def chosen(folder: Path, settings: Mapping[str, object]) -> ChosenModel:
    async def work() -> ChosenModel:
        with Store.open(folder / "store.db") as store:
            async with AsyncExitStack() as stack:
                config, machine = Config.model_validate(settings), Machine(folder, folder, NO_GPU)
                return await choose_model(Surroundings(config, machine, store, stack, Told()))

    return run(work())


def test_a_run_on_an_adapter_is_recorded_under_its_name_not_under_that_of_its_base(
    tmp_path: Path, adapter: Path
) -> None:
    vllm: dict[str, object] = {"engine": "vllm", "gpu_model": "org/coder", "vllm": {"python": "/opt/vllm/bin/python"}}
    assert chosen(tmp_path, vllm).name == "org/coder"
    vllm["vllm"] = {"python": "/opt/vllm/bin/python", "adapters": [adapter]}
    assert chosen(tmp_path, vllm).name == "rl"


def test_an_adapter_is_not_left_out_where_llama_cpp_would_serve(tmp_path: Path, adapter: Path) -> None:
    config = Config.model_validate({"vllm": {"adapters": [adapter]}})
    with pytest.raises(UsageError, match="--engine vllm"):
        plan_server("org/coder", config, Machine(tmp_path, tmp_path, NO_GPU))
