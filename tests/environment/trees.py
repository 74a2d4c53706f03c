"""Trees for the tests of environments, and requests for a place on them."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

from agentless_mini.domain import Event, FileKind, Job, JobResult, Note, Runner, Snapshot, SourceFile, Step
from agentless_mini.environment.needs import Needs, needs_of
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import EnvironmentRequest, Opened, Unavailable
from agentless_mini.settings.run import SandboxSettings

T = TypeVar("T")


def tree(files: Mapping[str, str]) -> Snapshot:
    """Return a snapshot of text files."""
    entries = (SourceFile(path, "100644", FileKind.TEXT, text.encode()) for path, text in sorted(files.items()))
    return Snapshot("tree", "", "", tuple(entries))


def needs(runner: Runner = Runner.PYTEST, /, **files: str) -> Needs:
    """Return the needs of a tree; in the names of files `__` stands for a dot, and `___` for a slash."""
    return needs_of(tree({name.replace("___", "/").replace("__", "."): text for name, text in files.items()}), runner)


def nothing_held(files: tuple[SourceFile, ...]) -> Iterator[bytes]:
    return iter(())


def request(snapshot: Snapshot, cache: Path, runner: Runner = Runner.PYTEST) -> EnvironmentRequest:
    return EnvironmentRequest(snapshot, nothing_held, cache, dict(os.environ), runner)


def sentences(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def opened(
    asked: EnvironmentRequest, settings: SandboxSettings, events: list[Event], use: Callable[[Opened], T] | None = None
) -> T | Opened | Unavailable:
    """Open a place, use it, and close it."""

    async def run() -> T | Opened | Unavailable:
        async with AsyncExitStack() as stack:
            place = await open_environment(asked, settings, events.append, stack)
            return use(place) if use and isinstance(place, Opened) else place

    return asyncio.run(run())


def run_there(
    asked: EnvironmentRequest, settings: SandboxSettings, *steps: Step, events: list[Event] | None = None
) -> tuple[JobResult, Opened]:
    """Open a place and run steps in a box of it."""
    heard = [] if events is None else events

    async def run() -> tuple[JobResult, Opened]:
        async with AsyncExitStack() as stack:
            place = await open_environment(asked, settings, heard.append, stack)
            assert isinstance(place, Opened), place
            job = Job(place.place.environment, place.place.tree, (), steps, place.limits)
            return await place.sandbox.run(job), place

    return asyncio.run(run())
