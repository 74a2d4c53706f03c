"""A scorer that answers from rules: the public fake of the reward model's port.

The same rules stand in a script file (`scripted.Script`) and drive the scoring pages of the scripted HTTP server.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, FiniteFloat

from agentless_mini.domain import ScoreRequest
from agentless_mini.errors import AminiError, ServerFailed


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
        """Return whether this rule scores such an answer to such a prompt."""
        return self.contains in answer and self.prompt_contains in prompt


def score_of(rules: Iterable[ScoreRule], prompt: str, answer: str) -> float:
    """Return the score by the first rule that fits. Raises `ServerFailed` where none does."""
    for rule in rules:
        if rule.fits(prompt, answer):
            return rule.score
    raise ServerFailed("The script has no score for this answer: add a rule to it.")


@dataclass(frozen=True, slots=True)
class ScoreOutage:
    """A planned failure: call number `call` of `scores` (from 0) raises `error`."""

    call: int
    error: AminiError


class ScriptedScorer:
    """Scores every answer by the first rule that fits. `requests` is what it was asked, in order."""

    def __init__(self, *rules: ScoreRule, outages: tuple[ScoreOutage, ...] = ()) -> None:
        """Score by these rules; `outages` plan failures."""
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
