"""All that was paid for in a store, by every run that used it: tokens, seconds of boxes, of grading, and of waiting.

What is known is what reached the record. An answer that a kill cut off was paid for and is not in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agentless_mini.store.database import Database

_TOKENS = """
    SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(completion_tokens), 0)
    FROM samples
"""
# What samples of a prompt share is booked on one of them in each request, so the largest is the prompt's.
_DISTINCT = """
    SELECT coalesce(sum(tokens), 0)
    FROM (SELECT max(prompt_tokens) AS tokens FROM samples JOIN requests USING (key) GROUP BY prompt)
"""
# A run that was killed has no end: the last of what it paid for stands for that.
_RUNS = """
    SELECT started, coalesce(finished, max(
        started,
        coalesce((SELECT max(created) FROM run_samples JOIN samples USING (key, idx) WHERE run = runs.id), started),
        coalesce((SELECT max(created) FROM run_boxes JOIN boxes USING (key) WHERE run = runs.id), started)))
    FROM runs
"""
# A run asks the model from its start on, and runs tests on patches once it has them all.
_ASKING = """
    SELECT started, max(created) FROM runs JOIN run_samples ON run = runs.id JOIN samples USING (key, idx)
    WHERE created >= started GROUP BY runs.id
"""
_GRADES = "SELECT created - seconds, created FROM grades"


@dataclass(frozen=True, slots=True)
class Spending:
    """Tokens and seconds. `distinct_tokens` are those of each distinct prompt once.

    `box_seconds` and `grading_seconds` are sums over boxes and grades, which run side by side; `wall_seconds` is the
    time in which at least one instance was worked on, pauses between commands left out. `model_seconds` is the part of
    it in which one waited for samples at least: from the start of a run to the last sample that was not recorded yet.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    distinct_tokens: int = 0
    box_seconds: float = 0.0
    grading_seconds: float = 0.0
    wall_seconds: float = 0.0
    model_seconds: float = 0.0


def spending(database: Database) -> Spending:
    """Sum up the whole store, as it is at one moment."""
    with database.snapshot():
        ((prompt, cached, answered),) = database.read(_TOKENS)
        ((distinct,),) = database.read(_DISTINCT)
        ((boxes,),) = database.read("SELECT coalesce(sum(seconds), 0) FROM boxes")
        ((grading,),) = database.read("SELECT coalesce(sum(seconds), 0) FROM grades")
        working, asking = [*database.read(_RUNS), *database.read(_GRADES)], database.read(_ASKING)
    seconds = float(boxes), float(grading), covered(working), covered(asking)
    return Spending(prompt, cached, answered, distinct, *seconds)


def covered(spans: Iterable[tuple[float, ...]]) -> float:
    """Return how much time is in at least one of the spans, each a beginning and an end."""
    total, reached = 0.0, float("-inf")
    for beginning, end in sorted(spans):
        total += max(0.0, end - max(beginning, reached))
        reached = max(reached, end)
    return total
