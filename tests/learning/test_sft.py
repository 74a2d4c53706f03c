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
    batch=2, accumulate=1, steps=1, save_every=1, log_every=1, learning_rate=1e-3, max_tokens=tiny.CONTEXT
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


@pytest.fixture(scope="module", name="first")
def train_once(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with rows, and in `out` a training on them of one step."""
    folder = tmp_path_factory.mktemp("first")
    done = train(model, tiny.write_data(folder, tiny.rows(8)), SMALL)
    assert (done["steps"], done["finished"], done["rows"]) == (1, True, {"kept": 8, "of another split": 2})
    assert math.isfinite(float(str(done["loss"])))
    return folder


@pytest.fixture
def trained(first: Path, tmp_path: Path) -> Path:
    """Return the rows beside a copy of the training of one step."""
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize(
    "handed",
    [{"eval_strategy": "steps"}, {"loss_type": "banana"}, {"lr_scheduler_kwargs": {"x": 1}}, {"max_grad_norm": None}],
)
def test_what_trl_refuses_after_its_configuration_is_a_sentence(
    model: Path, tmp_path: Path, handed: dict[str, object]
) -> None:
    data = tiny.write_data(tmp_path, tiny.rows(2))
    with pytest.raises(UsageError, match=r"TRL refuses its settings .*: correct \[sft\.trl\]"):
        train(model, data, SMALL.model_copy(update={"trl": handed}))


@pytest.mark.filterwarnings("ignore:.*flash:UserWarning")
def test_examples_can_be_packed(model: Path, tmp_path: Path) -> None:
    data = tiny.write_data(tmp_path, tiny.rows(8))
    done = train(model, data, SMALL.model_copy(update={"trl": {"packing": True}}))
    assert (done["steps"], done["finished"]) == (1, True)


def test_it_goes_on_as_it_is_told_now_and_no_further_and_can_be_asked(model: Path, trained: Path) -> None:
    out, told = trained.parent / "out", list[str]()
    written = (out / "examples.arrow").stat()
    whole = SMALL.model_copy(update={"steps": None, "save_every": 1, "log_every": 3, "keep": 9})
    then = train(model, trained, whole, told)
    assert (then["steps"], then["finished"]) == (4, True)  # of one epoch
    assert "Going on from" in " ".join(told)
    assert (out / "examples.arrow").stat().st_mtime_ns == written.st_mtime_ns  # rows become tokens once
    assert then["rows"] == {"kept": 8, "of another split": 2}
    assert {path.name for path in out.glob("checkpoint-*")} == {f"checkpoint-{number}" for number in (1, 2, 3, 4)}
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == [1, 3]
    first, second = (out / f"checkpoint-{number}" / "adapter_model.safetensors" for number in (1, 2))
    assert first.read_bytes() != second.read_bytes()  # the first schedule had come to a rate of 0
    assert '"MIT": 8' in (out / "README.md").read_text()
    with pytest.raises(UsageError, match="has made 4 steps and 2 are asked for"):
        train(model, trained, whole.model_copy(update={"epochs": 0.5}))
    assert asked(out, tiny.rows(1)[0])
    assert {"--enable-lora", "--max-lora-rank=16"} <= set(served(model, out).command)


def test_what_ended_is_told_again_and_what_was_not_written_is_written_without_a_step_more(
    model: Path, trained: Path
) -> None:
    out = trained.parent / "out"
    first = train(model, trained, SMALL)
    assert first == json.loads((out / "done.json").read_text())["outcome"] | {"out": str(out)}
    (out / "done.json").unlink()
    (out / "adapter_model.safetensors").unlink()
    again = train(model, trained, SMALL)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert (out / "adapter_model.safetensors").exists()


def test_upper_layers_trained_in_full_on_earlier_patches_go_on_and_can_be_asked(
    model: Path, tmp_path: Path, bred: list[Row]
) -> None:
    data = tiny.write_data(tmp_path, [*bred, *(replace(row, id=f"{row.id} plain", parents=()) for row in bred[:3])])
    upper = {"tuning": Tuning.FULL, "upper_layers": 1, "precision": Precision.BFLOAT16, "kind": SftKind.MUTATION}
    settings = SMALL.model_copy(update=upper)
    done = train(model, data, settings)
    assert done["rows"] == {"kept": 8, "of another split": 2, "without parents": 3}
    again = train(model, data, settings.model_copy(update={"steps": 2}))
    assert (again["steps"], again["finished"]) == (2, True)
    assert math.isfinite(float(str(again["loss"])))
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert asked(tmp_path / "out", bred[0])


def test_other_prompts_are_another_training(model: Path, trained: Path) -> None:
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    (trained.parent / "prompts").mkdir()
    (trained.parent / "prompts" / "system.j2").write_text("Repair it.")
    prompts = load_prompts(trained.parent / "prompts")
    with pytest.raises(UsageError, match="prompts differ"):
        train_sft(Task("sft", str(model), trained, trained.parent / "out", prompts, lambda said: None), SMALL)


def test_a_training_starts_from_an_adapter_but_not_of_another_model_or_rank(
    model: Path, first: Path, tmp_path: Path, rows: list[Row]
) -> None:
    data, adapter = tiny.write_data(tmp_path, rows), first / "out"
    with pytest.raises(UsageError, match="has the rank 16"):
        train(model, data, SMALL.model_copy(update={"adapter": adapter, "rank": 8}))
    assert train(model, data, SMALL.model_copy(update={"adapter": adapter}))["finished"] is True
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 256}))
    (other / "model.safetensors").unlink()
    import transformers

    random = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(other))
    random.save_pretrained(other)
    (tmp_path / "out").rename(tmp_path / "second")
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


def test_what_time_or_a_signal_stops_leaves_a_checkpoint_and_goes_on(
    model: Path, tmp_path: Path, rows: list[Row]
) -> None:
    from agentless_mini.learning.checkpoints import last_checkpoint
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task

    def interrupt(said: str) -> None:
        if said.startswith("step 2"):
            os.kill(os.getpid(), signal.SIGTERM)

    data, out = tiny.write_data(tmp_path, rows), tmp_path / "out"
    long = SMALL.model_copy(update={"steps": 9, "save_every": 9})
    # What came before the first step counts, too.
    stopped = train(model, data, long.model_copy(update={"minutes": 60}), begun=time.monotonic() - 3601)
    assert (stopped["steps"], stopped["finished"]) == (1, False)
    assert not (out / "done.json").exists()
    with pytest.raises(KeyboardInterrupt):
        train_sft(Task("sft", str(model), data, out, load_prompts(None), interrupt), long)
    assert last_checkpoint(out) == out / "checkpoint-3"  # the step under way is made


def test_what_leaves_no_row_is_said_with_the_reason_and_may_be_corrected(
    model: Path, tmp_path: Path, rows: list[Row]
) -> None:
    data = tiny.write_data(tmp_path, rows)
    with pytest.raises(UsageError, match="8 too long"):
        train(model, data, SMALL.model_copy(update={"max_tokens": 64}))
    with pytest.raises(UsageError, match="No row has parents"):  # the examples of other settings are not taken
        train(model, data, SMALL.model_copy(update={"kind": SftKind.MUTATION}))
    with pytest.raises(ModelUnknown, match="cannot be loaded"):
        train(tmp_path / "nothing", data, SMALL)
    write_rows(data, [])
    with pytest.raises(UsageError, match="there are none"):
        train(model, data, SMALL)
