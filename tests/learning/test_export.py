"""A checkpoint as a GGUF file: llama.cpp and transformers say the same, token by token."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.domain import Message, Role, SampleRequest, SamplingParams, Stage
from agentless_mini.errors import UsageError
from agentless_mini.model.llama_server import plan_embedded
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.model.process import Limits, running
from agentless_mini.ports import Sampler
from agentless_mini.settings.learning import GgufWeights
from agentless_mini.settings.model import EmbeddedSettings, EndpointSettings
from tests.embedded_model import needed_weights
from tests.learning import tiny

pytestmark = [pytest.mark.slow, pytest.mark.model]

ASKED = SampleRequest(
    "m",
    (Message(Role.SYSTEM, "You repair."), Message(Role.USER, "Fix this: def f(x):")),
    SamplingParams(24, temperature=0),
    (0,),
    Stage.REPAIR,
    "",
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:  # noqa: ANN401 - transformers' tokenizers have no common type
    """Return the tokenizer of the carried GGUF file; to read it takes seconds."""
    tiny.need_training()
    import transformers

    carried = needed_weights().path
    return transformers.AutoTokenizer.from_pretrained(carried.parent, gguf_file=carried.name)


def random_model(folder: Path, kind: str, tokenizer: Any) -> Path:  # noqa: ANN401 - as above
    """Write a tiny random model of an architecture, with this tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=kind == "llama",
        initializer_range=0.5,
        bos_token_id=1,
        eos_token_id=2,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


async def answer(sampler: Sampler) -> tuple[str, int]:
    said = [completion.text async for completion in sampler.sample(ASKED)]
    return said[0], await sampler.count_tokens(ASKED.messages)


async def served_answer(weights: Path, folder: Path) -> tuple[str, int]:
    """Return the answer of llama.cpp's server on a GGUF file."""
    plan = plan_embedded(weights, "tiny", EmbeddedSettings(context=512, parallel=1))
    limits = Limits(start=60.0, grace=5.0)
    async with running(plan, folder / f"{weights.stem}.log", limits, lambda phase, seconds: None) as server:
        settings = EndpointSettings(base_url=server.base_url, model="tiny")
        async with OpenAISampler(settings) as sampler:
            return await answer(sampler)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_llama_cpp_answers_as_transformers_does(tmp_path: Path, kind: str, tokenizer: Any) -> None:  # noqa: ANN401
    from agentless_mini.learning import export
    from agentless_mini.learning.checkpoints import Checkpoint
    from agentless_mini.learning.rollouts import TransformersSampler

    base = needed_weights().path
    checkpoint = Checkpoint(str(random_model(tmp_path / "model", kind, tokenizer)))
    made = export.export_gguf(checkpoint, base, tmp_path / "f32.gguf", GgufWeights.F32)
    small = export.export_gguf(checkpoint, base, tmp_path / "q8.gguf", GgufWeights.Q8_0)
    assert small.size < made.size / 2

    async def both() -> None:
        async with TransformersSampler(checkpoint) as sampler:
            theirs = await answer(sampler)
        assert await served_answer(made.path, tmp_path) == theirs
        assert (await served_answer(small.path, tmp_path))[1] == theirs[1]

    asyncio.run(both())


def test_attention_to_a_window_alone_is_refused(model: Path, tmp_path: Path) -> None:
    from agentless_mini.learning import export
    from agentless_mini.learning.checkpoints import Checkpoint

    folder = tmp_path / "windowed"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mistral", "sliding_window": 64}))
    with pytest.raises(UsageError, match="cannot be written as GGUF"):
        export.export_gguf(Checkpoint(str(folder)), tmp_path / "none.gguf", tmp_path / "x.gguf", GgufWeights.F32)


def test_a_base_of_another_vocabulary_is_refused(model: Path, tmp_path: Path) -> None:
    from agentless_mini.learning import export
    from agentless_mini.learning.checkpoints import Checkpoint

    with pytest.raises(UsageError, match="49152 tokens and the model 600"):
        export.export_gguf(Checkpoint(str(model)), needed_weights().path, tmp_path / "x.gguf", GgufWeights.F32)
    with pytest.raises(UsageError, match="no GGUF file"):
        export.export_gguf(Checkpoint(str(model)), model / "config.json", tmp_path / "x.gguf", GgufWeights.F32)
    assert not (tmp_path / "x.gguf").exists()


def test_a_merged_adapter_answers_as_the_adapter_does(model: Path, tmp_path: Path) -> None:
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    from agentless_mini.learning import export
    from agentless_mini.learning.checkpoints import find_checkpoint
    from agentless_mini.learning.policies import quiet
    from agentless_mini.learning.rollouts import TransformersSampler

    quiet()
    bare: Any = transformers.AutoModelForCausalLM.from_pretrained(str(model))
    torch.manual_seed(1)
    adapted = get_peft_model(bare, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    checkpoint = find_checkpoint(str(tmp_path / "adapter"))
    assert checkpoint.model == str(model)
    export.merge(checkpoint, tmp_path / "whole")

    async def said(place: Path) -> tuple[str, int]:
        async with TransformersSampler(find_checkpoint(str(place))) as sampler:
            return await answer(sampler)

    merged, plain = asyncio.run(said(tmp_path / "whole")), asyncio.run(said(model))
    assert merged == asyncio.run(said(tmp_path / "adapter"))
    assert merged[0] != plain[0]


def test_a_merged_model_is_stored_as_its_base_is(model: Path, tmp_path: Path) -> None:
    import torch
    import transformers

    from agentless_mini.learning import export
    from agentless_mini.learning.checkpoints import find_checkpoint

    half: Any = transformers.AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    transformers.AutoTokenizer.from_pretrained(str(model)).save_pretrained(tmp_path / "half")
    export.merge(find_checkpoint(str(tmp_path / "half")), tmp_path / "whole")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "whole").dtype == torch.bfloat16


def test_a_reward_model_is_not_exported_as_one_that_answers(model: Path, tmp_path: Path) -> None:
    import transformers

    from agentless_mini.learning import export
    from agentless_mini.learning.checkpoints import find_checkpoint

    judge: Any = transformers.AutoModelForSequenceClassification.from_pretrained(str(model), num_labels=1)
    judge.save_pretrained(tmp_path / "judge")
    with pytest.raises(UsageError, match="reward model"):
        export.merge(find_checkpoint(str(tmp_path / "judge")), tmp_path / "whole")
