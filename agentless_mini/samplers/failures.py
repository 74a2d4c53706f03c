"""What goes wrong between amini and a model server: foreign exceptions -> ours, and whether trying again can help.

The one place where exceptions of the openai SDK and of what lies under it are translated. Nothing here sends anything.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import ValidationError

from agentless_mini.errors import AminiError, ModelUnknown, ServerFailed, ServerUnreachable, Translation

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
    """What people can turn where a server does not do its part: the names of settings and options."""

    address: str = "--base-url"
    model: str = "--model"
    key: str = "AMINI_API_KEY"
    window: str = "pass --context N with the window that it has"
    load: str = "max_in_flight"


SAMPLER_ADVICE = Advice()


@dataclass(frozen=True, slots=True)
class _Place:
    url: str
    advice: Advice


def translation(url: str, secrets: tuple[str, ...], advice: Advice = SAMPLER_ADVICE) -> Translation:
    """Return the table for a server at `url`; none of the `secrets` ever appears in a message."""
    import openai

    place = _Place(url, advice)

    def quoted(build: Callable[[_Place, str], AminiError]) -> Callable[[BaseException], AminiError]:
        return lambda error: build(place, quote(error, secrets))

    return {
        openai.AuthenticationError: quoted(_locked),
        openai.PermissionDeniedError: quoted(_locked),
        openai.NotFoundError: quoted(_not_found),
        openai.BadRequestError: quoted(_refused),
        openai.UnprocessableEntityError: quoted(_refused),
        openai.RateLimitError: quoted(_overloaded),
        openai.APIStatusError: lambda error: _answered(place, error, quote(error, secrets)),
        openai.APITimeoutError: lambda error: _connection(place, error, "is silent for too long"),
        openai.APIConnectionError: lambda error: _connection(place, error, "broke the connection"),
        openai.OpenAIError: quoted(_failing),
        StreamEnded: quoted(_failing),
        **dict.fromkeys((json.JSONDecodeError, UnicodeError, ValidationError), quoted(_garbled)),
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
    return cause is not None and status(error) in _REFUSED and not _is_overflow(quote(cause, ()))


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
    return f"{'.'.join(map(str, first['loc'])) or 'the page'}: {first['msg']}"


def _locked(place: _Place, said: str) -> AminiError:
    return ServerFailed(
        f"The model server at {place.url} wants a key ({said}): set {place.advice.key} to one that it accepts."
    )


def _not_found(place: _Place, said: str) -> AminiError:
    if "model" in said.lower():
        return ModelUnknown(
            f"The model server at {place.url} does not serve this model ({said}): check {place.advice.model}."
        )
    return ServerFailed(
        f"The server at {place.url} does not speak the OpenAI protocol there ({said}): check {place.advice.address}."
    )


def _is_overflow(said: str) -> bool:
    return any(word in said.lower() for word in _OVERFLOW_WORDS)


def _refused(place: _Place, said: str) -> AminiError:
    if _is_overflow(said):
        return ServerFailed(f"A prompt is too long for the model at {place.url} ({said}): {place.advice.window}.")
    return ServerFailed(
        f"The model server at {place.url} refuses the request ({said}): check {place.advice.model} and its options."
    )


def _overloaded(place: _Place, said: str) -> AminiError:
    return ServerFailed(
        f"The model server at {place.url} is over its limit ({said}): try later, or lower {place.advice.load}."
    )


def _answered(place: _Place, error: BaseException, said: str) -> AminiError:
    code = getattr(error, "status_code", 0)
    if not HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        return _failing(place, said)
    return ServerFailed(
        f"The server at {place.url} redirects ({code}), which would hand the key on: "
        f"put the address that it leads to into {place.advice.address}."
    )


def _failing(place: _Place, said: str) -> AminiError:
    return ServerFailed(f"The model server at {place.url} fails ({said}): see its log, and run the same command again.")


def _garbled(place: _Place, said: str) -> AminiError:
    return ServerFailed(
        f"The server at {place.url} does not speak the OpenAI protocol ({said}): check {place.advice.address}."
    )


def _connection(place: _Place, error: BaseException, what: str) -> AminiError:
    if type(error.__cause__).__name__ in _NO_CONNECTION:  # by name: openai 2 uses httpx, openai 3 httpx2
        return ServerUnreachable(
            f"Nothing answers at {place.url}: start the model server, or give {place.advice.address}."
        )
    return ServerFailed(f"The model server at {place.url} {what}: see its log, and run the same command again.")
