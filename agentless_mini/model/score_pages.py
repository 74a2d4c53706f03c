"""What a server says of scores -> numbers. Nothing that it says is trusted: a page may hold anything that JSON can.

Nothing here sends anything. What is wrong with a page is told by `BadScores`, in words that fit after "answers with".
"""

import math
from collections.abc import Sequence

from agentless_mini.domain import RewardModel, ScoreRoute

# The most that a score may be: models give numbers of 32 bits at most, and sums of these stay finite.
LARGEST = 3.5e38

_FIELDS = {ScoreRoute.SCORE: "score", ScoreRoute.CLASSIFY: "probs", ScoreRoute.POOLING: "data"}


class BadScores(ValueError):
    """The page has no usable scores. The words are ours alone: nothing of the page is quoted."""


def read_scores(rows: Sequence[object], model: RewardModel, count: int) -> tuple[float, ...]:
    """Return the scores of `count` answers from the rows of a page, in the order of their `index`.

    Raises `BadScores` where the rows are not one for each answer, or a score is no number that a model can give.
    """
    scores: dict[int, float] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(index := row.get("index"), int) or isinstance(index, bool):
            raise BadScores("a row without an index")
        scores[index] = _score(row.get(_FIELDS[model.route]), model)
    if len(rows) != count or scores.keys() != set(range(count)):
        raise BadScores(f"{len(rows)} rows that are not one for each of {count} texts")
    return tuple(scores[index] for index in range(count))


def _score(value: object, model: RewardModel) -> float:
    if model.route is ScoreRoute.SCORE:
        return _number(value)
    numbers = _last_token(value) if model.route is ScoreRoute.POOLING else value
    if not isinstance(numbers, list) or not numbers:
        raise BadScores("no list of numbers for a text")
    if model.label is None and len(numbers) > 1:
        raise BadScores(f"{len(numbers)} numbers for a text and no scorer.label to say which one counts")
    place = model.label or 0
    if place >= len(numbers):
        raise BadScores(f"{len(numbers)} numbers for a text and none at scorer.label {place}")
    return _number(numbers[place])


def _last_token(value: object) -> object:
    """Return the numbers of a text: those of its last token, where a model gives some for each token."""
    return value[-1] if isinstance(value, list) and value and isinstance(value[-1], list) else value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadScores("something that is no number")
    try:
        number = float(value)
    except OverflowError:
        raise BadScores("a number that is too large") from None
    if not math.isfinite(number):
        raise BadScores("a number that is not finite")
    if abs(number) > LARGEST:
        raise BadScores("a number that is too large")
    return number
