"""A causal model so small that a trainer makes some steps in seconds: random weights, a tokenizer trained on the spot.

Nothing is fetched. `why_missing` says why the tests that need it are skipped.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import FileChange
from agentless_mini.edits import Forms, make_patch
from agentless_mini.learning.rows import Row, RowFile, write_rows

CONTEXT = 2048
VOCABULARY = 600
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BROKEN = "def double(number):\n    return number * {wrong}\n\n\ndef name_{wrong}(text):\n    return text.strip()\n"


def need_training() -> None:
    """Skip the test, and say why, where the extra `train` is not installed."""
    missing = [name for name in ("torch", "trl", "peft", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra 'train' is not installed ({missing[0]})")


def rows(count: int, split: str = "train", check: str = "") -> list[Row]:
    """Return rows whose repair is one line of a small file."""
    made = []
    for number in range(count):
        before = BROKEN.format(wrong=number + 3)
        after = before.replace(f"number * {number + 3}", "number * 2")
        files = (
            RowFile(f"maths/double_{number}.py", before, after),
            RowFile("maths/other.py", "ONE = 1\n", "ONE = 1\n"),
        )
        issue = f"double(1) gives {number + 3}, not 2"
        made.append(Row(f"toy@1:{number}", "toy/toy", issue, issue, "", files, "0" * 40, "", "MIT", split, check=check))
    return made


def write_data(folder: Path, made: list[Row]) -> Path:
    """Write rows to a parquet file and return it."""
    path = folder / "rows.parquet"
    write_rows(path, [*made, *rows(2, "test")])
    return path


def write_model(folder: Path) -> Path:
    """Write the model and its tokenizer as transformers reads them, and return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    model = folder / "model"
    LlamaForCausalLM(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    return model


def write_scorer(model: Path, folder: Path, numbers: int = 1) -> Path:
    """Write a reward model of random weights beside the tokenizer of `model`, and return its folder."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.AutoConfig.from_pretrained(model, num_labels=numbers)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:  # noqa: ANN401 - transformers' tokenizers have no common type
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    prompts = load_prompts(None)
    texts = [message.content for row in rows(3) for message in row.messages(prompts)]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def wrong_patch(row: Row) -> str:
    """Return the diff of a patch that changes the faulty line of a row, but not to what is right."""
    file, before = row.files[0], row.files[0].before or ""
    old = next(line for line in before.splitlines() if "return number" in line)
    after = before.replace(old, "    return 70 + number")
    return make_patch([FileChange(file.path, before.encode(), after.encode(), "100644")], Forms()).diff.decode()
