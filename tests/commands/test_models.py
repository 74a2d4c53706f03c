"""Which model a run asks, and under which name it is recorded."""

import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.commands.config import Machine
from agentless_mini.commands.models import Models
from agentless_mini.commands.options import SamplingOptions, given_settings
from agentless_mini.commands.serve import plan_server
from agentless_mini.errors import ServerUnreachable, UsageError
from agentless_mini.ports import Sampler
from agentless_mini.record import Once, Store
from agentless_mini.run import ChosenModel, amount, settled
from agentless_mini.settings import Config, load_config
from agentless_mini.settings.run import UNTESTED
from tests.commands.test_scorers import Told
from tests.model.contract import run
from tests.record.building import START

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "rl"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "peft_type": "LORA"}))
    return folder


def chosen(
    folder: Path, settings: dict[str, object], told: Told | None = None, source: str = "", *, to_write: bool = False
) -> ChosenModel:
    """Choose for a store whose latest run asked a model at `source`, where there was one."""

    async def work() -> ChosenModel:
        with Store.open(folder / "store.db") as store:
            if source:
                store.runs.begin(replace(START, model="org/coder", versions=json.dumps({"model": source})))
            async with AsyncExitStack() as stack:
                config, machine = Config.model_validate(settings), Machine(folder, folder, NO_GPU)
                return await Models(config, machine, store, stack, told or Told()).choose(to_write=to_write)

    return run(work())


def test_a_run_on_an_adapter_is_recorded_under_its_name_not_under_that_of_its_base(
    tmp_path: Path, adapter: Path
) -> None:
    base = {"engine": "vllm", "gpu_model": "org/coder"}
    python = {"python": "/opt/vllm/bin/python"}
    assert chosen(tmp_path, {**base, "vllm": python}).name == "org/coder"
    assert chosen(tmp_path, {**base, "vllm": {**python, "adapters": [adapter]}}).name == "rl"


def test_vllm_fetches_no_model_that_nobody_named(tmp_path: Path) -> None:
    python: dict[str, object] = {"engine": "vllm", "vllm": {"python": "/opt/vllm/bin/python"}}
    with pytest.raises(UsageError, match="name one with --model"):
        chosen(tmp_path, python)
    with pytest.raises(UsageError, match="No model is named"):
        plan_server(None, Config.model_validate(python), Machine(tmp_path, tmp_path, NO_GPU))


def test_an_adapter_is_not_left_out_where_llama_cpp_would_serve(tmp_path: Path, adapter: Path) -> None:
    config = Config.model_validate({"vllm": {"adapters": [adapter]}})
    with pytest.raises(UsageError, match="--engine vllm"):
        plan_server("org/coder", config, Machine(tmp_path, tmp_path, NO_GPU))


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "small.gguf").touch()
    return {"embedded": {"model": str(tmp_path / "small.gguf")}}


def test_that_the_embedded_model_answers_is_said_unless_it_is_meant(tmp_path: Path, weights: dict[str, object]) -> None:
    unmeant, meant = Told(), Told()
    assert chosen(tmp_path, weights, unmeant).name == "small"
    assert chosen(tmp_path, {**weights, "engine": "embedded"}, meant).name == "small"
    assert sum("name a server with --base-url" in note and "--engine embedded" in note for note in unmeant.notes) == 1
    assert [note for note in meant.notes if "--base-url" in note] == []


@pytest.mark.parametrize("source", ["http://gpu:8000/v1", "vLLM, started for this run"])
def test_where_a_server_was_asked_before_the_embedded_model_answers_only_if_it_is_meant(
    tmp_path: Path, weights: dict[str, object], source: str
) -> None:
    found = chosen(tmp_path, weights, source=source)
    assert (found.name, found.source) == ("org/coder", source)
    with pytest.raises(ServerUnreachable, match=r"The latest run here asked org/coder .* --engine embedded"):
        run(found.start())
    assert chosen(tmp_path, {**weights, "engine": "embedded"}).name == "small"


def test_where_the_embedded_model_answered_before_it_does_again(tmp_path: Path, weights: dict[str, object]) -> None:
    assert chosen(tmp_path, weights, source="llama.cpp, inside amini").name == "small"


def test_a_model_that_ranks_lines_is_served_where_texts_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").touch()
    settings: dict[str, object] = {
        "engine": "embedded",
        "embedded": {"model": str(tmp_path / "small.gguf"), "decoding": "lines"},
        "in_process": {"context": 1024},
        "llama_cpp": {"context": 2048},
    }
    repairs, texts = chosen(tmp_path, settings), chosen(tmp_path, settings, to_write=True)
    assert (repairs.writes, repairs.window) == (False, "window of at most 1024 tokens")
    assert (texts.writes, texts.window) == (True, "window of at most 2048 tokens")


def test_most_tokens_hold_for_every_stage() -> None:
    offers = {offer.parameter: offer for offer in SamplingOptions.offered()}
    given = given_settings(offers, {**dict.fromkeys(offers), "max_tokens": 500})
    config = load_config(None, given)
    assert {part.max_tokens for part in (config.repair, config.localize, config.reproduce)} == {500}


def test_the_carried_model_is_asked_for_more_repairs_where_nobody_says_how_many() -> None:
    cases: tuple[tuple[bool, dict[str, int], int, str], ...] = (
        (False, {}, 50, "50 repairs (the embedded model's default), 0 new tests; no test is run"),
        (False, {"repair.samples": 7}, 7, "7 repairs, 0 new tests; no test is run"),
        (False, {"repair.samples": 10}, 10, "10 repairs, 0 new tests; no test is run"),
        (True, {}, 10, "10 repairs, 0 new tests; no test is run"),
    )
    for writes, said, samples, told in cases:
        model = ChosenModel("small", "here", Once(nobody), writes=writes)
        config = settled(load_config(None, said), 0, model)
        assert config.repair.samples == samples
        assert amount(config, model, UNTESTED) == told


async def nobody() -> Sampler:
    raise AssertionError
