"""The sampler for OpenAI-compatible endpoints: the contract on each kind of server, what is sent, what comes back."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from types import MappingProxyType

import pytest
from pydantic import SecretStr, ValidationError

from agentless_mini.domain import Completion, Decoding, EditTask, Excerpt, Finish, ShownFile, Stage
from agentless_mini.errors import ServerFailed, UsageError
from agentless_mini.model.connection import Address, Connection, Patience
from agentless_mini.model.grammar import edit_grammar
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.ports import Sampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.model import Answer, Rule, Script, count_pieces
from tests.fakes.protocol import Dialect
from tests.fakes.server import ScriptedServer
from tests.model.contract import SamplerContract, ask, collect, run
from tests.model.scored import answering
from tests.model.served import TEXTS, draw, from_seed_0, opened, served, texts, using


class OnAServer(SamplerContract):
    dialect = Dialect.VLLM
    interval = 1
    settings: Mapping[str, object] = MappingProxyType({})

    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        with ScriptedServer(served(self.dialect, interval=self.interval)) as server:
            async with opened(server, None, **self.settings) as sampler:
                yield sampler


class TestOnVllm(OnAServer):
    pass


class TestOnLlamaCpp(OnAServer):
    dialect = Dialect.LLAMA_CPP


class TestOnAPlainServer(OnAServer):
    dialect = Dialect.PLAIN
    settings = MappingProxyType({"context_window": 4096})


class TestOneSamplePerRequest(OnAServer):
    settings = MappingProxyType({"max_samples_per_request": 1, "max_in_flight": 2})


def test_consecutive_samples_share_a_request_and_seeds_follow_the_index() -> None:
    with ScriptedServer(served()) as server:
        assert texts(draw(server, (1, 2, 3, 6, 7, 9))) == [TEXTS[i % 4] for i in (1, 2, 3, 6, 7, 9)]
        assert sorted((seen.seed, seen.n) for seen in server.log.chats()) == [(1, 3), (6, 2), (9, 1)]


def test_a_request_asks_for_no_more_choices_than_allowed() -> None:
    with ScriptedServer(served()) as server:
        draw(server, tuple(range(7)), max_samples_per_request=3)
        assert sorted((seen.seed, seen.n) for seen in server.log.chats()) == [(0, 3), (3, 3), (6, 1)]


def test_llama_cpp_is_asked_for_no_more_choices_than_it_has_slots() -> None:
    with ScriptedServer(served(Dialect.LLAMA_CPP)) as server:
        assert len(draw(server, tuple(range(10)))) == 10
        assert max(seen.n for seen in server.log.chats()) == 4


def test_requests_in_flight_are_bounded_over_all_prompts() -> None:
    async def many(sampler: OpenAISampler) -> None:
        await sampler.card()
        await asyncio.gather(*(collect(sampler, ask(f"prompt {i}", (0, 2, 4))) for i in range(4)))

    with ScriptedServer(served(), delay=0.01) as server:
        using(server, many, max_in_flight=3)
        assert len(server.log.chats()) == 12
        # The server knows after the client that it is done with a request: each of the three may be counted twice.
        assert 3 <= server.log.peak <= 6


def test_sampling_parameters_are_sent_as_given() -> None:
    request = ask("prompt", (3,), max_tokens=11)
    request = replace(request, params=replace(request.params, temperature=0.7, top_p=0.9, stop=("</solution>",)))
    with ScriptedServer(served()) as server:
        using(server, lambda sampler: collect(sampler, request))
        body = json.loads(server.log.chats()[0].body)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert {name: body[name] for name in ("temperature", "top_p", "stop", "max_tokens", "seed", "n", "stream")} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": ["</solution>"],
        "max_tokens": 11,
        "seed": 10,
        "n": 1,
        "stream": True,
    }


def test_other_servers_are_sent_nothing_that_only_vllm_knows() -> None:
    with ScriptedServer(served(Dialect.PLAIN)) as server:
        draw(server, context_window=4096)
        body = json.loads(server.log.chats()[0].body)
    assert body["stream_options"] == {"include_usage": True}
    assert set(body) == {
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "top_p",
        "stream",
        "stream_options",
        "n",
        "seed",
    }


@pytest.mark.parametrize(
    ("instance", "header"),
    [
        ("django__django-11001", "django__django-11001"),
        ("owner/name#12", "owner/name#12"),
        ("two\r\nX-Evil: yes", "two%0D%0AX-Evil: yes"),
        ("caf\u00e9 \udcff", "caf%C3%A9 %ED%B3%BF"),
        ("100%", "100%25"),
        ("", ""),
    ],
)
def test_headers_account_for_the_request_whatever_the_instance_is_called(instance: str, header: str) -> None:
    request = replace(ask("prompt"), stage=Stage.LOCALIZE, instance=instance)
    with ScriptedServer(served()) as server:
        using(server, lambda sampler: collect(sampler, request), headers={"X-Team": SecretStr("repairs")})
        (seen,) = server.log.chats()
    assert (seen.stage, seen.instance) == ("localize", header)


@pytest.mark.parametrize(("dialect", "interval"), [*((dialect, 1) for dialect in Dialect), (Dialect.VLLM, 4)])
def test_usage_adds_up_to_what_the_server_computed(dialect: Dialect, interval: int) -> None:
    with ScriptedServer(served(dialect, interval=interval)) as server:
        completions = draw(server, context_window=8192)
    prompts = [completion.usage.prompt_tokens for completion in completions if completion.usage.prompt_tokens]
    assert prompts == [count_pieces(["prompt"])]
    assert [completion.usage.completion_tokens for completion in completions] == [
        Answer(text=text).tokens() for text in TEXTS
    ]


@pytest.mark.parametrize("dialect", list(Dialect))
def test_reasoning_is_kept_apart_from_the_answer(dialect: Dialect) -> None:
    script = Script(rules=(Rule(answers=(Answer(text="so", reasoning="hm, yes"),)),))
    with ScriptedServer(served(dialect, script)) as server:
        (completion,) = draw(server, (0,), context_window=4096)
    assert (completion.text, completion.reasoning, completion.finish) == ("so", "hm, yes", Finish.STOP)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_server_that_does_not_stream_is_read_all_the_same(dialect: Dialect) -> None:
    with ScriptedServer(served(dialect).model_copy(update={"streams": False})) as server:
        assert texts(draw(server, context_window=4096)) == TEXTS
        assert {seen.n for seen in server.log.chats()} == {4}


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b'{"error": {"message": "the engine died", "code": 500}}', "the engine died"),
        (b'{"error": "not today"}', "not today"),
        (b'{"object": "error", "message": "out of memory", "code": 500}', "out of memory"),
        (b'{"object": "list"}', "does not speak the OpenAI protocol"),
        (b"[" * 100_000, "does not speak the OpenAI protocol"),
        (b'{"choices": [', "does not speak the OpenAI protocol"),
    ],
)
def test_a_page_that_is_no_answer_is_an_error(page: bytes, said: str) -> None:
    with answering(page) as url, pytest.raises(ServerFailed, match=said):
        run(streamed(url))


async def streamed(url: str) -> None:
    connection = Connection(Address(url, "none", {}, 0.3), Patience(0), lambda said: None)
    try:
        with connection.edge():
            async for _ in connection.events({}, {}, 0):
                pass
    finally:
        await connection.aclose()


@pytest.mark.parametrize(("closes", "said"), [(True, "broke the connection"), (False, "was silent for longer than 0")])
def test_an_answer_in_one_piece_that_stays_away_is_an_error(closes: bool, said: str) -> None:
    with answering(b"{", missing=9, pause=0.0 if closes else 1.0) as url, pytest.raises(ServerFailed, match=said):
        run(streamed(url))


def test_each_sample_is_yielded_when_it_is_finished_not_when_all_are() -> None:
    script = Script.of("short", "a much longer answer that takes its time " * 5)

    async def first(sampler: OpenAISampler) -> int:
        async with aclosing(sampler.sample(from_seed_0((1, 2), 500))) as completions:  # type: ignore[type-var]  # it is a generator
            return (await anext(completions)).index

    with ScriptedServer(served(script=script), delay=0.01) as server:
        assert using(server, first) == 2
        assert [delivered.sample for delivered in server.log.deliveries] == [2]


def test_new_tokens_are_told_as_they_come() -> None:
    told: list[int] = []
    stages: set[Stage] = set()

    def on_tokens(new: int, stage: Stage) -> None:
        told.append(new)
        stages.add(stage)

    async def listening(url: str) -> list[Completion]:
        async with OpenAISampler(EndpointSettings(base_url=url), on_tokens) as sampler:
            return await collect(sampler, ask("prompt", (0, 1, 2, 3), max_tokens=64))

    with ScriptedServer(served()) as server:
        completions = run(listening(server.url))
    assert (len(told) > 4, stages) == (True, {Stage.REPAIR})
    assert sum(told) == sum(completion.usage.completion_tokens or 0 for completion in completions)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_a_client_that_has_enough_stops_the_server(way: str) -> None:
    async def closed(sampler: OpenAISampler) -> None:
        async with aclosing(sampler.sample(request)) as completions:  # type: ignore[type-var]  # it is a generator
            await anext(completions)

    async def cancelled(sampler: OpenAISampler) -> None:
        task = asyncio.create_task(collect(sampler, request))
        await asyncio.to_thread(wait_for, lambda: bool(server.log.deliveries))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    script = Script.of("short", "a much longer answer that takes its time " * 20)
    request = from_seed_0((1, 2, 5), 1000)
    with ScriptedServer(served(script=script), delay=0.01) as server:
        using(server, closed if way == "close" else cancelled)
        wait_for(lambda: len(server.log.left) == 2)
        assert sorted(server.log.left) == [number for number, seen in enumerate(server.log.requests) if seen.samples]
        assert {delivered.sample for delivered in server.log.deliveries} <= {2}


TASK = EditTask("f adds wrongly", (ShownFile("a.py", (Excerpt(1, "def f(a, b):\n    return a - b\n"),), whole=True),))


@pytest.mark.parametrize("dialect", [Dialect.VLLM, Dialect.LLAMA_CPP])
def test_a_grammar_is_sent_in_the_field_that_the_server_reads(dialect: Dialect) -> None:
    request = replace(ask("prompt"), decoding=Decoding.GRAMMAR, task=TASK)
    with ScriptedServer(served(dialect)) as server:
        using(server, lambda sampler: collect(sampler, request))
        body = json.loads(server.log.chats()[0].body)
    grammar = body["structured_outputs"]["grammar"] if dialect is Dialect.VLLM else body["grammar"]
    assert grammar == edit_grammar(TASK)


def test_a_grammar_for_an_unknown_server_is_a_usage_error() -> None:
    request = replace(ask("prompt"), decoding=Decoding.GRAMMAR, task=TASK)
    with ScriptedServer(served(Dialect.PLAIN)) as server, pytest.raises(UsageError, match=r"needs vLLM or llama\.cpp"):
        using(server, lambda sampler: collect(sampler, request), None, context_window=4096)


def test_line_rewriting_is_not_offered() -> None:
    request = replace(ask("prompt"), decoding=Decoding.LINES)
    with ScriptedServer(served()) as server, pytest.raises(UsageError, match="Line rewriting needs the embedded model"):
        using(server, lambda sampler: collect(sampler, request))
    with pytest.raises(ValidationError, match="line rewriting"):
        EndpointSettings(decoding=Decoding.LINES)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://host/api/v1/", "https://host/api/v1"),
        ("http://[::1]:80/openai", "http://[::1]:80/openai"),
    ],
)
def test_an_address_without_a_path_means_v1(given: str, used: str) -> None:
    assert EndpointSettings(base_url=given).base_url == used


@pytest.mark.parametrize("given", ["localhost:8000", "ftp://host/v1", "http://", "http://host:99999/v1", "http://[::1"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValidationError):
        EndpointSettings(base_url=given)


def test_a_sampler_without_an_address_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="give --base-url"):
        OpenAISampler(EndpointSettings(base_url=None))


@pytest.mark.parametrize("proxy", ["nonsense://x", "http://a:b:c", "http://[::", "socks9://x:1"])
def test_a_proxy_that_nobody_can_use_is_a_usage_error(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    settings = EndpointSettings(base_url="http://gpu.example:8000/v1")
    with pytest.raises(UsageError, match=r"The proxy in HTTP_PROXY .* cannot be used"):
        OpenAISampler(settings, environment=os.environ)
    with pytest.raises(UsageError, match=r"The proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"):
        OpenAISampler(settings)
