"""The rows' own checks as a potential: 1 for a patch that passes, 0 for one that does not, None where a box was lost.

A check is one Python program that needs the standard library and the row's files. It runs in the folder of the
repaired files and exits with 0 if the repair is right; a repair that exits, hangs or takes too much is wrong. Checks
and repairs are foreign code: each distinct patch gets a box of its own. A patch that reads the check is not found out.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from agentless_mini.domain import Ending, Job, Patch, PlacedFile, Runner, Snapshot, Step, placed_files
from agentless_mini.edits import changed_files
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import EnvironmentRequest, Opened, Unavailable
from agentless_mini.errors import EnvironmentFailed, UsageError, printable
from agentless_mini.learning.rewarding import Measure
from agentless_mini.learning.rows import Row
from agentless_mini.ports import Watch
from agentless_mini.settings.run import SandboxKind, SandboxSettings

Opening = Callable[[AsyncExitStack], Coroutine[Any, Any, Opened]]

_PROGRAM = ".amini-check.py"
_SECONDS = 10.0


async def open_plain(
    settings: SandboxSettings, folder: Path, variables: Mapping[str, str], watch: Watch, stack: AsyncExitStack
) -> Opened:
    """Return a place with Python and no repository, until `stack` is closed. Environments are kept below `folder`.

    Raises `EnvironmentFailed` where there is none, and `UsageError` for `--sandbox none`: checks are foreign code.
    """
    if settings.kind is SandboxKind.NONE:
        raise UsageError("Checks run untrusted code, which needs a sandbox: leave out --sandbox none.")
    nothing = Snapshot("python", "", "", ())
    asked = EnvironmentRequest(nothing, lambda files: iter(()), folder, variables, Runner.COMMAND)
    opened = await open_environment(asked, settings, watch, stack)
    if isinstance(opened, Unavailable):
        raise EnvironmentFailed(opened.reason)
    return opened


async def check_patch(row: Row, patch: Patch, opened: Opened) -> bool:
    """Return whether the row's check passes on a patch, in a box of its own.

    Raises `EnvironmentFailed` where the machine does not do its part: that is no verdict.
    """
    before = (PlacedFile(file.path, file.before.encode()) for file in row.files if file.before is not None)
    files = (*before, *placed_files(changed_files(patch, row.tree().entries)), PlacedFile(_PROGRAM, row.check.encode()))
    step = Step(("python", "-I", "-B", _PROGRAM), seconds=_SECONDS)
    place = opened.place
    result = await opened.sandbox.run(Job(place.environment, place.tree, files, (step,), opened.limits))
    if result.refusal:
        return False
    (ended,) = result.steps
    if ended.ending in {Ending.BOX_DIED, Ending.STARVED, Ending.NOT_RUN}:
        raise EnvironmentFailed(f"The box of {printable(row.id)} was lost: run again.")
    return ended.succeeded


@contextmanager
def running_checks(opening: Opening) -> Iterator[Measure]:
    """Give what runs the rows' checks in the place that `opening` opens, by ordinary calls as a trainer's rewards are.

    It has an event loop of its own, so it is not for use within one. It says None where a box was lost, or there is no
    check. Raises `EnvironmentFailed` where there is no place.
    """

    async def value(row: Row, patch: Patch, opened: Opened) -> float | None:
        try:
            return float(await check_patch(row, patch, opened)) if row.check else None
        except EnvironmentFailed:
            return None  # infrastructure is not the answer's fault

    async def values(asked: Sequence[tuple[Row, Patch]], opened: Opened) -> list[float | None]:
        return list(await asyncio.gather(*(value(row, patch, opened) for row, patch in asked)))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            opened = runner.run(opening(stack))
            yield lambda asked: runner.run(values(asked, opened))
        finally:
            runner.run(stack.aclose())
