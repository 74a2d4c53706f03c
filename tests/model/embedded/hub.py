"""A server that answers as the model hub does, as far as finding and fetching a file goes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """Serves repositories: {"owner/name": {"file": contents}}. `asked` lists (method, path).

    `corrupt` is put in place of what a file holds, in transit; there is one commit, and one branch.
    """

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.asked: list[tuple[str, str]] = []
        self.corrupt: bytes | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub(repositories: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    with Hub(repositories) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        self.server.asked.append((self.command, self.path))
        owner, name, *rest = self.path.split("?")[0].removeprefix("/api/models").strip("/").split("/")
        files = self.server.repositories.get(f"{owner}/{name}")
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such model"}, with_body)
        elif rest[:1] in (["tree"], ["resolve"], ["revision"]) and rest[1] not in (COMMIT, "main"):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such commit"}, with_body)
        elif rest[:1] == ["tree"]:
            self._send(200, json.dumps([_entry(name, data) for name, data in files.items()]).encode(), {}, with_body)
        elif self.path.startswith("/api/models"):
            self._send(200, json.dumps(_described(f"{owner}/{name}", files)).encode(), {}, with_body)
        elif rest[:1] == ["resolve"] and "/".join(rest[2:]) in files:
            data = files["/".join(rest[2:])]
            headers = {"ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            self._send(200, data if self.server.corrupt is None else self.server.corrupt, headers, with_body)
        else:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file", "X-Repo-Commit": COMMIT}
            self._send(404, b"", headers, with_body)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _entry(name: str, data: bytes) -> dict[str, object]:
    lfs = {"oid": sha256(data).hexdigest(), "size": len(data), "pointerSize": 128}
    large = {"lfs": lfs} if name.endswith(".gguf") else {}
    return {"type": "file", "path": name, "size": len(data), "oid": blob_id(data), **large}


def blob_id(data: bytes) -> str:
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _described(repository: str, files: Mapping[str, bytes]) -> dict[str, object]:
    return {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
