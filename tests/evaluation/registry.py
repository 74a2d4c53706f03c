"""A registry of Docker images that this machine's daemon really pulls from, and that can be in trouble."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Images by name, all with one small layer. `trouble` is the status that manifests are refused with, 0 for none.

    While `silent` is set no manifest is answered at all.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.trouble = 0
        self.silent = threading.Event()
        self.resumed = threading.Event()
        self.asked = 0
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, bytes] = {}

    def add(self, name: str, size: int = 0) -> str:
        """Hold an image and return the name it is pulled by."""
        layer = _layer(name, size)
        zipped = gzip.compress(layer, mtime=0)
        root = {"type": "layers", "diff_ids": [_digest(layer)]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}, "rootfs": root})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._held(config.encode(), "container.image.v1+json"),
            "layers": [self._held(zipped, "image.rootfs.diff.tar.gzip")],
        }
        self._manifests[name] = json.dumps(manifest).encode()
        return f"{self.address}/{name}:latest"

    def _held(self, data: bytes, kind: str) -> dict[str, object]:
        self._blobs[_digest(data)] = data
        return {"mediaType": f"application/vnd.docker.{kind}", "size": len(data), "digest": _digest(data)}

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, type and body for a request."""
        name, _, rest = path.removeprefix("/v2/").partition("/")
        kind, _, reference = rest.partition("/")
        if path == "/v2/":
            return 200, "application/json", b"{}"
        if kind == "blobs" and reference in self._blobs:
            return 200, "application/octet-stream", self._blobs[reference]
        if kind == "manifests":
            self.asked += 1
            if self.silent.is_set():
                self.resumed.wait(60)
            if self.trouble:
                code = "TOOMANYREQUESTS" if self.trouble == 429 else "UNKNOWN"
                said = {"errors": [{"code": code, "message": "You have reached your pull rate limit."}]}
                return self.trouble, "application/json", json.dumps(said).encode()
            if name in self._manifests:
                return 200, MANIFEST, self._manifests[name]
        said = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return 404, "application/json", json.dumps(said).encode()


def _layer(name: str, size: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("who")
        data = name.encode() + b"\0" * size
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: Registry


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, kind, body = self.server.registry.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if status == 200 and kind != "application/json":
            self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def open_registry() -> Iterator[Registry]:
    """Serve on a port of this machine, which a daemon on it takes for a safe one."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.registry = Registry(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.registry
        finally:
            server.registry.resumed.set()
            server.shutdown()
            thread.join()
