"""The proxy of a build, asked as a box would ask it: by a listener that it is handed."""

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agentless_mini.environment.machine import Index
from agentless_mini.environment.proxy import IndexProxy, open_proxy
from agentless_mini.errors import EnvironmentFailed

SECRET = base64.b64encode(b"me:p4ss").decode()


@dataclass
class Server:
    """Answers each request with these bytes after a head, and keeps what it was asked."""

    body: bytes = b"a page"
    kind: str = "text/html"
    more: str = ""
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode())
        length = f"Content-Length: {len(self.body)}\r\nContent-Type: {self.kind}\r\n{self.more}"
        writer.write(f"HTTP/1.0 200 OK\r\n{length}\r\n".encode() + self.body)
        await writer.drain()
        writer.close()


@dataclass
class Box:
    """What a box has: the port of its proxy, and what it was told of it."""

    proxy: IndexProxy
    port: int

    async def ask(self, line: str, *fields: str, token: bool = True, then: bytes = b"") -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        there = urlsplit(dict(self.proxy.index.proxies)["http_proxy"])
        proof = base64.b64encode(f"{there.username}:{there.password}".encode()).decode()
        lines = [line, *fields, *([f"Proxy-Authorization: Basic {proof}"] if token else []), "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + then)
        said = await asyncio.wait_for(reader.read(-1), 5)
        writer.close()
        return said.decode()


@asynccontextmanager
async def box(folder: Path, hosts: tuple[str, ...] = (), **settings: str) -> AsyncIterator[Box]:
    """Open a proxy for these settings of an index, and hand it a listener as the runner does."""
    named = tuple((name.replace("_", "-"), value) for name, value in settings.items() if not name.endswith("proxy"))
    proxies = tuple((name, value) for name, value in settings.items() if name.endswith("proxy"))
    certificates = (folder / "cert.pem").read_bytes() if (folder / "cert.pem").exists() else b""
    async with open_proxy(Index(named, proxies, certificates), hosts, folder, lambda text: None) as proxy:
        with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as line:
            line.connect(str(proxy.path))
            socket.send_fds(line, [b"x"], [port.fileno()])
            yield Box(proxy, port.getsockname()[1])


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def told(**settings: str) -> dict[str, str]:
    """Return what a build is told of an index."""
    named = tuple((name.replace("_", "-"), value) for name, value in settings.items())
    return dict(IndexProxy(Index(named), (), Path("/nowhere")).index.settings)


def test_what_a_build_is_told_has_no_password() -> None:
    shown = told(
        index_url="https://me:p4ss@host/simple",
        extra_index_url="https://you:w0rd@other:8443/a/+simple/ https://third/simple file:///here",
        find_links="/wheels http://me:p4ss@files/x",
        trusted_host="third",
        timeout="7",
    )
    assert shown == {
        "index-url": "http://host/simple",
        "extra-index-url": "http://other:8443/a/+simple/ https://third/simple file:///here",
        "find-links": "/wheels http://files/x",
        "trusted-host": "third host other files",
        "timeout": "7",
    }
    assert told(timeout="7") == {"timeout": "7"}
    assert told(index_url="https://host:port/simple") == {"index-url": "https://host:port/simple"}


def test_it_leads_to_the_index_and_to_hosts_that_are_named_and_nowhere_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with Server().running() as index, Server().running() as named, Server().running() as other:
            hosts = (f"localhost:{named.port}",)
            async with box(tmp_path, hosts, index_url=f"http://127.0.0.1:{index.port}/simple") as here:
                got = await here.ask(
                    f"GET http://127.0.0.1:{index.port}/simple/x HTTP/1.1", "User-Agent: u", "Cookie: c"
                )
                assert got.endswith("Connection: close\r\n\r\na page")
                assert "user-agent: u" in index.asked[0]
                assert "Cookie" not in index.asked[0]
                through = b"GET / HTTP/1.1\r\n\r\n"
                got = await here.ask(f"CONNECT LOCALHOST:{named.port} HTTP/1.1", then=through)
                assert got.startswith("HTTP/1.1 200 Connected\r\n\r\nHTTP/1.0 200 OK")
                refused = [
                    "169.254.169.254:80",
                    f"127.0.0.1:{other.port}",
                    f"127.1:{index.port}",
                    f"[::1]:{named.port}",
                ]
                refused += [f"0:{index.port}", "pypi.org:443", f"localhost.:{named.port}", "127.0.0.1", ""]
                for name in refused:
                    for line in (f"CONNECT {name} HTTP/1.1", f"GET http://{name}/ HTTP/1.1"):
                        assert (await here.ask(line)).startswith("HTTP/1.1 403 "), line
                (note,) = here.proxy.notes()
                assert note.startswith("The build was kept from 169.254.169.254, 127.0.0.1, 127.1, ::1, 0 and 3 more: ")
            assert (len(index.asked), len(named.asked), other.asked) == (1, 1, [])

    run(test)


def test_nobody_uses_it_without_its_token_or_to_write(tmp_path: Path) -> None:
    async def test() -> None:
        async with Server().running() as index, box(tmp_path, index_url=f"http://127.0.0.1:{index.port}/") as here:
            line = f"GET http://127.0.0.1:{index.port}/ HTTP/1.1"
            assert (await here.ask(line, token=False)).startswith("HTTP/1.1 407 ")
            assert (await here.ask(line, "Proxy-Authorization: Basic eDp5", token=False)).startswith("HTTP/1.1 407 ")
            for other in ("POST", "PUT", "DELETE", "OPTIONS"):
                assert (await here.ask(line.replace("GET", other))).startswith("HTTP/1.1 405 ")
            for broken in (
                "GET",
                "a b c d",
                "CONNECT [::1 HTTP/1.1",
                f"GET {'x' * 70_000} HTTP/1.1",
                "\x00",
                line + "\n",
            ):
                assert (await here.ask(broken))[9:12] in {"502", "405", "400"}
            assert (await here.ask(line, "User-Agent: x\nX-HTTP-Method-Override: DELETE")).startswith("HTTP/1.1 400 ")
            assert index.asked == []
            assert here.proxy.notes() == ()

    run(test)


def test_a_password_is_added_beside_its_index_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with Server().running() as index:
            there = f"127.0.0.1:{index.port}"
            async with box(tmp_path, index_url=f"http://me:p4ss@{there}/group/simple/") as here:
                paths = ["/group/simple/x/", "/group/files/x.whl?a=b", "/group/", "/", "/user", "/groups", "/group"]
                paths += ["/group/../user", "/group/%2e%2e/user", "/group/%252e%252e/user", "/group/..%5cuser"]
                paths += ["/group/..;/user", "/group/..;a=b/user", "/group/simple/%2e%2e%2f%2e%2e/user"]
                for path in paths:
                    await here.ask(f"GET http://{there}{path} HTTP/1.1", "Authorization: Basic eDp5")
                await here.ask(f"CONNECT {there} HTTP/1.1", then=b"GET /group/simple/ HTTP/1.1\r\n\r\n")
        with_password = [head.split()[1] for head in index.asked if f"Authorization: Basic {SECRET}" in head]
        assert with_password == paths[:3]
        assert all("eDp5" not in head for head in index.asked)
        assert len(index.asked) == len(paths) + 1

    run(test)


@pytest.fixture
def certified(tmp_path: Path) -> ssl.SSLContext:
    """Return what a server of localhost needs, whose certificate lies in the folder."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl, to make a certificate")
    made = f"req -x509 -newkey rsa:2048 -nodes -keyout {tmp_path}/key.pem -out {tmp_path}/cert.pem -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([openssl, *made.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


def test_an_encrypted_index_with_a_password_is_encrypted_outside_and_its_links_stay_inside(
    tmp_path: Path, certified: ssl.SSLContext
) -> None:
    async def test() -> None:
        async with Server().running(certified) as index:
            there = f"localhost:{index.port}"
            index.body = f"<a href='https://{there}/files/x'> https://elsewhere/".encode()
            index.more = f"Location: https://{there}/next\r\n"
            async with box(tmp_path, index_url=f"https://me:p4ss@{there}/simple") as here:
                assert dict(here.proxy.index.settings)["index-url"] == f"http://{there}/simple"
                got = await here.ask(f"GET http://{there}/simple/ HTTP/1.1")
                assert f"<a href='http://{there}/files/x'> https://elsewhere/" in got
                assert f"Location: http://{there}/next" in got
                assert "Content-Length" not in got
                index.kind, index.body = "application/zip", f"https://{there}/ as bytes".encode()
                assert (await here.ask(f"GET http://{there}/files/x HTTP/1.1")).endswith(f"https://{there}/ as bytes")
            assert all(SECRET in head for head in index.asked)
            (tmp_path / "cert.pem").unlink()
            async with box(tmp_path, index_url=f"https://me:p4ss@{there}/simple") as here:
                assert (await here.ask(f"GET http://{there}/simple/ HTTP/1.1")).startswith("HTTP/1.1 502 ")
            async with box(tmp_path, index_url=f"https://me:p4ss@{there}/simple", trusted_host="localhost") as here:
                assert "200 OK" in await here.ask(f"GET http://{there}/simple/ HTTP/1.1")

    run(test)


def test_the_users_own_proxy_is_used_and_its_password_kept(tmp_path: Path) -> None:
    async def test() -> None:
        # One proxy stands for the user's: it leads to the index, and wants its token.
        own, outer = tmp_path / "own", tmp_path / "outer"
        own.mkdir()
        outer.mkdir()
        async with Server().running() as index:
            there = f"127.0.0.1:{index.port}"
            async with box(outer, (there,)) as users:
                address = urlsplit(dict(users.proxy.index.proxies)["http_proxy"])
                through = f"http://{address.username}:{address.password}@127.0.0.1:{users.port}"
                async with box(own, index_url=f"http://{there}/simple", https_proxy=through) as here:
                    assert (await here.ask(f"GET http://{there}/simple HTTP/1.1")).endswith("a page")
                    assert str(address.password) not in str(here.proxy.index)
                async with box(own, ("127.0.0.2:1",), index_url=f"http://{there}/", https_proxy=through) as here:
                    assert (await here.ask("CONNECT 127.0.0.2:1 HTTP/1.1")).startswith("HTTP/1.1 502 ")
                assert list(users.proxy.refused) == ["127.0.0.2"]
                socks = "socks5://x:1"
                async with box(own, index_url=f"http://{there}/", no_proxy="127.0.0.1", all_proxy=socks) as here:
                    assert (await here.ask(f"GET http://{there}/ HTTP/1.1")).endswith("a page")
                async with box(own, index_url=f"http://{there}/", all_proxy=socks) as here:
                    assert (await here.ask(f"GET http://{there}/ HTTP/1.1")).startswith("HTTP/1.1 502 ")

    run(test)


def test_connections_are_counted_and_end_with_the_build(tmp_path: Path) -> None:
    async def test() -> None:
        async with box(tmp_path) as here:
            waiting = [await asyncio.open_connection("127.0.0.1", here.port) for _ in range(128)]
            await asyncio.sleep(0.2)
            with suppress(ConnectionError):  # closed before the question, or after it
                assert await here.ask("CONNECT pypi.org:443 HTTP/1.1") == ""
        for reader, writer in waiting:
            assert await asyncio.wait_for(reader.read(-1), 5) in {b"", b"HTTP/1.1 502 No Answer\r\n"}
            writer.close()
        assert not here.proxy.path.exists()

    run(test)


def test_a_path_that_is_too_long_says_what_to_do(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(EnvironmentFailed, match="set TMPDIR to a shorter path"):
            async with open_proxy(Index(), (), tmp_path / ("x" * 120), print):
                pass

    run(test)


def test_an_index_that_is_not_reached_is_told_until_it_is(tmp_path: Path) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with box(tmp_path, index_url=f"http://127.0.0.1:{port}/simple") as here:
            for line in (f"GET http://127.0.0.1:{port}/simple/x HTTP/1.1", f"CONNECT 127.0.0.1:{port} HTTP/1.1"):
                assert "502 No Answer" in await here.ask(line)
                (note,) = here.proxy.notes()
                assert note.startswith("The build did not reach 127.0.0.1 (")
                assert "refused" in note or "Connect call failed" in note
            server = Server()
            listening = await asyncio.start_server(server._answer, "127.0.0.1", port)
            async with listening:
                assert "a page" in await here.ask(f"GET http://127.0.0.1:{port}/simple/x HTTP/1.1")
            assert here.proxy.notes() == ()

    run(test)
