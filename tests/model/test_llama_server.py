"""The real llama.cpp server, where the extra `embedded` is installed."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.model.embedded.weights import find_weights
from agentless_mini.model.llama_server import plan_embedded
from agentless_mini.model.process import Limits, Server, start, stop
from agentless_mini.settings.model import EmbeddedSettings, WeightsSettings

LIMITS = Limits(start=60.0, grace=5.0)
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="the extra 'embedded' is not installed"),
]


def quiet(_: str, __: float) -> None:
    """Nobody watches."""


def weights(cache: Path) -> Path:
    """Return the carried model, wherever it is at hand."""
    try:
        return find_weights(WeightsSettings(), cache, lambda _: None).path
    except EnvironmentFailed as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("embedded")
    plan = plan_embedded(
        weights(platformdirs.user_cache_path("amini") / "weights"),
        "small",
        EmbeddedSettings(context=1024, parallel=4, threads=2),
    )
    running = asyncio.run(start(plan, folder / "log", LIMITS, quiet))
    yield running
    stop(running, LIMITS)


def ask(server: Server, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
    connection = HTTPConnection("127.0.0.1", urlsplit(server.base_url).port, timeout=60)
    with closing(connection):
        data = json.dumps(body) if body else None
        connection.request("POST" if body else "GET", path, data, {"Content-Type": "application/json"})
        return json.load(connection.getresponse())


def question(count: int, tokens: int) -> dict[str, Any]:
    return {
        "model": "small",
        "messages": [{"role": "user", "content": "Name a colour."}],
        "n": count,
        "max_tokens": tokens,
        "temperature": 1.0,
        "seed": 7,
    }


def test_the_model_is_served_under_its_name_with_the_whole_context_for_each_sample(server: Server) -> None:
    (model,) = ask(server, "/v1/models")["data"]
    assert model["id"] == "small"
    assert model["meta"]["n_ctx"] == 1024


def test_samples_that_share_a_prompt_come_in_one_answer_and_differ(server: Server) -> None:
    choices = ask(server, "/v1/chat/completions", question(4, 24))["choices"]
    texts = [choice["message"]["content"] for choice in sorted(choices, key=lambda choice: choice["index"])]
    assert len(texts) == 4
    assert len(set(texts)) > 1


def test_what_a_request_leaves_open_does_not_narrow_the_samples(server: Server) -> None:
    defaults = ask(server, "/props")["default_generation_settings"]["params"]
    assert {name: defaults[name] for name in ("temperature", "top_p", "top_k", "min_p")} == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
    }


@pytest.mark.parametrize("name", ["none.gguf", "text.gguf"])
def test_weights_that_are_not_there_or_no_model_are_told_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    plan = plan_embedded(tmp_path / name, "small", EmbeddedSettings(context=512, parallel=1))
    with pytest.raises(EnvironmentFailed, match="check that the weights are a whole GGUF file"):
        asyncio.run(start(plan, tmp_path / "log", LIMITS, quiet))
