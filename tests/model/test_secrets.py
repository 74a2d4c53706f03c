"""The key and the headers of a server: sent to its address alone, and shown in no message."""

import os
from collections.abc import Mapping
from typing import Any

import pytest

from agentless_mini.domain import ScoreRoute
from agentless_mini.errors import AminiError, ServerFailed, UsageError
from agentless_mini.model.connection import Address, Proxy, belongs_to_openai, is_loopback
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.server import ScriptedServer
from tests.model.contract import run
from tests.model.scored import SERVED, answering, asking, score
from tests.model.served import Clock

KEY, TOKEN = "sk-0123456789", "hdr-9876543210"
SECRET: dict[str, Any] = {"api_key": KEY, "headers": {"X-Api-Key": f"Bearer {TOKEN}"}}


def test_a_reward_models_server_cannot_send_requests_elsewhere() -> None:
    clock = Clock()
    with (
        ScriptedServer(SERVED) as other,
        answering(b"", 307, other.url.removesuffix("/v1") + "/score") as url,
        pytest.raises(ServerFailed, match=r"redirects.*scorer\.base_url"),
    ):
        score(url, asking(ScoreRoute.SCORE), clock, **SECRET)
    assert other.log.requests == []
    assert clock.waits == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
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


PROXY = "http://proxy:3128"


def proxy_before(url: str, environment: Mapping[str, str]) -> Proxy | None:
    return Address(url, "", {}, 1.0, environment=environment).proxy


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.8.7", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],  # noqa: S104
)
def test_this_machine_is_reached_directly(host: str) -> None:
    url = f"http://{host}:8000/v1"
    assert is_loopback(url)
    assert proxy_before(url, {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}) is None


@pytest.mark.parametrize("host", ["localhost.example.org", "128.0.0.1", "10.0.0.1", "notlocalhost", "[fe80::1]"])
def test_another_machine_is_not_this_one(host: str) -> None:
    assert not is_loopback(f"http://{host}/v1")


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        ("http://host/v1", {"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ("http://host/v1", {"HTTP_PROXY": "http://other:1", "http_proxy": PROXY}, "http_proxy"),
        ("https://host/v1", {"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other:1"}, "HTTPS_PROXY"),
        ("https://host/v1", {"HTTP_PROXY": "http://other:1", "all_proxy": PROXY}, "all_proxy"),
        ("http://host/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "ost,other, ,10.0.0.0/8"}, "HTTP_PROXY"),
        ("http://host/v1", {"HTTP_PROXY": "http://me:s3cret@proxy:3128"}, "HTTP_PROXY"),
    ],
)
def test_the_proxy_is_the_one_of_the_scheme_and_has_no_password(
    url: str, environment: Mapping[str, str], variable: str
) -> None:
    assert proxy_before(url, environment) == Proxy(PROXY, variable)


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("host", "*"),
        ("host", "other, host"),
        ("a.example.org", "example.org"),
        ("a.example.org", ".example.org"),
        ("a.example.org", "*.example.org"),
        ("host:8000", "host:8000"),
        ("10.1.2.3:8000", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("[fd00::1]", "fd00::/8"),
    ],
)
def test_an_address_of_no_proxy_is_asked_directly(host: str, entry: str) -> None:
    assert proxy_before(f"http://{host}/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": entry}) is None


@pytest.mark.parametrize(
    ("url", "environment", "belongs"),
    [
        ("https://api.openai.com/v1", {}, True),
        ("https://API.openai.com:443/v1", {}, True),
        ("http://api.openai.com/v1", {}, False),
        ("https://api.openai.com.example.org/v1", {}, False),
        ("http://localhost:8000/v1", {}, False),
        ("http://gateway:4000/v1", {"OPENAI_BASE_URL": "http://gateway:4000"}, True),
        ("http://gateway:4001/v1", {"OPENAI_BASE_URL": "http://gateway:4000"}, False),
        ("https://api.openai.com/v1", {"OPENAI_BASE_URL": "http://gateway:4000"}, False),
        ("https://api.openai.com/v1", {"OPENAI_BASE_URL": "http://[nonsense"}, False),
        ("https://api.openai.com/v1", {"OPENAI_BASE_URL": ""}, True),
    ],
)
def test_what_openais_variables_hold_is_for_one_address(
    url: str, environment: Mapping[str, str], belongs: bool
) -> None:
    assert belongs_to_openai(url, environment) is belongs
