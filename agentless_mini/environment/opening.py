"""Chooses where tests run, and makes it ready."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack

from agentless_mini.domain import MIB, Event, Phase, PhaseStarted, Runner, Snapshot
from agentless_mini.environment.imaged import base_image, check_docker, open_docker
from agentless_mini.environment.index import find_index
from agentless_mini.environment.needs import needs_of
from agentless_mini.environment.virtual import open_virtual
from agentless_mini.environment.work import EnvironmentRequest, Opened, Unavailable, Work
from agentless_mini.errors import BuildFailed, EnvironmentFailed, UsageError, printable
from agentless_mini.ports import Watch
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from agentless_mini.sandbox.daemon import require_daemon
from agentless_mini.sandbox.host import Scratch, sweep_scratch
from agentless_mini.sandbox.landlock import find_landlock
from agentless_mini.sandbox.wire import no_room
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings

_PAGE = 4096
"""What a file in a box takes is counted in pages of at least this size."""
_GLANCE = 1
"""Seconds that Docker and a registry may take to say whether there is an image, before the first line of a run."""
_WAYS: dict[SandboxKind, tuple[str, Callable[[SandboxSettings], object]]] = {
    SandboxKind.DOCKER: ("Docker", lambda _: require_daemon()),
    SandboxKind.LOCAL: ("bubblewrap", lambda settings: find_bubblewrap(settings.bubblewrap)),
    SandboxKind.LANDLOCK: ("Landlock", lambda _: find_landlock()),
}
"""The sandboxes in the order in which they are tried, each with its name and a look that starts nothing."""


async def foresee(settings: SandboxSettings, snapshot: Snapshot, runner: Runner) -> str:
    """Return in words where tests will run, or why none is run, by a look that starts nothing and takes a moment.

    A registry has a second to tell whether it has the image. Raises `UsageError` as `open_environment`.
    """
    kind = _kind(settings)
    if kind is SandboxKind.NONE:
        return f"{UNTESTED} (--sandbox none)"
    if kind is not SandboxKind.AUTO:
        return f"tests run in {_WAYS[kind][0] if kind in _WAYS else 'no sandbox at all'}"
    needs = await asyncio.to_thread(needs_of, snapshot, runner)
    reasons, image = list[str](), ""
    for way, (name, look) in _WAYS.items():
        try:
            await asyncio.to_thread(look, settings)
            if way is SandboxKind.DOCKER:
                await asyncio.wait_for(check_docker(settings, needs, 2 * _GLANCE), _GLANCE)
        except EnvironmentFailed as error:
            reasons.append(str(error))
        except TimeoutError:
            image = printable(base_image(settings, needs))
        else:
            return f"tests run in {f'Docker, or in {name} if the image {image} cannot be pulled' if image else name}"
    if image:
        return f"tests run in Docker if the image {image} can be pulled"
    return f"{UNTESTED}, for there is no sandbox: {' '.join(reasons)}"


async def open_environment(
    request: EnvironmentRequest, settings: SandboxSettings, watch: Watch, stack: AsyncExitStack
) -> Opened | Unavailable:
    """Return the test environment of a tree, ready to be used until `stack` is closed.

    It is built where it is not there yet, which can take minutes. What dead runs left behind is removed first. Where
    the settings leave the choice, the first way that works is taken, and `Unavailable` is the answer where none does.
    Raises `EnvironmentFailed` where the way that was asked for does not work, `UsageError` where settings contradict
    each other, and `RepositoryError` where the tree cannot be read any more.
    """
    if settings.kind is SandboxKind.NONE:
        return Unavailable("No test is run because of --sandbox none.")
    kind = _kind(settings)
    watch(PhaseStarted(Phase.ENVIRONMENT))
    await asyncio.to_thread(sweep_scratch)
    scratch = Scratch()
    stack.callback(scratch.close)
    needs = await asyncio.to_thread(needs_of, request.snapshot, request.runner)
    index = await asyncio.to_thread(find_index, request.variables)
    loop, here = asyncio.get_running_loop(), threading.get_ident()

    def watched(event: Event) -> None:
        watch(event) if threading.get_ident() == here else loop.call_soon_threadsafe(watch, event)

    work = Work(request, settings, watched, needs, index, scratch)
    return await (_first_that_works(work, stack) if kind is SandboxKind.AUTO else _open(kind, work, stack))


async def check_environment(snapshot: Snapshot, runner: Runner, settings: SandboxSettings) -> None:
    """Raise as `open_environment` where the sandbox that was asked for cannot work. Nothing is built or pulled.

    The tree has to fit into a box. An image that is not here is looked for in its registry. Where the settings leave
    the choice, nothing is checked.
    """
    kind = _kind(settings)
    if kind in _WAYS:
        pages = sum(-(-max(file.size, len(file.data)) // _PAGE) for file in snapshot.files)
        if (needed := -(-pages * _PAGE // MIB)) > settings.disk_mib:
            raise no_room(f"{needed} MiB of files, and room for {settings.disk_mib} MiB")
    if kind is SandboxKind.DOCKER:
        await check_docker(settings, needs_of(snapshot, runner))
    elif kind in _WAYS:
        await asyncio.to_thread(_WAYS[kind][1], settings)


def _kind(settings: SandboxSettings) -> SandboxKind:
    """Return what is asked for: an image leaves no choice."""
    if not settings.image:
        return settings.kind
    if settings.kind in {SandboxKind.AUTO, SandboxKind.DOCKER}:
        return SandboxKind.DOCKER
    raise UsageError(f"An image needs Docker: leave out --image, or --sandbox {settings.kind}.")


async def _open(kind: SandboxKind, work: Work, stack: AsyncExitStack) -> Opened:
    async with AsyncExitStack() as own:
        opening = open_docker(work, own) if kind is SandboxKind.DOCKER else open_virtual(kind, work, own)
        opened = await opening
        stack.push_async_exit(own.pop_all())
        return opened


async def _first_that_works(work: Work, stack: AsyncExitStack) -> Opened | Unavailable:
    """Open the first way that works. A build that failed without Docker would fail behind Landlock just so."""
    failed, reasons = "", list[str]()
    for kind, (name, _) in _WAYS.items():
        if failed:
            work.note(f"Trying {name} instead of {failed}. {reasons[-1]}")
        try:
            return await _open(kind, work, stack)
        except EnvironmentFailed as error:
            failed = name
            reasons.append(str(error))
            if kind is SandboxKind.LOCAL and isinstance(error, BuildFailed):
                break
    return Unavailable(f"No test is run, for there is no environment. {' '.join(dict.fromkeys(reasons))}")
