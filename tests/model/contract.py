"""What every adapter of the Sampler port must do, as tests to inherit: a subclass gives `sampler`.

A subclass may override `request`; it never leaves a test out.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Any, TypeVar

from agentless_mini.domain import Completion, Finish, Message, Role, SampleRequest, SamplingParams, Stage
from agentless_mini.errors import AminiError
from agentless_mini.ports import Sampler

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a fresh event loop; no test waits longer than a minute."""

    async def limited() -> Result:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(limited())


async def collect(sampler: Sampler, request: SampleRequest) -> list[Completion]:
    return [completion async for completion in sampler.sample(request)]


async def until_error(sampler: Sampler, request: SampleRequest) -> tuple[list[Completion], AminiError | None]:
    """Return what was yielded, and what was raised after it."""
    completions: list[Completion] = []
    try:
        async for completion in sampler.sample(request):
            completions.append(completion)
    except AminiError as error:
        return completions, error
    return completions, None


def ask(text: str, indices: tuple[int, ...] = (0,), max_tokens: int = 16) -> SampleRequest:
    return SampleRequest(
        model="scripted",
        messages=(Message(Role.USER, text),),
        params=SamplingParams(max_tokens=max_tokens, seed=7),
        indices=indices,
        stage=Stage.REPAIR,
        instance="contract",
    )


class SamplerContract:
    """Inherit, and give `sampler`: a context in which a sampler with at least 512 tokens of context works."""

    def sampler(self) -> AbstractAsyncContextManager[Sampler]:
        raise NotImplementedError

    def request(self, text: str, indices: tuple[int, ...] = (0,), max_tokens: int = 16) -> SampleRequest:
        return ask(text, indices, max_tokens)

    def draw(self, request: SampleRequest) -> list[Completion]:
        async def drawn() -> list[Completion]:
            async with self.sampler() as sampler:
                named = replace(request, model=(await sampler.card()).name)
                return await collect(sampler, named)

        return run(drawn())

    def test_the_card_names_a_model_with_a_context_window(self) -> None:
        async def card() -> tuple[str, int]:
            async with self.sampler() as sampler:
                first, second = await sampler.card(), await sampler.card()
                assert first == second
                return first.name, first.context_window

        name, window = run(card())
        assert name
        assert window >= 512

    def test_each_wanted_sample_is_yielded_once(self) -> None:
        completions = self.draw(self.request("one to four", (0, 1, 2, 3)))
        assert sorted(completion.index for completion in completions) == [0, 1, 2, 3]

    def test_indices_need_neither_start_at_zero_nor_be_consecutive(self) -> None:
        completions = self.draw(self.request("some of them", (2, 3, 7)))
        assert sorted(completion.index for completion in completions) == [2, 3, 7]

    def test_no_wanted_sample_is_no_completion(self) -> None:
        assert self.draw(self.request("nothing wanted", ())) == []

    def test_the_same_request_twice_gives_the_same_samples(self) -> None:
        async def twice() -> tuple[list[Completion], list[Completion]]:
            async with self.sampler() as sampler:
                named = replace(self.request("again", (0, 1, 2)), model=(await sampler.card()).name)
                return await collect(sampler, named), await collect(sampler, named)

        first, second = run(twice())
        assert {completion.index for completion in first} == {completion.index for completion in second} == {0, 1, 2}

    def test_an_answer_cut_off_by_the_token_limit_is_a_result(self) -> None:
        (completion,) = self.draw(self.request("Count from one to a hundred in words.", max_tokens=1))
        assert completion.finish is Finish.LENGTH

    def test_tokens_are_booked(self) -> None:
        completions = self.draw(self.request("what does it cost", (0, 1, 2)))
        assert all((completion.usage.completion_tokens or 0) >= 1 for completion in completions)
        assert any((completion.usage.prompt_tokens or 0) > 0 for completion in completions)

    def test_concurrent_requests_do_not_mix(self) -> None:
        async def several() -> list[list[Completion]]:
            async with self.sampler() as sampler:
                name = (await sampler.card()).name
                requests = [replace(self.request(f"prompt {i}", (i, i + 1)), model=name) for i in range(4)]
                return await asyncio.gather(*(collect(sampler, request) for request in requests))

        drawn = run(several())
        assert [sorted(c.index for c in completions) for completions in drawn] == [[i, i + 1] for i in range(4)]

    def test_closing_early_leaves_the_sampler_usable(self) -> None:
        async def early() -> list[Completion]:
            async with self.sampler() as sampler:
                named = replace(self.request("the first will do", (0, 1, 2, 3)), model=(await sampler.card()).name)
                async with aclosing(sampler.sample(named)) as completions:  # type: ignore[type-var]  # generators all
                    assert (await anext(completions)).index in named.indices
                return await collect(sampler, named)

        assert len(run(early())) == 4

    def test_counting_grows_with_the_text_and_is_never_zero(self) -> None:
        async def counts() -> list[int]:
            async with self.sampler() as sampler:
                texts = ("", "one", "one two three", "one two three " * 20)
                return [await sampler.count_tokens((Message(Role.USER, text),)) for text in texts]

        counted = run(counts())
        assert counted[0] >= 1
        assert counted == sorted(set(counted))

    def test_any_text_can_be_counted_and_asked(self) -> None:
        text = "caf\u00e9 \U0001f600 \udcff \x00 <|im_end|> {{ 7 }} </think>"

        async def odd() -> tuple[int, list[Completion]]:
            async with self.sampler() as sampler:
                named = replace(self.request(text), model=(await sampler.card()).name)
                return await sampler.count_tokens(named.messages), await collect(sampler, named)

        count, completions = run(odd())
        assert count >= 1
        assert len(completions) == 1
