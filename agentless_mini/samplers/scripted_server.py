"""A real HTTP server that answers from a script in the OpenAI-compatible protocol, and misbehaves on command.

It is the public fake of a model server: users and our own tests point `amini` at it. The answer to choice k of a
request with seed s is the script's answer s + k, so it is a function of prompt and seed, as on vLLM and llama.cpp.
It does not imitate a model's speed, tokenizer or batching.

    python -m agentless_mini.samplers.scripted_server --script script.json --port 0 --log log.jsonl
"""

import argparse
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from agentless_mini.errors import UsageError
from agentless_mini.samplers.refusals import Part
from agentless_mini.samplers.scripted import Script
from agentless_mini.samplers.scripted_faults import Fault, FaultPlan
from agentless_mini.samplers.scripted_handler import Handler, Play, PlayServer
from agentless_mini.samplers.scripted_log import Log
from agentless_mini.samplers.scripted_protocol import Dialect, ServedModel


class ScriptedServer:
    """The server, running between `__enter__` and `__exit__` on this machine.

    `log` holds what it was asked and what it delivered.
    """

    def __init__(
        self,
        model: ServedModel,
        faults: tuple[Fault, ...] = (),
        delay: float = 0.0,
        port: int = 0,
        log: Log | None = None,
    ) -> None:
        """Serve `model` on `port` (0: any free one), with planned `faults` and `delay` seconds for each token."""
        self.log = log or Log()
        self._http = _Http(("127.0.0.1", port), Play(model, FaultPlan(faults), delay, self.log))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """Return the base URL that a client is given."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: nothing listens any more, and open connections are cut."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http.cut_connections()


class _Http(PlayServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], play: Play) -> None:
        self.play = play
        self._open: set[socket.socket] = set()
        super().__init__(address, Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Remember a connection."""
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base class's signature
        """Forget a connection that is over."""
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """End the connections that clients keep open."""
        for connection in tuple(self._open):
            with suppress(OSError):  # it ended by itself meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's signature
        """Say nothing of clients that leave: kill tests are made of them. Anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main(arguments: list[str] | None = None) -> None:
    """Serve a script until SIGTERM or SIGINT; print the base URL, one line, on stdout."""
    parser = argparse.ArgumentParser(prog="python -m agentless_mini.samplers.scripted_server", description=__doc__)
    parser.add_argument("--script", type=Path, required=True, help="the answers, as JSON (see samplers.scripted)")
    parser.add_argument("--faults", type=Path, help="a JSON list of faults (see samplers.scripted_faults)")
    parser.add_argument("--log", type=Path, help="append what happens to this file, as JSON lines")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds for each token")
    parser.add_argument("--model", default="scripted", help="the name to serve it under")
    parser.add_argument("--context", type=int, default=8192, help="the context window in tokens")
    parser.add_argument("--stream-interval", type=int, default=1, help="tokens in one event of a stream")
    parser.add_argument("--dialect", type=Dialect, choices=list(Dialect), default=Dialect.VLLM)
    parser.add_argument("--refuse", type=Part, choices=list(Part), action="append", default=[])
    parser.add_argument("--reads", type=int, help="tokens of a prompt that it reads; the others are cut in silence")
    parser.add_argument("--no-usage", action="store_true", help="tell no numbers of tokens")
    parser.add_argument("--no-stream", action="store_true", help="answer in one piece, whatever is asked")
    options = parser.parse_args(arguments)
    try:
        server = _server(options)
    except UsageError as error:
        parser.error(str(error))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        stop.wait()


def _server(options: argparse.Namespace) -> ScriptedServer:
    model = ServedModel(
        script=Script.load(options.script),
        name=options.model,
        context_window=options.context,
        dialect=options.dialect,
        stream_interval=max(1, options.stream_interval),
        refuses=frozenset(options.refuse),
        streams=not options.no_stream,
        reads=options.reads,
        tells_usage=not options.no_usage,
    )
    faults = _faults(options.faults) if options.faults else ()
    return ScriptedServer(model, faults, options.delay, options.port, Log(options.log))


def _faults(path: Path) -> tuple[Fault, ...]:
    try:
        return TypeAdapter(tuple[Fault, ...]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"The faults {path} cannot be read: give a JSON list of faults.") from error


if __name__ == "__main__":
    main()
