"""A Docker daemon that has some images and answers questions about others as it is told. It makes no container."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import unquote


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    images: Sequence[str]
    registry: Sequence[str] | None
    ending: threading.Event


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = re.sub(r"^/v[\d.]+", "", unquote(self.path))
        name = re.sub(r"^/(images|distribution)/|/json$", "", path)
        if path == "/version":
            self._answer(200, {"ApiVersion": "1.41"})
        elif path == "/info":
            self._answer(200, {"NCPU": 1, "MemTotal": 1 << 30})
        elif path.startswith("/images/"):
            here = name in self.server.images
            self._answer(200 if here else 404, {"Id": "sha256:1"} if here else {"message": "No such image"})
        elif self.server.registry is None:
            self.server.ending.wait()
        elif name in self.server.registry:
            self._answer(200, {})
        else:
            self._answer(500, {"message": "no such host"})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "a client"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def scripted_daemon(path: Path, images: Sequence[str] = (), registry: Sequence[str] | None = ()) -> Iterator[str]:
    """Listen at a path, and give the address for DOCKER_HOST. A registry of None never answers."""
    server = _Server(str(path), _Handler)
    server.images, server.registry, server.ending = images, registry, threading.Event()
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield f"unix://{path}"
    finally:
        server.ending.set()
        server.shutdown()
        serving.join()
        server.server_close()
