"""What the scripted server says, as data: the bodies and stream events of the OpenAI-compatible protocol.

It plays the three kinds of server that the sampler meets: vLLM (with its scoring pages), llama.cpp, and one that offers
the protocol and nothing else.
"""

import enum
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.domain import Finish, canonical_json
from agentless_mini.errors import ServerFailed
from agentless_mini.model.failures import Part
from tests.fakes.model import Answer, Script, count_pieces, pieces

Json = dict[str, Any]

_FINISH_ON_THE_WIRE = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.FILTER: "content_filter"}


class Dialect(enum.StrEnum):
    """Which server is played: what it says of itself, how it counts tokens, how it reports usage in a stream."""

    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    PLAIN = "plain"


class ServedModel(BaseModel):
    """The model that the scripted server pretends to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    script: Script
    name: str = "scripted"
    context_window: int = 8192  # prompt and answer together, in tokens (`model.pieces`)
    dialect: Dialect = Dialect.VLLM
    slots: int = 4  # llama.cpp only: how many choices one request may ask for
    stream_interval: int = Field(1, ge=1)  # tokens in an event of a stream; the first comes alone, as on vLLM
    refuses: frozenset[Part] = frozenset()  # answered with an error, each in the words of a server that does
    streams: bool = True  # where it is asked to, or answers in one piece all the same
    reads: int | None = None  # how many tokens of a prompt it reads, in silence; None: all
    tells_usage: bool = True
    reasoning_field: str = "reasoning"


class WireMessage(BaseModel):
    """One message of a chat, as it comes in."""

    role: str
    content: str


class StreamOptions(BaseModel):
    """What a stream is to report beside the text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions, as far as the script needs it."""

    messages: tuple[WireMessage, ...]
    model: str = ""
    n: int = 1
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def limit(self) -> int | None:
        """Return how many tokens the answer may have, by either name; None where it does not say."""
        return self.max_completion_tokens or self.max_tokens

    def contents(self) -> tuple[str, ...]:
        return tuple(message.content for message in self.messages)

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON of the messages, in hex: the prompt's identity in the log."""
        plain = [message.model_dump() for message in self.messages]
        return hashlib.sha256(canonical_json(plain).encode()).hexdigest()

    def samples(self) -> tuple[int, ...]:
        """Return the seed of each choice, as vLLM and llama.cpp assign them; a request without a seed counts as 0."""
        first = self.seed or 0
        return tuple(range(first, first + self.n))


class TokenizeRequest(BaseModel):
    """The body of POST /tokenize: vLLM's with messages or prompt, llama.cpp's with content."""

    messages: tuple[WireMessage, ...] = ()
    prompt: str = ""
    content: str = ""


class TemplateRequest(BaseModel):
    """The body of llama.cpp's POST /apply-template."""

    messages: tuple[WireMessage, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers to one request: choice k is `answers[k]`, drawn with seed `samples[k]`. `id` names it."""

    request: ChatRequest
    model: ServedModel
    answers: tuple[Answer, ...]
    samples: tuple[int, ...]
    id: str
    prompt_tokens: int
    cached_tokens: int

    def usage(self, completion_tokens: int) -> Json | None:
        """Return the usage object for so many tokens of the answer; None where the server tells none."""
        if not self.model.tells_usage:
            return None
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def tells_at_end(self) -> bool:
        return self.model.tells_usage and self.request.stream_options.include_usage

    def total(self) -> int:
        return sum(answer.tokens() for answer in self.answers)

    def fewer(self, choices: int) -> "Reply":
        return replace(self, answers=self.answers[:choices], samples=self.samples[:choices])


def models_body(model: ServedModel) -> Json:
    entry: Json = {"id": model.name, "object": "model", "created": 0}
    if model.dialect is Dialect.VLLM:
        entry |= {"owned_by": "vllm", "root": model.name, "parent": None, "max_model_len": model.context_window}
    elif model.dialect is Dialect.LLAMA_CPP:
        entry |= {"owned_by": "llamacpp", "aliases": [model.name], "meta": {"n_ctx": model.context_window}}
    return {"object": "list", "data": [entry]}


def props_body(model: ServedModel) -> Json:
    settings = {"n_ctx": model.context_window}
    return {"default_generation_settings": settings, "total_slots": model.slots, "build_info": "b0-scripted"}


def tokenize_body(model: ServedModel, request: TokenizeRequest) -> Json:
    """Return the body of POST /tokenize. As the real one, llama.cpp's counts nothing but `content`.

    Raises `ServerFailed` as `template_body`.
    """
    _apply_template(model, request.messages)
    if model.dialect is Dialect.LLAMA_CPP:
        return {"tokens": list(range(len(pieces(request.content))))}
    chat = count_pieces(message.content for message in request.messages)
    count = chat if request.messages else len(pieces(request.prompt))
    return {"count": count, "max_model_len": model.context_window, "tokens": list(range(count))}


def template_body(model: ServedModel, request: TemplateRequest) -> Json:
    """Return the body of POST /apply-template: a text with as many tokens as the chat counts.

    Raises `ServerFailed` where the model's template refuses the messages.
    """
    _apply_template(model, request.messages)
    turns = "".join(f"<{message.role[:8]}:>{message.content}" for message in request.messages)
    return {"prompt": f"{turns}<:>"}


def _apply_template(model: ServedModel, messages: tuple[WireMessage, ...]) -> None:
    if Part.SYSTEM in model.refuses and any(message.role == "system" for message in messages):
        raise ServerFailed("System role not supported")


def completion_body(reply: Reply) -> Json:
    choices = []
    for number, answer in enumerate(reply.answers):
        said = {"role": "assistant", "content": answer.text, reply.model.reasoning_field: answer.reasoning or None}
        choices.append({"index": number, "message": said, "finish_reason": _FINISH_ON_THE_WIRE[answer.finish]})
    return _envelope(reply, "chat.completion") | {"choices": choices, "usage": reply.usage(reply.total())}


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream. `finishes` is the seed of the sample that it ends; `step` counts the rounds of tokens."""

    body: Json
    step: int
    finishes: int | None = None


def stream_events(reply: Reply) -> Iterator[StreamEvent]:
    """Yield the events of a streamed answer: some tokens of each choice in turn, so that the choices interleave."""
    columns = [_deltas(answer, reply.model) for answer in reply.answers]
    for row in zip_longest(*columns):
        for number, delta in enumerate(row):
            if delta is not None:
                yield from _choice_events(reply, number, delta)
    if reply.tells_at_end() and reply.model.dialect is not Dialect.LLAMA_CPP:
        yield StreamEvent(_usage_event(reply, reply.total()), len(columns))


@dataclass(frozen=True, slots=True)
class _Delta:
    """What an event adds to a choice, nothing at its end; `tokens` is how many the choice has then."""

    body: Json
    tokens: int


def _deltas(answer: Answer, model: ServedModel) -> Iterator[_Delta]:
    yield _Delta({"role": "assistant", "content": ""}, 0)
    told, interval = 0, model.stream_interval
    for part, said in ((model.reasoning_field, pieces(answer.reasoning)), ("content", pieces(answer.text))):
        sent = 0
        while sent < len(said):
            more = said[sent : sent + (interval if told else 1)]
            sent, told = sent + len(more), told + len(more)
            yield _Delta({part: "".join(more)}, told)
    yield _Delta({}, told + 1)


def _choice_events(reply: Reply, number: int, delta: _Delta) -> Iterator[StreamEvent]:
    answer, ends = reply.answers[number], not delta.body
    reason = _FINISH_ON_THE_WIRE[answer.finish] if ends else None
    choice = {"index": number, "delta": delta.body, "finish_reason": reason}
    body = _envelope(reply, "chat.completion.chunk") | {"choices": [choice]}
    if reply.request.stream_options.continuous_usage_stats:
        body["usage"] = reply.usage(min(delta.tokens, answer.tokens()))
    yield StreamEvent(body, delta.tokens, reply.samples[number] if ends else None)
    if ends and reply.model.dialect is Dialect.LLAMA_CPP and reply.tells_at_end():
        yield StreamEvent(_usage_event(reply, answer.tokens()), delta.tokens)


def _usage_event(reply: Reply, completion_tokens: int) -> Json:
    return _envelope(reply, "chat.completion.chunk") | {"choices": [], "usage": reply.usage(completion_tokens)}


def _envelope(reply: Reply, kind: str) -> Json:
    return {"id": f"chatcmpl-{reply.id}", "object": kind, "created": 0, "model": reply.model.name}


def error_body(status: int, message: str) -> Json:
    return {"error": {"message": message, "type": "scripted", "param": None, "code": status}}


def refused_body(part: Part) -> Json:
    unsupported = f"Unsupported parameter: '{part.value}' is not supported with this model."
    said = {
        Part.SYSTEM: "System role not supported",
        Part.STREAM_OPTIONS: "Extra inputs are not permitted, field: 'stream_options'",
        Part.SEED: "Unrecognized request argument supplied: seed",
        Part.TOP_P: "`temperature` and `top_p` cannot both be specified for this model.",
        Part.MAX_TOKENS: f"{unsupported} Use 'max_completion_tokens' instead.",
    }
    return error_body(400, said.get(part, unsupported))


def _has(request: ChatRequest, part: Part) -> bool:
    if part is Part.SYSTEM:
        return any(message.role == "system" for message in request.messages)
    if part is Part.TOP_P and request.temperature is None:
        return False
    return part.value in request.model_fields_set


def refused(model: ServedModel, request: ChatRequest) -> Json | None:
    """Return the error for a request that the played server would not accept; None for one that it answers."""
    if request.model != model.name and model.dialect is not Dialect.LLAMA_CPP:
        return error_body(404, f"The model `{request.model}` does not exist.")
    if model.dialect is Dialect.LLAMA_CPP and request.n > model.slots:
        return error_body(400, f"Field 'n': Value must be between 1 <= value <= {model.slots}, but got {request.n}")
    for part in Part:
        if part in model.refuses and _has(request, part):
            return refused_body(part)
    prompt, asked = count_pieces(request.contents()), request.limit() or 0
    if prompt + asked > model.context_window:
        return error_body(400, _overflow(model.context_window, prompt, asked))
    return None


def _overflow(window: int, prompt: int, asked: int) -> str:
    return (
        f"This model's maximum context length is {window} tokens. However, you requested {asked} output tokens and "
        f"your prompt contains {prompt} input tokens."
    )


Row = Callable[[int, float], Json]
"""A row of a page, from the index of a text and its score."""


class _Pairs(BaseModel):
    text_1: str
    text_2: str | tuple[str, ...]

    def texts(self) -> tuple[tuple[str, str], ...]:
        seconds = (self.text_2,) if isinstance(self.text_2, str) else self.text_2
        return tuple((self.text_1, second) for second in seconds)


class _Chat(BaseModel):
    messages: tuple[WireMessage, ...]

    def texts(self) -> tuple[tuple[str, str], ...]:
        *before, last = self.messages
        return (("\n".join(message.content for message in before), last.content),)


PAGES: Mapping[str, tuple[type[_Pairs] | type[_Chat], Row]] = {
    "/score": (_Pairs, lambda index, score: {"index": index, "score": score}),
    "/v1/score": (_Pairs, lambda index, score: {"index": index, "score": score}),
    "/classify": (_Chat, lambda index, score: {"index": index, "probs": [score], "num_classes": 1}),
    "/pooling": (_Chat, lambda index, score: {"index": index, "data": [[0.0], [score]]}),  # the last token's counts
}
"""The form of what comes in and of a row that goes out, by path."""


def page_body(model: ServedModel, path: str, body: bytes) -> Json:
    """Return the body of a scoring page. Raises `ServerFailed` where the script has no score for a text."""
    form, row = PAGES[path]
    texts = form.model_validate_json(body).texts()
    scores = [model.script.score(prompt, answer) for prompt, answer in texts]
    tokens = count_pieces(text for pair in texts for text in pair)
    usage: Json = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    rows = [row(index, score) for index, score in enumerate(scores)]
    return {"object": "list", "model": model.name, "data": rows, "usage": usage}
