"""On a CPU, computes nothing twice and projects onto the vocabulary only where a token is learned.

Elsewhere TRL's own forward pass is faster. Here it would score every position (of a repair prompt with 900 tokens and
an answer of 100, nine tenths of the largest product of a small model are thrown away, forward and twice backward), pad
every sequence to the longest, and compute the prompt of a group of rollouts once for each of them. Instead each
distinct prompt is computed once, forward and backward, and its answers follow it. The results are the same to rounding;
what is gained is in DESIGN.md.
"""

import types
from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache
from trl.kernels import chunked_logprob
from trl.trainer.utils import FusedCausalLMOutput

_VOCABULARY_CHUNK = 8192
_OUTPUTS = ("log_probs", "entropy", "is_top1")
_IGNORED = -100


def score_answers_only(model: Any, temperature: float = 1.0) -> None:  # noqa: ANN401 - transformers has no types here
    """Take over the part of the head that TRL added to a causal model. Models that scale their logits keep TRL's."""
    settings = model.config.get_text_config()
    scaling = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
    if any(getattr(settings, name, None) is not None for name in scaling):
        return
    fused = model.forward

    def forward(self: Any, *given: Any, fused_lm_head: bool = False, **named: Any) -> Any:  # noqa: ANN401 - as above
        if not fused_lm_head or "shift_labels" in named or named.get("output_router_logits"):
            return fused(*given, fused_lm_head=fused_lm_head, **named)
        named.pop("num_items_in_batch", None)
        labels = named.pop("labels")
        counts = labels[:, 1:] != _IGNORED
        if not given and _is_plain(self, named) and counts.any():
            hidden = _learned(self.base_model, named["input_ids"], named["attention_mask"].bool(), labels)
        else:
            hidden = self.base_model(*given, **{**named, "use_cache": False}).last_hidden_state[:, :-1][counts]
        return _scored(self.get_output_embeddings(), hidden, labels[:, 1:], temperature)

    model.forward = types.MethodType(forward, model)


def _is_plain(model: Any, named: dict[str, Any]) -> bool:  # noqa: ANN401 - as above
    """Return whether a model's prompts can be computed apart from what follows them."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    known = {"input_ids", "attention_mask", "use_cache"}
    return (
        named.get("attention_mask") is not None
        and all(value is None for name, value in named.items() if name not in known)
        and not model.is_gradient_checkpointing
        and all(kind == "full_attention" for kind in kinds)
    )


# --- hidden states ---------------------------------------------------------------------------------------------------


def _learned(model: Any, tokens: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - as above
    """Return the hidden states that predict the learned tokens, row after row: [learned tokens, width]."""
    answers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, start in _starts(labels):
        groups.setdefault(tuple(tokens[row, :start][mask[row, :start]].tolist()), []).append(row)
        said = mask[row, start:]
        answers[row] = (tokens[row, start:][said], labels[row, start:][said] != _IGNORED)
    found: dict[int, torch.Tensor] = {}
    for prompt, rows in groups.items():
        hidden = _after(model, torch.tensor(prompt, device=tokens.device), [answers[row][0] for row in rows])
        for place, row in enumerate(rows):
            learned = answers[row][1]
            found[row] = hidden[place, : len(learned)][learned]
    return torch.cat([found[row] for row in sorted(found)])


def _starts(labels: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Yield each row that has learned tokens, and where the first of them stands; the first of all has no context."""
    learned = labels[:, 1:] != _IGNORED
    for row in learned.any(1).nonzero()[:, 0].tolist():
        yield row, 1 + int(learned[row].int().argmax())


def _after(model: Any, prompt: torch.Tensor, answers: list[torch.Tensor]) -> torch.Tensor:  # noqa: ANN401 - as above
    """Return the hidden states that predict each token of the answers to one prompt: [answers, longest, width].

    What is beyond an answer's end says nothing: no token attends to those after it.
    """
    said = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True)
    following = torch.cat([prompt[-1:].expand(len(answers), 1), said[:, :-1]], dim=1)
    if len(prompt) == 1:
        return model(input_ids=following, use_cache=False).last_hidden_state
    cache = DynamicCache(config=model.config)
    model(input_ids=prompt[None, :-1], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(answers))
    return model(input_ids=following, past_key_values=cache, use_cache=True).last_hidden_state


# --- the head --------------------------------------------------------------------------------------------------------


def _scored(head: Any, hidden: torch.Tensor, labels: torch.Tensor, temperature: float) -> Any:  # noqa: ANN401 - as above
    """Return what TRL's head returns, from the hidden states of the positions that count."""
    counts = labels != _IGNORED
    with torch.autocast(hidden.device.type, enabled=False):  # a sum over a vocabulary is wrong in half precision
        log_probs, entropy, _, _, is_top1 = chunked_logprob.ChunkedLogProbFunction.apply(
            hidden.to(head.weight.dtype),
            head.weight,
            head.bias,
            labels[counts],
            temperature,
            _VOCABULARY_CHUNK,
            None,
            1.0,
            _OUTPUTS,
        )

    def spread(values: torch.Tensor) -> torch.Tensor:
        # Connected to the model even where nothing counts, so that such a batch has a gradient: zero.
        return values.new_zeros(counts.shape).masked_scatter(counts, values)

    return FusedCausalLMOutput(
        loss=-log_probs.sum() / counts.sum().clamp(min=1),
        log_probs=spread(log_probs),
        entropy=spread(entropy),
        log_sum_sq_probs=None,
        mean_logits=None,
        is_top1=spread(is_top1),
        label_mask=counts,
        aux_loss=None,
    )
