"""What every adapter of the Scorer port must do, as tests to inherit: a subclass gives `scorer`.

A subclass may override `model`; it never leaves a test out.
"""

import asyncio
from contextlib import AbstractAsyncContextManager

from agentless_mini.domain import RewardModel, ScoreRequest
from agentless_mini.ports import Scorer
from tests.fakes.model import ScoreRule
from tests.model.contract import run

RULES = (
    ScoreRule(contains="good", score=2.5),
    ScoreRule(contains="bad", score=-30.0),
    ScoreRule(prompt_contains="other", score=7.0),
    ScoreRule(score=0.125),
)
SCORES = {"a good answer": 2.5, "a bad answer": -30.0, "an answer": 0.125}


class ScorerContract:
    """Inherit, and give `scorer`: a context in which a scorer that knows `RULES` works."""

    model = RewardModel("scripted")

    def scorer(self) -> AbstractAsyncContextManager[Scorer]:
        raise NotImplementedError

    def ask(self, *answers: str, prompt: str = "prompt") -> ScoreRequest:
        return ScoreRequest(self.model, prompt, answers)

    def score(self, *requests: ScoreRequest) -> list[tuple[float, ...]]:
        """Score requests at once."""

        async def scored() -> list[tuple[float, ...]]:
            async with self.scorer() as scorer:
                return await asyncio.gather(*(scorer.scores(request) for request in requests))

        return run(scored())

    def test_each_answer_has_one_score_in_order(self) -> None:
        assert self.score(self.ask(*SCORES)) == [tuple(SCORES.values())]
        assert self.score(self.ask(*reversed(SCORES))) == [tuple(reversed(SCORES.values()))]

    def test_no_answer_is_no_score(self) -> None:
        assert self.score(self.ask()) == [()]

    def test_equal_answers_have_equal_scores(self) -> None:
        assert self.score(self.ask("a good answer", "an answer", "a good answer")) == [(2.5, 0.125, 2.5)]

    def test_a_score_does_not_depend_on_what_else_is_scored(self) -> None:
        for answer, score in SCORES.items():
            assert self.score(self.ask(answer)) == [(score,)]

    def test_the_prompt_counts(self) -> None:
        requests = self.ask("an answer"), self.ask("an answer", prompt="another prompt")
        assert self.score(*requests) == [(0.125,), (7.0,)]

    def test_many_answers_are_all_scored(self) -> None:
        answers = [f"answer {number}, {'good' if number % 3 else 'bad'}" for number in range(50)]
        assert self.score(self.ask(*answers)) == [tuple(2.5 if number % 3 else -30.0 for number in range(50))]

    def test_concurrent_requests_do_not_mix(self) -> None:
        answers = list(SCORES) * 2
        scored = self.score(*(self.ask(answer, *SCORES) for answer in answers))
        assert scored == [(SCORES[answer], *SCORES.values()) for answer in answers]

    def test_any_text_can_be_scored(self) -> None:
        odd = "caf\u00e9 \U0001f600 \udcff \x00 <|im_end|> {{ 7 }} </think>"
        assert self.score(self.ask(odd, "", prompt=odd)) == [(0.125, 0.125)]
