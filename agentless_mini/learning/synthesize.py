"""A teacher writes the reasoning of rows: shown the answer, it explains how one comes to it.

The reasoning is kept only if the edits that follow it come to the oracle, by normal form: a teacher that loses the
thread is not believed. Rows that have a reasoning are passed on as they are.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

from agentless_mini.domain import Completion, Patch, SamplingParams
from agentless_mini.edits import answer_text, make_patch, read_answer
from agentless_mini.errors import UsageError
from agentless_mini.learning.asking import answers, in_turn, room
from agentless_mini.learning.rows import Row
from agentless_mini.learning.training_settings import SynthesizeSettings
from agentless_mini.ports import Sampler
from agentless_mini.prompts import Prompts

HAD_ONE = "had a reasoning"
WRITTEN = "reasoning written"
NOT_REPRODUCED = "not reproduced"
NO_ANSWER = "no answer"
NO_ROOM = "too long for the teacher"

_REASONING = re.compile(r"<explanation>(.*?)</explanation>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Teacher:
    """Who is asked, in which words, how."""

    sampler: Sampler
    prompts: Prompts
    settings: SynthesizeSettings


async def synthesize(rows: Iterable[Row], teacher: Teacher, counts: Counter[str]) -> AsyncIterator[Row]:
    """Yield all rows in order, with a reasoning where one is kept; `counts` says what became of each.

    Raises what the sampler raises.
    """

    async def explained(row: Row) -> Row:
        became, reasoning = await _explained(row, teacher)
        counts[became] += 1
        return replace(row, reasoning=reasoning)

    async for row in in_turn(rows, explained, teacher.settings.rows_at_once):
        yield row


async def _explained(row: Row, teacher: Teacher) -> tuple[str, str]:
    """Return what became of a row, and its reasoning. The tries are made one after another."""
    if row.reasoning:
        return HAD_ONE, row.reasoning
    try:
        answer = row.answer()
    except UsageError:
        return NO_ANSWER, ""
    settings = teacher.settings
    messages = teacher.prompts.synthesize(replace(row, parents=()).messages(teacher.prompts), answer)
    tokens = await room(teacher.sampler, messages, settings.max_tokens)
    if not tokens:
        return NO_ROOM, ""
    params = SamplingParams(tokens, settings.temperature, seed=settings.seed)
    for index in range(settings.samples):
        (completion,) = await answers(teacher.sampler, messages, params, (index,), row)
        if reasoning := reasoning_of(row, completion):
            return WRITTEN, reasoning
    return NOT_REPRODUCED, ""


def reasoning_of(row: Row, completion: Completion) -> str:
    """Return the reasoning of a teacher's answer; "" if there is none or its edits do not come to the oracle."""
    spoken = answer_text(completion.text)
    found = _REASONING.findall(spoken) if isinstance(spoken, str) else []
    if len(found) != 1 or not found[0].strip():
        return ""
    tree = row.tree()
    outcome = read_answer(replace(completion, text=_REASONING.sub("", str(spoken))), tree)
    truth = make_patch(row.oracle(), tree.forms)
    return found[0].strip() if isinstance(outcome, Patch) and outcome.normal == truth.normal else ""
