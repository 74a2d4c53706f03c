"""What goes wrong between amini and a model server: foreign exceptions -> ours, and whether trying again can help.

The one place where exceptions of the openai SDK and of what lies under it are translated. Nothing here sends anything.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from pydantic import ValidationError

from agentless_mini.errors import AminiError, ModelUnknown, ServerFailed, ServerUnreachable, Translation, printable
from agentless_mini.model.addresses import Proxy

LONGEST_WAIT = 300.0  # seconds that a server may ask for with Retry-After
_QUOTED = 300  # characters of a foreign message
_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError"}
_WORTH_RETRYING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_OVERFLOW_WORDS = (
    "context length",
    "context size",
    "context window",
    "maximum context",
    "exceed_context",
    "max_model_len",
)


class StreamEnded(Exception):
    """The stream came to an orderly end before the answer did. The sampler raises it itself, to have it translated."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What people can turn where a server does not do its part: the names of settings and options.

    `withheld` is the variable whose key was not sent as it is meant for another address, "" where there is none.
    """

    address: str = "--base-url"
    model: str = "--model"
    key: str = "AMINI_API_KEY"
    window: str = "pass --context N with the window that it has"
    load: str = "max_in_flight"
    timeout: str = "[endpoint] timeout_s"
    withheld: str = ""


SAMPLER_ADVICE = Advice()


@dataclass(frozen=True, slots=True)
class Peer:
    """What messages say of a server: its address, what to turn, the seconds it may be silent, a proxy before it."""

    url: str
    advice: Advice = SAMPLER_ADVICE
    timeout_s: float = 600.0
    proxy: Proxy | None = None

    def by_proxy(self) -> str:
        """Return a hint for answers that may be a proxy's, "" where there is none."""
        if self.proxy is None:
            return ""
        return f" (or {_bypassing(self)}, if it is the answer of the proxy {_named(self.proxy)})"


def translation(peer: Peer, secrets: tuple[str, ...]) -> Translation:
    """Return the table for a server; none of the `secrets` ever appears in a message."""
    import openai

    def quoted(build: Callable[[Peer, str], AminiError]) -> Callable[[BaseException], AminiError]:
        return lambda error: build(peer, quote(error, secrets))

    return {
        openai.AuthenticationError: quoted(_locked),
        openai.PermissionDeniedError: quoted(_locked),
        openai.NotFoundError: quoted(_not_found),
        openai.BadRequestError: quoted(_refused),
        openai.UnprocessableEntityError: quoted(_refused),
        openai.RateLimitError: quoted(_overloaded),
        openai.APIStatusError: lambda error: _answered(peer, error, quote(error, secrets)),
        openai.APITimeoutError: lambda error: _silent(peer, error),
        openai.APIConnectionError: lambda error: _connection(peer, error, "broke the connection"),
        openai.OpenAIError: quoted(_failing),
        StreamEnded: quoted(_failing),
        **dict.fromkeys((json.JSONDecodeError, UnicodeError, ValidationError, RecursionError), quoted(_garbled)),
    }


def status(error: AminiError) -> int | None:
    """Return the HTTP status behind a translated error, also where it came inside a stream; None without a bad one."""
    cause = error.__cause__
    said = str(getattr(cause, "status_code", None) or getattr(cause, "code", None))
    code = int(said) if said.isdecimal() else 0
    return code if code >= HTTPStatus.MULTIPLE_CHOICES else None


def can_pass(error: AminiError) -> bool:
    """Return whether the same request may succeed later: an overload, a failure or a broken connection."""
    code = status(error)
    if code is None:
        return error.__cause__ is not None
    fails = code >= HTTPStatus.INTERNAL_SERVER_ERROR and code != HTTPStatus.NOT_IMPLEMENTED
    return fails or code in _WORTH_RETRYING


def is_refusal(error: AminiError) -> bool:
    """Return whether the server refused the request as it is, for a reason other than its length."""
    cause = error.__cause__
    return cause is not None and status(error) in _REFUSED and not is_overflow(quote(cause, ()))


def is_silent(error: AminiError) -> bool:
    """Return whether the server was there and sent nothing for longer than it may."""
    import openai

    return isinstance(error.__cause__, openai.APITimeoutError) and isinstance(error, ServerFailed)


def is_absent(error: AminiError) -> bool:
    """Return whether the server has no such page, or none that speaks as expected."""
    return isinstance(error.__cause__, ValueError) or (status(error) is not None and not can_pass(error))


def wait_asked_for(error: AminiError) -> float:
    """Return the seconds that the server asks to wait (Retry-After), up to `LONGEST_WAIT`; 0 where it does not."""
    response = getattr(error.__cause__, "response", None)
    try:
        seconds = float(response.headers.get("retry-after", "0")) if response is not None else 0.0
    except ValueError:  # a date: the backoff decides
        return 0.0
    return max(0.0, min(LONGEST_WAIT, seconds)) if math.isfinite(seconds) else 0.0


def quote(error: BaseException, secrets: tuple[str, ...]) -> str:
    """Return what a foreign exception says, as one short line without secrets; the server's own words come first."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    line = " ".join(str(said or _words(error)).split()).rstrip(".") or type(error).__name__
    for secret in secrets:
        line = line.replace(secret, "***")
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "..."


def _words(error: BaseException) -> str:
    """Return what an exception says. What it shows of a page is left out: a secret may be cut in two there."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not first["loc"]:
        return "the page is no JSON object"
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _locked(peer: Peer, said: str) -> AminiError:
    wants = f"The model server at {peer.url} wants a key ({said}): set {peer.advice.key} to one that it accepts"
    if peer.advice.withheld:
        return ServerFailed(f"{wants}; {peer.advice.withheld} was not sent, as it is meant for another address.")
    return ServerFailed(f"{wants}{peer.by_proxy()}.")


def _not_found(peer: Peer, said: str) -> AminiError:
    if "model" in said.lower():
        return ModelUnknown(
            f"The model server at {peer.url} does not serve this model ({said}): check {peer.advice.model}."
        )
    return ServerFailed(
        f"The server at {peer.url} does not speak the OpenAI protocol there ({said}): check {peer.advice.address}."
    )


def is_overflow(said: str) -> bool:
    """Return whether a server's words are about a prompt that is too long for the model."""
    return any(word in said.lower() for word in _OVERFLOW_WORDS)


def _refused(peer: Peer, said: str) -> AminiError:
    if is_overflow(said):
        return ServerFailed(f"A prompt is too long for the model at {peer.url} ({said}): {peer.advice.window}.")
    return ServerFailed(
        f"The model server at {peer.url} refuses the request ({said}): check {peer.advice.model} and its options."
    )


def _overloaded(peer: Peer, said: str) -> AminiError:
    return ServerFailed(
        f"The model server at {peer.url} is over its limit ({said}): try later, or lower {peer.advice.load}."
    )


def _answered(peer: Peer, error: BaseException, said: str) -> AminiError:
    code = getattr(error, "status_code", 0)
    if not HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        return _failing(peer, said)
    return ServerFailed(
        f"The server at {peer.url} redirects ({code}), which would hand the key on: "
        f"put the address that it leads to into {peer.advice.address}."
    )


def _failing(peer: Peer, said: str) -> AminiError:
    return ServerFailed(
        f"The model server at {peer.url} fails ({said}): see its log, and run the same command again{peer.by_proxy()}."
    )


def _garbled(peer: Peer, said: str) -> AminiError:
    return ServerFailed(
        f"The server at {peer.url} does not speak the OpenAI protocol ({said}): check {peer.advice.address}."
    )


def _connection(peer: Peer, error: BaseException, what: str) -> AminiError:
    if type(error.__cause__).__name__ not in _NO_CONNECTION:  # by name: openai 2 uses httpx, openai 3 httpx2
        return ServerFailed(f"The model server at {peer.url} {what}: see its log, and run the same command again.")
    if peer.proxy is not None:
        return ServerUnreachable(
            f"The proxy {_named(peer.proxy)} does not lead to {peer.url} ({quote(error.__cause__ or error, ())}): "
            f"start or correct it, or {_bypassing(peer)}."
        )
    return ServerUnreachable(f"Nothing answers at {peer.url}: start the model server, or give {peer.advice.address}.")


def _silent(peer: Peer, error: BaseException) -> AminiError:
    if type(error.__cause__).__name__ in _NO_CONNECTION:
        return _connection(peer, error, "")
    return ServerFailed(
        f"The model server at {peer.url} was silent for longer than {peer.timeout_s:g} s: raise "
        f"{peer.advice.timeout} if it only works long, lower {peer.advice.load} if it has too much at once, or see "
        "its log."
    )


def _named(proxy: Proxy) -> str:
    return f"{printable(proxy.url)} of {proxy.variable}"


def _bypassing(peer: Peer) -> str:
    return f"add {urlsplit(peer.url).hostname} to NO_PROXY"
