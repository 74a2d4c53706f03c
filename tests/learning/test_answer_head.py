"""What is scored on a CPU is what TRL's own head scores, loss and gradient, with and without adapters."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")]

# Padded on the right, as for supervised fine-tuning; and on both sides, with a group that shares its prompt, as for
# reinforcement learning.
LABELS = [[-100, -100, 7, 8, 9], [-100, 5, 6, -100, -100]]
TOKENS = [[1, 2, 7, 8, 9], [1, 5, 6, 2, 2]]
MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
GROUPED = (
    [[0, 4, 3, 6, 7, 8], [5, 4, 3, 6, 7, 8], [0, 4, 3, 9, 0, 0], [0, 4, 3, 9, 8, 0]],
    [[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0]],
    [
        [-100, -100, -100, 6, 7, 8],
        [-100, -100, -100, 6, 7, 8],
        [-100, -100, -100, 9, -100, -100],
        [-100, -100, -100, 9, 8, -100],
    ],
)


def scored(
    model: Path,
    *,
    ours: bool,
    adapted: bool,
    temperature: float = 1.0,
    batch: tuple[list[list[int]], ...] = (TOKENS, MASK, LABELS),
) -> Any:  # noqa: ANN401 - a pair of what torch has
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    from agentless_mini.learning.answer_head import score_answers_only

    torch.manual_seed(0)
    bare: Any = transformers.AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)
    used = get_peft_model(bare, LoraConfig(target_modules="all-linear")) if adapted else bare
    add_fused_lm_head(bare, temperature=temperature, outputs=("log_probs", "entropy", "is_top1"))
    if ours:
        score_answers_only(bare, temperature)
    tokens, mask, labels = map(torch.tensor, batch)
    found = used(input_ids=tokens, attention_mask=mask, labels=labels, fused_lm_head=True)
    found.loss.backward()
    grown = next(weights for weights in used.parameters() if weights.requires_grad and weights.grad is not None)
    return found, grown.grad


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_scores_what_trl_scores(model: Path, adapted: bool, temperature: float) -> None:
    import torch

    theirs, their_gradient = scored(model, ours=False, adapted=adapted, temperature=temperature)
    ours, our_gradient = scored(model, ours=True, adapted=adapted, temperature=temperature)
    for name in ("loss", "log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(our_gradient, their_gradient)


@pytest.mark.parametrize("adapted", [True, False])
def test_a_prompt_that_answers_share_gives_the_same_gradient(model: Path, adapted: bool) -> None:
    import torch

    theirs, their_gradient = scored(model, ours=False, adapted=adapted, batch=GROUPED)
    ours, our_gradient = scored(model, ours=True, adapted=adapted, batch=GROUPED)
    for name in ("loss", "log_probs", "entropy", "is_top1", "label_mask"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(our_gradient, their_gradient)


def test_a_batch_in_which_nothing_is_learned_has_a_gradient_of_zero(model: Path) -> None:
    found, gradient = scored(model, ours=True, adapted=True, batch=(TOKENS, MASK, [[-100] * 5] * 2))
    assert found.loss.item() == 0
    assert not gradient.any()


def test_generation_is_untouched(model: Path) -> None:
    import torch
    import transformers
    from trl.trainer.utils import add_fused_lm_head

    from agentless_mini.learning.answer_head import score_answers_only

    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)
    before = loaded(input_ids=torch.tensor(TOKENS)).logits
    add_fused_lm_head(loaded)
    score_answers_only(loaded)
    torch.testing.assert_close(loaded(input_ids=torch.tensor(TOKENS)).logits, before)
