"""What people see while an environment is built."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.domain import Event, Runner
from agentless_mini.environments import work as work_module
from agentless_mini.environments.index import Index
from agentless_mini.environments.needs import needs_of
from agentless_mini.environments.settings import SandboxSettings
from agentless_mini.environments.work import PlaceRequest, Work
from agentless_mini.sandboxes.scratch import Scratch
from tests.environments.samples import BARE
from tests.environments.trees import nothing_held, sentences


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    made = Scratch()
    yield made
    made.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_build_is_told_every_minute_until_it_ends(
    tmp_path: Path, scratch: Scratch, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(work_module, "_MINUTE", 0.01)
    events: list[Event] = []

    async def build() -> None:
        long = asyncio.Event()

        def watch(event: Event) -> None:
            events.append(event)
            if len(events) == 3:
                long.set()

        asked = PlaceRequest(BARE, nothing_held, tmp_path, {}, Runner.UNITTEST)
        work = Work(asked, SandboxSettings(), watch, needs_of(BARE, Runner.UNITTEST), Index(), scratch)
        try:
            async with work.building("a house", work.slot("key")):
                await long.wait()
                if fails:
                    raise OSError
        except OSError:
            assert fails
        await asyncio.sleep(0.05)

    asyncio.run(build())
    first, second, third = sentences(events)
    assert first.startswith("Building a house for the tests, once for these dependencies (log: ")
    assert second == "Still building, after 1 min of at most 15."
    assert third == "Still building, after 2 min of at most 15."
