"""This side of the harness's process: starts it, talks to it, ends it at once.

Requests and answers are lines of JSON; what they mean is `harness` on one side and `grading` on the other. The process
has a session of its own, so that Ctrl-C in a terminal reaches who started it and not it.
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from agentless_mini.errors import GradingFailed, boundary
from agentless_mini.sandbox.host import uninterrupted

HARNESS = (sys.executable, "-X", "utf8", "-P", "-m", "agentless_mini.evaluation.harness")
LOG = "worker.log"
GRACE = 20.0
"""Seconds that a worker which is asked to end has to remove its container."""
_LINE = 1 << 30
"""Bytes of one answer: the dataset's largest rows have some hundreds of kilobytes, a report less."""


class WorkerDied(GradingFailed):
    """The process ended while it was asked something."""


class Worker:
    """A process that runs the official harness in `folder`, and answers one request after another."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        """Take a process that was just started; see `start`."""
        self._process = process
        self._folder = folder

    @classmethod
    async def start(cls, folder: Path, command: tuple[str, ...]) -> "Worker":
        """Start a process. What it prints is added to the log in the folder. Raises `GradingFailed`."""

        def refused(error: BaseException) -> GradingFailed:
            return GradingFailed(f"The grading process cannot be started in {folder}: {error}.")

        with boundary({OSError: refused}), _log(folder) as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=_LINE,
            )
        return cls(process, folder)

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its first answer. Raises `WorkerDied`."""
        stdin = self._process.stdin
        with suppress(ConnectionError):  # its death is told by the missing answer
            if stdin is not None:
                stdin.write(json.dumps(request).encode() + b"\n")
                await stdin.drain()
        return await self.next_answer()

    async def next_answer(self) -> dict[str, Any]:
        """Return a further answer to the request that was sent. Raises `WorkerDied`."""
        stdout = self._process.stdout
        line = await stdout.readline() if stdout is not None else b""
        if not line.endswith(b"\n"):
            raise WorkerDied(f"The grading process ended before it answered: see {self._folder / LOG}.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> None:
        """End it and wait until it is gone, with whatever it runs. It is killed where it does not end in time."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


def _log(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / LOG).open("ab")


@asynccontextmanager
async def one_worker(folder: Path) -> AsyncIterator[Worker]:
    """Have a worker for as long as the block."""
    worker = await Worker.start(folder, HARNESS)
    try:
        yield worker
    finally:
        await uninterrupted(worker.end())
