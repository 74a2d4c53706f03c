"""The recorded samplers keep the contract of the port, over an empty record and over one that holds every answer."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agentless_mini.domain import Completion, Issue, SampleRequest
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, RunStart, Store
from tests.fakes.model import Script, ScriptedSampler
from tests.model.contract import SamplerContract

START = RunStart("scripted", "contract", "project", "c", "t", Issue("It fails."))


async def started() -> Sampler:
    return ScriptedSampler(Script.of("first answer", "second answer", "third answer here"))


@asynccontextmanager
async def recording(kind: type[RecordedSampler] = RecordedSampler) -> AsyncIterator[Sampler]:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.db") as store:
        yield kind(started, store, "scripted", store.runs.begin(START))


class TestFresh(SamplerContract):
    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        async with recording() as sampler:
            yield sampler


class SecondTime(RecordedSampler):
    """Asks for everything once before it answers: what it answers is a replay."""

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        async for _ in super().sample(request):
            pass
        async for completion in super().sample(request):
            yield completion


class TestReplayed(SamplerContract):
    @asynccontextmanager
    async def sampler(self) -> AsyncIterator[Sampler]:
        async with recording(SecondTime) as sampler:
            yield sampler
