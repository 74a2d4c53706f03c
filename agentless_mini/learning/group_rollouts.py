"""Rollouts on a CPU for TRL: a prompt is computed once for all of its group, where transformers computes it for each.

vLLM does the same where there is a GPU. Nothing is rewarded here.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from agentless_mini.domain import Message, Role, SamplingParams
from agentless_mini.learning.decoding import Decoded, Decoder, Draw, ends_of
from agentless_mini.learning.texts import ChatTokens
from agentless_mini.learning.training_settings import RlSettings

_AT_ONCE = 64

Rollouts = Callable[[list[Any], Any], dict[str, Any]]
"""What TRL calls for rollouts: it gives the chats, each once for every rollout, and the trainer."""


def group_rollouts(tokenizer: Any, settings: RlSettings) -> Rollouts:  # noqa: ANN401 - transformers' tokenizers have no common type
    """Return what writes rollouts with the model that is trained. Each has a seed of its step and place."""
    tokens = ChatTokens(tokenizer)
    params = SamplingParams(settings.answer_tokens, temperature=settings.temperature)

    def written(chats: list[Any], trainer: Any) -> dict[str, Any]:  # noqa: ANN401 - TRL has no types
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        place = f"{settings.seed} {trainer.state.global_step} {trainer.accelerator.process_index}"
        draws = [
            Draw(
                tokens.prompt([Message(Role(one["role"]), one["content"]) for one in chat]), _seed(f"{place} {number}")
            )
            for number, chat in enumerate(chats)
        ]
        model.eval()
        decoder = Decoder(model, ends_of(model, tokenizer), int(tokenizer.eos_token_id))
        said = list(_decoded(decoder, draws, params))
        model.train()
        return {
            "prompt_ids": [list(draw.prompt) for draw in draws],
            "completion_ids": [list(one.tokens) if one.end is None else [*one.tokens, one.end] for one in said],
            "logprobs": None,
        }

    return written


def _decoded(decoder: Decoder, draws: list[Draw], params: SamplingParams) -> Iterator[Decoded]:
    for begin in range(0, len(draws), _AT_ONCE):
        yield from (said for _, said in sorted(decoder.decode(draws[begin : begin + _AT_ONCE], params)))


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
