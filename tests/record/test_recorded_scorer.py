"""A score that is recorded is not asked for again; what is asked for is recorded before anybody sees it."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import RewardModel, ScoreRequest, ScoreRoute
from agentless_mini.errors import ServerFailed, ServerUnreachable, StoreError
from agentless_mini.ports import Scorer
from agentless_mini.record import RecordedScorer, Store
from agentless_mini.record.effects import SCORE
from tests.fakes.model import Outage, ScriptedScorer, ready
from tests.model.contract import run
from tests.model.scorer_contract import RULES, ScorerContract

REQUEST = ScoreRequest(RewardModel("scripted"), "prompt", ("good", "bad", "good", "neither"))
SCORES = (2.5, -30.0, 2.5, 0.125)
FAILED = ServerFailed("The model server fails: wait.")


async def started() -> Scorer:
    return ScriptedScorer(*RULES)


async def nowhere() -> Scorer:
    raise ServerUnreachable("Nothing answers: start the model server.")


class SecondTime:
    """Asks for everything once before it answers: what it answers is a replay."""

    def __init__(self, inner: Scorer) -> None:
        self._inner = inner

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        await self._inner.scores(request)
        return await self._inner.scores(request)


class TestFresh(ScorerContract):
    @asynccontextmanager
    async def scorer(self) -> AsyncIterator[Scorer]:
        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.db") as store:
            yield RecordedScorer(started, store)


class TestReplayed(ScorerContract):
    @asynccontextmanager
    async def scorer(self) -> AsyncIterator[Scorer]:
        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.db") as store:
            yield SecondTime(RecordedScorer(started, store))


# --- replay ----------------------------------------------------------------------------------------------------------


def test_what_is_recorded_is_answered_without_a_scorer(store: Store) -> None:
    assert run(RecordedScorer(ready(ScriptedScorer(*RULES)), store).scores(REQUEST)) == SCORES
    assert run(RecordedScorer(nowhere, store).scores(REQUEST)) == SCORES


def test_only_what_is_owed_is_asked_for_and_equal_answers_once(store: Store) -> None:
    inner = ScriptedScorer(*RULES)
    recorded = RecordedScorer(ready(inner), store)
    run(recorded.scores(replace(REQUEST, answers=("bad",))))
    assert run(recorded.scores(REQUEST)) == SCORES
    assert [request.answers for request in inner.requests] == [("bad",), ("good", "neither")]


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, prompt="another"),
        replace(REQUEST, model=RewardModel("n")),
        replace(REQUEST, model=RewardModel("scripted", ScoreRoute.POOLING)),
    ],
)
def test_another_question_is_asked(store: Store, other: ScoreRequest) -> None:
    inner = ScriptedScorer(*RULES)
    recorded = RecordedScorer(ready(inner), store)
    run(recorded.scores(REQUEST))
    run(recorded.scores(other))
    assert len(inner.requests) == 2


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_a_failure_is_not_recorded(store: Store) -> None:
    recorded = RecordedScorer(ready(ScriptedScorer(*RULES, outages=(Outage(0, FAILED),))), store)
    with pytest.raises(ServerFailed):
        run(recorded.scores(REQUEST))
    assert [store.value(SCORE, key) for key in set(REQUEST.keys())] == [None] * 3
    assert run(recorded.scores(REQUEST)) == SCORES


def test_what_came_before_a_failure_is_kept(store: Store) -> None:
    inner = ScriptedScorer(*RULES, outages=(Outage(1, FAILED),))
    recorded = RecordedScorer(ready(inner), store)
    many = replace(REQUEST, answers=tuple(f"answer {number}" for number in range(40)))
    with pytest.raises(ServerFailed):
        run(recorded.scores(many))
    kept = sum(store.value(SCORE, key) is not None for key in set(many.keys()))
    assert 0 < kept < 40
    assert run(recorded.scores(many)) == (0.125,) * 40
    assert len(inner.requests[-1].answers) == 40 - kept


def test_a_score_that_cannot_be_recorded_is_not_seen(path: Path, store: Store) -> None:
    with Store.open_readonly(path) as readonly, pytest.raises(StoreError):
        run(RecordedScorer(ready(ScriptedScorer(*RULES)), readonly).scores(REQUEST))


def test_no_answer_reaches_nobody(store: Store) -> None:
    none = replace(REQUEST, answers=())
    assert run(RecordedScorer(nowhere, store).scores(none)) == ()


# --- equal answers at once -------------------------------------------------------------------------------------------


# --- a scorer that must be reached -----------------------------------------------------------------------------------
