"""Samplers whose answers come when a test says so, and short ways to ask them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from agentless_mini.domain import (
    Completion,
    Finish,
    Message,
    ModelCard,
    Role,
    SampleRequest,
    SamplingParams,
    Stage,
)
from agentless_mini.errors import ServerUnreachable
from agentless_mini.ports import Sampler
from tests.fakes.model import Script

MODEL = "scripted"
CARD = ModelCard(MODEL, 8192)
SCRIPT = Script.of("zero", "one", "two", "three", "four")
MESSAGES = (Message(Role.USER, "Fix it."),)


def request(*indices: int, content: str = "Fix it.") -> SampleRequest:
    messages = (Message(Role.USER, content),)
    return SampleRequest(MODEL, messages, SamplingParams(100), indices, Stage.REPAIR, "local")


async def collect(sampler: Sampler, asked: SampleRequest) -> dict[int, str]:
    return {completion.index: completion.text async for completion in sampler.sample(asked)}


def answers(sampler: Sampler, *indices: int) -> dict[int, str]:
    return asyncio.run(collect(sampler, request(*indices)))


class GatedSampler:
    """Yields sample i when gate i is opened; counts what it was asked and whether its iterators were closed."""

    def __init__(self, *indices: int) -> None:
        self.gates = {index: asyncio.Event() for index in indices}
        self.requests: list[SampleRequest] = []
        self.asked = asyncio.Queue[SampleRequest]()
        self.closed = 0

    async def card(self) -> ModelCard:
        return CARD

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        return len(messages)

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        self.requests.append(request)
        self.asked.put_nowait(request)
        try:
            for index in request.indices:
                await self.gates[index].wait()
                yield Completion(index, f"answer {index}", Finish.STOP)
        finally:
            self.closed += 1

    def open(self, *indices: int) -> None:
        for index in indices:
            self.gates[index].set()


def generator(sampler: Sampler, asked: SampleRequest) -> AsyncGenerator[Completion]:
    stream = sampler.sample(asked)
    assert isinstance(stream, AsyncGenerator)
    return stream


class OffByOne(GatedSampler):
    """Breaks the contract: yields other samples than those that were asked for."""

    def __init__(self, *yielded: int) -> None:
        super().__init__(*yielded)
        self.open(*yielded)
        self.yielded = yielded

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        async for completion in super().sample(replace(request, indices=self.yielded)):
            yield completion


async def unreachable() -> Sampler:
    raise ServerUnreachable("Nothing answers: start a model server.")
