"""Where the tests of a run are run: opened when they are needed."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from agentless_mini.chain.bench import Bench, NoBench, Opening
from agentless_mini.commands.models import Machine
from agentless_mini.domain import Note, Snapshot
from agentless_mini.errors import BuildFailed
from agentless_mini.ports import Watch
from agentless_mini.repository.opening import Repository
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings
from agentless_mini.testing import harness_of


@dataclass(frozen=True, slots=True)
class Yard:
    """What the boxes of a run are opened with. What is opened is closed by `stack`."""

    settings: SandboxSettings
    repository: Repository
    snapshot: Snapshot
    machine: Machine
    stack: AsyncExitStack


async def foreseen(settings: SandboxSettings, snapshot: Snapshot) -> str:
    """Return in words where tests will run, or why none is run. Raises `UsageError` where settings contradict."""
    if settings.kind is SandboxKind.NONE:
        return f"{UNTESTED} (--sandbox none)"
    from agentless_mini.environment.opening import foresee

    return await foresee(settings, snapshot, harness_of(snapshot, settings.test_command).runner)


def plan_boxes(yard: Yard) -> Opening | NoBench:
    """Return how the boxes of a run are opened, or why there are none. Nothing is started."""
    if yard.settings.kind is SandboxKind.NONE:
        return NoBench("No test was run because of --sandbox none.")
    return Opening(harness_of(yard.snapshot, yard.settings.test_command), partial(open_bench, yard))


async def open_bench(yard: Yard, watch: Watch) -> Bench | NoBench:
    """Open the boxes of a tree, unrecorded, until the yard's stack is closed.

    A project whose needs cannot be installed has none; the vote is left then. Raises as `open_environment` where the
    sandbox that was asked for does not work.
    """
    from agentless_mini.environment.opening import open_environment
    from agentless_mini.environment.work import EnvironmentRequest, Unavailable

    harness = harness_of(yard.snapshot, yard.settings.test_command)
    contents, machine = yard.repository.contents(), yard.machine
    request = EnvironmentRequest(
        yard.snapshot, contents, machine.cache, machine.environment, harness.runner, until=yard.snapshot.day
    )
    try:
        opened = await open_environment(request, yard.settings, watch, yard.stack)
    except BuildFailed as error:
        return NoBench(str(error))
    if isinstance(opened, Unavailable):
        return NoBench(opened.reason)
    for note in opened.notes:
        watch(Note(note))
    return Bench(opened.sandbox, opened.place, harness, yard.snapshot, watch, opened.limits, yard.settings.case_seconds)
