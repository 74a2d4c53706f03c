"""Where a server is, its key and headers, and what other programs' variables (a proxy, OpenAI's key) say for it."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, urlsplit

from agentless_mini.settings.model import ServerSettings

OPENAI = "https://api.openai.com/v1"
_OPENAIS = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
LEAST_SECRET = 4  # letters: shorter values of headers are numbers and names, and stand in many a message


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


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment puts before an address: where it is (without a password), and which variable."""

    url: str
    variable: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What people can turn where a server does not do its part: the names of settings and options.

    `withheld` is the variable whose key was not sent, as it is meant for another address.
    """

    address: str = "--base-url"
    model: str = "--model"
    key: str = "AMINI_API_KEY"
    window: str = "pass --context N with the window that it has"
    load: str = "max_in_flight"
    timeout: str = "[endpoint] timeout_s"
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is and how to get in: `api` ends in /v1 or the like, `root` is what is above it.

    `environment` is that of the process. With `is_openai` what OPENAI_ORG_ID, OPENAI_PROJECT_ID and
    OPENAI_CUSTOM_HEADERS hold is sent, too.
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
