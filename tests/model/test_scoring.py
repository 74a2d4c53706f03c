"""The scorer over HTTP: the contract on each page, what is sent, what is waited out."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from agentless_mini.domain import RewardModel, ScoreRoute
from agentless_mini.errors import ModelUnknown, ServerFailed, ServerUnreachable
from agentless_mini.model.scoring import HttpScorer
from agentless_mini.ports import Scorer
from agentless_mini.settings.model import ScorerSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.protocol import Dialect
from tests.fakes.server import ScriptedServer
from tests.model.contract import run
from tests.model.scored import SERVED, asking, opened, score
from tests.model.scorer_contract import SCORES, ScorerContract
from tests.model.served import Clock

KEY = "sk-0123456789"


class OnAServer(ScorerContract):
    settings: dict[str, object]

    @asynccontextmanager
    async def scorer(self) -> AsyncIterator[Scorer]:
        with ScriptedServer(SERVED) as server:
            async with opened(server.url, None, **self.settings) as scorer:
                yield scorer


class TestScore(OnAServer):
    settings: dict[str, object] = {}  # noqa: RUF012 - never changed


class TestScoreInBatchesOfTwo(OnAServer):
    settings: dict[str, object] = {"batch": 2, "max_in_flight": 1}  # noqa: RUF012 - never changed


class TestClassify(OnAServer):
    model = RewardModel("scripted", ScoreRoute.CLASSIFY)
    settings: dict[str, object] = {"max_in_flight": 4}  # noqa: RUF012 - never changed


class TestPooling(OnAServer):
    model = RewardModel("scripted", ScoreRoute.POOLING, 0)
    settings: dict[str, object] = {}  # noqa: RUF012 - never changed


# --- what is sent ----------------------------------------------------------------------------------------------------


def sent(server: ScriptedServer) -> list[dict[str, Any]]:
    return [json.loads(seen.body) for seen in server.log.requests]


def test_pairs_are_scored_in_batches() -> None:
    with ScriptedServer(SERVED) as server:
        score(server.url, asking(ScoreRoute.SCORE, *"abcde"), batch=2)
        assert {seen.path for seen in server.log.requests} == {"/score"}
        assert sorted(body["text_2"] for body in sent(server)) == [["a", "b"], ["c", "d"], ["e"]]
        assert all(body["text_1"] == "prompt" and body["model"] == "scripted" for body in sent(server))


@pytest.mark.parametrize("route", [ScoreRoute.CLASSIFY, ScoreRoute.POOLING])
def test_chats_are_scored_one_by_one_and_raw(route: ScoreRoute) -> None:
    with ScriptedServer(SERVED) as server:
        score(server.url, asking(route, "a", "b"))
        assert {seen.path for seen in server.log.requests} == {f"/{route}"}
        turns = [[(turn["role"], turn["content"]) for turn in body["messages"]] for body in sent(server)]
        assert sorted(turns) == [[("user", "prompt"), ("assistant", answer)] for answer in "ab"]
        assert all(body["use_activation"] is False for body in sent(server))
        score(server.url, asking(route, "a", label=0))  # of several numbers the server says what they mean
        assert "use_activation" not in sent(server)[-1]


def test_requests_in_flight_are_bounded() -> None:
    slow = Fault(kind=FaultKind.SLOW, path="/classify", times=12, seconds=0.02)
    with ScriptedServer(SERVED, (slow,)) as server:
        score(server.url, asking(ScoreRoute.CLASSIFY, *"abcdefghijkl"), max_in_flight=3)
        # The server knows after the client that it is done with a request: each of the three may be counted twice.
        assert 3 <= server.log.peak <= 6


def test_the_model_is_the_first_that_the_server_lists() -> None:
    async def named() -> str:
        with ScriptedServer(SERVED) as server:
            async with opened(server.url) as scorer:
                return await scorer.served()

    assert run(named()) == "scripted"


# --- misbehaviour ----------------------------------------------------------------------------------------------------

PASSING = (FaultKind.RATE_LIMIT, FaultKind.ERROR, FaultKind.UNAVAILABLE, FaultKind.CLOSED, FaultKind.INVALID_JSON)


@pytest.mark.parametrize("route", list(ScoreRoute))
@pytest.mark.parametrize("kind", PASSING)
def test_what_can_pass_is_waited_out(route: ScoreRoute, kind: FaultKind) -> None:
    fault = Fault(kind=kind, path=f"/{route}", first=1, times=2)
    clock = Clock()
    with ScriptedServer(SERVED, (fault,)) as server:
        assert score(server.url, asking(route), clock, batch=1, max_in_flight=1) == tuple(SCORES.values())
    assert len(clock.waits) == 2
    assert all(later > earlier for earlier, later in pairwise(clock.waits))


@pytest.mark.parametrize("route", list(ScoreRoute))
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (FaultKind.RATE_LIMIT, "lower scorer.max_in_flight"),
        (FaultKind.ERROR, "see its log"),
        (FaultKind.CLOSED, "broke the connection"),
        (FaultKind.GARBAGE, "does not speak"),
        (FaultKind.UNAUTHORIZED, "set AMINI_SCORER_API_KEY"),
        (FaultKind.CONTEXT_OVERFLOW, "choose another reward model"),
        (FaultKind.REFUSED, "check scorer.model and scorer.route"),
        (FaultKind.UNKNOWN_MODEL, "check scorer.model"),
    ],
)
def test_what_lasts_is_one_sentence_with_what_to_try(route: ScoreRoute, kind: FaultKind, said: str) -> None:
    with (
        ScriptedServer(SERVED, (Fault(kind=kind, path=f"/{route}", times=99),)) as server,
        pytest.raises(ServerFailed if kind is not FaultKind.UNKNOWN_MODEL else ModelUnknown) as raised,
    ):
        score(server.url, asking(route), api_key=KEY)
    assert said in str(raised.value)
    assert str(raised.value).endswith(".")
    assert KEY not in str(raised.value)
    assert not {"--model", "--base-url", "--context", "AMINI_API_KEY"} & set(str(raised.value).split())


def test_a_server_without_the_page_is_an_error_at_once() -> None:
    plain = SERVED.model_copy(update={"dialect": Dialect.PLAIN})
    clock = Clock()
    with ScriptedServer(plain) as server, pytest.raises(ServerFailed, match=r"check scorer\.base_url"):
        score(server.url, asking(ScoreRoute.SCORE), clock)
    assert clock.waits == []


def test_where_nothing_answers_nobody_waits() -> None:
    clock = Clock()
    with pytest.raises(ServerUnreachable, match=r"give scorer\.base_url"):
        score("http://127.0.0.1:9/v1", asking(ScoreRoute.SCORE), clock)
    assert clock.waits == []


def test_a_failure_gives_up_what_is_in_flight_and_leaves_the_scorer_usable() -> None:
    refused = Fault(kind=FaultKind.REFUSED, path="/classify")
    slow = Fault(kind=FaultKind.SLOW, path="/classify", first=1, times=2, seconds=0.5)

    async def twice() -> tuple[float, ...]:
        with ScriptedServer(SERVED, (refused, slow)) as server:
            async with opened(server.url) as scorer:
                before = asyncio.all_tasks()
                with pytest.raises(ServerFailed):
                    await scorer.scores(asking(ScoreRoute.CLASSIFY))
                assert asyncio.all_tasks() == before
                return await scorer.scores(asking(ScoreRoute.CLASSIFY))

    assert run(twice()) == tuple(SCORES.values())


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"base_url": "localhost:8000"}, "http://HOST:PORT/v1"),
        ({"base_url": "http://me:secret@host/v1"}, "AMINI_SCORER_API_KEY"),
        ({"api_key": " "}, "AMINI_SCORER_API_KEY"),
        ({"headers": {"a b": "c"}}, "printable ASCII"),
        ({"route": "rerank"}, "'score', 'classify' or 'pooling'"),
        ({"label": 1}, "leave the label out"),
        ({"label": -1, "route": "pooling"}, "greater than or equal to 0"),
        ({"batch": 0}, "greater than 0"),
        ({"batches": 1}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as raised:
        ScorerSettings.model_validate(values)
    assert "secret" not in str(raised.value)


def test_a_dead_proxy_before_a_reward_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def scored() -> None:
        settings = ScorerSettings(base_url="http://gpu.example:8000/v1")
        async with HttpScorer(settings, environment=os.environ) as scorer:
            await scorer.served()

    with pytest.raises(ServerUnreachable, match=r"The proxy http://127\.0\.0\.1:9 of HTTP_PROXY .* NO_PROXY"):
        run(scored())
