"""What the tests of the OpenAI sampler share: a script, a clock that only notes, and samplers on a scripted server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from agentless_mini.domain import Completion, ModelCard, SampleRequest
from agentless_mini.errors import AminiError
from agentless_mini.model.connection import Patience
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.settings.model import EndpointSettings
from tests.fakes.model import Script
from tests.fakes.protocol import Dialect, ServedModel
from tests.fakes.server import ScriptedServer
from tests.model.contract import ask, collect, run, until_error

TEXTS = ["zero answer", "one answer, longer than the others", "two", "three answers here"]
SCRIPT = Script.of(*TEXTS)
Result = TypeVar("Result")


class Clock:
    """A clock that only notes how long it was asked to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


def served(dialect: Dialect = Dialect.VLLM, script: Script = SCRIPT, interval: int = 1) -> ServedModel:
    return ServedModel(script=script, dialect=dialect, stream_interval=interval)


@asynccontextmanager
async def opened(
    server: ScriptedServer, clock: Clock | None = None, **settings: object
) -> AsyncIterator[OpenAISampler]:
    endpoint = EndpointSettings.model_validate({"base_url": server.url, "retries": 3, **settings})
    patience = Patience(endpoint.retries, (clock or Clock()).sleep)
    async with OpenAISampler(endpoint, patience=patience) as sampler:
        yield sampler


def using(
    server: ScriptedServer,
    use: Callable[[OpenAISampler], Awaitable[Result]],
    clock: Clock | None = None,
    **settings: object,
) -> Result:
    async def used() -> Result:
        async with opened(server, clock, **settings) as sampler:
            return await use(sampler)

    return run(used())


def from_seed_0(indices: tuple[int, ...] = (0, 1, 2, 3), max_tokens: int = 64) -> SampleRequest:
    """Ask for samples whose index in the script is their own."""
    request = ask("prompt", indices, max_tokens)
    return replace(request, params=replace(request.params, seed=0))


def draw(
    server: ScriptedServer, indices: tuple[int, ...] = (0, 1, 2, 3), clock: Clock | None = None, **settings: object
) -> list[Completion]:
    drawn = using(server, lambda sampler: collect(sampler, from_seed_0(indices)), clock, **settings)
    return sorted(drawn, key=lambda completion: completion.index)


def draw_until_error(
    server: ScriptedServer, clock: Clock | None = None, **settings: object
) -> tuple[list[Completion], AminiError | None]:
    return using(server, lambda sampler: until_error(sampler, from_seed_0()), clock, **settings)


def card(server: ScriptedServer, clock: Clock | None = None, **settings: object) -> ModelCard:
    return using(server, lambda sampler: sampler.card(), clock, **settings)


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]
