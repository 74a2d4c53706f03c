"""What settings say of a server's address, key and headers, checked before anything is sent.

It exists because every server that is asked over HTTP has these three, whatever it is asked for. What is refused is
not repeated in the message: it may be a secret. `variable` names the one in which people keep the key. What other
programs' variables say (a proxy, OpenAI's key) is looked up here too, for the address that it is meant for.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_ADDRESS = "write it as http://HOST:PORT/v1"
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
OPENAI = "https://api.openai.com/v1"


class ServerSettings(BaseModel):
    """Where a model is served, and how patient its clients are."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key_variable: ClassVar[str]
    """The variable of the environment that holds the key."""

    base_url: str | None = None
    """Address of the API, such as http://localhost:8000/v1 (/v1 is added where no path is given); None: not chosen."""
    model: str | None = None
    """Name of the served model; None: the first that the server lists."""
    api_key: SecretStr = SecretStr("none")
    """Key of the API. Local servers accept anything."""
    retries: int = Field(default=5, ge=0)
    """Attempts after a failure that made no progress, before the run is given up."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds of silence (a queue or a long prompt before the first token counts) after which a request is repeated."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further headers of every request, for gateways."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        return None if url is None else checked_address(url, cls.key_variable)

    @field_validator("api_key")
    @classmethod
    def _is_key(cls, key: SecretStr) -> SecretStr:
        return checked_key(key, cls.key_variable)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return checked_headers(headers)


def checked_address(url: str, variable: str) -> str:
    """Return the address of an API, with /v1 where it has no path. Raises ValueError where it is none."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        raise ValueError(_ADDRESS) from None
    if not is_address or not url.isprintable() or " " in url:
        raise ValueError(_ADDRESS)
    if parts.username or parts.password:
        raise ValueError(f"leave the password out of the address and set {variable}")
    return url.rstrip("/") if parts.path.strip("/") else url.rstrip("/") + "/v1"


def checked_key(key: SecretStr, variable: str) -> SecretStr:
    """Return a key without the line end that a file or a shell adds. Raises ValueError for one that no header carries.

    The message does not show it.
    """
    secret = key.get_secret_value().strip()
    if not secret:
        raise ValueError(f"it is empty: set {variable} to the key, or unset it")
    if not _fits_header(secret):
        raise ValueError(f"it holds characters that no key has: copy it again to {variable}")
    return SecretStr(secret)


def checked_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Return headers as they are. Raises ValueError for a name or value that no header can have."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _fits_header(value.get_secret_value()):
            raise ValueError("write each as a name of letters, digits and -, and a value of printable ASCII")
    return headers


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own: localhost, 127.0.0.0/8, ::1, or what is bound to all (0.0.0.0).

    No proxy leads there: the proxy's own loopback would be asked.
    """
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


def proxy_before(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy through which an address is asked, or None where it is asked directly."""
    parts = urlsplit(url)
    direct = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if is_loopback(url) or any(_covers(entry.strip().lower(), parts) for entry in direct.split(",")):
        return None
    for kind in (f"{parts.scheme}_proxy", "all_proxy"):
        for name in (kind, kind.upper()):
            if environment.get(name):
                return Proxy(_without_password(environment[name]), name)
    return None


def belongs_to_openai(url: str, environment: Mapping[str, str]) -> bool:
    """Return whether what OPENAI_API_KEY and its like hold is meant for an address: for that of OPENAI_BASE_URL alone.

    Without OPENAI_BASE_URL it is api.openai.com, over TLS.
    """
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
        return parts.scheme, parts.hostname or "", parts.port or _usual_port(parts)
    except ValueError:
        return None


def _usual_port(parts: SplitResult) -> int | None:
    return {"http": 80, "https": 443}.get(parts.scheme)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
