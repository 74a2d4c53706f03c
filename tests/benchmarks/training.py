"""What a step of training costs on a CPU: ours against TRL's own way, in the same process.

    python -m tests.benchmarks.training --model MODEL [--prompt 400] [--answer 64] [--group 8]

MODEL is a causal model's folder. Two things are measured, as CPU seconds (waiting does not count): writing a group of
rollouts, and the forward and backward pass over them with LoRA adapters. Tokens are random: only their number matters.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from agentless_mini.domain import SamplingParams
from agentless_mini.learning.answer_head import score_answers_only
from agentless_mini.learning.decoding import Decoder, Draw
from agentless_mini.learning.libraries import quiet

IGNORED = -100
REPEATS = 3


def cost(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the middle one of some runs, after one that is not counted."""
    work()
    found = []
    for _ in range(REPEATS):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return statistics.median(found)


def policy(name: str, *, ours: bool) -> Any:  # noqa: ANN401 - transformers' models have no common type
    torch.manual_seed(0)
    bare: Any = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    adapted = get_peft_model(bare, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    add_fused_lm_head(bare, temperature=1.0, outputs=("log_probs", "entropy", "is_top1"))
    if ours:
        score_answers_only(bare)
    return adapted


def learned(model: Any, tokens: torch.Tensor, prompt: int) -> Callable[[], None]:  # noqa: ANN401 - as above
    labels = tokens.clone()
    labels[:, :prompt] = IGNORED
    mask = torch.ones_like(tokens)

    def step() -> None:
        model.zero_grad()
        model(input_ids=tokens, attention_mask=mask, labels=labels, fused_lm_head=True).loss.backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", type=int, default=400)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--group", type=int, default=8)
    given = parser.parse_args()
    quiet()
    drawn = torch.Generator().manual_seed(0)
    prompt = torch.randint(10, 5000, (1, given.prompt), generator=drawn)
    answers = torch.randint(10, 5000, (given.group, given.answer), generator=drawn)
    tokens = torch.cat([prompt.expand(given.group, -1), answers], dim=1)
    ours, theirs = policy(given.model, ours=True), policy(given.model, ours=False)

    draws = [Draw(tuple(prompt[0].tolist()), number) for number in range(given.group)]
    decoder, params = Decoder(ours, frozenset(), 0), SamplingParams(given.answer)
    length = {"max_new_tokens": given.answer, "min_new_tokens": given.answer, "do_sample": True}
    group = {"input_ids": tokens[:, : given.prompt], "attention_mask": torch.ones_like(tokens[:, : given.prompt])}
    measured = {
        "rollouts": (
            cost(lambda: list(decoder.decode(draws, params))),
            cost(lambda: theirs.generate(**group, **length, pad_token_id=0)),
        ),
        "forward and backward": (
            cost(learned(ours, tokens, given.prompt)),
            cost(learned(theirs, tokens, given.prompt)),
        ),
        "the same, one sequence of each prompt": (
            cost(learned(ours, tokens[:1], given.prompt)),
            cost(learned(theirs, tokens[:1], given.prompt)),
        ),
    }
    for name, (mine, peer) in measured.items():
        sys.stdout.write(f"{name:40} ours {mine:7.2f} s   TRL {peer:7.2f} s   {peer / mine:5.2f} times\n")


if __name__ == "__main__":
    main()
