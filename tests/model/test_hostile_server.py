"""The sampler on servers that send more than was asked for: each is one sentence, and what was finished is kept."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from itertools import repeat

import pytest

from agentless_mini.domain import Completion
from agentless_mini.errors import AminiError, ServerFailed
from agentless_mini.model.connection import MOST_PAGE, Patience
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.model.contract import ask, run, until_error
from tests.model.scored import listening
from tests.model.served import Clock

MODELS = b'{"data": [{"id": "scripted", "max_model_len": 4096}]}'
BOMB = gzip.compress(b" " * 64 * 1024 * 1024)
FINISHED = b'data: {"choices": [{"index": 0, "delta": {"content": "done"}, "finish_reason": "stop"}]}\n\n'
USED = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
SAID = b'data: {"choices": [{"index": 1, "delta": {"content": "more "}}]}\n\n'
LONG = b'data: {"choices": [{"index": 1, "delta": {"content": "' + b"x" * 10_000 + b'"}}]}\n\n'
DIGITS = b'data: {"choices": [], "usage": {"prompt_tokens": ' + b"1" * 10_000 + b"}}\n\n"
DEEP = b'data: {"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"


@contextmanager
def serving(stream: Callable[[], Iterator[bytes]], models: bytes = MODELS, encoding: str = "") -> Iterator[str]:
    """Serve a list of models, and one stream for whatever else is asked, until the client has enough."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("application/json", iter([models]), "gzip" if models is BOMB else "")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/chat/completions"):
                self.answer("text/event-stream", stream(), encoding)
            else:
                self.send_error(404)

        def answer(self, kind: str, chunks: Iterator[bytes], encoding: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            with suppress(OSError):
                for chunk in chunks:
                    self.wfile.write(chunk)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with listening(Handler) as url:
        yield url


def sampled(url: str, clock: Clock) -> tuple[list[Completion], AminiError | None]:
    async def used() -> tuple[list[Completion], AminiError | None]:
        settings = EndpointSettings.model_validate({"base_url": url, "retries": 1, "max_samples_per_request": 2})
        async with OpenAISampler(settings, patience=Patience(1, clock.sleep)) as sampler:
            return await until_error(sampler, ask("question", (0, 1)))

    return run(used())


@pytest.mark.parametrize(
    ("endless", "said"),
    [
        (SAID, "does not end after the 16 tokens"),
        (LONG, "does not end after the 16 tokens"),
        (b'data: {"choices": []}\n\n' * 1000, "events in one answer"),
        (b": still here\n\n" * 10_000, "over 32 MiB in one answer"),
        (b"x" * 100_000, "an event of over 4 MiB"),
        (b"data: x\n" * 100_000, "an event of over 4 MiB"),
    ],
    ids=["tokens", "characters", "empty events", "comments", "one line", "one event"],
)
def test_a_stream_without_end_is_given_up_once_and_what_was_finished_is_kept(endless: bytes, said: str) -> None:
    clock = Clock()
    with serving(partial(chained, FINISHED + USED, endless)) as url:
        completions, error = sampled(url, clock)

    assert [completion.text for completion in completions] == ["done"]
    assert isinstance(error, ServerFailed)
    assert said in str(error)
    assert clock.waits == []


def chained(first: bytes, endless: bytes) -> Iterator[bytes]:
    yield first
    yield from repeat(endless)


@pytest.mark.parametrize("said", [DIGITS, DEEP], ids=["digits", "deep"])
def test_numbers_and_depths_that_nobody_can_read_are_no_answer(said: bytes) -> None:
    with serving(partial(repeat, said, 1)) as url:
        _, error = sampled(url, Clock())

    assert isinstance(error, ServerFailed)
    assert "does not speak the OpenAI protocol" in str(error)


def test_compressed_answers_are_not_unpacked() -> None:
    with serving(partial(repeat, BOMB, 1), encoding="gzip") as url:
        _, error = sampled(url, Clock())
    assert "compressed data, which may be of any size" in str(error)

    with serving(partial(repeat, b"", 0), models=BOMB) as url:
        _, error = sampled(url, Clock())
    assert "compressed data, which may be of any size" in str(error)


def test_a_page_without_end_is_not_read_on() -> None:
    with serving(partial(repeat, b"", 0), models=b" " * (MOST_PAGE + 1)) as url:
        _, error = sampled(url, Clock())

    assert isinstance(error, ServerFailed)
    assert "over 32 MiB in one answer" in str(error)


def test_an_error_in_a_field_of_its_own_is_read() -> None:
    said = b'error: {"code": 400, "message": "the request exceeds the available context size"}\n\n'
    clock = Clock()
    with serving(partial(repeat, FINISHED + said, 1)) as url:
        completions, error = sampled(url, clock)

    assert [completion.text for completion in completions] == ["done"]
    assert "pass --context N" in str(error)
    assert clock.waits == []


def test_nothing_is_waited_for_where_a_stream_breaks_after_all_is_there() -> None:
    both = FINISHED + FINISHED.replace(b'"index": 0', b'"index": 1')
    clock = Clock()
    with serving(partial(repeat, both + b"data: {\n\n", 1)) as url:
        completions, error = sampled(url, clock)

    assert (len(completions), error, clock.waits) == (2, None, [])
