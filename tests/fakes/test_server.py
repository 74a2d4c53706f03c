"""The scripted server, asked over plain HTTP: it speaks the protocol, logs what it gave, and misbehaves on command."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faults import Fault, FaultKind
from tests.fakes.model import Answer, Rule, Script, count_pieces
from tests.fakes.protocol import Dialect, ServedModel
from tests.fakes.server import ScriptedServer

SCRIPT = Script(
    rules=(
        Rule(contains="none", answers=()),
        Rule(answers=(Answer(text="hello big world"), Answer(text="bye", reasoning="think twice"))),
    )
)
MESSAGES = [{"role": "user", "content": "hi you"}]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(ServedModel(script=SCRIPT)) as running:
        yield running


def send(server: ScriptedServer, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://").removesuffix("/v1"), timeout=10)
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, path, None if body is None else json.dumps(body), {"X-Amini-Stage": "repair"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def chat(**fields: object) -> dict[str, object]:
    return {"model": "scripted", "messages": MESSAGES, **fields}


def events(raw: bytes) -> list[dict[str, Any]]:
    lines = raw.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_stream_interleaves_the_choices_and_ends_with_the_usage(server: ScriptedServer) -> None:
    status, raw = send(server, "/v1/chat/completions", chat(n=2, stream=True, stream_options={"include_usage": True}))
    *chunks, usage = events(raw)
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert status == 200
    assert order[:4] == [0, 1, 0, 1]
    assert texts == ["hello big world", "bye"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6
    assert usage["usage"]["prompt_tokens"] == count_pieces(["hi you"])


def test_an_event_can_hold_several_tokens_and_counts_them() -> None:
    asked = chat(n=2, stream=True, stream_options={"continuous_usage_stats": True})
    with ScriptedServer(ServedModel(script=SCRIPT, stream_interval=2)) as server:
        chunks = events(send(server, "/v1/chat/completions", asked)[1])
    told = [
        (*chunk["choices"][0]["delta"].values(), chunk["usage"]["completion_tokens"])
        for chunk in chunks
        if chunk["choices"][0]["index"] == 0
    ]
    assert told == [("", "assistant", 0), ("hello", 1), (" big world", 3), (3,)]


def test_an_answer_in_one_piece_holds_the_same_choices(server: ScriptedServer) -> None:
    body = json.loads(send(server, "/v1/chat/completions", chat(n=2, seed=1, max_tokens=2))[1])
    said = [(c["message"]["content"], c["message"]["reasoning"], c["finish_reason"]) for c in body["choices"]]
    assert said == [("", "think twice", "length"), ("hello big", None, "length")]
    assert body["usage"]["completion_tokens"] == 4


def test_choice_k_of_seed_s_is_sample_s_plus_k(server: ScriptedServer) -> None:
    together = json.loads(send(server, "/v1/chat/completions", chat(n=3, seed=4))[1])["choices"]
    alone = [json.loads(send(server, "/v1/chat/completions", chat(seed=s))[1])["choices"][0] for s in (4, 5, 6)]
    assert [choice["message"] for choice in together] == [choice["message"] for choice in alone]


def test_the_log_says_what_was_asked_and_what_was_delivered(server: ScriptedServer) -> None:
    send(server, "/v1/chat/completions", chat(n=2, seed=4))
    send(server, "/v1/chat/completions", chat(n=1, seed=6, stream=True))
    first, second = server.log.chats()
    assert (first.stage, first.n, first.seed, first.samples) == ("repair", 2, 4, (4, 5))
    assert second.samples == (6,)
    assert [(d.request, d.sample, d.prompt == first.prompt) for d in server.log.deliveries] == [
        (0, 4, True),
        (0, 5, True),
        (1, 6, True),
    ]


def test_a_prompt_that_was_asked_before_is_cached(server: ScriptedServer) -> None:
    replies = [json.loads(send(server, "/v1/chat/completions", chat())[1])["usage"] for _ in range(2)]
    assert [reply["prompt_tokens_details"]["cached_tokens"] for reply in replies] == [0, count_pieces(["hi you"]) - 1]


def test_vllm_says_its_context_its_version_and_counts_tokens(server: ScriptedServer) -> None:
    assert json.loads(send(server, "/v1/models")[1])["data"][0]["max_model_len"] == 8192
    assert json.loads(send(server, "/version")[1])["version"]
    assert send(server, "/health")[0] == 200
    counted = json.loads(send(server, "/tokenize", {"model": "scripted", "messages": MESSAGES})[1])
    assert counted["count"] == len(counted["tokens"]) == count_pieces(["hi you"])
    assert json.loads(send(server, "/tokenize", {"prompt": "hi you"})[1])["count"] == 2
    assert send(server, "/props")[0] == 404


def test_llama_cpp_says_the_context_of_a_slot_and_counts_after_the_template() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT, dialect=Dialect.LLAMA_CPP)) as server:
        assert json.loads(send(server, "/v1/models")[1])["data"][0]["meta"]["n_ctx"] == 8192
        assert json.loads(send(server, "/props")[1])["total_slots"] == 4
        prompt = json.loads(send(server, "/apply-template", {"messages": MESSAGES})[1])["prompt"]
        assert len(json.loads(send(server, "/tokenize", {"content": prompt})[1])["tokens"]) == count_pieces(["hi you"])
        assert json.loads(send(server, "/tokenize", {"messages": MESSAGES})[1]) == {"tokens": []}
        assert send(server, "/v1/chat/completions", chat(n=5))[0] == 400
        assert send(server, "/version")[0] == 404


def test_a_plain_server_offers_the_protocol_and_nothing_else() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT, dialect=Dialect.PLAIN)) as server:
        assert "max_model_len" not in json.loads(send(server, "/v1/models")[1])["data"][0]
        assert [send(server, path, {})[0] for path in ("/tokenize", "/apply-template")] == [404, 404]
        assert send(server, "/v1/chat/completions", chat())[0] == 200


def test_what_a_server_refuses_is_refused(server: ScriptedServer) -> None:
    long = chat(max_tokens=9000)
    assert b"maximum context length is 8192" in send(server, "/v1/chat/completions", long)[1]
    assert send(server, "/v1/chat/completions", chat(model="other"))[0] == 404
    assert send(server, "/v1/chat/completions", {"model": "scripted"})[0] == 400
    status, raw = send(server, "/v1/chat/completions", {"model": "scripted", "messages": []})
    assert (status, b"no rule" in raw) == (400, True)


@pytest.mark.parametrize("kind", ["429", "500", "503", "401", "403", "404", "400", "422"])
def test_a_refusal_hits_the_planned_requests_only(kind: str) -> None:
    fault = Fault(kind=FaultKind(kind), first=1, times=2, seconds=3)
    with ScriptedServer(ServedModel(script=SCRIPT), (fault,)) as server:
        statuses = [send(server, "/v1/chat/completions", chat())[0] for _ in range(4)]
        assert statuses == [200, int(kind), int(kind), 200]
        assert [seen.fault for seen in server.log.chats()] == ["", kind, kind, ""]


def spoiled(kind: FaultKind, after: int = 0) -> bytes:
    with ScriptedServer(ServedModel(script=SCRIPT), (Fault(kind=kind, after=after),)) as server:
        return send(server, "/v1/chat/completions", chat(n=2, stream=True))[1]


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.CLOSED])
def test_a_connection_is_cut_in_the_middle_of_an_answer(kind: FaultKind) -> None:
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        spoiled(kind, 2)


def test_a_stream_is_spoiled_after_so_many_events() -> None:
    assert spoiled(FaultKind.GARBAGE, 2).count(b'"index":') == 2
    assert spoiled(FaultKind.INVALID_JSON, 1).endswith(b'"delta"\n\n')
    assert b'"code":500' in spoiled(FaultKind.STREAM_ERROR, 1)
    assert spoiled(FaultKind.ENDED, 0) == b"data: [DONE]\n\n"
    assert all(event["choices"] == [] for event in events(spoiled(FaultKind.EMPTY_CHOICES)))
    assert {event["choices"][0]["index"] for event in events(spoiled(FaultKind.FEWER_CHOICES, 1))} == {0}


@pytest.mark.parametrize("kind", [FaultKind.GARBAGE, FaultKind.INVALID_JSON])
def test_any_page_can_be_spoiled(kind: FaultKind) -> None:
    fault = Fault(kind=kind, path="/v1/models")
    with ScriptedServer(ServedModel(script=SCRIPT), (fault,)) as server, pytest.raises(ValueError, match=r"codec|line"):
        json.loads(send(server, "/v1/models")[1])


def test_a_slow_answer_comes_later() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT), (Fault(kind=FaultKind.SLOW, seconds=0.2),)) as server:
        started = time.monotonic()
        assert send(server, "/v1/chat/completions", chat())[0] == 200
        assert time.monotonic() - started >= 0.2


def test_the_delay_is_paid_per_round_of_tokens_not_per_choice() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT), delay=0.1) as server:
        started = time.monotonic()
        send(server, "/v1/chat/completions", chat(n=8, stream=True))
        assert 0.3 <= time.monotonic() - started < 0.1 * 4 * 8


def test_a_client_that_leaves_early_is_noted_and_its_samples_are_not_delivered() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT), delay=0.05) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://").removesuffix("/v1"))
        connection.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True)))
        connection.getresponse().read(10)
        connection.close()
        deadline = time.monotonic() + 5
        while not server.log.left and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.log.left == [0]
        assert server.log.deliveries == []


def test_the_log_counts_requests_in_flight() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT), delay=0.05) as server:
        threads = [
            threading.Thread(target=send, args=(server, "/v1/chat/completions", chat(stream=True))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.log.peak == 3


def test_the_program_serves_a_script_and_stops_on_sigterm(tmp_path: Path) -> None:
    SCRIPT.dump(tmp_path / "script.json")
    command = [sys.executable, "-m", "tests.fakes.server", "--script", str(tmp_path / "script.json")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        match = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/v1", process.stdout.readline().strip())
        assert match is not None
        connection = http.client.HTTPConnection(match[1], timeout=10)
        connection.request("POST", "/v1/chat/completions", json.dumps(chat()))
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
