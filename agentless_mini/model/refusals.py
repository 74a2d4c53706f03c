"""Parts of a request that a server does not take: read from its refusal, and left out of what it is asked from then on.

It exists because servers that "speak the OpenAI protocol" each take another part of it, and say so in words of their
own. What is asked stays the same: the same texts in the same order, so the key of a sample does not change. A part is
given up once for a server and model and then remembered; a refusal of what was not sent is an error.
"""

import enum
import json
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from agentless_mini.errors import AminiError
from agentless_mini.model.failures import is_overflow, status

Wire = tuple[dict[str, str], ...]
"""Messages as the protocol spells them."""


class Part(enum.StrEnum):
    """What a server may refuse. A field that is refused together with a later one is given up first."""

    SYSTEM = "system"
    STREAM_OPTIONS = "stream_options"
    SEED = "seed"
    TOP_P = "top_p"
    TEMPERATURE = "temperature"
    MAX_TOKENS = "max_tokens"
    N = "n"


_TOLD = {
    Part.SYSTEM: "takes no system message: its text is sent at the head of the user's message",
    Part.STREAM_OPTIONS: "takes no stream_options: they are left out, and it may not tell how many tokens it used",
    Part.SEED: "takes no seed: it is left out, so that the same run on another record draws other samples",
    Part.TOP_P: "takes no top_p, or none beside temperature: it is left out, and its own counts",
    Part.TEMPERATURE: "takes no temperature but its own: it is left out, and samples may differ less or more",
    Part.MAX_TOKENS: "wants max_completion_tokens: max_tokens is sent under that name",
    Part.N: "takes no n: it is left out, and each sample asked for by itself",
}

_STATUSES = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,  # llama.cpp where a chat template raises, gateways that pass a refusal on
    HTTPStatus.NOT_IMPLEMENTED,
}
# What goes before or after a field's name in a refusal, as OpenAI, Azure, Mistral, vLLM, TensorRT-LLM, NIM, TGI,
# Fireworks, Bedrock, Vertex and LiteLLM word it.
_REFUSES = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|extraneous|deprecated|extra[_ ](?:forbidden|inputs|fields)"
    r"|\bnot (?:\w+ ){0,2}(?:supported|permitted|allowed|enabled|accepted|available)"
    r"|(?:\bnot|n't) (?:\w+ ){0,2}(?:support|accept|allow|permit)"
    r"|cannot (?:both )?be (?:specified|set|used)|additional propert|only\b.{0,40}?\b(?:is|are) (?:supported|allowed)",
    re.IGNORECASE,
)
# A chat template (Gemma's, older Mistrals'), or a model behind an API, that has no system message.
_NO_SYSTEM = re.compile(
    r"(?:system|developer) (?:role|message|prompt|instruction)s?\b.{0,40}?(?:\bnot\b|n't\b|unsupported)"
    r"|(?:\bnot|n't) (?:\w+ ){0,2}(?:support|accept|allow|permit)\w*.{0,20}?\bsystem\b"
    r"|unsupported.{0,20}?\bsystem\b|(?:unexpected|invalid|unknown)[^.]{0,20}? role\b.{0,10}?\bsystem\b"
    r"|roles must alternate|must start with a user|only user and assistant roles",
    re.IGNORECASE,
)
_ECHOES = {"input", "ctx", "url", "callstack", "request", "body"}  # keys under which a server repeats what it was sent
_MOST_SAID = 4000  # characters of a refusal that are read
_DEEPEST = 6


def refused(error: AminiError) -> Part | None:
    """Return the part of the request that an error behind `failures.translation` refuses, None where it names none."""
    cause = error.__cause__
    if cause is None or status(error) not in _STATUSES:
        return None
    body = getattr(cause, "body", None)
    said = " ".join(_texts(body if body is not None else str(cause), _DEEPEST))[:_MOST_SAID]
    if is_overflow(said):
        return None
    if _NO_SYSTEM.search(said):
        return Part.SYSTEM
    if not _REFUSES.search(said):
        return None
    param = str(getattr(cause, "param", None) or "").rpartition(".")[2]
    fields = [part for part in Part if part is not Part.SYSTEM]
    for names in (lambda part: part.value == param, lambda part: _marks(said, part), lambda part: _says(said, part)):
        if named := next(filter(names, fields), None):
            return named
    return None


class Habits:
    """What one model of one server is spared. `gone` grows by a part with each refusal, and `tell` is told of it."""

    def __init__(self, tell: Callable[[str], None], place: str) -> None:
        """Give sentences on the server at `place` to `tell`."""
        self.gone: frozenset[Part] = frozenset()
        self._tell = tell
        self._place = place

    def learn(self, error: AminiError, spared: frozenset[Part]) -> bool:
        """Return whether a request that was sent without `spared` may be taken now that one part more is left out."""
        part = refused(error)
        if part is None or part in spared:
            return False
        if part not in self.gone:
            self.gone |= {part}
            self._tell(f"The model server at {self._place} {_TOLD[part]}.")
        return True


def without(body: Mapping[str, object], gone: frozenset[Part]) -> dict[str, object]:
    """Return the body of a chat without the parts that are gone: left out, renamed, or moved."""
    left = {name: value for name, value in body.items() if name not in gone}
    if Part.MAX_TOKENS in gone:
        left["max_completion_tokens"] = body["max_tokens"]
    return left


def folded(messages: Wire, gone: frozenset[Part]) -> Wire:
    """Return the messages; where system messages are gone, with their texts at the head of the first of the others."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    if Part.SYSTEM not in gone or not system:
        return messages
    first, *others = [message for message in messages if message["role"] != "system"] or [{"role": "user"}]
    said = [*system, *([first["content"]] if "content" in first else [])]
    return ({**first, "content": "\n\n".join(said)}, *others)


def _marks(said: str, part: Part) -> bool:
    """Return whether a refusal has the name of a field between marks, or as a path or a comparison."""
    return re.search(rf"['\"`\[]{part}['\"`\]]|-> {part}\b|\b{part} ?(?:=|>|must be)", said) is not None


def _says(said: str, part: Part) -> bool:
    """Return whether a refusal has the name of a field as a word."""
    return len(part.value) > 1 and re.search(rf"\b{part}\b", said) is not None


def _texts(said: object, depth: int) -> Iterator[str]:
    """Yield the texts of an error's body, which may be JSON too; those of a list (a field's path) between marks."""
    if isinstance(said, str) and depth and said[:1] in {"{", "["} and len(said) <= _MOST_SAID:
        try:
            inner = json.loads(said)
        except ValueError:
            yield said
        else:
            yield from _texts(inner, depth - 1)
    elif isinstance(said, str):
        yield said[:_MOST_SAID]
    elif isinstance(said, Mapping) and depth:
        for name, value in said.items():
            if name not in _ECHOES:
                yield from _texts(value, depth - 1)
    elif isinstance(said, list) and depth:
        for value in said[:20]:
            yield from ([f"'{value}'"] if isinstance(value, str) else _texts(value, depth - 1))
