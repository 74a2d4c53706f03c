"""The recording sandbox keeps the contract of the port, over a real adapter and over a store that holds the results."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Issue, Job, JobResult
from agentless_mini.ports import Sandbox
from agentless_mini.record import RecordedSandbox, RunStart, Store
from agentless_mini.sandbox.wire import Pack
from tests.sandbox.adapter import Adapter
from tests.sandbox.contract import SandboxContract

START = RunStart("scripted", "contract", "project", "c", "t", Issue("It fails."))


class SecondTime(RecordedSandbox):
    """Runs every job once before it answers: what it answers is a replay."""

    async def run(self, job: Job) -> JobResult:
        await super().run(job)
        return await super().run(job)


def recording(adapter: Adapter, folder: Path, kind: type[RecordedSandbox]) -> Adapter:
    @asynccontextmanager
    async def opening(packs: Mapping[str, Pack], boxes: int) -> AsyncIterator[Sandbox]:
        async with adapter.opening(packs, boxes) as inner:
            with Store.open(folder / "store.db") as store:
                yield kind(inner, store, store.runs.begin(START))

    return replace(adapter, opening=opening)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [RecordedSandbox, SecondTime])
class TestRecorded(SandboxContract):
    @pytest.fixture
    def adapter(self, local_adapter: Adapter, tmp_path: Path, kind: type[RecordedSandbox]) -> Adapter:
        return recording(local_adapter, tmp_path, kind)
