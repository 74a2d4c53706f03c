"""The network of a build: a proxy outside of its box, which leads to the package indexes and hosts that the user names.

A box without a network hands a listener of its own out to the proxy (see `inside.runner`). An address is compared as
it is written, so that no other name of this machine or its network leads to one. Names are looked up here alone.

An index with a password is told to the build without it, as if it were not encrypted. The proxy encrypts, checks the
certificate and adds the password to requests that read what lies beside the index, and to no others of that host. That
of the user's own proxy stays here, too.

What is not guaranteed: that an allowed host passes nothing on. A build can tell it what it reads by what it asks for.
"""

import array
import asyncio
import base64
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from agentless_mini.environment.machine import Index
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox.host import PROXY_PORT

_PYPI = "https://pypi.org/simple"
_FILES = {"pypi.org": "files.pythonhosted.org", "test.pypi.org": "test-files.pythonhosted.org"}
"""Where these indexes have their files."""
_PORTS = {"http": 80, "https": 443}
_HEAD, _CHUNK = 64 * 1024, 64 * 1024
_PAGE = 64 * 1024 * 1024
"""Bytes of a page of an index in which links are changed."""
_PATIENCE = 60.0
"""Seconds that a request, a connection and the beginning of an answer may take."""
_AT_ONCE = 128
_TOLD = 5
_PASSED_ON = {"accept", "if-modified-since", "if-none-match", "if-range", "range", "user-agent"}
_END = b"\r\n\r\n"

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Refused(Exception):
    """The proxy does not do what was asked; the status says why."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """What stands behind a host and port of a build's requests, and the password for paths `below` one."""

    host: str
    port: int
    secure: bool = False
    password: str = ""
    below: str = ""


class IndexProxy:
    """Answers one build. `index` is what it is told; it was kept from `refused` hosts, `unreached` gave no answer."""

    def __init__(self, index: Index, hosts: Collection[str], path: Path) -> None:
        """Allow the indexes, and hosts with or without a port. The listener comes by a socket at this path."""
        self.path = path
        self.refused: dict[str, None] = {}
        self.unreached: dict[str, str] = {}
        self._certificates = index.certificates.decode("ascii", "replace") or None
        self._proxies = {name.lower(): value for name, value in index.proxies if value}
        self._token, self._open = secrets.token_urlsafe(16), 0
        settings = dict(index.settings)
        self._trusted = settings.get("trusted-host", "").split()
        self._origins: dict[tuple[str, int], _Origin] = {}
        for name in hosts:
            host, _, port = name.lower().partition(":")
            for number in [int(port)] if port.isdecimal() else _PORTS.values():
                self._origins[host, number] = _Origin(host, number)
        if not {"index-url", "no-index"} & set(settings):
            self._shown(_PYPI)
        lists = {name: value.split() for name, value in settings.items() if name.endswith(("url", "links"))}
        settings |= {name: " ".join(map(self._shown, addresses)) for name, addresses in lists.items()}
        # The build takes an index with a password to be one without, which is not encrypted.
        plain = [origin.host for origin in self._origins.values() if origin.password]
        if trusted := dict.fromkeys([*self._trusted, *plain]):
            settings["trusted-host"] = " ".join(trusted)
        here = f"http://build:{self._token}@127.0.0.1:{PROXY_PORT}"
        proxies = tuple((name, here) for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"))
        self.index = replace(index, settings=tuple(sorted(settings.items())), proxies=proxies)

    def _shown(self, address: str) -> str:
        """Allow an address, and return it as the build is told it."""
        with suppress(ValueError):  # it has no port, which the build will tell
            parts = urlsplit(address)
            if parts.scheme in _PORTS and parts.hostname:
                host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
                self._origins.setdefault((host, port), _Origin(host, port))
                if host in _FILES:
                    self._origins[_FILES[host], 443] = _Origin(_FILES[host], 443)
                if parts.username is not None:
                    # The files of an index lie beside its pages, by custom.
                    below = parts.path.rstrip("/").removesuffix("simple").removesuffix("+").rstrip("/")
                    origin = _Origin(host, port, parts.scheme == "https", _basic(parts), below)
                    self._origins[host, parts.port or 80] = origin
                    return parts._replace(scheme="http", netloc=_named(parts)).geturl()
        return address

    def notes(self) -> tuple[str, ...]:
        """Return a sentence on what the build was kept from, and one on what was not reached, where there is that."""
        shown = ", ".join(printable(host[:60]) for host in list(self.refused)[:_TOLD])
        more = f" and {len(self.refused) - _TOLD} more" if len(self.refused) > _TOLD else ""
        told = f"The build was kept from {shown}{more}: name what it needs in build_hosts of [sandbox]."
        failed = "; ".join(f"{host} ({printable(why[:200])})" for host, why in self.unreached.items())
        return (*((told,) if shown else ()), *((f"The build did not reach {failed}.",) if failed else ()))

    async def answer(self, door: socket.socket) -> None:
        """Wait for the listener at a socket that listens, and answer what comes, until this is cancelled."""
        line, _ = await asyncio.get_running_loop().sock_accept(door)
        door.close()
        with line:
            line.settimeout(_PATIENCE)
            _, given, _, _ = await asyncio.to_thread(line.recvmsg, 1, socket.CMSG_SPACE(4))
        listener = socket.socket(fileno=array.array("i", given[0][2][:4])[0])
        async with asyncio.TaskGroup() as tasks:

            def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.create_task(self._serve((reader, writer)))

            async with await asyncio.start_server(begin, sock=listener, limit=_HEAD) as server:
                await server.serve_forever()

    async def _serve(self, streams: _Streams) -> None:
        """Answer one connection. Those are closed that are too many."""
        said = ""
        self._open += 1
        try:
            if self._open <= _AT_ONCE:
                await self._respond(streams)
        except _Refused as refused:
            said = str(refused)
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError):
            said = "502 No Answer"
        finally:
            self._open -= 1
            with suppress(OSError):
                if said:
                    answer = f"HTTP/1.1 {said}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    streams[1].write(answer.encode())
                streams[1].close()
                await streams[1].wait_closed()

    async def _respond(self, streams: _Streams) -> None:
        async with asyncio.timeout(_PATIENCE):
            lines = (await streams[0].readuntil(_END)).decode("latin-1").split("\r\n")
        if any(letter < " " for line in lines for letter in line):  # a server could take it for the end of a line
            raise _Refused("400 Not A Line")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        method, target, version = lines[0].split(" ")
        mine = _basic(urlsplit(f"//build:{self._token}@"))
        if not secrets.compare_digest(fields.get("proxy-authorization", "").encode(), mine.encode()):
            raise _Refused('407 Who Are You\r\nProxy-Authenticate: Basic realm="amini"')
        if method == "CONNECT":
            origin = self._allowed(urlsplit(f"//{target}"))
            there = await self._connected(replace(origin, secure=False))  # what goes through is encrypted already
            streams[1].write(b"HTTP/1.1 200 Connected\r\n\r\n")
            both = _copied(streams[0], there[1]), _copied(there[0], streams[1])
            await asyncio.gather(*both, return_exceptions=True)
        elif method in {"GET", "HEAD"} and target.startswith("http://"):
            await self._pass_on(f"{method} {version}", urlsplit(target), fields, streams[1])
        else:
            raise _Refused("405 It Reads Alone")

    def _allowed(self, parts: SplitResult) -> _Origin:
        """Return where a request goes. Raises `_Refused`, and notes the host."""
        host = (parts.hostname or "").lower()
        origin = self._origins.get((host, parts.port or 80))
        if origin is None:
            if len(self.refused) < _AT_ONCE:
                self.refused[host] = None
            raise _Refused("403 Not An Index")
        return origin

    async def _connected(self, origin: _Origin) -> _Streams:
        """Connect to an origin, and note where that fails."""
        try:
            streams = await self._opened(origin)
        except (OSError, EOFError) as error:
            self.unreached[origin.host] = str(error) or type(error).__name__
            raise
        self.unreached.pop(origin.host, None)
        return streams

    async def _opened(self, origin: _Origin) -> _Streams:
        """Connect to an origin, where the user has a proxy for it through that."""
        async with asyncio.timeout(_PATIENCE):
            secured = ssl.create_default_context(cadata=self._certificates) if origin.secure else None
            if secured and origin.host in {name.partition(":")[0].lower() for name in self._trusted}:
                secured.check_hostname, secured.verify_mode = False, ssl.CERT_NONE
            value = self._proxies.get("http_proxy" if origin.port == 80 else "https_proxy", "")
            value = value or self._proxies.get("all_proxy", "")
            if not value or proxy_bypass_environment(origin.host, {"no": self._proxies.get("no_proxy", "")}):
                return await asyncio.open_connection(origin.host, origin.port, ssl=secured, limit=_HEAD)
            proxy = urlsplit(value if "://" in value else f"http://{value}")
            if proxy.scheme != "http":
                raise ConnectionRefusedError(f"{proxy.scheme} is no kind of proxy that is known here")
            reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port or 80, limit=_HEAD)
            try:
                there = f"{origin.host}:{origin.port}"
                proof = f"Proxy-Authorization: {_basic(proxy)}\r\n" if proxy.username is not None else ""
                writer.write(f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n{proof}\r\n".encode("latin-1"))
                if (await reader.readuntil(_END)).split(b" ")[1] != b"200":
                    raise ConnectionRefusedError
                if secured:
                    await writer.start_tls(secured, server_hostname=origin.host)
            except BaseException:
                writer.close()
                raise
            return reader, writer

    async def _pass_on(
        self, asking: str, parts: SplitResult, fields: dict[str, str], writer: asyncio.StreamWriter
    ) -> None:
        """Pass on a request that reads, and its answer."""
        origin = self._allowed(parts)
        there, thither = await self._connected(origin)
        try:
            path = parts._replace(scheme="", netloc="").geturl() or "/"
            # An answer to the older version comes in one piece, so that it can be changed, but some servers give none.
            method, _, version = asking.partition(" ")
            version = "HTTP/1.0" if origin.secure else version
            asked = [f"{method} {path} {version}", f"Host: {_named(parts)}", "Accept-Encoding: identity"]
            asked += [f"{name}: {value}" for name, value in fields.items() if name in _PASSED_ON]
            if origin.password and _is_below(parts.path, origin.below):
                asked.append(f"Authorization: {origin.password}")
            thither.write("\r\n".join([*asked, "Connection: close", "", ""]).encode("latin-1"))
            async with asyncio.timeout(_PATIENCE):
                head = (await there.readuntil(_END)).removesuffix(_END)
            is_page = origin.secure and any(word in head.lower() for word in (b"text/html", b"json"))
            dropped = (b"connection:", b"content-length:") if is_page else (b"connection:",)
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(dropped)]
            answer = bytearray(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
            while is_page and len(answer) < _PAGE and (data := await there.read(_CHUNK)):
                answer += data
            if origin.secure:  # links lead through here, too
                secure, plain = (f"{scheme}://{_named(parts)}/".encode() for scheme in ("https", "http"))
                answer = answer.replace(secure, plain)
            writer.write(answer)
            await _copied(there, writer)
        finally:
            thither.close()


def _named(parts: SplitResult) -> str:
    """Return the host and port of an address, as they are written there."""
    return parts.netloc.rpartition("@")[2]


def _basic(parts: SplitResult) -> str:
    """Return what proves the user of an address."""
    words = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(words.encode()).decode()}"


def _is_below(path: str, folder: str) -> bool:
    """Tell whether a path is below a folder, however its reader takes it."""
    plain = unquote(unquote(path)).replace("\\", "/")
    names = [name.partition(";")[0] for name in plain.split("/")]
    return ".." not in names and plain.startswith(f"{folder}/")


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, to the end of one of both."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def open_proxy(
    index: Index, hosts: Collection[str], folder: Path, note: Callable[[str], None]
) -> AsyncIterator[IndexProxy]:
    """Give a proxy that waits in a folder for the listener of one box, and `note` in the end what it was kept from.

    Raises `EnvironmentFailed`.
    """
    path = folder / f"proxy-{secrets.token_hex(4)}"
    proxy = IndexProxy(index, hosts, path)
    failed = "A build cannot be given a way to the package index"
    with socket.socket(socket.AF_UNIX) as door:
        with boundary({OSError: lambda error: EnvironmentFailed(f"{failed} ({error}): set TMPDIR to a shorter path.")}):
            door.setblocking(False)
            door.bind(str(path))
            await asyncio.to_thread(path.chmod, 0o666)  # for root of a container; nobody else comes to its folder
            door.listen(1)
        answering = asyncio.ensure_future(proxy.answer(door))
        try:
            yield proxy
            for text in proxy.notes():
                note(text)
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            await asyncio.to_thread(path.unlink, missing_ok=True)
