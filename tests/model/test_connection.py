"""What of the environment concerns an address: a proxy before it, and OpenAI's variables."""

from collections.abc import Mapping

import pytest

from agentless_mini.model.connection import Address, Proxy, belongs_to_openai, is_loopback

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
