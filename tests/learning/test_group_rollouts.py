"""Rollouts on a CPU: each chat's own, the same for the same step, and what transformers says of their likelihood."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentless_mini.learning.training_settings import RlSettings

pytestmark = pytest.mark.slow

CHATS = [[{"role": "user", "content": text}] for text in ("Fix this.", "Fix this.", "Another, longer question.")]


def written(model: Path, step: int, settings: RlSettings) -> dict[str, Any]:
    import transformers

    from agentless_mini.learning.group_rollouts import group_rollouts

    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(str(model))
    accelerator = SimpleNamespace(unwrap_model=lambda wrapped: wrapped, process_index=0)
    trainer = SimpleNamespace(model_wrapped=loaded, accelerator=accelerator, state=SimpleNamespace(global_step=step))
    found = group_rollouts(transformers.AutoTokenizer.from_pretrained(str(model)), settings)(CHATS, trainer)
    assert loaded.training
    return found


def test_rollouts_of_a_chat_differ_and_those_of_a_step_are_the_same(model: Path) -> None:
    settings = RlSettings(answer_tokens=12)
    first, again, later = (written(model, step, settings) for step in (0, 0, 1))
    assert first == again
    assert first["prompt_ids"][0] == first["prompt_ids"][1] != first["prompt_ids"][2]
    assert first["completion_ids"][0] != first["completion_ids"][1]
    assert first["completion_ids"] != later["completion_ids"]
    assert all(0 < len(said) <= 12 for said in first["completion_ids"])
