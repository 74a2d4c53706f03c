"""A real HTTP server that answers from a script in the OpenAI-compatible protocol, and misbehaves on command.

Each request is logged, then met with its fault or with the script. The answer to choice k of a request with seed s is
the script's answer s + k, so it is a function of prompt and seed, as on vLLM and llama.cpp. It does not imitate a
model's speed, tokenizer or batching.

    python -m tests.fakes.server --script script.json
"""

import argparse
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from agentless_mini.domain import canonical_json
from agentless_mini.errors import AminiError
from tests.fakes import protocol
from tests.fakes.faults import CHAT, Fault, FaultKind, FaultPlan, Hangup, frames, refusal, spoiled_body
from tests.fakes.log import Delivered, Log, Seen
from tests.fakes.model import Script, count_pieces
from tests.fakes.protocol import ChatRequest, Dialect, Json, Reply, ServedModel

DEFAULT_MAX_TOKENS = 1 << 20  # of a request that sets no limit: no scripted answer is longer


@dataclass(frozen=True, slots=True)
class Play:
    """What a running server plays: a model, its troubles, its speed in seconds per round of tokens, its memory."""

    model: ServedModel
    faults: FaultPlan
    delay: float
    log: Log

    def reply(self, request: ChatRequest, stage: str) -> Reply:
        """Return the script's answers to a request. Raises `ServerFailed` where the script has none."""
        contents, limit = request.contents(), request.limit() or DEFAULT_MAX_TOKENS
        samples = request.samples()
        answers = tuple(self.model.script.answer(stage, contents, sample).cut(limit) for sample in samples)
        digest, sent = request.digest(), count_pieces(contents)
        tokens = min(sent, self.model.reads or sent)
        asked_before = sum(seen.prompt == digest for seen in self.log.requests) > 1
        cached = tokens - 1 if asked_before else 0
        return Reply(request, self.model, answers, samples, digest[:16], tokens, cached)


class Handler(BaseHTTPRequestHandler):
    """One connection: meets each request with its fault, or with the script's answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Http"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `Log` keeps what is worth knowing."""

    def _answer(self, body: bytes) -> None:
        play = self.server.play
        fault = play.faults.next(self.path)
        with play.log.request(self._seen(body, fault)) as number:
            try:
                self._meet(body, fault, number)
            except Hangup:
                self.close_connection = True
            except ConnectionError:
                play.log.leave(number)
                self.close_connection = True

    def _seen(self, body: bytes, fault: Fault | None) -> Seen:
        kind = fault.kind if fault else ""
        text = body.decode(errors="replace")
        stage, instance = self._stage(), self.headers.get("X-Amini-Instance", "")
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            chat = ChatRequest.model_validate_json(body) if self.path == CHAT else None
        except ValidationError:
            chat = None
        if chat is None:
            return Seen(self.path, text, stage, instance, fault=kind, headers=headers)
        samples = chat.samples()
        return Seen(self.path, text, stage, instance, chat.digest(), samples, chat.seed, chat.n, kind, headers)

    def _stage(self) -> str:
        return str(self.headers.get("X-Amini-Stage", ""))

    def _meet(self, body: bytes, fault: Fault | None, number: int) -> None:
        if fault is not None and fault.kind is FaultKind.CLOSED:
            raise Hangup
        if fault is not None and fault.kind is FaultKind.SLOW:
            time.sleep(fault.seconds)
        refused = refusal(fault) if fault else None
        if refused is not None:
            self._send(refused.status, refused.body, refused.headers)
            return
        try:
            self._behave(body, fault, number)
        except ValidationError as error:
            self._send(400, protocol.error_body(400, f"The body has {error.error_count()} invalid fields."))
        except AminiError as error:
            self._send(400, protocol.error_body(400, str(error)))

    def _behave(self, body: bytes, fault: Fault | None, number: int) -> None:
        if self.path == CHAT:
            self._chat(ChatRequest.model_validate_json(body), fault, number)
            return
        about = self._about(body)
        if about is None:
            self._send(404, {"detail": "Not Found"})
        else:
            self._send_bytes(200, spoiled_body(canonical_json(about).encode(), fault))

    def _about(self, body: bytes) -> Json | None:
        """Return the answer to everything but a chat; None where the played kind of server has no such page."""
        model = self.server.play.model
        pages = {"/v1/models": protocol.models_body(model), "/health": {"status": "ok"}}
        if model.dialect is Dialect.VLLM:
            pages["/version"] = {"version": "0.0.0+scripted"}
            if self.path in protocol.PAGES:
                return protocol.page_body(model, self.path, body)
        if model.dialect is Dialect.LLAMA_CPP:
            pages["/props"] = protocol.props_body(model)
        if self.path in pages:
            return pages[self.path]
        if self.path == "/apply-template" and model.dialect is Dialect.LLAMA_CPP:
            return protocol.template_body(model, protocol.TemplateRequest.model_validate_json(body))
        if self.path == "/tokenize" and model.dialect is not Dialect.PLAIN:
            return protocol.tokenize_body(model, protocol.TokenizeRequest.model_validate_json(body))
        return None

    def _chat(self, request: ChatRequest, fault: Fault | None, number: int) -> None:
        play = self.server.play
        refused = protocol.refused(play.model, request)
        if refused is not None:
            self._send(int(refused["error"]["code"]), refused)
            return
        reply = play.reply(request, self._stage())
        if fault is not None and fault.kind is FaultKind.FEWER_CHOICES:
            reply = reply.fewer(fault.after)
        if request.stream and play.model.streams:
            self._stream(reply, fault, number)
            return
        time.sleep(play.delay * max((answer.tokens() for answer in reply.answers), default=0))
        self._send_bytes(200, spoiled_body(canonical_json(protocol.completion_body(reply)).encode(), fault))
        for sample in reply.samples:
            play.log.deliver(Delivered(number, request.digest(), sample))

    def _stream(self, reply: Reply, fault: Fault | None, number: int) -> None:
        play = self.server.play
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        step = 0
        for frame in frames(protocol.stream_events(reply), fault):
            time.sleep(play.delay * max(0, frame.step - step))
            step = max(step, frame.step)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(frame.data), frame.data))
            if frame.finishes is not None:
                play.log.deliver(Delivered(number, reply.request.digest(), frame.finishes))
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, body: Json, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._send_bytes(status, canonical_json(body).encode(), headers)

    def _send_bytes(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class ScriptedServer:
    """The server, running between `__enter__` and `__exit__` on this machine.

    `log` holds what it was asked and what it delivered.
    """

    def __init__(self, model: ServedModel, faults: tuple[Fault, ...] = (), delay: float = 0.0, port: int = 0) -> None:
        """Serve `model` on `port` (0: any free one), with planned `faults` and `delay` seconds for each token."""
        self.log = Log()
        self._http = _Http(("127.0.0.1", port), Play(model, FaultPlan(faults), delay, self.log))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http.cut_connections()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], play: Play) -> None:
        self.play = play
        self._open: set[socket.socket] = set()
        super().__init__(address, Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's signature
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        for connection in tuple(self._open):
            with suppress(OSError):  # it ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's signature
        """Say nothing of clients that leave: kill tests are made of them. Anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main(arguments: list[str] | None = None) -> None:
    """Serve a script until SIGTERM or SIGINT; print the base URL, one line, on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.server", description=__doc__)
    parser.add_argument("--script", type=Path, required=True, help="the answers, as JSON (see `model.Script`)")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--model", default="scripted", help="the name to serve it under")
    parser.add_argument("--stream-interval", type=int, default=1, help="tokens in one event of a stream")
    options = parser.parse_args(arguments)
    script = Script.load(options.script)
    model = ServedModel(script=script, name=options.model, stream_interval=options.stream_interval)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ScriptedServer(model, port=options.port) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
