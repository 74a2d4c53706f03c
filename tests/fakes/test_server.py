"""The scripted server, asked over plain HTTP: it speaks the protocol, logs what it gave, and misbehaves on command."""

import http.client
import json
import re
import signal
import subprocess
import sys
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


def test_llama_cpp_says_the_context_of_a_slot_and_counts_after_the_template() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT, dialect=Dialect.LLAMA_CPP)) as server:
        assert json.loads(send(server, "/v1/models")[1])["data"][0]["meta"]["n_ctx"] == 8192
        assert json.loads(send(server, "/props")[1])["total_slots"] == 4
        prompt = json.loads(send(server, "/apply-template", {"messages": MESSAGES})[1])["prompt"]
        assert len(json.loads(send(server, "/tokenize", {"content": prompt})[1])["tokens"]) == count_pieces(["hi you"])
        assert json.loads(send(server, "/tokenize", {"messages": MESSAGES})[1]) == {"tokens": []}
        assert send(server, "/v1/chat/completions", chat(n=5))[0] == 400
        assert send(server, "/version")[0] == 404


def test_what_a_server_refuses_is_refused(server: ScriptedServer) -> None:
    long = chat(max_tokens=9000)
    assert b"maximum context length is 8192" in send(server, "/v1/chat/completions", long)[1]
    assert send(server, "/v1/chat/completions", chat(model="other"))[0] == 404
    assert send(server, "/v1/chat/completions", {"model": "scripted"})[0] == 400
    status, raw = send(server, "/v1/chat/completions", {"model": "scripted", "messages": []})
    assert (status, b"no rule" in raw) == (400, True)


def spoiled(kind: FaultKind, after: int = 0) -> bytes:
    with ScriptedServer(ServedModel(script=SCRIPT), (Fault(kind=kind, after=after),)) as server:
        return send(server, "/v1/chat/completions", chat(n=2, stream=True))[1]


def test_a_stream_is_spoiled_after_so_many_events() -> None:
    assert spoiled(FaultKind.GARBAGE, 2).count(b'"index":') == 2
    assert spoiled(FaultKind.INVALID_JSON, 1).endswith(b'"delta"\n\n')
    assert b'"code":500' in spoiled(FaultKind.STREAM_ERROR, 1)
    assert spoiled(FaultKind.ENDED, 0) == b"data: [DONE]\n\n"
    assert all(event["choices"] == [] for event in events(spoiled(FaultKind.EMPTY_CHOICES)))
    assert {event["choices"][0]["index"] for event in events(spoiled(FaultKind.FEWER_CHOICES, 1))} == {0}


def test_the_delay_is_paid_per_round_of_tokens_not_per_choice() -> None:
    with ScriptedServer(ServedModel(script=SCRIPT), delay=0.1) as server:
        started = time.monotonic()
        send(server, "/v1/chat/completions", chat(n=8, stream=True))
        assert 0.3 <= time.monotonic() - started < 0.1 * 4 * 8


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
