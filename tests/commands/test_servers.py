"""Servers as they are, through the command: proxies before them, keys for them, what they refuse, cut or keep back."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from agentless_mini.samplers.scripted_server import ScriptedServer
from tests.commands.running import Home, one_sentence, server

REPAIR = ("repair", ".", "../issue.md", "-n", "2")


@contextlib.contextmanager
def dead() -> Iterator[str]:
    """Give the address of a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_server_on_this_machine_is_reached_past_a_dead_proxy(home: Home, variable: str) -> None:
    with dead() as proxy, server() as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url, env={variable: proxy})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("diff --git")


def test_a_dead_proxy_before_another_machine_is_named(home: Home) -> None:
    with dead() as proxy:
        done = home.amini(*REPAIR, "--base-url", "http://gpu.example:8000/v1", env={"HTTP_PROXY": proxy})
    told = one_sentence(done.stderr)
    assert done.returncode == 3
    assert f"The proxy {proxy} of HTTP_PROXY does not lead to http://gpu.example:8000/v1" in told
    assert "add gpu.example to NO_PROXY" in told


@pytest.mark.parametrize("proxy", ["nonsense://x", "http://a:b:c", "socks9://x:1"])
def test_a_proxy_that_is_none_is_told_and_keeps_nobody_from_this_machine(home: Home, proxy: str) -> None:
    done = home.amini(*REPAIR, "--base-url", "http://gpu.example:8000/v1", env={"HTTP_PROXY": proxy})
    assert done.returncode == 2
    assert f"The proxy in HTTP_PROXY ({proxy}) cannot be used" in one_sentence(done.stderr)
    with server() as endpoint:
        assert home.amini(*REPAIR, "--base-url", endpoint.url, env={"HTTP_PROXY": proxy}).returncode == 0


def keys(endpoint: ScriptedServer) -> set[str]:
    return {seen.headers["authorization"].removeprefix("Bearer ") for seen in endpoint.log.requests}


def test_openais_key_is_not_sent_to_any_address_that_is_given(home: Home) -> None:
    with server() as endpoint:
        home.amini(*REPAIR, "--base-url", endpoint.url, env={"OPENAI_API_KEY": "sk-openai"})
        assert keys(endpoint) == {"none"}


@pytest.mark.parametrize(
    ("file", "more", "key"),
    [
        ("", {}, "sk-openai"),
        ("[endpoint]\napi_key = 'of-file'\n", {}, "of-file"),
        ("[endpoint]\napi_key = 'of-file'\n", {"AMINI_API_KEY": "of-amini"}, "of-amini"),
    ],
)
def test_the_key_is_that_of_amini_then_of_the_file_then_openais(
    home: Home, file: str, more: dict[str, str], key: str
) -> None:
    (home.root / "named.toml").write_text(file + '[sandbox]\nkind = "none"\n')
    with server() as endpoint:
        env = {"OPENAI_API_KEY": "sk-openai", "OPENAI_BASE_URL": endpoint.url, **more}
        home.amini(*REPAIR, "--base-url", endpoint.url, "--config", "../named.toml", env=env)
        assert keys(endpoint) == {key}
