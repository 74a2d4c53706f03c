"""The table of foreign exceptions: each that the HTTP client can raise has a sentence of ours, and whether to retry."""

import json
from collections.abc import Iterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agentless_mini.errors import AminiError, ModelUnknown, ServerFailed, ServerUnreachable, boundary
from agentless_mini.model import failures
from agentless_mini.model.connection import Address
from agentless_mini.model.failures import NoAnswer

URL = "http://host/v1"
KEY = "sk-0123456789"
ADDRESS = Address(URL, KEY, {}, 600.0)


def ours(error: BaseException) -> AminiError:
    with pytest.raises(AminiError) as raised, boundary(failures.translation(ADDRESS)):
        raise error
    return raised.value


def refused(status: int, said: str = "no", retry_after: str = "") -> NoAnswer:
    return NoAnswer.of_status(status, json.dumps({"error": {"message": said, "code": status}}), retry_after)


def garbled() -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(int).validate_python("x")
    return raised.value


TABLE: list[tuple[BaseException, type[AminiError], str, bool]] = [
    (refused(400), ServerFailed, "refuses the request", False),
    (refused(400, "maximum context length is 4"), ServerFailed, "pass --context N", False),
    (refused(401), ServerFailed, "set AMINI_API_KEY", False),
    (refused(403), ServerFailed, "set AMINI_API_KEY", False),
    (refused(404, "The model `x` does not exist."), ModelUnknown, "check --model", False),
    (refused(404, "Not Found"), ServerFailed, "check --base-url", False),
    (refused(307), ServerFailed, "leads to into --base-url", False),
    (refused(408), ServerFailed, "fails", True),
    (refused(409), ServerFailed, "fails", True),
    (refused(413), ServerFailed, "pass --context N", False),
    (refused(422), ServerFailed, "refuses the request", False),
    (refused(429), ServerFailed, "lower max_in_flight", True),
    (refused(500), ServerFailed, "see its log", True),
    (refused(501), ServerFailed, "see its log", False),
    (refused(503), ServerFailed, "see its log", True),
    (NoAnswer.of_status(502, "<h1>Bad Gateway</h1>", ""), ServerFailed, "Error code: 502", True),
    (NoAnswer.of_status(500, "", ""), ServerFailed, "Error code: 500", True),
    (NoAnswer.of_status(400, '{"error": "No model is loaded."}', ""), ServerFailed, "(No model is loaded)", False),
    (NoAnswer.of_status(401, '{"detail": "Missing key"}', ""), ServerFailed, "(Missing key)", False),
    (NoAnswer.of_status(400, '[{"error": {"message": "bad key"}}]', ""), ServerFailed, "(bad key)", False),
    (refused(500, "the request exceeds the available context size"), ServerFailed, "pass --context N", False),
    (NoAnswer("prompt is too long: 9 tokens > 4 maximum"), ServerFailed, "pass --context N", False),
    (httpx2.ReadTimeout("x"), ServerFailed, "longer than 600 s: raise [endpoint] timeout_s", True),
    (httpx2.ConnectTimeout("x"), ServerUnreachable, "start the model server", True),
    (httpx2.ConnectError("x"), ServerUnreachable, "give --base-url", True),
    (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] no"), ServerUnreachable, "in SSL_CERT_FILE", True),
    (httpx2.ProxyError("x"), ServerUnreachable, "give --base-url", True),
    (httpx2.UnsupportedProtocol("x"), ServerUnreachable, "give --base-url", True),
    (httpx2.ReadError("x"), ServerFailed, "broke the connection", True),
    (httpx2.StreamClosed(), ServerFailed, "broke the connection", True),
    (httpx2.InvalidURL("x"), ServerFailed, "broke the connection", True),
    (NoAnswer("the engine died"), ServerFailed, "the engine died", True),
    (NoAnswer("bad", {"message": "bad", "code": 400}), ServerFailed, "bad", False),
    (failures.StreamEnded("the stream ended"), ServerFailed, "the stream ended", True),
    (failures.TooMuch("compressed data"), ServerFailed, "more than was asked for (compressed data)", False),
    (json.JSONDecodeError("Expecting value", "x", 0), ServerFailed, "does not speak the OpenAI protocol", True),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), ServerFailed, "does not speak the OpenAI protocol", True),
    (garbled(), ServerFailed, "does not speak the OpenAI protocol", True),
    (RecursionError("maximum depth"), ServerFailed, "does not speak the OpenAI protocol", True),
]


@pytest.mark.parametrize(("error", "kind", "said", "passes"), TABLE, ids=lambda value: type(value).__name__)
def test_a_foreign_exception_becomes_one_sentence_of_ours(
    error: BaseException, kind: type[AminiError], said: str, passes: bool
) -> None:
    translated = ours(error)
    assert type(translated) is kind
    assert said in str(translated)
    assert "\n" not in str(translated)
    assert str(translated).endswith(".")
    assert failures.can_pass(translated) is passes


def descendants(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_no_exception_of_the_client_is_left_out() -> None:
    listed: tuple[type[BaseException], ...] = tuple(failures.translation(ADDRESS))
    roots: tuple[type[BaseException], ...] = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
    raisable = [*roots, *(kind for root in roots for kind in descendants(root))]
    assert [kind for kind in raisable if not issubclass(kind, listed)] == []


def test_every_kind_of_failure_is_tested() -> None:
    kinds = [kind for kind in vars(failures).values() if isinstance(kind, failures.Trouble)]
    assert {*kinds} - {failures.NO_WAY} == {failures.trouble_of(error) for error, *_ in TABLE}


@pytest.mark.parametrize(
    "said",
    [
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens",
        "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Input is too long for requested model.",
        "litellm.ContextWindowExceededError: too much",
    ],
)
def test_a_prompt_that_is_too_long_is_told_in_the_words_of_each_server(said: str) -> None:
    assert failures.trouble_of(NoAnswer.of_status(422, json.dumps({"error": said}), "")) is failures.TOO_LONG


@given(st.text())
def test_a_quoted_exception_is_one_short_line_without_the_key(text: str) -> None:
    line = failures.quote(ValueError(f"{text}{KEY}\n{text}{KEY}"), (KEY,))
    assert KEY not in line
    assert len(line.splitlines()) == 1
    assert len(line) <= 310


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2.0), ("0.5", 0.5), ("-3", 0.0), ("900", 300.0), ("nan", 0.0), ("inf", 0.0), ("Wed, 21 Oct 2026", 0.0)],
)
def test_the_wait_that_a_server_asks_for_is_read_or_ignored(value: str, seconds: float) -> None:
    assert failures.wait_asked_for(ours(refused(429, retry_after=value))) == seconds


@pytest.mark.parametrize(
    ("error", "absent", "refusal"),
    [
        (refused(404), True, False),
        (refused(501), True, False),
        (refused(308), True, False),
        (refused(400), True, True),
        (refused(400, "exceeds the available context size"), True, False),
        (refused(429), False, False),
        (httpx2.ReadError("x"), False, False),
        (garbled(), True, False),
    ],
)
def test_a_missing_page_and_a_refused_request_are_told_from_trouble(
    error: BaseException, absent: bool, refusal: bool
) -> None:
    translated = ours(error)
    assert failures.is_absent(translated) is absent
    assert (failures.trouble_of(error) is failures.REFUSED) is refusal


PROXIED = Address(URL, KEY, {}, 600.0, environment={"HTTP_PROXY": "http://proxy:3128"})


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("x"),
        httpx2.ConnectTimeout("x"),
        httpx2.ProxyError("x"),
        refused(502),
        refused(503),
        refused(403),
        refused(407),
    ],
)
def test_a_proxy_that_may_be_the_cause_is_named_with_a_way_around_it(error: BaseException) -> None:
    with pytest.raises(AminiError) as raised, boundary(failures.translation(PROXIED)):
        raise error
    assert "http://proxy:3128 of HTTP_PROXY" in str(raised.value)
    assert "add host to NO_PROXY" in str(raised.value)
    assert "proxy" not in str(ours(error)).lower()
