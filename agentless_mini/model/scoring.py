"""The scorer for reward models over HTTP: the pages /score, /classify and /pooling of vLLM, and of servers like it.

It turns the answers to be scored into requests and the pages that come back into numbers. Nothing that a page says is
trusted: it may hold anything that JSON can. Waiting and trying again are the business of `connection`, what goes wrong
that of `failures`. What the numbers mean is the model's.

    score     {"text_1": prompt, "text_2": [answers]}                -> {"data": [{"index", "score"}]}
    classify  {"messages": [prompt as user, answer as assistant]}    -> {"data": [{"index", "probs": [...]}]}
    pooling   the same                                               -> {"data": [{"index", "data": [...]}]}

/score takes many answers in a request. The other two take one chat in a request, to which the server applies the
model's own chat template; the server batches what is in flight.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from pydantic import BaseModel

from agentless_mini.domain import Message, RewardModel, Role, ScoreRequest, ScoreRoute
from agentless_mini.errors import ServerFailed, UsageError
from agentless_mini.model.connection import Address, Advice, Body, Client, Connection, Patience
from agentless_mini.model.endpoints import Models, wire_messages, wire_text
from agentless_mini.settings.model import ScorerSettings

ADVICE = Advice(
    address="scorer.base_url",
    model="scorer.model and scorer.route",
    key=ScorerSettings.key_variable,
    window="serve it with a larger window, or choose another reward model",
    load="scorer.max_in_flight",
    timeout="[scorer] timeout_s",
)

# The most that a score may be: models give numbers of 32 bits at most, and sums of these stay finite.
LARGEST = 3.5e38

_FIELDS = {ScoreRoute.SCORE: "score", ScoreRoute.CLASSIFY: "probs", ScoreRoute.POOLING: "data"}


class HttpScorer(Client):
    """Asks one server. See `ports.Scorer` for the contract of its methods.

    Of a model that gives one number, the raw one is asked for (`use_activation`: a sigmoid makes all high rewards
    equal). `tell` is told in a sentence of each wait; `environment` is that of the process.
    """

    def __init__(
        self,
        settings: ScorerSettings,
        patience: Patience | None = None,
        tell: Callable[[str], None] = lambda said: None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Prepare to ask the server of `settings`; `patience` is for tests. Raises `UsageError` without `base_url`."""
        if settings.base_url is None:
            raise UsageError("No reward model is chosen: set scorer.base_url to the address of its server.")
        address = Address.of(settings.base_url, settings, ADVICE, environment)
        super().__init__(Connection(address, patience or Patience(settings.retries), tell))
        self._batch = settings.batch
        self._slots = asyncio.Semaphore(settings.max_in_flight)

    async def served(self) -> str:
        """Return the name of the first model that the server lists."""
        models = (await self._connection.ask(f"{self._connection.address.api}/models", Models)).data
        if not models:
            raise ServerFailed(f"The server at {self._connection.address.api} lists no model: set scorer.model.")
        return models[0].id

    async def scores(self, request: ScoreRequest) -> tuple[float, ...]:
        """Return the scores of the answers. Where one request fails, those that are in flight are given up."""
        most = self._batch if request.model.route is ScoreRoute.SCORE else 1
        shares = (request.answers[start : start + most] for start in range(0, len(request.answers), most))
        tasks = [asyncio.create_task(self._part(replace(request, answers=share))) for share in shares]
        try:
            return tuple(score for scores in await asyncio.gather(*tasks) for score in scores)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _part(self, part: ScoreRequest) -> tuple[float, ...]:
        root, page = self._connection.address.root, f"/{part.model.route.value}"
        async with self._slots:
            answer = await self._connection.ask(root + page, _Page, _body(part))
        try:
            return read_scores(answer.data, part.model, len(part.answers))
        except BadScores as error:
            said = f"The reward model's server at {root} answers {page} with {error}"
            raise ServerFailed(f"{said}: check scorer.route, scorer.label and the model that is served.") from error


class _Page(BaseModel):
    data: list[object]


def _body(part: ScoreRequest) -> Body:
    model = part.model
    if model.route is ScoreRoute.SCORE:
        answers = [wire_text(answer) for answer in part.answers]
        return {"model": model.name, "text_1": wire_text(part.prompt), "text_2": answers}
    chat = (Message(Role.USER, part.prompt), Message(Role.ASSISTANT, part.answers[0]))
    raw = {"use_activation": False} if model.label is None else {}
    return {"model": model.name, "messages": wire_messages(chat), **raw}


class BadScores(ValueError):
    """The page has no usable scores. The words are ours alone: nothing of the page is quoted."""


def read_scores(rows: Sequence[object], model: RewardModel, count: int) -> tuple[float, ...]:
    """Return the scores of `count` answers from the rows of a page, in the order of their `index`.

    Raises `BadScores` where the rows are not one for each answer, or a score is no number that a model can give.
    """
    scores: dict[int, float] = {}
    for row in rows:
        if not isinstance(row, dict) or type(index := row.get("index")) is not int:
            raise BadScores("a row without an index")
        scores[index] = _number(_counting(row.get(_FIELDS[model.route]), model))
    if len(rows) != count or scores.keys() != set(range(count)):
        raise BadScores(f"{len(rows)} rows that are not one for each of {count} texts")
    return tuple(scores[index] for index in range(count))


def _counting(value: object, model: RewardModel) -> object:
    """Return what counts of what a row says of a text."""
    if model.route is ScoreRoute.SCORE:
        return value
    if model.route is ScoreRoute.POOLING and isinstance(value, list) and value and isinstance(value[-1], list):
        value = value[-1]  # a model that gives some for each token: those of the last one
    if not isinstance(value, list) or not value:
        raise BadScores("no list of numbers for a text")
    if model.label is None and len(value) > 1:
        raise BadScores(f"{len(value)} numbers for a text and no scorer.label to say which one counts")
    place = model.label or 0
    if place >= len(value):
        raise BadScores(f"{len(value)} numbers for a text and none at scorer.label {place}")
    return value[place]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadScores("something that is no number")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadScores("a number that is not finite")
    if abs(value) > LARGEST:
        raise BadScores("a number that is too large")
    return float(value)
