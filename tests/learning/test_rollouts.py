"""A checkpoint as a sampler: the contract of the port, and that a sequence does not depend on its company."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Finish, SamplingParams
from agentless_mini.errors import ModelUnknown, UsageError
from agentless_mini.ports import Sampler
from agentless_mini.settings.learning import Precision
from tests.learning import tiny
from tests.model.contract import SamplerContract, ask, collect, run

pytestmark = pytest.mark.slow


def opened(folder: Path, at_once: int | None = None) -> AbstractAsyncContextManager[Sampler]:
    from agentless_mini.learning.checkpoints import Checkpoint
    from agentless_mini.learning.rollouts import TransformersSampler

    return TransformersSampler(Checkpoint(str(folder)), at_once)


class TestContract(SamplerContract):
    @pytest.fixture(autouse=True)
    def _folder(self, model: Path) -> None:
        self.folder = model

    def sampler(self) -> AbstractAsyncContextManager[Sampler]:
        return opened(self.folder)


def test_a_sample_is_the_same_alone_and_in_company(model: Path) -> None:
    async def drawn() -> None:
        async with opened(model) as sampler:
            together, other = await asyncio.gather(
                collect(sampler, ask("Fix this.", (0, 1, 2))), collect(sampler, ask("Another, longer question.", (4,)))
            )
            alone = await collect(sampler, ask("Fix this.", (2,)))
            assert next(one for one in together if one.index == 2) == alone[0]
            assert other[0].text not in {one.text for one in together}
        async with opened(model, at_once=1) as sampler:
            one_by_one = await collect(sampler, ask("Fix this.", (0, 1, 2)))
            assert sorted(one_by_one, key=lambda one: one.index) == sorted(together, key=lambda one: one.index)

    run(drawn())


def test_the_likeliest_answer_is_what_transformers_generates(model: Path) -> None:
    import torch
    import transformers

    asked = ask("Fix this.")
    asked = replace(asked, params=SamplingParams(20, temperature=0))

    async def drawn() -> str:
        async with opened(model) as sampler:
            return (await collect(sampler, asked))[0].text

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
    chat = [{"role": "user", "content": "Fix this."}]
    given = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = loaded.generate(**given, max_new_tokens=20, do_sample=False)
    assert run(drawn()) == tokenizer.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_stop_ends_an_answer(model: Path) -> None:
    async def drawn() -> None:
        async with opened(model) as sampler:
            (whole,) = await collect(sampler, ask("Fix this."))
            stop = whole.text[3:5]
            cut = replace(ask("Fix this."), params=SamplingParams(16, seed=7, stop=(stop,)))
            (short,) = await collect(sampler, cut)
            assert (short.text, short.finish) == (whole.text[: whole.text.index(stop)], Finish.STOP)

    run(drawn())


def test_a_nucleus_leaves_out_what_is_unlikely(model: Path) -> None:
    async def drawn() -> None:
        async with opened(model) as sampler:
            greedy = replace(ask("Fix this."), params=SamplingParams(12, temperature=0))
            narrow = replace(ask("Fix this.", (0, 1)), params=SamplingParams(12, top_p=1e-6))
            (likeliest,) = await collect(sampler, greedy)
            assert {one.text for one in await collect(sampler, narrow)} == {likeliest.text}

    run(drawn())


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("precision", list(Precision))
def test_an_adapter_answers_in_every_precision(model: Path, tmp_path: Path, precision: Precision) -> None:
    import transformers
    from peft import LoraConfig, PeftModel, get_peft_model

    from agentless_mini.learning.checkpoints import Checkpoint
    from agentless_mini.learning.rollouts import TransformersSampler

    bare = transformers.AutoModelForCausalLM.from_pretrained(str(model))
    adapted = get_peft_model(bare, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    greedy = replace(ask("Fix this."), params=SamplingParams(8, temperature=0))

    async def drawn() -> None:
        async with TransformersSampler(Checkpoint(str(model), tmp_path / "adapter"), precision=precision) as sampler:
            (with_it,) = await collect(sampler, greedy)
            # Half precision would round away what is merged into it.
            is_apart = sampler._loaded is not None and isinstance(sampler._loaded.model, PeftModel)
            assert is_apart == (precision is Precision.BFLOAT16)
        async with TransformersSampler(Checkpoint(str(model)), precision=precision) as sampler:
            (without,) = await collect(sampler, greedy)
        assert with_it.text != without.text

    run(drawn())


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    tiny.need_training()
    from agentless_mini.learning.checkpoints import find_checkpoint

    with pytest.raises(UsageError, match="holds no checkpoint"):
        find_checkpoint(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="names no base model"):
        find_checkpoint(str(tmp_path))

    async def asked() -> None:
        async with opened(tmp_path / "none") as sampler:
            await sampler.card()

    with pytest.raises(ModelUnknown, match="cannot be loaded"):
        run(asked())
