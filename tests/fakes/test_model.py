"""The scripted sampler and scorer: their contracts, and that answers are a function of prompt and index."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import Completion, Finish, Stage
from agentless_mini.errors import ServerFailed
from agentless_mini.ports import Sampler, Scorer
from tests.fakes.model import Answer, Outage, Rule, Script, ScriptedSampler, ScriptedScorer, pieces
from tests.model.contract import SamplerContract, ask, collect, run
from tests.model.scorer_contract import RULES, ScorerContract


class TestContract(SamplerContract):
    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        yield ScriptedSampler(Script.of("first answer", "second answer", "third answer here"))


def draw(script: Script, indices: tuple[int, ...] = (0, 1, 2), text: str = "prompt") -> list[Completion]:
    return run(collect(ScriptedSampler(script), ask(text, indices)))


def test_sample_i_is_the_answer_at_seed_plus_i() -> None:
    texts = [completion.text for completion in draw(Script.of("a", "b", "c"), (0, 1, 5))]
    assert texts == ["b", "c", "a"]


def test_the_first_rule_that_fits_answers() -> None:
    script = Script(
        rules=(
            Rule(stage=Stage.LOCALIZE, answers=(Answer(text="files"),)),
            Rule(contains="parser", answers=(Answer(text="about parsers"),)),
            Rule(answers=(Answer(text="anything"),)),
        )
    )
    assert draw(script, (0,), "the parser fails")[0].text == "about parsers"
    assert draw(script, (0,), "the lexer fails")[0].text == "anything"
    localize = replace(ask("the parser fails"), stage=Stage.LOCALIZE)
    assert run(collect(ScriptedSampler(script), localize))[0].text == "files"


def test_a_script_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    rules = (Rule(stage=Stage.REPAIR, answers=(Answer(text="\u00e9\n", finish=Finish.LENGTH),)),)
    script = Script(rules=rules, scores=RULES)
    script.dump(tmp_path / "script.json")
    assert Script.load(tmp_path / "script.json") == script


@given(st.text())
def test_the_pieces_of_a_text_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


class TestScorerContract(ScorerContract):
    @asynccontextmanager
    async def scorer(self) -> AsyncIterator[Scorer]:
        yield ScriptedScorer(*RULES)


def test_an_outage_happens_once_where_it_is_planned_and_requests_are_remembered() -> None:
    scorer = ScriptedScorer(*RULES, outages=(Outage(1, ServerFailed("It fails: wait.")),))
    request = ScorerContract().ask("good")
    assert run(scorer.scores(request)) == (2.5,)
    with pytest.raises(ServerFailed, match="It fails"):
        run(scorer.scores(request))
    assert run(scorer.scores(request)) == (2.5,)
    assert scorer.requests == [request] * 3
