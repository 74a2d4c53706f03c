"""The key and the headers of a server: sent to its address alone, and shown in no message."""

import os
from collections.abc import Mapping
from typing import Any

import pytest

from agentless_mini.domain import ScoreRoute
from agentless_mini.errors import AminiError, ServerFailed, UsageError
from agentless_mini.model.connection import Address
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.server import ScriptedServer
from tests.model.contract import run
from tests.model.scored import SERVED, answering, asking, score
from tests.model.served import Clock

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


def headers_of_card(
    environment: Mapping[str, str], *faults: Fault, is_openai: bool = False, **settings: object
) -> Mapping[str, str]:
    """Return the headers of the first request to a server, OPENAI_BASE_URL's own where it `is_openai`."""

    async def asked(url: str) -> None:
        around = {**environment, "OPENAI_BASE_URL": url} if is_openai else environment
        chosen = EndpointSettings.model_validate({"base_url": url, **settings})
        async with OpenAISampler(chosen, environment=around) as sampler:
            await sampler.card()

    with ScriptedServer(SERVED, faults) as server:
        run(asked(server.url))
        return server.log.requests[0].headers


@pytest.mark.parametrize(
    ("settings", "is_openai", "sent"),
    [
        ({}, False, "none"),
        ({}, True, "sk-openai"),
        ({"api_key": "own"}, True, "own"),
        ({"api_key": "own"}, False, "own"),
    ],
)
def test_openais_key_is_sent_to_its_own_address_and_after_a_key_of_the_settings(
    settings: dict[str, Any], is_openai: bool, sent: str
) -> None:
    found = headers_of_card({"OPENAI_API_KEY": "sk-openai\n"}, is_openai=is_openai, **settings)
    assert found["authorization"] == f"Bearer {sent}"


def test_a_key_that_was_not_sent_is_told_where_the_server_wants_one() -> None:
    with pytest.raises(ServerFailed, match=r"set AMINI_API_KEY .*OPENAI_API_KEY was not sent") as raised:
        headers_of_card({"OPENAI_API_KEY": KEY}, Fault(kind=FaultKind.UNAUTHORIZED, path="/v1/models"))
    assert KEY not in str(raised.value)


def test_a_key_of_openai_that_no_header_carries_is_told_and_not_shown() -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not valid") as raised:
        headers_of_card({"OPENAI_API_KEY": "sk\u2028x"}, is_openai=True)
    assert "sk" not in str(raised.value)


@pytest.mark.parametrize("is_openai", [False, True])
def test_what_the_sdk_reads_from_the_environment_goes_to_openais_address_alone(
    is_openai: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: s1\nAuthorization: Bearer s2\nX-Own: s3")
    found = headers_of_card(os.environ, is_openai=is_openai, api_key="own", headers={"X-Own": "mine"})
    assert {"openai-organization", "openai-project", "x-secret"} & found.keys() == (
        {"openai-organization", "openai-project", "x-secret"} if is_openai else set()
    )
    assert found["x-own"] == "mine"
    assert found["authorization"] == ("Bearer s2" if is_openai else "Bearer own")
