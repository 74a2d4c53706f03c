"""What the scripted server remembers: each request, each sample that it delivered, each client that left early.

Tests say with it what was sent and what was paid for.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. For chats `prompt` is the digest of the messages and `samples` the seed of each choice asked for.

    `headers` are those that came with it, by name in small letters.
    """

    path: str
    body: str
    stage: str = ""
    instance: str = ""
    prompt: str = ""
    samples: tuple[int, ...] = ()
    seed: int | None = None
    n: int = 0
    fault: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivered:
    """One sample whose last token was written to the connection of request `request`."""

    request: int
    prompt: str
    sample: int


class Log:
    """The memory of one server; any thread may add to it. Requests are numbered from 0, over all paths.

    `requests` and `deliveries` are in order, `left` are the requests whose client closed the connection before the
    end, `peak` is the largest number of requests that were in flight at once.
    """

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.deliveries: list[Delivered] = []
        self.left: list[int] = []
        self.peak = 0
        self._in_flight = 0
        self._lock = threading.Lock()

    def chats(self) -> tuple[Seen, ...]:
        return tuple(seen for seen in self.requests if seen.samples)

    @contextmanager
    def request(self, seen: Seen) -> Iterator[int]:
        with self._lock:
            number = len(self.requests)
            self.requests.append(seen)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
        try:
            yield number
        finally:
            with self._lock:
                self._in_flight -= 1

    def deliver(self, delivered: Delivered) -> None:
        with self._lock:
            self.deliveries.append(delivered)

    def leave(self, number: int) -> None:
        with self._lock:
            self.left.append(number)
