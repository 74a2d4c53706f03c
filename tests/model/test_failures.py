"""The table of foreign exceptions: each that the SDK can raise has a sentence of ours, and a verdict on retrying."""

import importlib
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agentless_mini.errors import AminiError, ModelUnknown, ServerFailed, ServerUnreachable, boundary
from agentless_mini.model import failures
from agentless_mini.model.addresses import Address

httpx: Any = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")

URL = "http://host/v1"
KEY = "sk-0123456789"
ADDRESS = Address(URL, KEY, {}, 600.0)
REQUEST = httpx.Request("POST", URL)


def ours(error: BaseException) -> AminiError:
    with pytest.raises(AminiError) as raised, boundary(failures.translation(ADDRESS)):
        raise error
    return raised.value


def refused(kind: type[openai.APIStatusError], status: int, said: str = "no", **headers: str) -> openai.APIStatusError:
    response = httpx.Response(status, request=REQUEST, headers=headers)
    return kind(f"Error code: {status}", response=response, body={"message": said, "code": status})


def broken(kind: str, error: openai.APIConnectionError) -> openai.APIConnectionError:
    error.__cause__ = getattr(httpx, kind)("inner")
    return error


def garbled() -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(int).validate_python("x")
    return raised.value


CONNECTION = openai.APIConnectionError(request=REQUEST)
TABLE: list[tuple[BaseException, type[AminiError], str, bool]] = [
    (refused(openai.BadRequestError, 400), ServerFailed, "refuses the request", False),
    (refused(openai.BadRequestError, 400, "maximum context length is 4"), ServerFailed, "pass --context N", False),
    (refused(openai.AuthenticationError, 401), ServerFailed, "set AMINI_API_KEY", False),
    (refused(openai.PermissionDeniedError, 403), ServerFailed, "set AMINI_API_KEY", False),
    (refused(openai.NotFoundError, 404, "The model `x` does not exist."), ModelUnknown, "check --model", False),
    (refused(openai.NotFoundError, 404, "Not Found"), ServerFailed, "check --base-url", False),
    (refused(openai.APIStatusError, 307), ServerFailed, "leads to into --base-url", False),
    (refused(openai.APIStatusError, 408), ServerFailed, "fails", True),
    (refused(openai.ConflictError, 409), ServerFailed, "fails", True),
    (refused(openai.APIStatusError, 413), ServerFailed, "fails", False),
    (refused(openai.UnprocessableEntityError, 422), ServerFailed, "refuses the request", False),
    (refused(openai.RateLimitError, 429), ServerFailed, "lower max_in_flight", True),
    (refused(openai.InternalServerError, 500), ServerFailed, "see its log", True),
    (refused(openai.InternalServerError, 501), ServerFailed, "see its log", False),
    (refused(openai.InternalServerError, 503), ServerFailed, "see its log", True),
    (openai.APITimeoutError(REQUEST), ServerFailed, "longer than 600 s: raise [endpoint] timeout_s", True),
    (broken("ConnectTimeout", openai.APITimeoutError(REQUEST)), ServerUnreachable, "start the model server", True),
    (broken("ConnectError", openai.APIConnectionError(request=REQUEST)), ServerUnreachable, "give --base-url", True),
    (broken("ReadError", openai.APIConnectionError(request=REQUEST)), ServerFailed, "broke the connection", True),
    (openai.APIError("the engine died", REQUEST, body=None), ServerFailed, "the engine died", True),
    (openai.APIError("bad", REQUEST, body={"message": "bad", "code": 400}), ServerFailed, "bad", False),
    (openai.APIResponseValidationError(httpx.Response(200, request=REQUEST), None), ServerFailed, "fails", True),
    (openai.OpenAIError("anything else"), ServerFailed, "anything else", True),
    (failures.StreamEnded("the stream ended"), ServerFailed, "the stream ended", True),
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


def test_no_exception_of_the_sdk_is_left_out() -> None:
    listed: tuple[type[BaseException], ...] = tuple(failures.translation(ADDRESS))
    raisable: list[type[BaseException]] = [openai.OpenAIError, *descendants(openai.OpenAIError)]
    assert [kind for kind in raisable if not issubclass(kind, listed)] == []


def test_the_table_is_tested_entry_by_entry() -> None:
    listed = list(failures.translation(ADDRESS))
    hit = {next(kind for kind in listed if isinstance(error, kind)) for error, *_ in TABLE}
    assert hit == set(listed)


def test_what_the_table_does_not_list_is_a_bug_to_be_seen() -> None:
    with pytest.raises(KeyError), boundary(failures.translation(ADDRESS)):
        raise KeyError("x")


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
    headers = {"retry-after": value}
    assert failures.wait_asked_for(ours(refused(openai.RateLimitError, 429, **headers))) == seconds


def test_without_a_response_no_wait_is_asked_for() -> None:
    assert failures.wait_asked_for(ours(failures.StreamEnded("x"))) == 0.0


@pytest.mark.parametrize(
    ("error", "absent", "refusal"),
    [
        (refused(openai.NotFoundError, 404), True, False),
        (refused(openai.InternalServerError, 501), True, False),
        (refused(openai.APIStatusError, 308), True, False),
        (refused(openai.BadRequestError, 400), True, True),
        (refused(openai.BadRequestError, 400, "exceeds the available context size"), True, False),
        (refused(openai.RateLimitError, 429), False, False),
        (CONNECTION, False, False),
        (garbled(), True, False),
    ],
)
def test_a_missing_page_and_a_refused_request_are_told_from_trouble(
    error: BaseException, absent: bool, refusal: bool
) -> None:
    translated = ours(error)
    assert failures.is_absent(translated) is absent
    assert failures.is_refusal(translated) is refusal


PROXIED = Address(URL, KEY, {}, 600.0, environment={"HTTP_PROXY": "http://proxy:3128"})


@pytest.mark.parametrize(
    "error",
    [
        broken("ConnectError", openai.APIConnectionError(request=REQUEST)),
        broken("ConnectTimeout", openai.APITimeoutError(REQUEST)),
        broken("ProxyError", openai.APIConnectionError(request=REQUEST)),
        refused(openai.InternalServerError, 502),
        refused(openai.InternalServerError, 503),
        refused(openai.PermissionDeniedError, 403),
        refused(openai.APIStatusError, 407),
    ],
)
def test_a_proxy_that_may_be_the_cause_is_named_with_a_way_around_it(error: BaseException) -> None:
    with pytest.raises(AminiError) as raised, boundary(failures.translation(PROXIED)):
        raise error
    assert "http://proxy:3128 of HTTP_PROXY" in str(raised.value)
    assert "add host to NO_PROXY" in str(raised.value)
    assert "proxy" not in str(ours(error)).lower()
