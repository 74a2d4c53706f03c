"""Supervised fine-tuning of a tiny model: finite loss, checkpoint, resume, and a result that can be asked."""

import asyncio
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import SamplingParams
from agentless_mini.errors import EnvironmentFailed, ModelUnknown, UsageError
from agentless_mini.learning.asking import answers
from agentless_mini.learning.rows import Row, write_rows
from agentless_mini.model.process import ServerPlan
from agentless_mini.model.vllm import plan_vllm
from agentless_mini.settings.learning import Precision, SftKind, SftSettings, Tuning
from agentless_mini.settings.model import VllmSettings
from tests.learning import tiny

pytestmark = pytest.mark.slow

SMALL = SftSettings(
    batch=2, accumulate=1, steps=2, save_every=2, log_every=1, learning_rate=1e-3, max_tokens=tiny.CONTEXT
)


def train(
    model: Path, data: Path, settings: SftSettings, told: list[str] | None = None, begun: float | None = None
) -> dict[str, object]:
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    said = [] if told is None else told
    since = time.monotonic() if begun is None else begun
    task = Task("sft", str(model), data, data.parent / "out", load_prompts(None), said.append, since)
    found: dict[str, object] = json.loads(train_sft(task, settings).document())
    return found


def test_it_trains_saves_resumes_and_can_be_asked(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    first = train(model, data, SMALL)
    assert (first["steps"], first["finished"]) == (2, True)
    assert math.isfinite(float(str(first["loss"])))
    assert train(model, data, SMALL) == first
    assert first["rows"] == {"kept": 8, "of another split": 2}
    told: list[str] = []
    second = train(model, data, SMALL.model_copy(update={"steps": 3}), told)
    assert (second["steps"], second["finished"]) == (3, True)
    assert "Going on from" in " ".join(told)
    out = tmp_path / "out"
    assert "| MIT | 8 |" in (out / "README.md").read_text()
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [1, 2, 2, 3, 3]
    assert asked(out, rows[0])
    assert {"--enable-lora", "--max-lora-rank=16"} <= set(served(model, out).command)


def test_upper_layers_trained_in_full_go_on_and_can_be_asked(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    upper = {"tuning": Tuning.FULL, "upper_layers": 1, "precision": Precision.BFLOAT16}
    data, settings = tiny.write_data(tmp_path, rows), SMALL.model_copy(update=upper)
    assert train(model, data, settings)["finished"] is True
    told: list[str] = []
    again = train(model, data, settings.model_copy(update={"steps": 3}), told)
    assert (again["steps"], again["finished"]) == (3, True)
    assert math.isfinite(float(str(again["loss"])))
    assert "Going on from" in " ".join(told)
    assert asked(tmp_path / "out", rows[0])


def test_what_ended_before_it_was_written_is_written_without_a_step_more(
    model: Path, tmp_path: Path, rows: list[Row]
) -> None:
    data = tiny.write_data(tmp_path, rows)
    first = train(model, data, SMALL)
    (tmp_path / "out" / "done.json").unlink()
    (tmp_path / "out" / "adapter_model.safetensors").unlink()
    again = train(model, data, SMALL)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    with pytest.raises(UsageError, match="has made 2 steps"):
        train(model, data, SMALL.model_copy(update={"steps": 1}))


def test_a_trial_of_a_step_goes_on_to_the_whole_epoch_and_no_further(
    model: Path, tmp_path: Path, rows: list[Row]
) -> None:
    data = tiny.write_data(tmp_path, rows)
    assert train(model, data, SMALL.model_copy(update={"steps": 1}))["steps"] == 1
    whole = SMALL.model_copy(update={"steps": None})
    assert train(model, data, whole)["steps"] == 4
    with pytest.raises(UsageError, match="has made 4 steps and 2 are asked for"):
        train(model, data, whole.model_copy(update={"epochs": 0.5}))


def test_a_training_goes_on_as_it_is_told_now(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    out = tmp_path / "out"
    first_time = train(model, data, SMALL.model_copy(update={"steps": 1}))
    written = (out / "examples.arrow").stat()
    then = train(model, data, SMALL.model_copy(update={"steps": 4, "save_every": 1, "log_every": 3, "keep": 9}))
    assert (out / "examples.arrow").stat().st_mtime_ns == written.st_mtime_ns  # rows become tokens once
    assert then["rows"] == first_time["rows"]
    assert {path.name for path in out.glob("checkpoint-*")} == {f"checkpoint-{number}" for number in (1, 2, 3, 4)}
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == [1, 3]
    first, second = (out / f"checkpoint-{number}" / "adapter_model.safetensors" for number in (1, 2))
    assert first.read_bytes() != second.read_bytes()  # the first schedule had come to a rate of 0


def test_other_prompts_are_another_training(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    data = tiny.write_data(tmp_path, rows)
    train(model, data, SMALL)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "system.j2").write_text("Repair it.")
    prompts = load_prompts(tmp_path / "prompts")
    with pytest.raises(UsageError, match="prompts differ"):
        train_sft(Task("sft", str(model), data, tmp_path / "out", prompts, lambda said: None), SMALL)


def test_an_adapter_of_another_model_or_rank_is_said(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    train(model, data, SMALL)
    adapter = (tmp_path / "out").rename(tmp_path / "first")
    with pytest.raises(UsageError, match="has the rank 16"):
        train(model, data, SMALL.model_copy(update={"adapter": adapter, "rank": 8}))
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 256}))
    (other / "model.safetensors").unlink()
    import transformers

    random = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(other))
    random.save_pretrained(other)
    with pytest.raises(UsageError, match="is not one of"):
        train(other, data, SMALL.model_copy(update={"adapter": adapter}))


def test_a_torn_model_is_said(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(model, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnknown, match="cannot be loaded"):
        train(torn, tiny.write_data(tmp_path, rows), SMALL)


def test_a_loss_that_is_no_number_ends_the_training(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    with pytest.raises(EnvironmentFailed, match="lower the learning rate"):
        train(model, data, SMALL.model_copy(update={"steps": 4, "learning_rate": 1e30}))


def served(model: Path, adapter: Path) -> ServerPlan:
    return plan_vllm(str(model), VllmSettings(python=Path(sys.executable), adapters=(adapter,)), ())


def asked(checkpoint: Path, row: Row) -> str:
    """Return what the checkpoint answers to a row's prompt."""
    from agentless_mini.learning.checkpoints import find_checkpoint
    from agentless_mini.learning.rollouts import TransformersSampler

    async def ask() -> str:
        async with TransformersSampler(find_checkpoint(str(checkpoint))) as sampler:
            (found,) = await answers(sampler, row.messages(load_prompts(None)), SamplingParams(8), (0,), row)
            return found.text

    return asyncio.run(ask())


def test_what_is_stopped_by_time_goes_on(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    # What came before the first step counts, too.
    stopped = train(model, data, SMALL.model_copy(update={"minutes": 60}), begun=time.monotonic() - 3601)
    assert (stopped["steps"], stopped["finished"]) == (1, False)
    assert (
        not (tmp_path / "out" / "README.md").exists() or "amini learn" not in (tmp_path / "out/README.md").read_text()
    )
    assert train(model, data, SMALL)["finished"] is True


def test_a_signal_leaves_a_checkpoint(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    from agentless_mini.learning.checkpoints import last_checkpoint
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    def interrupt(said: str) -> None:
        if said.startswith("step 1"):
            os.kill(os.getpid(), signal.SIGTERM)

    data = tiny.write_data(tmp_path, rows)
    task = Task("sft", str(model), data, tmp_path / "out", load_prompts(None), interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_sft(task, SMALL.model_copy(update={"steps": 9}))
    assert last_checkpoint(tmp_path / "out") is not None


def test_all_weights_can_be_trained_on_earlier_patches(model: Path, tmp_path: Path, bred: list[Row]) -> None:
    data = tiny.write_data(tmp_path, [*bred, *(replace(row, id=f"{row.id} plain", parents=()) for row in bred[:3])])
    settings = SMALL.model_copy(update={"kind": SftKind.MUTATION, "tuning": Tuning.FULL})
    done = train(model, data, settings)
    assert done["rows"] == {"kept": 8, "of another split": 2, "without parents": 3}
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert asked(tmp_path / "out", bred[0])


def test_a_training_can_start_from_an_adapter(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    data = tiny.write_data(tmp_path, rows)
    train(model, data, SMALL)
    (tmp_path / "out").rename(tmp_path / "first")
    settings = SMALL.model_copy(update={"adapter": tmp_path / "first"})
    assert train(model, data, settings)["finished"] is True


def test_rows_without_parents_are_no_mutation(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(UsageError, match="No row has parents"):
        train(model, tiny.write_data(tmp_path, rows), SMALL.model_copy(update={"kind": SftKind.MUTATION}))


def test_no_row_that_fits_is_said_with_the_reason(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(UsageError, match="8 too long"):
        train(model, tiny.write_data(tmp_path, rows), SMALL.model_copy(update={"max_tokens": 64}))


def test_a_model_that_is_not_there_is_said(tmp_path: Path, rows: list[Row]) -> None:
    tiny.need_training()
    with pytest.raises(ModelUnknown, match="cannot be loaded"):
        train(tmp_path / "nothing", tiny.write_data(tmp_path, rows), SMALL)


def test_an_empty_file_of_rows_is_said(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [])
    with pytest.raises(UsageError, match="there are none"):
        train(model, tmp_path / "rows.parquet", SMALL)
