"""The rows' own checks as a potential: 1 for a patch that passes, 0 for one that does not, in a sandbox.

A trainer's reward functions are ordinary ones, a sandbox is asked by coroutines: a thread of its own runs these.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeVar

from agentless_mini.domain import Patch
from agentless_mini.environments import Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.learning.bugs.checking import CheckVerdict, check_patch
from agentless_mini.learning.rows import Row

Result = TypeVar("Result")
Opening = Callable[[AsyncExitStack], Awaitable[Opened]]


class Checks:
    """Runs checks in the place that `opening` opens. Use it as a context manager."""

    def __init__(self, opening: Opening) -> None:
        """Prepare; the place is opened when the block is entered."""
        self._opening = opening
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="checks", daemon=True)
        self._stack = AsyncExitStack()
        self._opened: Opened | None = None

    def __enter__(self) -> Self:
        """Open the place. Raises `EnvironmentFailed` where there is none."""
        self._thread.start()
        try:
            self._opened = self._wait(self._opening(self._stack))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *ended: object) -> None:
        """Close the place."""
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def values(self, asked: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        """Return what the check of each row says of the patch; None where its box was lost, or there is no check."""
        return self._wait(self._values(asked))

    async def _values(self, asked: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        return list(await asyncio.gather(*(self._value(row, patch) for row, patch in asked)))

    async def _value(self, row: Row, patch: Patch) -> float | None:
        if self._opened is None or not row.check:
            return None
        try:
            return float(await check_patch(row, patch, self._opened) is CheckVerdict.PASSED)
        except EnvironmentFailed:
            return None  # infrastructure is not the answer's fault

    def _wait(self, work: Awaitable[Result]) -> Result:
        async def done() -> Result:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()
