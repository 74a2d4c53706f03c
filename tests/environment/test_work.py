"""What people see while an environment is built."""

import asyncio
from pathlib import Path

from agentless_mini.domain import Event, Note, Phase, PhaseSaid, Runner
from agentless_mini.environment.index import Index
from agentless_mini.environment.needs import needs_of
from agentless_mini.environment.work import PlaceRequest, Work
from agentless_mini.sandbox.scratch import Scratch
from agentless_mini.settings.run import SandboxSettings
from tests.environment.samples import BARE
from tests.environment.trees import nothing_held


def test_a_build_is_told_with_its_log_and_what_it_says(tmp_path: Path) -> None:
    events: list[Event] = []
    asked = PlaceRequest(BARE, nothing_held, tmp_path, {}, Runner.UNITTEST)
    scratch = Scratch()
    work = Work(asked, SandboxSettings(), events.append, needs_of(BARE, Runner.UNITTEST), Index(), scratch)

    async def build() -> None:
        async with work.building("a house", work.slot("key")):
            work.hear("Laying bricks")

    asyncio.run(build())
    scratch.close()
    first, *rest = events
    assert isinstance(first, Note)
    assert first.text.startswith("Building a house for the tests, once for these dependencies (log: ")
    assert rest == [PhaseSaid(Phase.ENVIRONMENT, "Laying bricks"), PhaseSaid(Phase.ENVIRONMENT, "built")]
