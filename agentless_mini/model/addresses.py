"""What settings say of a server's address, key and headers, checked before anything is sent.

It exists because every server that is asked over HTTP has these three, whatever it is asked for. What is refused is
not repeated in the message: it may be a secret. `variable` names the one in which people keep the key. What other
programs' variables say (a proxy, OpenAI's key) is looked up here too, for the address that it is meant for.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

OPENAI = "https://api.openai.com/v1"


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
