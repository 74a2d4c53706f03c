"""On a CPU, projects onto the vocabulary only where a token is learned.

TRL's fused head does so on GPUs. Elsewhere it scores every position, the prompt's and the padding's too: of a repair
prompt with 900 tokens and an answer of 100, nine tenths of the largest product of a small model, forward and twice
backward, are thrown away (measured in DESIGN.md). The results are the same to rounding.
"""

import types
from typing import Any

import torch
from trl.kernels import chunked_logprob
from trl.trainer.utils import FusedCausalLMOutput

_VOCABULARY_CHUNK = 8192
_OUTPUTS = ("log_probs", "entropy", "is_top1")


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
        labels = named.pop("labels")[:, 1:]
        hidden = self.base_model(*given, **{**named, "use_cache": False}).last_hidden_state[:, :-1]
        return _scored(self.get_output_embeddings(), hidden, labels, temperature)

    model.forward = types.MethodType(forward, model)


def _scored(head: Any, hidden: Any, labels: Any, temperature: float) -> Any:  # noqa: ANN401 - as above
    counts = labels != -100
    log_probs, entropy, _, _, is_top1 = chunked_logprob.ChunkedLogProbFunction.apply(
        hidden[counts], head.weight, head.bias, labels[counts], temperature, _VOCABULARY_CHUNK, None, 1.0, _OUTPUTS
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
