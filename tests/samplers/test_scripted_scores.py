"""The scripted scorer: the contract, and the same rules in a script file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from agentless_mini.errors import ServerFailed
from agentless_mini.ports import Scorer
from agentless_mini.samplers.scripted import Script
from agentless_mini.samplers.scripted_scores import ScoreOutage, ScoreRule, ScriptedScorer
from tests.samplers.contract import run
from tests.samplers.scorer_contract import RULES, ScorerContract


class TestContract(ScorerContract):
    @asynccontextmanager
    async def scorer(self) -> AsyncIterator[Scorer]:
        yield ScriptedScorer(*RULES)


def test_an_answer_without_a_rule_is_an_error() -> None:
    with pytest.raises(ServerFailed, match="no score for this answer"):
        run(ScriptedScorer(RULES[0]).scores(ScorerContract().ask("bad")))


def test_an_outage_happens_once_where_it_is_planned_and_requests_are_remembered() -> None:
    scorer = ScriptedScorer(*RULES, outages=(ScoreOutage(1, ServerFailed("It fails: wait.")),))
    request = ScorerContract().ask("good")
    assert run(scorer.scores(request)) == (2.5,)
    with pytest.raises(ServerFailed, match="It fails"):
        run(scorer.scores(request))
    assert run(scorer.scores(request)) == (2.5,)
    assert scorer.requests == [request] * 3


def test_a_script_keeps_its_scores(tmp_path: Path) -> None:
    script = Script(rules=(), scores=RULES)
    script.dump(tmp_path / "script.json")
    assert Script.load(tmp_path / "script.json") == script
    assert script.score("another prompt", "answer") == 7.0


def test_a_score_that_is_not_finite_is_no_rule() -> None:
    with pytest.raises(ValidationError):
        ScoreRule(score=float("nan"))
