"""What servers refuse of a request, in their own words, and how they are asked from then on."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import Message, Role
from agentless_mini.errors import AminiError, ServerFailed, boundary
from agentless_mini.model import failures
from agentless_mini.model.connection import Address
from agentless_mini.model.failures import Habits, NoAnswer, Part, folded, refused
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.faults import Fault, FaultKind
from tests.fakes.protocol import Dialect, ServedModel
from tests.fakes.server import ScriptedServer
from tests.model.contract import collect, run
from tests.model.served import SCRIPT, TEXTS, draw_until_error, from_seed_0, served, texts


def answered(status: int, page: object) -> AminiError:
    """Return our error for a page that a server answers with a status."""
    text = page if isinstance(page, str) else json.dumps(page)
    with pytest.raises(AminiError) as raised, boundary(failures.translation(Address("http://host/v1", "", {}, 600.0))):
        raise NoAnswer.of_status(status, text, "")
    return raised.value


def said(message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def unsupported(name: str, more: str = "") -> dict[str, object]:
    """Return the error of OpenAI and Azure for a field."""
    message = f"Unsupported parameter: '{name}' is not supported with this model. {more}"
    return {"error": {"message": message, "param": name, "code": "unsupported_parameter"}}


def extra(*names: str) -> list[dict[str, object]]:
    """Return what pydantic says of fields that a server's model does not have."""
    common = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
    return [{**common, "loc": ["body", name], "input": {"messages": "system seed"}} for name in names]


def vllm(message: str) -> dict[str, object]:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


WORDS: list[tuple[str, int, object, Part | None]] = [
    # System messages: chat templates that raise, and models behind APIs.
    ("vLLM, Gemma", 400, vllm("System role not supported"), Part.SYSTEM),
    ("vLLM, Mistral", 400, vllm("Conversation roles must alternate user/assistant/user/assistant/..."), Part.SYSTEM),
    ("llama.cpp", 500, said("Error: Jinja Exception: System role not supported"), Part.SYSTEM),
    ("TGI", 422, {"error": "Template error: invalid operation: System role not supported"}, Part.SYSTEM),
    ("LM Studio", 400, {"error": "Error rendering prompt: conversation must start with a user prompt"}, Part.SYSTEM),
    ("o1-mini", 400, said("Unsupported value: 'messages[0].role' does not support 'system'"), Part.SYSTEM),
    ("Google", 400, said("Developer instruction is not enabled for models/gemma-3"), Part.SYSTEM),
    ("Anthropic", 400, said('messages: Unexpected role "system". There is a top-level parameter.'), Part.SYSTEM),
    ("MiniMax", 400, said("invalid params, invalid message role: system (2013)"), Part.SYSTEM),
    # Fields.
    ("OpenAI, tokens", 400, unsupported("max_tokens", "Use 'max_completion_tokens' instead."), Part.MAX_TOKENS),
    ("OpenAI, value", 400, said("'temperature' does not support 0.8. Only the default (1) is"), Part.TEMPERATURE),
    ("OpenAI, top_p", 400, unsupported("top_p"), Part.TOP_P),
    ("Azure, seed", 400, said("Unrecognized request argument supplied: seed"), Part.SEED),
    ("Claude", 400, said("`temperature` and `top_p` cannot both be specified for this model."), Part.TOP_P),
    ("Mistral", 422, {"detail": extra("stream_options", "seed")}, Part.STREAM_OPTIONS),
    ("Mistral, inside", 422, {"object": "error", "message": {"detail": extra("seed")}, "param": None}, Part.SEED),
    ("Mistral, in a text", 422, vllm(json.dumps({"detail": extra("n")})), Part.N),
    ("vLLM, strict", 400, vllm("[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'input': 7}]"), Part.SEED),
    ("NIM", 422, {"detail": "body -> n\n  Extra inputs are not permitted (type=extra_forbidden)"}, Part.N),
    ("Fireworks", 400, said("Extra inputs are not permitted, field: 'stream_options'"), Part.STREAM_OPTIONS),
    ("Bedrock", 400, {"message": "Malformed input: #: extraneous key [seed] is not permitted"}, Part.SEED),
    ("Vertex", 400, said('Invalid JSON payload received. Unknown name "seed": Cannot find field.'), Part.SEED),
    ("LiteLLM", 500, said("ollama does not support parameters: {'seed': 1}, for model=x."), Part.SEED),
    ("TGI, value", 422, {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0"}, Part.TOP_P),
    ("a Python server", 500, said("generate() got an unexpected keyword argument 'top_p'"), Part.TOP_P),
    ("n", 400, {"error": {"message": "Only n = 1 is supported.", "param": "n"}}, Part.N),
    # Nothing that can be left out.
    ("too long", 400, vllm("This model's maximum context length is 9 tokens, seed is not supported"), None),
    ("too many", 400, {"error": {"message": "max_tokens is too large: 9000.", "param": "max_tokens"}}, None),
    ("grammar", 400, vllm("The provided grammar is not supported"), None),
    ("only echoed", 400, {"detail": [{"msg": "unknown user", "loc": ["body", "user"], "input": {"seed": 1}}]}, None),
    ("overload", 429, said("seed is not supported"), None),
    ("trouble", 500, "Internal Server Error", None),
    ("nothing", 400, "", None),
]


@pytest.mark.parametrize(("status", "page", "part"), [row[1:] for row in WORDS], ids=[row[0] for row in WORDS])
def test_a_refusal_is_read_in_the_words_of_each_server(status: int, page: object, part: Part | None) -> None:
    assert refused(answered(status, page)) is part


@given(
    st.recursive(
        st.text() | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_page_is_read(page: object) -> None:
    assert refused(answered(400, page)) is None or isinstance(page, dict | list | str)


def test_a_long_refusal_is_read_in_time() -> None:
    began = time.monotonic()
    for words in ("system role ", "not ", "only ", "unexpected ", "[" * 9):
        refused(answered(400, said(words * 100_000)))
    assert time.monotonic() - began < 5


def test_what_was_left_out_is_not_left_out_again() -> None:
    told: list[str] = []
    habits, error = Habits(told.append, "http://host/v1"), answered(400, unsupported("seed"))
    assert habits.learn(error, frozenset())
    assert habits.learn(error, frozenset())  # another request, that was on its way
    assert not habits.learn(error, habits.gone)
    assert habits.gone == {Part.SEED}
    (sentence,) = told
    assert sentence.startswith("The model server at http://host/v1 takes no seed")


def test_the_texts_of_system_messages_stand_before_the_users() -> None:
    chat = ({"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "system", "content": "c"})
    gone = frozenset({Part.SYSTEM})
    assert folded(chat, frozenset()) == chat
    assert folded(chat, gone) == ({"role": "user", "content": "a\n\nc\n\nb"},)
    assert folded(chat[:1], gone) == ({"role": "user", "content": "a"},)
    assert folded(chat[1:2], gone) == chat[1:2]


# --- with a server ---------------------------------------------------------------------------------------------------

CHAT = (Message(Role.SYSTEM, "You repair."), Message(Role.USER, "prompt"))


def drawn(model: ServedModel, indices: tuple[int, ...] = (0, 1)) -> tuple[list[str], list[dict[str, Any]], list[str]]:
    """Return the answers, the bodies that were sent, and what was told."""
    told: list[str] = []

    async def asked(url: str) -> list[str]:
        async with OpenAISampler(EndpointSettings(base_url=url, context_window=8192), tell=told.append) as sampler:
            request = from_seed_0(indices)
            await sampler.count_tokens(CHAT)
            return texts(await collect(sampler, replace(request, messages=CHAT)))

    with ScriptedServer(model) as server:
        return sorted(run(asked(server.url))), [json.loads(seen.body) for seen in server.log.chats()], told


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("part", list(Part))
def test_what_a_server_refuses_is_left_out_once_for_all_and_told_once(dialect: Dialect, part: Part) -> None:
    answers, bodies, told = drawn(ServedModel(script=SCRIPT, refuses=frozenset({part}), dialect=dialect))
    assert len(answers) == 2
    assert set(answers) <= set(TEXTS)
    if part is Part.N:
        assert [body.get("n") for body in bodies[:2]] == [2, 1]
    else:
        assert len(bodies) == (1 if part is Part.SYSTEM and dialect is not Dialect.PLAIN else 2)
    (sentence,) = told
    assert part.value in sentence


def test_all_of_it_refused_is_one_attempt_for_each_part() -> None:
    answers, bodies, told = drawn(ServedModel(script=SCRIPT, refuses=frozenset(Part)), (0,))
    assert answers == [TEXTS[0]]
    assert len(told) == len(Part)
    assert len(bodies) <= len(Part) + 1
    assert bodies[-1].keys() == {"model", "messages", "max_completion_tokens", "stream"}


def test_a_server_that_refuses_what_it_was_not_sent_is_an_error_at_once() -> None:
    with ScriptedServer(served(), (Fault(kind=FaultKind.REFUSED, times=99),)) as server:
        completions, error = draw_until_error(server, max_samples_per_request=1, max_in_flight=1)
        assert len([seen for seen in server.log.chats() if seen.seed == 0]) <= 2
    assert completions == []
    assert isinstance(error, ServerFailed)
