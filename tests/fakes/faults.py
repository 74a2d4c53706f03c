"""How the scripted server misbehaves: a schedule of faults as data, and what each does to an answer."""

import enum
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from agentless_mini.domain import canonical_json
from tests.fakes.protocol import Json, StreamEvent, error_body

CHAT = "/v1/chat/completions"
GARBAGE = b"\xff\xfe\x00garbage\xc3\x28\r\n\r\n"
TORN_JSON = b'{"choices": [{"index": 0, "delta"'


class FaultKind(enum.StrEnum):
    """The ways to misbehave."""

    RATE_LIMIT = "429"
    ERROR = "500"
    UNAVAILABLE = "503"
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    UNKNOWN_MODEL = "404"
    CONTEXT_OVERFLOW = "400"
    REFUSED = "422"
    SLOW = "slow"  # answer `seconds` later
    CLOSED = "closed"  # hang up without an answer
    CUT = "cut"  # hang up after `after` events of the stream
    GARBAGE = "garbage"  # bytes that are no text, after `after` events
    INVALID_JSON = "invalid-json"  # half an object, after `after` events
    STREAM_ERROR = "stream-error"  # an error object in the stream, after `after` events
    ENDED = "ended"  # an orderly end of the stream after `after` events, with choices unfinished
    EMPTY_CHOICES = "empty-choices"  # a stream of events without choices
    FEWER_CHOICES = "fewer-choices"  # `after` choices, however many were asked for


class Fault(BaseModel):
    """Requests number `first` to `first + times - 1` (from 0) to `path` meet this trouble."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    first: int = 0
    times: int = 1
    path: str = CHAT
    after: int = 0  # how many events (or choices) are delivered properly before
    seconds: float = 0.0  # the delay of SLOW; on refusals the value of a Retry-After header (0: none)
    says: str = ""  # the message of refusals and of STREAM_ERROR, where it is not the usual one

    def hits(self, path: str, number: int) -> bool:
        return path == self.path and self.first <= number < self.first + self.times


class FaultPlan:
    """Counts the requests to each path, from any thread, and says which fault the next one meets."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        """Follow this schedule; where two faults hit the same request the first listed happens."""
        self._faults = faults
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def next(self, path: str) -> Fault | None:
        """Count a request and return its fault, or None where it is to be answered properly."""
        with self._lock:
            number = self._counts[path]
            self._counts[path] += 1
        return next((fault for fault in self._faults if fault.hits(path, number)), None)


_REFUSALS = {
    FaultKind.RATE_LIMIT: (429, "Too many requests."),
    FaultKind.ERROR: (500, "Internal server error."),
    FaultKind.UNAVAILABLE: (503, "Loading model."),
    FaultKind.UNAUTHORIZED: (401, "Unauthorized"),
    FaultKind.FORBIDDEN: (403, "Forbidden"),
    FaultKind.UNKNOWN_MODEL: (404, "The model `scripted` does not exist."),
    FaultKind.REFUSED: (422, "Only n = 1 is supported."),
    FaultKind.CONTEXT_OVERFLOW: (400, "This model's maximum context length is 1 tokens. However, you requested more."),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error instead of an answer."""

    status: int
    body: Json
    headers: tuple[tuple[str, str], ...] = ()


def refusal(fault: Fault) -> Refusal | None:
    """Return the HTTP error that a fault answers with; None for faults that are not refusals."""
    if fault.kind not in _REFUSALS:
        return None
    status, message = _REFUSALS[fault.kind]
    headers = (("Retry-After", f"{fault.seconds:g}"),) if fault.seconds else ()
    return Refusal(status, error_body(status, fault.says or message), headers)


class Hangup(Exception):
    """The connection is to be closed at this point of the answer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A run of bytes of a streamed answer. `step` and `finishes` are those of its event."""

    data: bytes
    step: int
    finishes: int | None = None


def frames(events: Iterator[StreamEvent], fault: Fault | None) -> Iterator[Frame]:
    """Yield a stream's bytes, spoiled as the fault says. Raises `Hangup` where the connection is to be closed."""
    for number, event in enumerate(events):
        if fault is not None and number == fault.after and fault.kind in _SPOILED:
            error = canonical_json(error_body(500, fault.says or "The engine died."))
            before = _sse(error.encode()) if fault.kind is FaultKind.STREAM_ERROR else b""
            yield Frame(before + _SPOILED[fault.kind], event.step)
            if fault.kind is FaultKind.CUT:
                raise Hangup
            return
        body = event.body
        if fault is not None and fault.kind is FaultKind.EMPTY_CHOICES:
            body = body | {"choices": []}
        yield Frame(_sse(canonical_json(body).encode()), event.step, event.finishes)
    yield Frame(_sse(b"[DONE]"), 0)


def spoiled_body(body: bytes, fault: Fault | None) -> bytes:
    if fault is not None and fault.kind is FaultKind.GARBAGE:
        return GARBAGE
    if fault is not None and fault.kind is FaultKind.INVALID_JSON:
        return TORN_JSON
    return body


def _sse(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


_SPOILED = {
    FaultKind.CUT: b"data: {",
    FaultKind.GARBAGE: _sse(GARBAGE),
    FaultKind.INVALID_JSON: _sse(TORN_JSON),
    FaultKind.STREAM_ERROR: _sse(b"[DONE]"),
    FaultKind.ENDED: _sse(b"[DONE]"),
}
