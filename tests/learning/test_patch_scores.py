"""A reward model in this process as a potential: its own number, whatever the company, between 0 and 1."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.domain import Patch
from agentless_mini.edits import make_patch
from agentless_mini.errors import ModelUnknown, UsageError
from agentless_mini.learning.rewarding import Measure
from agentless_mini.learning.rows import Row
from agentless_mini.stages.score import answer_text
from agentless_mini.templates import load_prompts
from tests.learning import tiny

pytestmark = pytest.mark.slow


def scores(folder: Path, at_once: int = 3) -> Measure:
    from agentless_mini.learning.patch_scores import PatchScores

    return PatchScores(folder, load_prompts(None), at_once)


def asked(rows: list[Row]) -> list[tuple[Row, Patch]]:
    return [
        (replace(row, issue=row.issue + " again" * number), make_patch(row.oracle(), row.tree().forms))
        for number, row in enumerate(rows)
    ]


def number(folder: Path, row: Row, patch: Patch) -> float:
    """Return what the model itself says of one patch."""
    import torch
    import transformers

    from agentless_mini.learning.reward_model import score_messages
    from agentless_mini.learning.texts import ChatTokens

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = ChatTokens(tokenizer).chat(score_messages(load_prompts(None), row.issue, answer_text(patch)))
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([tokens])).logits)


def test_a_score_is_the_logistic_of_the_models_number_alone_and_in_company(scorer: Path, rows: list[Row]) -> None:
    wanted = [1 / (1 + math.exp(-number(scorer, row, patch))) for row, patch in asked(rows)]
    assert len({round(value, 4) for value in wanted}) > 1
    for at_once in (1, 3, 100):
        assert scores(scorer, at_once)(asked(rows)) == pytest.approx(wanted, abs=1e-5)
    assert scores(scorer)([]) == []


def test_what_is_too_long_for_the_model_cannot_be_told(scorer: Path, rows: list[Row]) -> None:
    (row, patch), other = asked(rows)[:2]
    told = scores(scorer)([(replace(row, issue="x " * 7_000), patch), other])
    assert told[0] is None
    assert told[1] is not None


def test_a_model_that_was_not_trained_to_score_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no reward model"):
        scores(model)
    with pytest.raises(UsageError, match="one number"):
        scores(tiny.write_scorer(model, tmp_path / "two", numbers=2))
    with pytest.raises(ModelUnknown):
        scores(tmp_path / "none")
