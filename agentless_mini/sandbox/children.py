"""A box that is a child process: sent its job, listened to, and ended, from the event loop."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator
from contextlib import suppress

from agentless_mini.domain import Ending, Job, JobResult
from agentless_mini.errors import AminiError, boundary, printable
from agentless_mini.sandbox.uninterrupted import uninterrupted
from agentless_mini.sandbox.wire import PATIENCE, SETTING_UP, Garbled, Hear, Transcript, too_slow

NOTICING = 15.0
"""Seconds that a box has beyond its own limit, to notice that its time is over."""
LEAVING = 5.0
"""Seconds that a box has to end once its input is closed, before it is killed."""
CHUNK = 1 << 16
WORDS_LIMIT = 4096

Complaint = Callable[[str], AminiError]
"""Makes the error for a box that could not be set up from what it said last."""


class Child:
    """A program that serves one job over its standard streams, and ends when its input does."""

    def __init__(self, arguments: tuple[str, ...], descriptors: tuple[int, ...]) -> None:
        """Prepare to start it; it inherits the descriptors."""
        self._arguments = arguments
        self._descriptors = descriptors
        self._words = b""

    async def serve(self, job: Job, sent: Iterator[bytes], complaint: Complaint, hear: Hear | None = None) -> JobResult:
        """Start it, do the job and end it, also when this is cancelled. Raises `EnvironmentFailed`.

        `hear` is that of the box's room.
        """
        process = await self._start(complaint)
        hearing = asyncio.create_task(self._hear(process))
        sending = asyncio.create_task(_send(process, sent))
        transcript, ending = Transcript(job, hear), Ending.BOX_DIED
        try:
            async with asyncio.timeout(SETTING_UP) as clock:
                await _listen(process, transcript)
                clock.reschedule(asyncio.get_running_loop().time() + job.limits.seconds * PATIENCE + NOTICING)
                await _listen(process, transcript, to_its_end=True)
        except TimeoutError:
            ending = Ending.TIMED_OUT
        except Garbled:
            pass
        finally:
            await uninterrupted(_end(process, sending, hearing))
        if not transcript.ready and not transcript.complete:
            late = too_slow() if ending is Ending.TIMED_OUT else None
            raise _reason(sending) or late or complaint(self._last_line(process))
        return transcript.result(ending)

    async def _start(self, complaint: Complaint) -> Process:
        creating = asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            pass_fds=self._descriptors,
            start_new_session=True,  # an interrupt from the keyboard is for the run, which ends its boxes itself
        )
        starting = asyncio.ensure_future(creating)
        try:
            with boundary({OSError: lambda error: complaint(str(error))}):
                return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Killed at this moment, bubblewrap would leave a child that waits for it forever.
            await uninterrupted(self._discard(starting))
            raise

    async def _discard(self, starting: "asyncio.Future[Process]") -> None:
        with suppress(OSError):
            process = await starting
            await _end(process, asyncio.create_task(_send(process, iter(()))), asyncio.create_task(self._hear(process)))

    async def _hear(self, process: Process) -> None:
        assert process.stderr is not None  # noqa: S101 - asked for
        while data := await process.stderr.read(CHUNK):
            self._words = (self._words + data)[-WORDS_LIMIT:]

    def _last_line(self, process: Process) -> str:
        lines = [line for line in self._words.decode("utf-8", "replace").splitlines() if line.strip()]
        return printable(lines[-1] if lines else f"it ended with {process.returncode}")


async def _send(process: Process, sent: Iterator[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for
    try:
        for chunk in sent:
            process.stdin.write(chunk)
            await process.stdin.drain()
    except ConnectionError:  # it ended; what it said before tells why
        pass
    except AminiError:
        process.stdin.close()
        raise


async def _listen(process: Process, transcript: Transcript, *, to_its_end: bool = False) -> None:
    """Listen until the box has its tree, or to its end."""
    assert process.stdout is not None  # noqa: S101 - asked for
    while not transcript.complete and (to_its_end or not transcript.ready):
        data = await process.stdout.read(CHUNK)
        if not data:
            return
        transcript.feed(data)


async def _end(process: Process, sending: "asyncio.Task[None]", hearing: "asyncio.Task[None]") -> None:
    """Close its input, which ends it; kill it if not. Nothing of it is left open."""
    sending.cancel()
    await asyncio.wait([sending])
    assert process.stdin is not None  # noqa: S101 - asked for
    process.stdin.close()
    try:
        async with asyncio.timeout(LEAVING):
            await _drain(process)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await _drain(process)
    await hearing


async def _drain(process: Process) -> None:
    assert process.stdout is not None  # noqa: S101 - asked for
    while await process.stdout.read(CHUNK):
        pass
    await process.wait()


def _reason(sending: "asyncio.Task[None]") -> BaseException | None:
    """Return why the job could not be sent whole, None where that was not the reason."""
    return None if sending.cancelled() else sending.exception()
