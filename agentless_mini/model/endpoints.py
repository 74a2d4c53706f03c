"""What a model server is: its models, context window, engine, and its own way to count tokens and take a grammar.

It exists because the OpenAI protocol leaves these out, and every server fills the gap differently. vLLM and llama.cpp
are known by name; of any other server only what its list of models says is used.
"""

import enum
import re
from dataclasses import dataclass

from pydantic import BaseModel

from agentless_mini.domain import Decoding, Message, ModelCard
from agentless_mini.errors import ModelError, ModelUnknown, UsageError
from agentless_mini.model.connection import Connection
from agentless_mini.model.failures import is_absent
from agentless_mini.model.refusals import Habits, Wire, folded

_PROBE = ({"role": "user", "content": "x"},)
_ESTIMATED_PIECE = re.compile(r" ?[a-z]+| ?[A-Z]|[ ]+|.", re.DOTALL)  # a blank belongs to the word after it
_ESTIMATED_TEMPLATE = 96  # tokens: templates may open with a system prompt of their own
_ESTIMATED_TURN = 16


class Engine(enum.StrEnum):
    """The servers that are known by name."""

    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    OTHER = ""


class Counting(enum.Enum):
    """How tokens are counted."""

    BY_MESSAGES = enum.auto()  # vLLM: /tokenize applies the chat template
    BY_TEMPLATE = enum.auto()  # llama.cpp: /apply-template, then /tokenize
    BY_ESTIMATE = enum.auto()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server as it was found. `max_choices` is how many choices one request may ask for (None: any)."""

    card: ModelCard
    engine: Engine
    counting: Counting
    max_choices: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says of the model; None is left to the server."""

    model: str | None = None
    window: int | None = None
    decoding: Decoding = Decoding.FREE


class _Meta(BaseModel):
    n_ctx: int | None = None


class _Entry(BaseModel):
    """One served model. Each context field is some server's: all say the same, in tokens."""

    id: str
    owned_by: str | None = None
    parent: str | None = None
    aliases: tuple[str, ...] | None = None
    max_model_len: int | None = None
    loaded_context_length: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    max_context_length: int | None = None
    meta: _Meta | None = None

    def window(self) -> int | None:
        """Return the context window, where the entry says it."""
        said = (
            self.max_model_len,
            self.meta and self.meta.n_ctx,
            self.loaded_context_length,
            self.context_length,
            self.context_window,
            self.max_context_length,
        )
        return next((window for window in said if window), None)


class _Models(BaseModel):
    data: tuple[_Entry, ...]


class _Version(BaseModel):
    version: str


class _SlotSettings(BaseModel):
    n_ctx: int | None = None


class _Props(BaseModel):
    default_generation_settings: _SlotSettings = _SlotSettings()
    total_slots: int | None = None
    build_info: str = ""


class _Prompt(BaseModel):
    prompt: str


class _Count(BaseModel):
    count: int


class _Tokens(BaseModel):
    tokens: tuple[int, ...]


async def discover(connection: Connection, wanted: Wanted) -> Endpoint:
    """Return what the server is: the wanted model (else the first that it serves), with at most the wanted window.

    Raises `ModelUnknown` where it does not serve the model, `ModelError` where nobody says how long its context is.
    """
    models = await connection.get(f"{connection.address.api}/models", _Models)
    entry = _find(models, wanted.model, connection.address.api)
    engine = {"vllm": Engine.VLLM, "llamacpp": Engine.LLAMA_CPP}.get(entry.owned_by or "", Engine.OTHER)
    props = await _props(connection) if engine is Engine.LLAMA_CPP else _Props()
    learned = entry.window() or _window_of_parent(models, entry) or props.default_generation_settings.n_ctx
    counting = await _counting(connection, entry.id)
    card = ModelCard(
        name=entry.id,
        context_window=_least(learned, wanted.window, entry.id),
        decoding=wanted.decoding,
        engine=engine.value,
        revision=await _vllm_version(connection) if engine is Engine.VLLM else props.build_info,
        exact_counts=counting is not Counting.BY_ESTIMATE,
    )
    return Endpoint(card, engine, counting, props.total_slots)


def wire_messages(messages: tuple[Message, ...]) -> Wire:
    """Return the messages as the protocol spells them. What UTF-8 cannot say (parts of odd file names) becomes "?"."""
    return tuple({"role": message.role.value, "content": wire_text(message.content)} for message in messages)


def wire_text(said: str) -> str:
    """Return a text with "?" for what UTF-8 cannot say."""
    return said.encode("utf-8", "replace").decode("utf-8")


async def count(connection: Connection, endpoint: Endpoint, habits: Habits, messages: tuple[Message, ...]) -> int:
    """Return the tokens of a chat, the opening of the answer included, by the server's own count or `estimate`."""
    if endpoint.counting is Counting.BY_ESTIMATE:
        return estimate(messages)
    wire = wire_messages(messages)
    while True:
        gone = habits.gone
        try:
            return await _count(connection, endpoint.counting, endpoint.card.name, folded(wire, gone))
        except ModelError as error:
            if not habits.learn(error, gone):
                raise


def estimate(messages: tuple[Message, ...]) -> int:
    """Return an upper estimate of the tokens of a chat, for servers that do not count.

    Two small letters count as a token, and so do every capital, digit, mark, line end, byte beyond ASCII and four
    blanks. By SmolLM2's tokenizer that is 1.5 to 2.5 times the truth for 150 source files, and still not less than it
    for base64, hexadecimal digits and random marks. It is no bound for text that is made to defeat it.
    """
    turns = sum(_ESTIMATED_TURN + _estimate(message.content) for message in messages)
    return _ESTIMATED_TEMPLATE + turns


def grammar_body(engine: Engine, grammar: str) -> dict[str, object]:
    """Return the fields that make a server decode under a GBNF grammar. Raises `UsageError` for unknown engines."""
    if engine is Engine.VLLM:
        return {"structured_outputs": {"grammar": grammar}}
    if engine is Engine.LLAMA_CPP:
        return {"grammar": grammar}
    raise UsageError("Decoding under a grammar needs vLLM or llama.cpp as the server: choose free decoding.")


def _find(models: _Models, name: str | None, url: str) -> _Entry:
    if not models.data:
        raise ModelUnknown(f"The server at {url} serves no model: load one, or check --base-url.")
    if name is None:
        return models.data[0]
    for entry in models.data:
        if name == entry.id or name in (entry.aliases or ()):
            return entry
    served = ", ".join(entry.id for entry in models.data[:10])
    raise ModelUnknown(f"The server at {url} does not serve {name!r}: give --model one of {served}.")


def _window_of_parent(models: _Models, entry: _Entry) -> int | None:
    """Return the window of the base model: vLLM does not repeat it for LoRA adapters."""
    return next((other.window() for other in models.data if other.id == entry.parent), None)


def _least(learned: int | None, given: int | None, model: str) -> int:
    windows = [window for window in (learned, given) if window]
    if not windows:
        raise ModelError(f"The server does not say how long the context of {model} is: pass --context with its tokens.")
    return min(windows)


async def _props(connection: Connection) -> _Props:
    try:
        return await connection.get(f"{connection.address.root}/props", _Props)
    except ModelError as error:
        if not is_absent(error):
            raise
        return _Props()


async def _vllm_version(connection: Connection) -> str:
    try:
        return (await connection.get(f"{connection.address.root}/version", _Version)).version
    except ModelError as error:
        if not is_absent(error):
            raise
        return ""


async def _counting(connection: Connection, model: str) -> Counting:
    """Find out by trying: a gateway may stand before the server and hide its tokenizer."""
    for counting in (Counting.BY_MESSAGES, Counting.BY_TEMPLATE):
        try:
            if await _count(connection, counting, model, _PROBE) > 0:
                return counting
        except ModelError as error:
            if not is_absent(error):
                raise
    return Counting.BY_ESTIMATE


async def _count(connection: Connection, counting: Counting, model: str, messages: Wire) -> int:
    root = connection.address.root
    if counting is Counting.BY_MESSAGES:
        body = {"model": model, "messages": messages, "add_generation_prompt": True}
        return (await connection.post(f"{root}/tokenize", body, _Count)).count
    text = (await connection.post(f"{root}/apply-template", {"messages": messages}, _Prompt)).prompt
    body = {"content": text, "add_special": True, "parse_special": True}
    return len((await connection.post(f"{root}/tokenize", body, _Tokens)).tokens)


def _estimate(text: str) -> int:
    return sum(_piece(piece) for piece in _ESTIMATED_PIECE.findall(text))


def _piece(piece: str) -> int:
    word = piece.lstrip(" ")
    if not word:
        return -(-len(piece) // 4)
    return -(-len(word) // 2) if word.isascii() else len(word.encode("utf-8", "replace"))
