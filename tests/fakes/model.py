"""A sampler and a scorer that answer from a script, without network, model or randomness.

The same script drives the scripted HTTP server (`server`). It does not imitate a tokenizer: its tokens are short words.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat

from agentless_mini.domain import Completion, Finish, Message, ModelCard, SampleRequest, ScoreRequest, Stage, Usage
from agentless_mini.errors import AminiError, ServerFailed

T = TypeVar("T")

_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s+")
_TOKENS_PER_MESSAGE = 4
_TOKENS_OF_OPENING = 3

SCRIPTED_CARD = ModelCard("scripted", 8192, engine="scripted")


def pieces(text: str) -> tuple[str, ...]:
    """Split a text into the fakes' tokens (up to 8 letters, one mark, or blanks): joined they are the text."""
    return tuple(_TOKEN.findall(text))


def count_pieces(contents: Iterable[str]) -> int:
    """Return the tokens of a chat with these message contents, its template and the opening of the answer included."""
    return _TOKENS_OF_OPENING + sum(_TOKENS_PER_MESSAGE + len(pieces(content)) for content in contents)


class Answer(BaseModel):
    """One answer of a script."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    """What the model says."""
    reasoning: str = ""
    """What it thinks before, where the server separates the two."""
    finish: Finish = Finish.STOP
    """Why the answer ends. An answer longer than the request's `max_tokens` is cut there and ends with LENGTH."""

    def cut(self, max_tokens: int) -> "Answer":
        """Return the answer as it is when generation stops after `max_tokens` tokens (reasoning counts first)."""
        thought, said = pieces(self.reasoning), pieces(self.text)
        if len(thought) + len(said) <= max_tokens:
            return self
        left = max(0, max_tokens - len(thought))
        return Answer(text="".join(said[:left]), reasoning="".join(thought[:max_tokens]), finish=Finish.LENGTH)

    def tokens(self) -> int:
        return len(pieces(self.reasoning)) + len(pieces(self.text))


class Rule(BaseModel):
    """Answers for the prompts of one stage (any stage if None) that contain a text (any prompt if empty)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[Answer, ...]
    """Sample i of a prompt drawn with seed s is `answers[(s + i) % len(answers)]`."""
    stage: Stage | None = None
    """The stage that must be asking."""
    contains: str = ""
    """A text that one of the messages must contain."""

    def fits(self, stage: str, contents: Iterable[str]) -> bool:
        asked_by = self.stage is None or self.stage == stage
        return asked_by and bool(self.answers) and any(self.contains in content for content in contents)


class ScoreRule(BaseModel):
    """The score of the answers that contain a text, to prompts that contain a text (any if empty)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: FiniteFloat
    """What they get."""
    contains: str = ""
    """A text that the answer must contain."""
    prompt_contains: str = ""
    """A text that the prompt must contain."""

    def fits(self, prompt: str, answer: str) -> bool:
        return self.contains in answer and self.prompt_contains in prompt


def score_of(rules: Iterable[ScoreRule], prompt: str, answer: str) -> float:
    """Return the score by the first rule that fits. Raises `ServerFailed` where none does."""
    for rule in rules:
        if rule.fits(prompt, answer):
            return rule.score
    raise ServerFailed("The script has no score for this answer: add a rule to it.")


class Script(BaseModel):
    """What a fake model answers: a deterministic function of (prompt, index), given by the first rule that fits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...]
    """In order of precedence: the general rule comes last."""
    scores: tuple[ScoreRule, ...] = ()
    """What it gives answers where it is asked as a reward model, in order of precedence."""

    @classmethod
    def of(cls, *texts: str) -> Self:
        return cls(rules=(Rule(answers=tuple(Answer(text=text) for text in texts)),))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a script from JSON: `{"rules": [{"stage": "repair", "contains": "", "answers": [{"text": "..."}]}]}`."""
        return cls.model_validate_json(path.read_bytes())

    def dump(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2), encoding="utf-8")

    def answer(self, stage: str, contents: tuple[str, ...], index: int) -> Answer:
        """Return the answer to sample `index` (its seed included) of a prompt with these message contents.

        Raises `ServerFailed` where no rule fits: a script that does not cover a test is a mistake of the test.
        """
        for rule in self.rules:
            if rule.fits(stage, contents):
                return rule.answers[index % len(rule.answers)]
        raise ServerFailed(f"The script has no rule for this {stage or 'unnamed'} prompt: add one to it.")

    def score(self, prompt: str, answer: str) -> float:
        """Return the score of an answer to a prompt. Raises `ServerFailed` where no rule fits."""
        return score_of(self.scores, prompt, answer)


@dataclass(frozen=True, slots=True)
class Outage:
    """A planned failure: call number `call` (from 0) raises `error`, one of `sample` after so many samples."""

    call: int
    error: AminiError
    after: int = 0


class ScriptedSampler:
    """Answers every request from a script. `requests` is what it was asked, in order.

    Sample i of a request with seed s is answer s + i of the rule that fits, cut at `max_tokens`. Samples come in
    ascending order, with one turn of the event loop between them; `outages` plan failures.
    """

    def __init__(self, script: Script, card: ModelCard = SCRIPTED_CARD, outages: tuple[Outage, ...] = ()) -> None:
        self.requests: list[SampleRequest] = []
        self._script = script
        self._card = card
        self._outages = {outage.call: outage for outage in outages}

    async def card(self) -> ModelCard:
        return self._card

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the count of `pieces`, with 4 for each message and 3 for the opening of the answer."""
        return count_pieces(message.content for message in messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield the script's answers to the wanted samples. Raises a planned outage; `ServerFailed` without a rule."""
        outage = self._outages.get(len(self.requests))
        self.requests.append(request)
        for done, index in enumerate(request.indices):
            if outage is not None and done == outage.after:
                raise outage.error
            await asyncio.sleep(0)
            yield self._completion(request, index)
        if outage is not None:
            raise outage.error

    def _completion(self, request: SampleRequest, index: int) -> Completion:
        contents = tuple(message.content for message in request.messages)
        answer = self._script.answer(request.stage, contents, request.params.seed + index)
        answer = answer.cut(request.params.max_tokens)
        prompt = count_pieces(contents) if index == request.indices[0] else 0
        usage = Usage(prompt_tokens=prompt, completion_tokens=answer.tokens())
        return Completion(index, answer.text, answer.finish, answer.reasoning, usage)


class ScriptedScorer:
    """Scores every answer by the first rule that fits. `requests` is what it was asked, in order."""

    def __init__(self, *rules: ScoreRule, outages: tuple[Outage, ...] = ()) -> None:
        self.requests: list[ScoreRequest] = []
        self._rules = rules
        self._outages = {outage.call: outage.error for outage in outages}

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        """Return the rules' scores. Raises a planned outage; `ServerFailed` without a rule."""
        error = self._outages.get(len(self.requests))
        self.requests.append(request)
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return tuple(score_of(self._rules, request.prompt, answer) for answer in request.answers)


def ready(made: T) -> Callable[[], Awaitable[T]]:
    """Return what returns something that is there already, where the thing could have to be started."""

    async def start() -> T:
        return made

    return start
