"""The key and the headers of a server: sent to its address alone, and shown in no message."""

from typing import Any

import pytest

from agentless_mini.domain import ScoreRoute
from agentless_mini.errors import AminiError, ServerFailed
from agentless_mini.samplers.connection import Address
from agentless_mini.samplers.openai_api import EndpointSettings, OpenAISampler
from agentless_mini.samplers.scripted_server import ScriptedServer
from tests.samplers.contract import run
from tests.samplers.scored import SERVED, answering, asking, score
from tests.samplers.served import Clock

KEY, TOKEN = "sk-0123456789", "hdr-9876543210"
SECRET: dict[str, Any] = {"api_key": KEY, "headers": {"X-Api-Key": f"Bearer {TOKEN}"}}
REDIRECTS = (301, 302, 303, 307, 308)


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_reward_models_server_cannot_send_requests_elsewhere(status: int) -> None:
    clock = Clock()
    with (
        ScriptedServer(SERVED) as other,
        answering(b"", status, other.url.removesuffix("/v1") + "/score") as url,
        pytest.raises(ServerFailed, match=r"redirects.*scorer\.base_url"),
    ):
        score(url, asking(ScoreRoute.SCORE), clock, **SECRET)
    assert other.log.requests == []
    assert clock.waits == []


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_model_server_cannot_send_requests_elsewhere(status: int) -> None:
    async def asked(url: str) -> None:
        settings = EndpointSettings.model_validate({"base_url": url, **SECRET})
        async with OpenAISampler(settings) as sampler:
            await sampler.card()

    with ScriptedServer(SERVED) as other, answering(b"", status, f"{other.url}/models") as url:
        with pytest.raises(ServerFailed, match=r"redirects.*--base-url"):
            run(asked(url))
        assert other.log.requests == []


def failure(page: str, status: int) -> AminiError:
    with answering(page.encode(), status) as url, pytest.raises(AminiError) as raised:
        score(url, asking(ScoreRoute.SCORE), retries=0, **SECRET)
    return raised.value


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
@pytest.mark.parametrize(
    "page",
    [
        '{"data": "%s"}',
        '{"error": {"message": "%s"}}',
        '{"data": "' + "x" * 20 + "%s" + "x" * 20 + '"}',
        "%s",
        '{"%s": ["%s"]}',
    ],
)
def test_a_page_that_repeats_what_was_sent_puts_none_of_it_into_a_message(status: int, page: str) -> None:
    said = str(failure(page.replace("%s", f"{KEY} Bearer {TOKEN}"), status))
    assert not [part for part in (KEY, TOKEN, KEY[:8], TOKEN[:8], KEY[-8:], TOKEN[-8:]) if part in said]


def test_what_is_no_secret_for_its_length_is_not_looked_for() -> None:
    address = Address("http://host/v1", "key", {"X-Team": "7", "X-Api-Key": f"Bearer {TOKEN}"}, 1.0)
    assert address.secrets == (TOKEN, "Bearer")
