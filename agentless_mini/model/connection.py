"""One model server over HTTP: where it is and how to get in, JSON pages, a stream of events, and patience with both.

Its key and headers are the settings', and what other programs' variables (a proxy, OpenAI's key) say for an address.
The HTTP client is imported on the first use.
"""

import asyncio
import ipaddress
import json
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ValidationError

from agentless_mini import __version__
from agentless_mini.errors import AminiError, ServerUnreachable, UsageError, boundary, printable
from agentless_mini.model.failures import NoAnswer, TooMuch, can_pass, cause, refused, translation, wait_asked_for
from agentless_mini.model.streams import Event, whole_events
from agentless_mini.settings.model import ServerSettings

if TYPE_CHECKING:
    import httpx2

OPENAI = "https://api.openai.com/v1"
_OPENAIS = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
LEAST_SECRET = 4  # letters: shorter values of headers are numbers and names, and stand in many a message
Page = TypeVar("Page", bound=BaseModel)
Body = Mapping[str, object]

FIRST_WAIT = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST_BACKOFF = 60.0
CONNECT_TIMEOUT = 10.0
DRAINING = 0.1
MOST_CONNECTIONS, MOST_IDLE = 1000, 100
MOST_PAGE, MOST_EVENT = 32 * 1024 * 1024, 4 * 1024 * 1024  # bytes of a page, and of one event of a stream
MOST_PER_TOKEN = 4096  # bytes that a stream may have for each token that was asked for, beside those of a page


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own, or bound to all (0.0.0.0): no proxy leads there."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


class Proxy(NamedTuple):
    """A proxy that the environment puts before an address: where it is (without a password), and which variable."""

    url: str
    variable: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The settings that people can turn where a server fails; `withheld` held a key meant for another address."""

    address: str = "--base-url"
    model: str = "--model"
    key: str = "AMINI_API_KEY"
    window: str = "pass --context N with the window that it has"
    load: str = "max_in_flight"
    timeout: str = "[endpoint] timeout_s"
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how to get in: `api` ends in /v1 or the like. `environment` is that of the process.

    With `is_openai` what OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS hold is sent, too.
    """

    api: str
    key: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout_s: float
    advice: Advice = Advice()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_openai: bool = False

    @classmethod
    def of(cls, api: str, settings: ServerSettings, advice: Advice, environment: Mapping[str, str]) -> Self:
        """Return an address with the key and the headers of its settings."""
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        return cls(api, settings.api_key.get_secret_value(), headers, settings.timeout_s, advice, environment)

    @property
    def root(self) -> str:
        """Return the address of the server's own pages, which are no part of the protocol."""
        return self.api.removesuffix("/v1")

    def all_headers(self) -> Iterator[tuple[str, str]]:
        """Yield what is sent beside the key: what OpenAI's variables say first, then what the settings do."""
        if self.is_openai:
            own = ((name, self.environment.get(variable)) for name, variable in _OPENAIS.items())
            yield from ((name, said) for name, said in own if said)
            lines = self.environment.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
            parts = (line.partition(":") for line in lines if ":" in line)
            yield from ((name.strip(), value.strip()) for name, _, value in parts)
        yield from self.headers.items()

    @property
    def proxy(self) -> Proxy | None:
        """Return the proxy through which the server is asked, None where it is asked directly."""
        around, parts = self.environment, urlsplit(self.api)
        direct = around.get("no_proxy") or around.get("NO_PROXY") or ""
        if is_loopback(self.api) or any(_covers(entry.strip().lower(), parts) for entry in direct.split(",")):
            return None
        for name in (one for kind in (f"{parts.scheme}_proxy", "all_proxy") for one in (kind, kind.upper())):
            if around.get(name):
                scheme, separator, rest = around[name].rpartition("://")
                return Proxy(scheme + separator + rest.rpartition("@")[2], name)
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what no message may show, the longest first: the words of the key and of the headers."""
        words = {word for value in (self.key, *self.headers.values()) for word in value.split()}
        return tuple(sorted((word for word in words if len(word) >= LEAST_SECRET), key=lambda word: (-len(word), word)))


def belongs_to_openai(url: str, environment: Mapping[str, str]) -> bool:
    """Return whether OPENAI_API_KEY and its like are meant for an address: OPENAI_BASE_URL's, or OpenAI's own."""
    return _origin(url) == _origin(environment.get("OPENAI_BASE_URL") or OPENAI)


def _covers(entry: str, address: SplitResult) -> bool:
    """Return whether an entry of NO_PROXY means the host of an address: its name, its domain, a range of addresses."""
    host, name = address.hostname or "", entry.removeprefix("*").lstrip(".")
    if entry == "*" or (name and (host == name or host.endswith(f".{name}") or address.netloc == name)):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port of an address; None of what is none."""
    try:
        parts = urlsplit(url.strip())
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Patience:
    """`retries` attempts after a failure without progress, after waits that grow as 1, 2, 4 ... 60 seconds.

    Each is shortened at random by up to a quarter so that clients spread.
    """

    retries: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - it only spreads retries

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(LONGEST_BACKOFF, FIRST_WAIT * 2.0 ** (failures - 1)) * (1 - 0.25 * self.jitter.random())


class Connection:
    """A server at an address. Until it has answered once, a refused connection is final: nobody is there.

    Each wait is told once for its cause and number of failures in a row, however many requests meet it.
    """

    def __init__(self, address: Address, patience: Patience, tell: Callable[[str], None]) -> None:
        """Connect to `address` when something is asked; `tell` people in a sentence of waits and smaller loads."""
        self.address, self._patience, self._tell = address, patience, tell
        self._told: dict[str, int] = {}
        self._answered = False
        self._client = _client(address)

    async def ask(self, url: str, page: type[Page], body: Body | None = None) -> Page:
        """Return the page at `url`, or the one that answers `body`, trying again as patience allows."""
        failures = 0
        while True:
            try:
                with self.edge():
                    async with self._client.stream("GET" if body is None else "POST", url, json=body) as response:
                        return page.model_validate(await self._read(response, MOST_PAGE))
            except AminiError as error:
                if isinstance(error.__cause__, ValidationError):  # another page lives there, and will next time
                    raise
                failures += 1
                await self.recover(error, failures)

    async def events(self, body: Body, headers: Mapping[str, str], tokens: int) -> AsyncGenerator[Event, None]:
        """Yield the events of a chat of at most so many tokens, streamed or whole, without a second attempt."""
        import httpx2

        chat = f"{self.address.api}/chat/completions"
        room = MOST_PAGE + tokens * MOST_PER_TOKEN
        with self.edge():
            async with self._client.stream("POST", chat, json=body, headers=headers) as response:
                if response.is_success and not _is_json(response):
                    self._answered = True
                    chunks = _chunks(response, room)
                    async for data in _streamed(chunks, self.address.timeout_s):
                        yield Event.model_validate(_no_error(_parsed(data)))
                    with suppress(TimeoutError, httpx2.HTTPError):
                        async with asyncio.timeout(DRAINING):  # a body that was read whole frees its connection
                            async for _ in chunks:
                                pass
                else:
                    for event in whole_events(_no_error(await self._read(response, room))):
                        yield event

    async def recover(self, error: AminiError, failures: int) -> None:
        """Wait before the next attempt after so many failures in a row; raise `error` where none is worth making."""
        hopeless = isinstance(error, ServerUnreachable) and not self._answered
        if hopeless or refused(error) is not None or failures > self._patience.retries or not can_pass(error):
            raise error
        seconds = max(self._patience.wait(failures), wait_asked_for(error))
        happened = f"The model server at {self.address.api} {cause(error, self.address)}"
        if failures > self._told.get(happened, 0):
            self._told[happened] = failures
            self._tell(f"{happened}; trying again in {seconds:.0f} s ({failures} of {self._patience.retries}).")
        await self._patience.sleep(seconds)

    def tell_fewer(self, most: int) -> None:
        """Tell that at most so many requests are sent at once from now on."""
        load = self.address.advice.load
        self._tell(f"At most {most} requests at a time are sent to {self.address.api} from now on ({load}).")

    def edge(self) -> AbstractContextManager[None]:
        """Return the boundary at which whatever goes wrong with this server becomes ours."""
        return boundary(translation(self.address))

    async def aclose(self) -> None:
        """Close the connections to the server."""
        await self._client.aclose()

    async def _read(self, response: "httpx2.Response", most: int) -> object:
        """Return the page of an answer in one piece: JSON, or text. Raises `NoAnswer` where it is no success."""
        content = b"".join([chunk async for chunk in _chunks(response, most)])
        if not response.is_success:
            retry_after = response.headers.get("retry-after", "")
            raise NoAnswer.of_status(response.status_code, content.decode("utf-8", "replace"), retry_after)
        self._answered = True
        return _parsed(content) if _is_json(response) else content.decode("utf-8", "replace")


class Client:
    """What asks one server: an async context manager that closes its connections."""

    def __init__(self, connection: Connection) -> None:
        """Ask by this connection."""
        self._connection = connection

    async def __aenter__(self) -> Self:
        """Return the client, which is closed when the block ends."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections to the server."""
        await self._connection.aclose()


def _client(address: Address) -> "httpx2.AsyncClient":
    """Return a client that follows no redirect and no proxy to this machine. Raises `UsageError` for a bad proxy."""
    import httpx2

    own = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # so that what arrives is what is held in memory
        "User-Agent": f"amini/{__version__}",
        "Authorization": f"Bearer {address.key}",
    }
    # On this machine without the environment's proxies, yet with its certificates.
    local = is_loopback(address.api)
    try:
        return httpx2.AsyncClient(
            headers={name.lower(): value for name, value in (*own.items(), *address.all_headers())},
            timeout=httpx2.Timeout(address.timeout_s, connect=CONNECT_TIMEOUT),
            limits=httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_IDLE),
            follow_redirects=False,  # headers would go wherever it leads
            trust_env=not local,
            verify=ssl.create_default_context() if local else True,
        )
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        proxy = address.proxy
        name = f"{proxy.variable} ({printable(proxy.url)})" if proxy else "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
        raise UsageError(f"The proxy in {name} cannot be used: write it as http://HOST:PORT, or unset it.") from error


def _is_json(response: "httpx2.Response") -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower().endswith("json")


def _parsed(data: str | bytes) -> object:
    """Return the JSON value; a number of more digits than Python reads is none."""
    try:
        return json.loads(data)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def _no_error(page: object) -> object:
    """Return what a server said. Raises `NoAnswer` where it says in there what went wrong."""
    if isinstance(page, dict) and (wrong := page.get("error") or (page.get("object") == "error" and page)):
        said = wrong.get("message") if isinstance(wrong, dict) else wrong
        raise NoAnswer(str(said or "it failed within an answer"), wrong)
    return page


async def _chunks(response: "httpx2.Response", most: int) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an answer as they come. Raises `TooMuch` beyond `most`, and for compressed ones."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise TooMuch("compressed data, which may be of any size")
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > most:
            raise TooMuch(f"over {most // 1024**2} MiB in one answer")
        yield chunk


async def _streamed(chunks: AsyncIterator[bytes], patience: float) -> AsyncIterator[str]:
    """Yield the data of server-sent events up to the one that says [DONE], or the end.

    Comments alone are silence: after so many seconds of them the answer is given up, as after none.
    """
    import httpx2

    left, data, held, heard = b"", list[str](), 0, time.monotonic()
    async for chunk in chunks:
        if time.monotonic() - heard > patience:
            raise httpx2.ReadTimeout("nothing but comments")
        lines = (left + chunk).splitlines(keepends=True)
        left = lines.pop() if not lines[-1].endswith(b"\n") else b""
        if held + len(left) > MOST_EVENT:
            raise TooMuch(f"an event of over {MOST_EVENT // 1024**2} MiB")
        for line in (line.rstrip(b"\r\n").decode() for line in lines):
            if line.startswith("error:"):  # llama.cpp's, until September 2025
                data.append(f'{{"error": {line.removeprefix("error:")}}}')
            elif line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
                held += len(line)
            elif not line and data:
                said, data, held = "\n".join(data), [], 0
                if said.startswith("[DONE]"):
                    return
                yield said
                heard = time.monotonic()
