"""What goes wrong between amini and a model server: foreign exceptions -> ours, and whether trying again can help.

It also reads from a refusal which part of a request a server does not take, in its own words: that part is left out
from then on. What is asked stays the same, so the key of a sample does not change.
"""

import enum
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationError

from agentless_mini.errors import AminiError, ModelUnknown, ServerFailed, ServerUnreachable, Translation, printable

if TYPE_CHECKING:
    from agentless_mini.model.connection import Address

LONGEST_WAIT = 300.0  # seconds that a server may ask for with Retry-After
_QUOTED = 300  # characters of a foreign message
_WORTH_RETRYING = {408, 409, 425, 429}
_OVERFLOW = re.compile(
    "(?i)context[ _]?(length|size|window)|maximum context|exceed_context|max_model_len|input token count"
    "|(prompt|input) is too long|`inputs` must have less|max_new_tokens` must be <"
)


class Trouble(NamedTuple):
    """A kind of failure: the sentence for the end of all attempts, its error, and what is told before another one."""

    sentence: str
    again: str = "failed within an answer"
    kind: type[AminiError] = ServerFailed


LOCKED = Trouble("The model server at {url} wants a key ({said}): set {advice.key} to one that it accepts{withheld}.")
NO_MODEL = Trouble(
    "The model server at {url} does not serve this model ({said}): check {advice.model}.", kind=ModelUnknown
)
NO_PAGE = Trouble("The server at {url} does not speak the OpenAI protocol there ({said}): check {advice.address}.")
TOO_LONG = Trouble("A prompt is too long for the model at {url} ({said}): {advice.window}.")
REFUSED = Trouble("The model server at {url} refuses the request ({said}): check {advice.model} and its options.")
OVERLOADED = Trouble("The model server at {url} is over its limit ({said}): try later, or lower {advice.load}.")
REDIRECTS = Trouble(
    "The server at {url} redirects ({code}), which would hand the key on: put the address that it leads to into "
    "{advice.address}."
)
FAILING = Trouble("The model server at {url} fails ({said}): see its log, and run the same command again{proxied}.")
ENDED = Trouble(FAILING.sentence, "ended an answer early")
GARBLED = Trouble(
    "The server at {url} does not speak the OpenAI protocol ({said}): check {advice.address}.",
    "sent what cannot be read",
)
TOO_MUCH = Trouble(
    "The server at {url} sends more than was asked for ({said}): check {advice.address}, and see the server's log."
)
BROKEN = Trouble(
    "The model server at {url} broke the connection: see its log, and run the same command again.",
    "broke the connection",
)
NOBODY = Trouble(
    "Nothing answers at {url}: start the model server, or give {advice.address}.", "does not answer", ServerUnreachable
)
UNTRUSTED = NOBODY._replace(
    sentence="No safe connection to {url} ({said}): check {advice.address}, or name its certificate in SSL_CERT_FILE."
)
NO_WAY = NOBODY._replace(
    sentence="The proxy {proxy} does not lead to {url} ({said}): start or correct it, or {bypass}."
)
SILENT = Trouble(
    "The model server at {url} was silent for longer than {seconds:g} s: raise {advice.timeout} if it only works long, "
    "lower {advice.load} if it has too much at once, or see its log.",
    "was silent for longer than {seconds:g} s ({advice.timeout})",
)
_OF_STATUS = {400: REFUSED, 401: LOCKED, 403: LOCKED, 404: NO_PAGE, 413: TOO_LONG, 422: REFUSED, 429: OVERLOADED}


class NoAnswer(Exception):
    """What a server sent in the place of an answer, or of the rest of one: an error of its own.

    `status` is the HTTP status, or the code that the error names, 0 without either; `body` the error as it came.
    """

    def __init__(self, said: str, body: object = None, status: int = 0, retry_after: str = "") -> None:
        """Take the server's words, and what came with them."""
        super().__init__(said)
        fields = body if isinstance(body, dict) else {}
        code, self.param = str(fields.get("code")), str(fields.get("param") or "").rpartition(".")[2]
        self.status = status or (int(code) if code.isdecimal() and len(code) <= 3 else 0)
        self.body, self.retry_after = body, retry_after

    @classmethod
    def of_status(cls, status: int, text: str, retry_after: str) -> "NoAnswer":
        """Return what a page with a bad HTTP status says; its text is not quoted, but the message in its JSON is."""
        body: object = text.strip()
        said = ""
        with suppress(ValueError, RecursionError):
            body = json.loads(text)
            body = body.get("error", body) if isinstance(body, dict) else body
            said = " ".join(_texts(body, _DEEPEST))
        return cls(said or f"Error code: {status}", body, status, retry_after)


class TooMuch(Exception):
    """A server sends more than its answer can be. It is not read on, and not asked again."""


class StreamEnded(Exception):
    """The stream came to an orderly end before the answer did. The sampler raises it itself, to have it translated."""


def translation(address: "Address") -> Translation:
    """Return the table for the server at an address; none of its secrets ever appears in a message."""
    import httpx2

    def ours(error: BaseException) -> AminiError:
        trouble = trouble_of(error)
        if trouble is NOBODY and address.proxy:
            trouble = NO_WAY
        return trouble.kind(_filled(trouble.sentence, error, address))

    client = httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL
    garbled = json.JSONDecodeError, UnicodeError, ValidationError, RecursionError
    return dict.fromkeys((NoAnswer, StreamEnded, TooMuch, *client, *garbled), ours)


def trouble_of(error: BaseException | None) -> Trouble:
    """Return what kind of failure a foreign exception is."""
    import httpx2

    match error:
        case NoAnswer(status=status):
            said = quote(error, ())
            found = _OF_STATUS.get(status, REDIRECTS if 300 <= status < 400 else FAILING)
            if found is NO_PAGE:
                return NO_MODEL if "model" in said.lower() else NO_PAGE
            return TOO_LONG if found in (REFUSED, FAILING) and _OVERFLOW.search(said) else found
        case StreamEnded():
            return ENDED
        case TooMuch():
            return TOO_MUCH
        case httpx2.ConnectError() if "SSL" in str(error):
            return UNTRUSTED
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.UnsupportedProtocol() | httpx2.ProxyError():
            return NOBODY
        case httpx2.TimeoutException():
            return SILENT
        case ValueError() | RecursionError():
            return GARBLED
    return BROKEN


def cause(error: AminiError, address: "Address") -> str:
    """Return what a server did that is worth another attempt, in words of ours: foreign ones would all differ."""
    foreign = error.__cause__ or error
    code = status(error)
    return _filled(trouble_of(foreign).again, foreign, address) if code is None else f"answered {code}"


def _filled(sentence: str, error: BaseException, address: "Address") -> str:
    proxy, advice = address.proxy, address.advice
    named = f"{printable(proxy.url)} of {proxy.variable}" if proxy else ""
    bypass = f"add {urlsplit(address.api).hostname} to NO_PROXY"
    proxied = f" (or {bypass}, if it is the answer of the proxy {named})" if proxy else ""
    unsent = f"; {advice.withheld} was not sent, as it is meant for another address" if advice.withheld else ""
    return sentence.format(
        url=address.api,
        advice=advice,
        said=quote(error, address.secrets),
        code=getattr(error, "status", 0),
        seconds=address.timeout_s,
        proxy=named,
        bypass=bypass,
        proxied=proxied,
        withheld=unsent or proxied,
    )


def status(error: AminiError) -> int | None:
    """Return the HTTP status behind a translated error, also where it came inside a stream; None without a bad one."""
    code = error.__cause__.status if isinstance(error.__cause__, NoAnswer) else 0
    return code if code >= 300 else None


def can_pass(error: AminiError) -> bool:
    """Return whether the same request may succeed later: an overload, a failure or a broken connection."""
    if error.__cause__ is None or trouble_of(error.__cause__) in (TOO_LONG, TOO_MUCH):
        return False
    code = status(error)
    return code is None or (code >= 500 and code != 501) or code in _WORTH_RETRYING


def is_absent(error: AminiError) -> bool:
    """Return whether the server has no such page, or none that speaks as expected."""
    return isinstance(error.__cause__, ValueError) or (status(error) is not None and not can_pass(error))


def wait_asked_for(error: AminiError) -> float:
    """Return the seconds that the server asks to wait (Retry-After), up to `LONGEST_WAIT`; 0 where it does not."""
    try:
        seconds = float(getattr(error.__cause__, "retry_after", ""))
    except ValueError:  # nothing, or a date: the backoff decides
        return 0.0
    return max(0.0, min(LONGEST_WAIT, seconds)) if math.isfinite(seconds) else 0.0


def quote(error: BaseException, secrets: tuple[str, ...]) -> str:
    """Return what a foreign exception says, as one short line without secrets; the server's own words come first."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    line = " ".join(str(said or _words(error)).split()).rstrip(".") or type(error).__name__
    for secret in secrets:
        line = line.replace(secret, "***")
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "..."


def _words(error: BaseException) -> str:
    """Return what an exception says, without what it shows of a page: a secret may be cut in two there."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not first["loc"]:
        return "the page is no JSON object"
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


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

_STATUSES = {400, 422, 500, 501}  # 500: llama.cpp where a chat template raises, gateways that pass a refusal on
# What goes before or after a field's name in a refusal, as OpenAI, Azure, Mistral, vLLM, TensorRT-LLM, NIM, TGI,
# Fireworks, Bedrock, Vertex and LiteLLM word it.
_REFUSES = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|extraneous|deprecated|extra[_ ](?:forbidden|inputs|fields)"
    r"|\bnot (?:\w+ ){0,2}(?:supported|permitted|allowed|enabled|accepted|available)"
    r"|(?:\bnot|n't) (?:\w+ ){0,2}(?:support|accept|allow|permit)"
    r"|\b(?:top_p|temperature)\W{1,3}must be"
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
    wrong = error.__cause__
    if not isinstance(wrong, NoAnswer) or status(error) not in _STATUSES:
        return None
    said = " ".join(_texts(wrong.body if wrong.body is not None else str(wrong), _DEEPEST))[:_MOST_SAID]
    if _OVERFLOW.search(said):
        return None
    if _NO_SYSTEM.search(said):
        return Part.SYSTEM
    if not _REFUSES.search(said):
        return None
    fields = [part for part in Part if part is not Part.SYSTEM]
    if wrong.param in fields:
        return Part(wrong.param)
    # Its name stands between marks, as a path or in a comparison, or else as a word.
    ways = r"['\"`\[]{0}['\"`\]]|-> {0}\b|\b{0} ?(?:=|>|must be)", r"(?!n\b)\b{0}\b"
    return next((part for way in ways for part in fields if re.search(way.format(part), said)), None)


class Habits:
    """What one model of one server is spared. `gone` grows by a part with each refusal, and `tell` is told of it."""

    def __init__(self, tell: Callable[[str], None], place: str) -> None:
        """Give sentences on the server at `place` to `tell`."""
        self.gone: frozenset[Part] = frozenset()
        self._tell, self._place = tell, place

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
