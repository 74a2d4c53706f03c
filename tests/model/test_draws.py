"""Drawing from a server in all its moods: what passes is waited out, what is owed is asked again, the rest is told."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from agentless_mini.errors import AminiError, ModelUnknown, ServerFailed, ServerUnreachable
from agentless_mini.model.connection import LONGEST_BACKOFF, Address, Advice, Connection, Patience
from agentless_mini.model.openai_api import OpenAISampler, Slots
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.protocol import Dialect
from tests.fakes.server import ScriptedServer
from tests.model.contract import ask, collect, run, until_error
from tests.model.served import TEXTS, Clock, card, draw, draw_until_error, from_seed_0, served, texts, using

PASSING = [
    FaultKind.RATE_LIMIT,
    FaultKind.ERROR,
    FaultKind.UNAVAILABLE,
    FaultKind.CLOSED,
    FaultKind.CUT,
    FaultKind.GARBAGE,
    FaultKind.INVALID_JSON,
    FaultKind.STREAM_ERROR,
    FaultKind.ENDED,
    FaultKind.EMPTY_CHOICES,
]


@pytest.mark.parametrize(("dialect", "after"), [(Dialect.VLLM, 0), (Dialect.VLLM, 14), (Dialect.LLAMA_CPP, 5)])
@pytest.mark.parametrize("kind", PASSING)
def test_trouble_that_passes_is_waited_out_and_no_sample_is_drawn_twice(
    kind: FaultKind, after: int, dialect: Dialect
) -> None:
    clock = Clock()
    with ScriptedServer(served(dialect), (Fault(kind=kind, after=after),)) as server:
        assert texts(draw(server, clock=clock)) == TEXTS
        drawn = [delivered.sample for delivered in server.log.deliveries]
    assert len(clock.waits) == 1
    if kind is not FaultKind.EMPTY_CHOICES:  # it computes them all and says nothing
        assert sorted(drawn) == [0, 1, 2, 3]


def test_only_what_is_owed_is_asked_again_with_its_own_seed() -> None:
    # Of the scripted answers choice 2 ends first, with the eleventh event.
    with ScriptedServer(served(), (Fault(kind=FaultKind.CUT, after=11),)) as server:
        assert texts(draw(server)) == TEXTS
        assert server.log.chats()[0].n == 4
        again = sorted((seen.seed, seen.n) for seen in server.log.chats()[1:])
    assert again == [(0, 2), (3, 1)]


def test_what_was_finished_before_a_failure_stays() -> None:
    with ScriptedServer(
        served(), (Fault(kind=FaultKind.CUT, after=11), Fault(kind=FaultKind.ERROR, times=99))
    ) as server:
        completions, error = draw_until_error(server)
    assert texts(completions) == ["two"]
    assert isinstance(error, ServerFailed)


def test_retries_are_used_up() -> None:
    clock = Clock()
    with ScriptedServer(served(), (Fault(kind=FaultKind.ERROR, times=99),)) as server:
        completions, error = draw_until_error(server, retries=3, clock=clock)
        assert len(server.log.chats()) == 4
    assert completions == []
    assert isinstance(error, ServerFailed)
    assert "Internal server error" in str(error)
    assert len(clock.waits) == 3


def test_waits_double_and_end_at_a_minute() -> None:
    patience = Patience(9)
    waits = [patience.wait(failures) for failures in range(1, 12)]
    for failures, wait in enumerate(waits):
        full = min(LONGEST_BACKOFF, 2.0**failures)
        assert 0.75 * full <= wait <= full


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (1e9, 300.0)])
def test_retry_after_is_honoured_within_reason(asked: float, waited: float) -> None:
    clock = Clock()
    with ScriptedServer(served(), (Fault(kind=FaultKind.RATE_LIMIT, seconds=asked),)) as server:
        draw(server, clock=clock)
    assert clock.waits == [waited]


def test_a_server_that_ignores_n_is_asked_one_by_one() -> None:
    clock = Clock()
    fault = Fault(kind=FaultKind.FEWER_CHOICES, after=1, times=99)
    with ScriptedServer(served(), (fault,)) as server:
        assert texts(draw(server, tuple(range(6)), clock=clock)) == [TEXTS[i % 4] for i in range(6)]
        assert server.log.chats()[0].n == 6
        assert sorted((seen.seed, seen.n) for seen in server.log.chats()[1:]) == [(i, 1) for i in range(1, 6)]
    assert clock.waits == []


def test_what_was_learned_of_n_counts_for_requests_that_wait() -> None:
    async def two_prompts(sampler: OpenAISampler) -> int:
        drawn = await asyncio.gather(*(collect(sampler, ask(text, (0, 1, 2))) for text in ("one", "other")))
        return sum(len(completions) for completions in drawn)

    fault = Fault(kind=FaultKind.FEWER_CHOICES, after=1, times=99)
    with ScriptedServer(served(), (fault,)) as server:
        assert using(server, two_prompts, max_in_flight=1) == 6
        assert sorted(seen.n for seen in server.log.chats()) == [1, 1, 1, 1, 1, 3]


def test_a_server_that_refuses_n_is_asked_one_by_one() -> None:
    fault = Fault(kind=FaultKind.REFUSED)
    with ScriptedServer(served(), (fault,)) as server:
        assert texts(draw(server)) == TEXTS
        assert [seen.n for seen in server.log.chats()] == [4, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("kind", "error_type", "said"),
    [
        (FaultKind.UNAUTHORIZED, ServerFailed, "set AMINI_API_KEY"),
        (FaultKind.FORBIDDEN, ServerFailed, "set AMINI_API_KEY"),
        (FaultKind.UNKNOWN_MODEL, ModelUnknown, "check --model"),
        (FaultKind.CONTEXT_OVERFLOW, ServerFailed, "pass --context N"),
    ],
)
def test_what_does_not_pass_is_told_at_once(kind: FaultKind, error_type: type[AminiError], said: str) -> None:
    clock = Clock()
    with ScriptedServer(served(), (Fault(kind=kind, times=99),)) as server:
        _, error = draw_until_error(server, clock=clock)
        assert len(server.log.chats()) == 1
    assert type(error) is error_type
    assert said in str(error)
    assert clock.waits == []


@contextmanager
def nobody() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def test_nobody_at_the_address_is_told_at_once() -> None:
    clock = Clock()

    async def asked(url: str) -> None:
        patience = Patience(3, clock.sleep)
        async with OpenAISampler(EndpointSettings(base_url=url), patience=patience) as sampler:
            await sampler.card()

    with nobody() as url, pytest.raises(ServerUnreachable, match=rf"Nothing answers at {url}: start the model server"):
        run(asked(url))
    assert clock.waits == []


def test_a_server_that_goes_away_later_is_waited_for() -> None:
    clock = Clock()

    async def gone(sampler: OpenAISampler) -> AminiError | None:
        await sampler.card()
        server.__exit__(None, None, None)
        return (await until_error(sampler, ask("prompt")))[1]

    server = ScriptedServer(served())
    server.__enter__()
    error = using(server, gone, clock=clock)
    assert isinstance(error, ServerUnreachable | ServerFailed)
    assert len(clock.waits) == 3


def test_of_requests_that_fail_together_the_first_halves_what_may_be_in_flight() -> None:
    async def used() -> tuple[list[bool], int, int]:
        slots, halved, running, most = Slots(6), list[bool](), 0, 0

        async def failing() -> None:
            async with slots as allowed:
                await asyncio.sleep(0.01)
            halved.append(slots.halve(allowed))

        async def later() -> None:
            nonlocal running, most
            await asyncio.sleep(0.1)
            async with slots:
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1

        await asyncio.gather(*(failing() for _ in range(6)), *(later() for _ in range(20)))
        return halved, slots.most, most

    assert run(used()) == ([True] + [False] * 5, 3, 3)


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


EVENTS = b'data: {"id": "1", "choices": []}\n\ndata: [DONE]\n\n'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = f"{len(EVENTS):x}\r\n".encode() + EVENTS + b"\r\n"


def test_streams_one_after_the_other_share_a_connection() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
                writer.write(ANSWER + CHUNKS)
                await writer.drain()
                writer.write(b"0\r\n\r\n")  # what ends the body comes apart from the last event

    async def scene() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        address = Address.of(url, EndpointSettings(base_url=url), Advice(), {})
        connection = Connection(address, Patience(0), lambda _: None)
        for _ in range(3):
            assert len([event async for event in connection.events({"n": 1}, {}, 0)]) == 1
        await connection.aclose()
        server.close()
        await server.wait_closed()

    asyncio.run(scene())
    assert connections == 1


def test_a_key_never_appears_in_a_message_or_repr() -> None:
    secret = "sk-very-secret-key"  # noqa: S105 - made up for this test
    settings = EndpointSettings(
        base_url="http://localhost:1", api_key=SecretStr(secret), headers={"X": SecretStr(secret)}
    )
    assert secret not in repr(settings)
    fault = Fault(kind=FaultKind.UNAUTHORIZED, path="/v1/models")
    with ScriptedServer(served(), (fault,)) as server, pytest.raises(ServerFailed) as raised:
        card(server, api_key=SecretStr("Unauthorized"))  # a server that repeats the key in its answer
    assert "Unauthorized" not in str(raised.value)
    assert "***" in str(raised.value)
