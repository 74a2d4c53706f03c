"""Patches are put to a reward model as answers to an issue, and come back scored by their normal form."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agentless_mini.chain.evolve import LONGEST, answer_text, scoring_of
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.templates import load_prompts
from agentless_mini.domain import Issue, Patch, RewardModel, ScoreRoute
from agentless_mini.errors import ServerFailed
from tests.fakes.model import ScoreRule, ScriptedScorer
from tests.model.contract import run

ISSUE = Issue("\nThe total leaves out the first price.\n\n", "issue.md")
MODEL = RewardModel("judge", ScoreRoute.CLASSIFY)


PROMPTS = load_prompts(None)


def scored(
    scorer: ScriptedScorer, *patches: Patch, issue: Issue = ISSUE, prompts: Prompts = PROMPTS
) -> Mapping[str, float]:
    async def scores() -> Mapping[str, float]:
        return await scoring_of(scorer, MODEL, prompts)(issue, patches)

    return run(scores())


def patch(normal: str, diff: bytes) -> Patch:
    return Patch(diff, normal, ("a.py",))


def test_each_normal_form_is_scored_once_by_its_first_patch() -> None:
    scorer = ScriptedScorer(ScoreRule(contains="+good", score=3.0), ScoreRule(score=-1.0))
    patches = [patch("n1", b"+good\n"), patch("n2", b"+bad\n"), patch("n1", b"+good  # why\n")]
    assert scored(scorer, *patches) == {"n1": 3.0, "n2": -1.0}
    (request,) = scorer.requests
    assert (request.model, request.answers) == (MODEL, ("+good\n", "+bad\n"))


def prompt_for(issue: Issue, prompts: Prompts = PROMPTS) -> str:
    scorer = ScriptedScorer(ScoreRule(score=0.0))
    scored(scorer, patch("n", b"+x\n"), issue=issue, prompts=prompts)
    return scorer.requests[0].prompt


def test_the_prompt_is_the_issue_unless_other_words_are_given(tmp_path: Path) -> None:
    assert prompt_for(ISSUE) == (
        "An issue of a software repository:\n\nThe total leaves out the first price.\n\n"
        "Resolve the issue. Answer with a patch, as a unified diff."
    )
    (tmp_path / "score.j2").write_text("Mind this: {{ issue }}\n")
    assert prompt_for(ISSUE, load_prompts(tmp_path)) == "Mind this: The total leaves out the first price."


def test_braces_in_an_issue_are_text() -> None:
    assert "{0} {issue} {{ x }} {% raise %}" in prompt_for(Issue("{0} {issue} {{ x }} {% raise %}"))


def test_a_very_long_issue_loses_its_middle() -> None:
    assert f"[... {LONGEST} characters are not shown ...]" in prompt_for(Issue("a" * LONGEST + "b" * LONGEST))


def test_no_patch_is_no_score() -> None:
    assert scored(ScriptedScorer()) == {}


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert answer_text(patch("n", b"+caf\xe9 \xc3\xa9\n")) == "+caf\ufffd \u00e9\n"


def test_what_is_very_long_loses_its_middle() -> None:
    assert f"[... {LONGEST} characters are not shown ...]" in answer_text(patch("n", b"a" * LONGEST * 2))
    assert answer_text(patch("n", b"a" * LONGEST)) == "a" * LONGEST


def test_a_failure_is_no_score() -> None:
    with pytest.raises(ServerFailed):
        scored(ScriptedScorer(), patch("n", b"+x\n"))
