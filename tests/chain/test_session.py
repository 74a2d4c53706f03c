"""Prompts that are made to fit by the server's own count, and work side by side."""

import asyncio

import pytest

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.session import Draft, answer_room, fit_prompt, together
from agentless_mini.domain import Message, Role
from agentless_mini.errors import ContextTooSmall, ServerFailed
from tests.chain.workbench import run
from tests.fakes.model import Script, ScriptedSampler


class Dense(ScriptedSampler):
    """A model whose tokens are single characters, as the gauge does not expect."""

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        return sum(len(message.content) for message in messages)


def drafted(room: int, sampler: ScriptedSampler, text: str = "x" * 1000) -> tuple[Draft[int], int]:
    made = 0

    def draft(budget: int, gauge: Gauge) -> Draft[int]:
        nonlocal made
        made += 1
        kept = text[: int(budget / gauge.tokens_per_byte)]
        return Draft((Message(Role.USER, kept),), len(kept), cut=len(kept) < len(text))

    return run(fit_prompt(sampler, room, draft)), made


def test_a_prompt_that_fits_whole_is_counted_once() -> None:
    draft, made = drafted(5000, Dense(Script.of("x")))
    assert (draft.shown, draft.cut, made) == (1000, False, 1)


def test_a_prompt_that_does_not_fit_is_made_again_with_what_the_count_taught() -> None:
    draft, made = drafted(200, Dense(Script.of("x")))
    assert 180 <= draft.shown <= 200
    assert made == 2


def test_a_first_cut_that_was_too_careful_is_made_again() -> None:
    class Sparse(ScriptedSampler):
        async def count_tokens(self, messages: tuple[Message, ...]) -> int:
            return sum(len(message.content) for message in messages) // 10

    draft, made = drafted(60, Sparse(Script.of("x")))
    assert draft.shown > 500
    assert made == 2


def test_a_prompt_that_never_fits_is_an_error() -> None:
    class Endless(ScriptedSampler):
        async def count_tokens(self, messages: tuple[Message, ...]) -> int:
            return 10_000

    with pytest.raises(ContextTooSmall, match="larger context"):
        drafted(60, Endless(Script.of("x")))


def test_an_answer_has_at_most_a_quarter_of_the_window() -> None:
    assert answer_room(8192, 8192) == 2048
    assert answer_room(500, 8192) == 500
    assert answer_room(500, 2) == 1


def test_the_first_failure_ends_the_others_and_is_raised_as_it_is() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("waits")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ServerFailed("down")

    async def nested() -> None:
        await together([waits(), fails()])

    with pytest.raises(ServerFailed, match="down"):
        run(together([waits(), nested()]))
    assert ended == ["waits", "waits"]
