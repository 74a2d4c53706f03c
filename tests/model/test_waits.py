"""What people are told while a server is waited for: each cause in a sentence, however many requests meet it."""

import pytest

from agentless_mini.model.connection import Patience
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.server import ScriptedServer
from tests.model.contract import run, until_error
from tests.model.served import Clock, from_seed_0, served

CAUSES = {
    FaultKind.RATE_LIMIT: "answered 429",
    FaultKind.ERROR: "answered 500",
    FaultKind.UNAVAILABLE: "answered 503",
    FaultKind.CLOSED: "broke the connection",
    FaultKind.STREAM_ERROR: "answered 500",
    FaultKind.ENDED: "ended an answer early",
    FaultKind.INVALID_JSON: "sent what cannot be read",
}


def told(*faults: Fault, samples: int = 1, **settings: object) -> list[str]:
    """Return what was told of waits while samples were drawn, each with a request of its own."""
    said: list[str] = []

    async def drawn(url: str) -> None:
        endpoint = EndpointSettings.model_validate({"base_url": url, "max_samples_per_request": 1, **settings})
        patience = Patience(endpoint.retries, Clock().sleep)
        async with OpenAISampler(endpoint, patience=patience, tell=said.append) as sampler:
            await until_error(sampler, from_seed_0(tuple(range(samples))))

    with ScriptedServer(served(), faults) as server:
        run(drawn(server.url))
        return [sentence.replace(server.url, "URL") for sentence in said]


@pytest.mark.parametrize("kind", list(CAUSES))
def test_a_wait_is_told_with_its_cause_its_seconds_and_the_attempts(kind: FaultKind) -> None:
    (sentence,) = told(Fault(kind=kind))
    assert sentence == f"The model server at URL {CAUSES[kind]}; trying again in 1 s (1 of 5)."


def test_a_server_that_is_silent_is_told_as_such() -> None:
    (sentence,) = told(Fault(kind=FaultKind.SLOW, seconds=2), timeout_s=0.2)
    assert "was silent for longer than 0.2 s ([endpoint] timeout_s); trying again" in sentence


def test_a_server_that_falls_silent_under_load_is_sent_less_and_that_is_told() -> None:
    sentences = told(Fault(kind=FaultKind.SLOW, times=8, seconds=1.5), samples=8, timeout_s=0.4, max_in_flight=8)
    (fewer,) = [sentence for sentence in sentences if sentence.startswith("At most")]
    assert fewer == "At most 4 requests at a time are sent to URL from now on (max_in_flight)."


def test_many_requests_in_the_same_trouble_share_a_sentence_for_each_failure_in_a_row() -> None:
    sentences = told(Fault(kind=FaultKind.RATE_LIMIT, times=40), samples=40)
    assert 1 <= len(sentences) == len(set(sentences)) <= 5
