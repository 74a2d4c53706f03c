"""Chooses where tests run, and makes it ready."""

import asyncio
from contextlib import AsyncExitStack

from agentless_mini.domain import MIB, Phase, PhaseStarted, Runner, Snapshot
from agentless_mini.environment.imaged import check_docker, open_docker
from agentless_mini.environment.index import find_index
from agentless_mini.environment.needs import needs_of
from agentless_mini.environment.virtual import open_boxed, open_fenced, open_unboxed
from agentless_mini.environment.work import Opened, PlaceRequest, Unavailable, Work
from agentless_mini.errors import BuildFailed, EnvironmentFailed, UsageError
from agentless_mini.ports import Watch
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from agentless_mini.sandbox.daemon import require_daemon
from agentless_mini.sandbox.landlock import find_landlock
from agentless_mini.sandbox.scratch import Scratch, sweep_scratch
from agentless_mini.sandbox.wire import no_room
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings

_NOT_ASKED_FOR = "No test is run because of --sandbox none."
"""The beginning of what `foresee` returns where none is."""
_PAGE = 4096
"""What a file in a box takes is counted in pages of at least this size."""
_NAMES = {SandboxKind.LOCAL: "bubblewrap", SandboxKind.UNSAFE: "no sandbox at all"}


def foresee(settings: SandboxSettings) -> str:
    """Return in words where tests will run, or why none is run, by a look that starts nothing.

    Raises `UsageError` as `open_place`.
    """
    kind, reasons = _kind(settings), []
    if kind is SandboxKind.NONE:
        return f"{UNTESTED} (--sandbox none)"
    if kind is not SandboxKind.AUTO:
        return f"tests run in {_NAMES.get(kind, kind.capitalize())}"
    looks = (
        ("Docker", require_daemon),
        ("bubblewrap", lambda: find_bubblewrap(settings.bubblewrap)),
        ("Landlock", find_landlock),
    )
    for name, look in looks:
        try:
            look()
        except EnvironmentFailed as error:
            reasons.append(str(error))
        else:
            return f"tests run in {name}"
    return f"{UNTESTED}, for there is no sandbox: {' '.join(reasons)}"


async def open_place(
    request: PlaceRequest, settings: SandboxSettings, watch: Watch, stack: AsyncExitStack
) -> Opened | Unavailable:
    """Return the place for the tests of a tree, ready to be used until `stack` is closed.

    It is built where it is not there yet, which can take minutes. What dead runs left behind is removed first. Where
    the settings leave the choice, the first way that works is taken, and `Unavailable` is the answer where none does.
    Raises `EnvironmentFailed` where the way that was asked for does not work, `UsageError` where settings contradict
    each other, and `RepositoryError` where the tree cannot be read any more.
    """
    if settings.kind is SandboxKind.NONE:
        return Unavailable(_NOT_ASKED_FOR)
    kind = _kind(settings)
    watch(PhaseStarted(Phase.ENVIRONMENT))
    await asyncio.to_thread(sweep_scratch)
    scratch = Scratch()
    stack.callback(scratch.close)
    work = await asyncio.to_thread(_work, request, settings, watch, scratch)
    return await (_first_that_works(work, stack) if kind is SandboxKind.AUTO else _open(kind, work, stack))


async def check_place(snapshot: Snapshot, runner: Runner, settings: SandboxSettings) -> None:
    """Raise as `open_place` or a box of it where the way that was asked for cannot work, without building or pulling.

    The tree has to fit into a box. An image that is not here is looked for in its registry. Where the settings leave
    the choice, nothing is checked.
    """
    kind = _kind(settings)
    if kind in {SandboxKind.DOCKER, SandboxKind.LOCAL, SandboxKind.LANDLOCK}:
        pages = sum(-(-max(file.size, len(file.data)) // _PAGE) for file in snapshot.files)
        if (needed := -(-pages * _PAGE // MIB)) > settings.disk_mib:
            raise no_room(f"{needed} MiB of files, and room for {settings.disk_mib} MiB")
    if kind is SandboxKind.DOCKER:
        await check_docker(settings, needs_of(snapshot, runner))
    elif kind is SandboxKind.LOCAL:
        await asyncio.to_thread(find_bubblewrap, settings.bubblewrap)
    elif kind is SandboxKind.LANDLOCK:
        await asyncio.to_thread(find_landlock)


def _kind(settings: SandboxSettings) -> SandboxKind:
    """Return what is asked for: an image leaves no choice."""
    if not settings.image:
        return settings.kind
    if settings.kind in {SandboxKind.AUTO, SandboxKind.DOCKER}:
        return SandboxKind.DOCKER
    raise UsageError(f"An image needs Docker: leave out --image, or --sandbox {settings.kind}.")


def _work(request: PlaceRequest, settings: SandboxSettings, watch: Watch, scratch: Scratch) -> Work:
    needs = needs_of(request.snapshot, request.runner)
    return Work(request, settings, watch, needs, find_index(request.variables), scratch)


async def _open(kind: SandboxKind, work: Work, stack: AsyncExitStack) -> Opened:
    async with AsyncExitStack() as own:
        if kind is SandboxKind.DOCKER:
            opened = await open_docker(work, own)
        elif kind is SandboxKind.LOCAL:
            opened = await open_boxed(work)
        elif kind is SandboxKind.LANDLOCK:
            opened = await open_fenced(work, own)
        else:
            opened = await open_unboxed(work, own)
        stack.push_async_exit(own.pop_all())
        return opened


async def _first_that_works(work: Work, stack: AsyncExitStack) -> Opened | Unavailable:
    """Open the first way that works. A build that failed without Docker would fail behind Landlock just so."""
    reasons = []
    ways = {SandboxKind.DOCKER: "Docker", SandboxKind.LOCAL: "bubblewrap", SandboxKind.LANDLOCK: "Landlock"}
    names = [*ways.values(), ""]
    for (kind, name), following in zip(ways.items(), names[1:], strict=True):
        try:
            return await _open(kind, work, stack)
        except EnvironmentFailed as error:
            reasons.append(str(error))
            if kind is SandboxKind.LOCAL and isinstance(error, BuildFailed):
                break
            if following:
                work.note(f"Trying {following} instead of {name}. {error}")
    return Unavailable(f"No test is run, for there is no environment. {' '.join(dict.fromkeys(reasons))}")
