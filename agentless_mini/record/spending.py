"""All that was paid for in a store, by every run that used it: tokens, seconds of boxes, of grading, and of waiting.

What is known is what reached the record. An answer that a kill cut off was paid for and is not in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agentless_mini.domain import Usage
from agentless_mini.record.database import Database

_UNTOLD_PROMPT, _UNTOLD_CACHED, _UNTOLD_ANSWER = 1, 2, 4
_TOKENS = """
    SELECT coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0), coalesce(sum(completion_tokens), 0),
        coalesce(sum(untold & 1 > 0), 0), coalesce(sum(untold & 2 > 0), 0), coalesce(sum(untold & 4 > 0), 0)
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

    Tokens are sums of what servers told; `untold_prompts`, `untold_cached` and `untold_answers` count the samples whose
    server did not tell.

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
    untold_prompts: int = 0
    untold_cached: int = 0
    untold_answers: int = 0


def usage_values(usage: Usage) -> tuple[int, int, int, int]:
    """Return usage as the columns of `samples` have it: tokens of prompt, cache and answer, and which are not known."""
    prompt, cached, answer = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
    marks = ((prompt, _UNTOLD_PROMPT), (cached, _UNTOLD_CACHED), (answer, _UNTOLD_ANSWER))
    return prompt or 0, cached or 0, answer or 0, sum(mark for tokens, mark in marks if tokens is None)


def read_usage(prompt: int, cached: int, answer: int, untold: int) -> Usage:
    """Return the usage that `usage_values` made columns of."""
    return Usage(
        None if untold & _UNTOLD_PROMPT else prompt,
        None if untold & _UNTOLD_CACHED else cached,
        None if untold & _UNTOLD_ANSWER else answer,
    )


def spending(database: Database) -> Spending:
    """Sum up the whole store, as it is at one moment."""
    with database.snapshot():
        ((prompt, cached, answered, *untold),) = database.read(_TOKENS)
        ((distinct,),) = database.read(_DISTINCT)
        ((boxes,),) = database.read("SELECT coalesce(sum(seconds), 0) FROM boxes")
        ((grading,),) = database.read("SELECT coalesce(sum(seconds), 0) FROM grades")
        working, asking = [*database.read(_RUNS), *database.read(_GRADES)], database.read(_ASKING)
    seconds = float(boxes), float(grading), covered(working), covered(asking)
    return Spending(prompt, cached, answered, distinct, *seconds, *untold)


def covered(spans: Iterable[tuple[float, ...]]) -> float:
    """Return how much time is in at least one of the spans, each a beginning and an end."""
    total, reached = 0.0, float("-inf")
    for beginning, end in sorted(spans):
        total += max(0.0, end - max(beginning, reached))
        reached = max(reached, end)
    return total
