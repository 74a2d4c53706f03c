"""Servers as they are, through the command: proxies before them, keys for them, what they refuse, cut or keep back."""

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from agentless_mini.model.failures import Part
from tests.chain.workbench import FIX
from tests.commands.running import LOCALIZED, Home, one_sentence, script, server
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import Dialect, ServedModel
from tests.fakes.server import ScriptedServer

REPAIR = ("repair", ".", "../issue.md", "-n", "2")


@contextlib.contextmanager
def dead() -> Iterator[str]:
    """Give the address of a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_on_this_machine_is_reached_past_a_dead_proxy(home: Home) -> None:
    with dead() as proxy, server() as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url, env={"HTTP_PROXY": proxy, "all_proxy": proxy})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("diff --git")


def test_a_dead_proxy_before_another_machine_is_named(home: Home) -> None:
    with dead() as proxy:
        done = home.amini(*REPAIR, "--base-url", "http://gpu.example:8000/v1", env={"HTTP_PROXY": proxy})
    told = one_sentence(done.stderr)
    assert done.returncode == 3
    assert f"The proxy {proxy} of HTTP_PROXY does not lead to http://gpu.example:8000/v1" in told
    assert "add gpu.example to NO_PROXY" in told


def test_a_proxy_that_is_none_is_told_and_keeps_nobody_from_this_machine(home: Home) -> None:
    proxy = "nonsense://x"
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


def odd(answers: Script | None = None, **how: object) -> ScriptedServer:
    """Return a server that answers with right fixes, odd in some way."""
    return ScriptedServer(ServedModel.model_validate({"script": answers or script(FIX), **how}))


def test_a_refused_system_message_is_sent_inside_the_users_under_the_same_key(home: Home) -> None:
    with odd(refuses={Part.SYSTEM}) as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url, "--model", "scripted")
        chats = [json.loads(seen.body)["messages"] for seen in endpoint.log.chats()]
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("diff --git")
    assert " ".join(done.stderr.split()).count("takes no system message") == 1
    assert {tuple(message["role"] for message in messages) for messages in chats} == {("user",)}
    with server(FIX) as endpoint:  # one that takes system messages: what is asked is the same, so all is recorded
        again = home.amini(*REPAIR, "--base-url", endpoint.url, "--model", "scripted")
        assert endpoint.log.chats() == ()
    assert again.stdout == done.stdout


def test_refused_fields_are_left_out_or_renamed_and_each_is_told_once(home: Home) -> None:
    with odd(refuses=set(Part)) as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url)
        bodies = [json.loads(seen.body) for seen in endpoint.log.chats()]
    told = " ".join(done.stderr.split())
    assert (done.returncode, done.stdout[:10]) == (0, "diff --git"), told
    assert [told.count(f" {part.value}") > 0 for part in Part] == [True] * len(Part)
    assert (told.count("takes no seed"), told.count("wants max_completion_tokens")) == (1, 1)
    assert bodies[-1].keys() == {"model", "messages", "max_completion_tokens", "stream"}


def test_a_server_that_does_not_stream_is_read(home: Home) -> None:
    with odd(streams=False) as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url)
    assert (done.returncode, done.stdout[:10]) == (0, "diff --git"), done.stderr


def test_an_answer_that_is_all_reasoning_is_told_once_with_what_to_set(home: Home) -> None:
    thought = Script(rules=(LOCALIZED, Rule(answers=(Answer(reasoning=FIX),))))
    for field in ("reasoning", "reasoning_content"):
        with odd(thought, reasoning_field=field) as endpoint:
            done = home.amini(*REPAIR, "--base-url", endpoint.url, "--store", f"../{field}.sqlite")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("--reasoning-parser") == 1


def test_a_server_that_tells_no_usage_is_not_said_to_have_used_none(home: Home) -> None:
    with odd(tells_usage=False) as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url, "--json", "--store", "../s.sqlite")
    assert done.returncode == 0, done.stderr
    assert "tokens are unknown: the server does not report them" in done.stderr
    usages = [sample["usage"] for sample in json.loads(done.stdout)["samples"]]
    assert {tuple(usage.values()) for usage in usages} == {(None, None, None)}
    shown = home.amini("show", "1", "--all", "--store", "../s.sqlite").stdout
    assert "unknown unknown" in " ".join(shown.split())


BIG = "\n\n".join(f"def f{n}(x):\n    return x + {n}  # adds up prices of the cart number {n}" for n in range(600))


@pytest.mark.parametrize("dialect", [Dialect.PLAIN, Dialect.VLLM])
def test_a_server_that_cuts_prompts_in_silence_is_told_with_what_to_set(home: Home, dialect: Dialect) -> None:
    (home.repository / "shop/big.py").write_text(BIG)
    both = Rule(stage="localize", answers=(Answer(text="```\nshop/cart.py\nshop/big.py\n```"),))
    answers = Script(rules=(both, Rule(answers=(Answer(text=FIX),))))
    with odd(answers, dialect=dialect, context_window=60_000, reads=1024) as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url, "--context", "60000")
        told = " ".join(done.stderr.split())
        assert (done.returncode, done.stdout[:10]) == (0, "diff --git"), told
        assert told.count("cuts prompts in silence (it read 1024 tokens of a prompt of") == 1
        assert "OLLAMA_CONTEXT_LENGTH" in told
        (home.root / "strict.toml").write_text('[endpoint]\ncut_prompts = 1\n[sandbox]\nkind = "none"\n')
        more = ("--config", "../strict.toml", "--store", "../other.sqlite", "--context", "60000")
        strict = home.amini(*REPAIR, "--base-url", endpoint.url, *more)
    assert (strict.returncode, strict.stdout) == (3, "")
    assert "cuts prompts in silence, 1 in a row" in strict.stderr.splitlines()[-1]


def test_a_server_that_is_silent_is_told_with_the_setting_that_allows_for_it(home: Home) -> None:
    (home.root / "hasty.toml").write_text('[endpoint]\ntimeout_s = 0.5\nretries = 1\n[sandbox]\nkind = "none"\n')
    slow = (Fault(kind=FaultKind.SLOW, times=99, seconds=2.0),)
    with ScriptedServer(ServedModel(script=script(FIX)), slow) as endpoint:
        done = home.amini(*REPAIR, "--base-url", endpoint.url, "--config", "../hasty.toml")
    last = " ".join(done.stderr.split())
    assert done.returncode == 3
    assert "was silent for longer than 0.5 s: raise [endpoint] timeout_s" in last
