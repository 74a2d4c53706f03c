"""What settings say of a server's address, key and headers, checked before anything is sent.

It exists because every server that is asked over HTTP has these three, whatever it is asked for. What is refused is
not repeated in the message: it may be a secret. `variable` names the one in which people keep the key.
"""

import re
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_ADDRESS = "write it as http://HOST:PORT/v1"
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


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
