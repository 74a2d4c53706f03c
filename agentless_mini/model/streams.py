"""Events of a streamed answer -> completions: which choice is finished, with what text, and what it cost.

It exists because servers differ in how they stream several choices and report usage; here the differences end. It
does no I/O, and it never guesses an answer: a choice that did not finish is owed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WrapValidator, model_validator

from agentless_mini.domain import UNTOLD, Completion, Finish, Usage
from agentless_mini.model.failures import TooMuch

_FINISHES = dict.fromkeys(("length", "max_tokens", "model_length", "model_context_window_exceeded"), Finish.LENGTH)
_FINISHES |= dict.fromkeys(("content_filter", "sensitive", "safety"), Finish.FILTER)
_BROKEN = {"abort", "error", "network_error", "insufficient_system_resource"}  # the latter of Z.ai and DeepSeek
_MOST_TOKENS = 10**12  # a larger number is none
# What an answer may have for each token and anyway: a token may come in several events, or be a long blank.
_EVENTS_A_TOKEN, _CHARACTERS_A_TOKEN, _ANYWAY = 8, 128, 4096


def _text(said: object) -> str:
    """Return what a field says: a text, or the texts among the pieces of a list (Mistral's); "" for anything else."""
    if isinstance(said, list):
        texts = (piece.get("text") for piece in said if isinstance(piece, dict) and piece.get("type") == "text")
        return "".join(text for text in texts if isinstance(text, str))
    return said if isinstance(said, str) else ""


def _or_none(said: object, read: Callable[[object], object]) -> object:
    """Return what `read` makes of a report beside the answer; None for an odd one, as the answer is paid for."""
    try:
        return read(said)
    except ValidationError:
        return None


class _Said(BaseModel):
    """What a server says. A field that is null is one that is absent."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, said: object) -> object:
        return {name: value for name, value in said.items() if value is not None} if isinstance(said, dict) else said


class Delta(_Said):
    """What a choice gained. Servers call the reasoning by one of three names, some by two at once.

    `reasoning` is that of vLLM, SGLang, Ollama and OpenRouter, `reasoning_content` DeepSeek's and older vLLM's.
    Mistral's own service puts it into the content, as pieces of type "thinking".
    """

    content: object = None
    reasoning: Annotated[str, BeforeValidator(_text)] = ""
    reasoning_content: Annotated[str, BeforeValidator(_text)] = ""
    thinking: Annotated[str, BeforeValidator(_text)] = ""

    def said(self) -> str:
        """Return the part of the answer."""
        return _text(self.content)

    def thought(self) -> str:
        """Return the reasoning, by whichever name it came."""
        pieces = self.content if isinstance(self.content, list) else []
        thoughts = (_text(piece.get("thinking")) for piece in pieces if isinstance(piece, dict))
        return self.reasoning or self.reasoning_content or self.thinking or "".join(thoughts)


class ChoiceEvent(_Said):
    """The part of an event that concerns one choice."""

    index: int = 0
    delta: Delta = Delta()
    finish_reason: str | None = None


def _tokens(said: object) -> object:
    """Return a number of tokens; None for anything that is none."""
    is_count = isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said <= _MOST_TOKENS
    return int(said) if is_count and isinstance(said, int | float) else None


Count = Annotated[int | None, BeforeValidator(_tokens)]


class _Cached(BaseModel):
    cached_tokens: Count = None


class UsageReport(BaseModel):
    """Tokens of a request, or of a single choice: see `Assembly`. What the server does not tell is None."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    prompt_tokens_details: Annotated[_Cached | None, WrapValidator(_or_none)] = None

    def of_prompt(self) -> Usage:
        """Return the part of the prompt, and what of it came from the server's cache."""
        return Usage(self.prompt_tokens, (self.prompt_tokens_details or _Cached()).cached_tokens)


class Event(_Said):
    """One event of the stream. Unknown fields are ignored: every server adds its own."""

    choices: tuple[ChoiceEvent, ...] = ()
    usage: Annotated[UsageReport | None, WrapValidator(_or_none)] = None


class _WholeChoice(ChoiceEvent):
    delta: Delta = Field(validation_alias="message")


class _Whole(_Said):
    choices: tuple[_WholeChoice, ...]
    usage: Annotated[UsageReport | None, WrapValidator(_or_none)] = None


def whole_events(page: object) -> Iterator[Event]:
    """Yield an answer in one piece as the events of a stream that says the same. Raises ValidationError for others."""
    whole = _Whole.model_validate(page)
    for choice in whole.choices:
        yield Event(choices=(choice.model_copy(update={"finish_reason": choice.finish_reason or "stop"}),))
    if whole.usage is not None:
        yield Event(usage=whole.usage)


@dataclass(slots=True)
class _Choice:
    """One choice in the making."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    size: int = 0
    tokens: int = 0
    finish: Finish | None = None


@dataclass(slots=True)
class Assembly:
    """Puts together the choices of one request; choice k is sample `indices[k]`.

    A finished choice is given out at the next event, so that usage which follows it can be booked on it; the last one
    waits for the usage of the request or the end of the stream. So do all, where it is not known yet whether the server
    tells usage: without any, no number is booked, as a count of events is none of tokens. Else usage is booked so:

    * Tokens of a choice: the server's number where it tells one per choice (vLLM in each event, llama.cpp after each
      choice), else the count of its events with text, which is too low where an event holds several tokens. The last
      choice gets what is left of the request's total, so that the sum is the server's.
    * Tokens of the prompt: once, on the completion with which the server reports them.
    * Choices that a broken stream leaves unfinished are booked nowhere, although the server computed them.
    """

    indices: tuple[int, ...]
    max_tokens: int
    tells: bool | None = None  # whether the server is known to tell usage
    streamed: int = 0  # all tokens so far
    given: set[int] = field(default_factory=set)  # the samples given out
    told: bool = False  # whether this stream has told usage
    _choices: dict[int, _Choice] = field(default_factory=dict)
    _events: int = 0
    _held: list[int] = field(default_factory=list)
    _finished: int = 0
    _booked: int = 0
    _reports: int = 0
    _counts: bool = False
    _ended: bool = False
    _prompt: Usage = field(default_factory=Usage)
    _running: Usage = UNTOLD

    def feed(self, event: Event) -> Iterator[Completion]:
        """Take an event in; yield the choices that are complete by now. Raises `TooMuch` for a stream without end."""
        self._events += 1
        if self._events > len(self.indices) * (self.max_tokens * _EVENTS_A_TOKEN + _ANYWAY):
            raise TooMuch(f"{self._events} events in one answer")
        is_report = not event.choices and event.usage is not None
        if is_report and event.usage is not None:
            self._settle(event.usage)
        if is_report or (self._finished < len(self.indices) and (self.told or self.tells is not None)):
            yield from self._release()
        for part in event.choices:
            self._take(part, event)

    def rest(self) -> Iterator[Completion]:
        """Yield what is finished and was held back: for the end of the stream, however it came."""
        self._ended = True
        yield from self._release()

    def ignored(self) -> tuple[int, ...]:
        """Return the samples of which the stream said nothing at all: a server that ignores `n` leaves them."""
        return tuple(index for number, index in enumerate(self.indices) if number not in self._choices)

    def unfinished(self) -> bool:
        """Return whether the stream began samples that it did not end."""
        return len(self._choices) > len(self.given)

    def _release(self) -> Iterator[Completion]:
        while self._held:
            yield self._give(self._held.pop(0))

    def _take(self, part: ChoiceEvent, event: Event) -> None:
        choice = self._choices.get(part.index, _Choice())
        if choice.finish is not None or not 0 <= part.index < len(self.indices):
            return
        self._choices[part.index] = choice
        said, thought = part.delta.said(), part.delta.thought()
        choice.text.append(said)
        choice.reasoning.append(thought)
        choice.size += len(said) + len(thought)
        if choice.size > self.max_tokens * _CHARACTERS_A_TOKEN + _ANYWAY:
            raise TooMuch(f"an answer does not end after the {self.max_tokens} tokens that it may have")
        self._count(choice, event, 1 if said or thought else 0)
        reason = (part.finish_reason or "").lower()
        if reason and reason not in _BROKEN:
            choice.finish = _FINISHES.get(reason, Finish.STOP)
            self._finished += 1
            self._held.append(part.index)

    def _count(self, choice: _Choice, event: Event, seen: int) -> None:
        """Count an event's tokens; in an event with a single choice, the usage is that choice's."""
        before = choice.tokens
        choice.tokens = before + seen
        if event.usage is not None and len(event.choices) == 1:
            self._note(event.usage)
            self._running = event.usage.of_prompt()
            choice.tokens = event.usage.completion_tokens or choice.tokens
        self.streamed += max(0, choice.tokens - before)

    def _settle(self, report: UsageReport) -> None:
        """Book a usage report: that of the choice before it while others are unfinished, else of the request."""
        of_one_choice = self._reports > 0 or self._finished < len(self.indices)
        self._note(report)
        if self._reports == 0:
            self._prompt = report.of_prompt()
        self._reports += 1
        if self._held and report.completion_tokens is not None:
            others = sum(self._choices[number].tokens for number in self._held[:-1])
            booked = 0 if of_one_choice else self._booked + others
            self._choices[self._held[-1]].tokens = max(0, report.completion_tokens - booked)

    def _note(self, report: UsageReport) -> None:
        self.told = True
        self._counts = self._counts or report.completion_tokens is not None

    def _give(self, number: int) -> Completion:
        choice, prompt = self._choices[number], self._prompt
        is_last = len(self.given) + 1 == len(self.indices) or (self._ended and not self._held)
        if self._reports == 0 and (is_last or not (self.told or self.tells)):
            prompt = self._running
        self._prompt = Usage()
        self._booked += choice.tokens
        is_counted = self._counts or (self.tells and not is_last)
        usage = Usage(prompt.prompt_tokens, prompt.cached_tokens, choice.tokens if is_counted else None)
        index, finish = self.indices[number], choice.finish or Finish.STOP
        self.given.add(index)
        return Completion(index, "".join(choice.text), finish, "".join(choice.reasoning), usage)
