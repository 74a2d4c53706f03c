"""What the sampler learns of a server: its model, its context window, its way to count tokens."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from agentless_mini.domain import Message, ModelCard, Role
from agentless_mini.errors import ModelError, ModelUnknown, ServerFailed
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.model import count_pieces
from tests.fakes.protocol import Dialect
from tests.fakes.server import ScriptedServer
from tests.model.contract import run
from tests.model.scored import listening
from tests.model.served import card, served, using


@pytest.mark.parametrize(
    ("dialect", "revision"), [(Dialect.VLLM, "0.0.0+scripted"), (Dialect.LLAMA_CPP, "b0-scripted")]
)
def test_the_card_is_learned_from_the_server(dialect: Dialect, revision: str) -> None:
    with ScriptedServer(served(dialect)) as server:
        assert card(server) == ModelCard("scripted", 8192, engine=dialect.value, revision=revision)


def test_a_server_that_does_not_say_its_context_is_given_one_and_counts_are_estimates() -> None:
    with ScriptedServer(served(Dialect.PLAIN)) as server:
        with pytest.raises(ModelError, match="pass --context"):
            card(server)
        assert card(server, context_window=4096) == ModelCard("scripted", 4096, exact_counts=False)


def test_the_smaller_window_counts() -> None:
    with ScriptedServer(served()) as server:
        assert card(server, context_window=1000).context_window == 1000
        assert card(server, context_window=100_000).context_window == 8192


def test_an_unknown_model_is_answered_with_what_is_served() -> None:
    with ScriptedServer(served()) as server:
        with pytest.raises(ModelUnknown, match=r"does not serve 'other': give --model one of scripted\."):
            card(server, model="other")
        assert card(server, model="scripted").name == "scripted"


def test_the_server_is_asked_once_for_its_card() -> None:
    async def thrice(sampler: OpenAISampler) -> None:
        await asyncio.gather(sampler.card(), sampler.card(), sampler.card())

    with ScriptedServer(served()) as server:
        using(server, thrice)
        assert [seen.path for seen in server.log.requests].count("/v1/models") == 1


def test_a_gateway_that_hides_the_tokenizer_leaves_estimates() -> None:
    fault = Fault(kind=FaultKind.FORBIDDEN, path="/tokenize", times=9)
    with ScriptedServer(served(), (fault,)) as server:
        assert card(server).exact_counts is False


def count(server: ScriptedServer, text: str, **settings: object) -> int:
    return using(server, lambda sampler: sampler.count_tokens((Message(Role.USER, text),)), None, **settings)


@pytest.mark.parametrize("dialect", [Dialect.VLLM, Dialect.LLAMA_CPP])
def test_tokens_are_counted_by_the_server(dialect: Dialect) -> None:
    with ScriptedServer(served(dialect)) as server:
        assert count(server, "one two three") == count_pieces(["one two three"])


@pytest.mark.parametrize(
    ("text", "at_least"), [("123456", 6), ("\u4f60\u597d", 6), ("\n" * 10, 10), ("{[()]}", 6), (" " * 16, 4)]
)
def test_an_estimate_counts_digits_marks_line_ends_and_bytes(text: str, at_least: int) -> None:
    with ScriptedServer(served(Dialect.PLAIN)) as server:
        empty = count(server, "", context_window=4096)
        assert count(server, text, context_window=4096) - empty == at_least


# --- servers that answer with these pages and no others ------------------------------------------------------------


@contextmanager
def pages(content: Mapping[str, object]) -> Iterator[str]:
    """Serve JSON pages; a text is served as HTML, and everything else is not found."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = content.get(self.path)
            body = page.encode() if isinstance(page, str) else json.dumps(page).encode()
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html" if isinstance(page, str) else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with listening(Page) as url:
        yield url


def card_of(content: Mapping[str, object], model: str | None = None, window: int | None = None) -> ModelCard:
    async def asked(url: str) -> ModelCard:
        settings = EndpointSettings(base_url=url, model=model, context_window=window, retries=0)
        async with OpenAISampler(settings) as sampler:
            return await sampler.card()

    with pages(content) as url:
        return run(asked(url))


def models(*entries: Mapping[str, object]) -> dict[str, object]:
    return {"/v1/models": {"object": "list", "data": entries}}


@pytest.mark.parametrize(
    "name", ["max_model_len", "loaded_context_length", "context_length", "context_window", "max_context_length"]
)
def test_a_context_window_goes_by_several_names(name: str) -> None:
    assert card_of(models({"id": "m", name: 4096})) == ModelCard("m", 4096, exact_counts=False)


@pytest.mark.parametrize("window", ["128k", -1, 0, 1e30, None, []])
def test_an_odd_window_is_none(window: object) -> None:
    entries = {"id": "a", "context_length": window}, {"id": "m", "context_length": 4096}
    assert card_of(models(*entries), "m").context_window == 4096
    with pytest.raises(ModelError, match="pass --context"):
        card_of(models(*entries), "a")


def test_a_list_of_models_may_be_bare() -> None:
    assert card_of({"/v1/models": [{"id": "m", "context_length": 4096}]}) == ModelCard("m", 4096, exact_counts=False)


def test_a_server_without_a_list_is_believed_to_serve_what_is_named_with_its_window() -> None:
    assert card_of({}, "m", 4096) == ModelCard("m", 4096, exact_counts=False)
    for name, window in (("m", None), (None, 4096)):
        with pytest.raises(ServerFailed, match="check --base-url"):
            card_of({}, name, window)


def test_an_adapter_has_the_window_of_its_base_model() -> None:
    content = models({"id": "base", "max_model_len": 4096, "owned_by": "vllm"}, {"id": "lora", "parent": "base"})
    assert card_of(content, "lora") == ModelCard("lora", 4096, exact_counts=False)


def test_a_model_is_found_by_its_alias() -> None:
    entry = {"id": "/models/m.gguf", "aliases": ["m"], "meta": {"n_ctx": 512}}
    assert card_of(models(entry), "m").name == "/models/m.gguf"


def test_llama_cpp_without_a_window_in_its_list_is_asked_for_its_properties() -> None:
    entry = {"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx_train": 131072}}
    props = {"/props": {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 2, "build_info": "b1"}}
    assert card_of(models(entry) | props) == ModelCard("m", 2048, engine="llama.cpp", revision="b1", exact_counts=False)


@pytest.mark.parametrize("owner", ["vllm", "llamacpp"])
def test_pages_that_a_gateway_hides_are_done_without(owner: str) -> None:
    found = card_of(models({"id": "m", "owned_by": owner, "max_model_len": 4096}))
    assert (found.context_window, found.revision, found.exact_counts) == (4096, "", False)


@pytest.mark.parametrize(
    ("dialect", "page"), [(Dialect.VLLM, "/version"), (Dialect.VLLM, "/tokenize"), (Dialect.LLAMA_CPP, "/props")]
)
def test_a_page_that_fails_is_an_error_and_not_an_absent_page(dialect: Dialect, page: str) -> None:
    fault = Fault(kind=FaultKind.ERROR, path=page, times=9)
    with ScriptedServer(served(dialect), (fault,)) as server, pytest.raises(ServerFailed, match="Internal server"):
        card(server)


def test_a_tokenizer_that_counts_nothing_is_not_believed() -> None:
    content = models({"id": "m", "max_model_len": 4096}) | {"/tokenize": {"count": 0, "tokens": []}}
    assert card_of(content | {"/apply-template": {"prompt": ""}}).exact_counts is False


def test_a_server_without_models_serves_none() -> None:
    for page in (models(), {"/v1/models": {"object": "list", "data": None}}):
        with pytest.raises(ModelUnknown, match="serves no model"):
            card_of(page)


@pytest.mark.parametrize("page", ["<html>Welcome to nginx</html>", [1, 2], {"error": "x"}])
def test_what_is_no_list_of_models_is_no_server(page: object) -> None:
    with pytest.raises(ServerFailed, match="check --base-url"):
        card_of({"/v1/models": page})
    with pytest.raises(ServerFailed, match="check --base-url"):
        card_of({})
