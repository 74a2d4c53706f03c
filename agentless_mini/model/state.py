"""The record of the server that `amini serve` left running: written once it is healthy, read by whoever needs a model.

One server for each folder of records. The record of one that has ended stays until it is stopped or another is started:
whoever used it is told, and given no other model instead. This module decides nothing about how a server is started or
stopped.
"""

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from agentless_mini.errors import EnvironmentFailed, UsageError, boundary
from agentless_mini.model.process import Limits, Progress, Server, ServerPlan, start, stop
from agentless_mini.model.process_table import is_alive

RECORD = "server.json"
LOCK = "server.lock"
LOG = "server.log"
POLL = 0.2
FORMAT: TypeAdapter[Server] = TypeAdapter(Server)


@dataclass(frozen=True, slots=True)
class NotRunning:
    """There is no server. `reason` says in a sentence how that is known, `ended` is the one that should be there."""

    reason: str
    ended: Server | None = None


def find_server(home: Path) -> Server | NotRunning:
    """Return the server recorded in the folder `home` if its process still lives.

    Whether it answers is `process.is_healthy`'s to say. Raises `EnvironmentFailed` if the record cannot be read.
    """
    try:
        with _readable(home):
            record = (home / RECORD).read_bytes()
    except FileNotFoundError:
        return NotRunning("No server was started.")
    server = _parse(record, home)
    if is_alive(server.process):
        return server
    return NotRunning(
        f"The server for {server.model} (process {server.process.pid}) has ended; its log is {server.log}.", server
    )


async def serve(plan: ServerPlan, home: Path, limits: Limits, progress: Progress) -> Server:
    """Start a server that outlives this process, and record it in the folder `home`.

    While another start in the same folder is under way this one waits. Raises `UsageError` if a server runs already,
    and what `process.start` raises; then and when cancelled, nothing is left running.
    """
    async with _sole_start(home, progress):
        match find_server(home):
            case Server(model=model, base_url=url):
                raise UsageError(f"A server for {model} runs already at {url}: use it, or stop it first.")
        server = await start(plan, home / LOG, limits, progress)
        try:
            _write(home, server)
        except BaseException:
            stop(server, limits)
            raise
        return server


def stop_recorded(home: Path, limits: Limits) -> Server | NotRunning:
    """Stop the recorded server, forget it, and return which it was.

    Raises `EnvironmentFailed` if it cannot be stopped.
    """
    found = find_server(home)
    if isinstance(found, Server):
        stop(found, limits)
    _forget(home, found if isinstance(found, Server) else found.ended)
    return found


def _parse(record: bytes, home: Path) -> Server:
    unknown = f"The record {home / RECORD} is not one of this version: delete it once its server is stopped."
    with boundary({ValidationError: lambda _: EnvironmentFailed(unknown)}):
        return FORMAT.validate_json(record)


def _write(home: Path, server: Server) -> None:
    with _readable(home):
        fresh = home / f"{RECORD}.new"
        fresh.write_bytes(FORMAT.dump_json(server))
        fresh.replace(home / RECORD)


def _forget(home: Path, server: Server | None) -> None:
    """Remove the record of a server, unless a start is under way or another record has taken its place."""
    with suppress(FileNotFoundError), _readable(home), (home / LOCK).open("ab") as lock:
        if _locked(lock) and _parse((home / RECORD).read_bytes(), home) == server:
            (home / RECORD).unlink()


@asynccontextmanager
async def _sole_start(home: Path, progress: Progress) -> AsyncIterator[None]:
    begun = time.monotonic()
    with _open_lock(home) as lock:
        while not _locked(lock):
            progress("waiting for another start", time.monotonic() - begun)
            await asyncio.sleep(POLL)
        yield


def _open_lock(home: Path) -> BinaryIO:
    with _readable(home):
        home.mkdir(parents=True, exist_ok=True)
        return (home / LOCK).open("ab")


def _locked(lock: BinaryIO) -> bool:
    """Return whether the lock is held now; it is given back when the file is closed, by the system at the latest."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _readable(home: Path) -> Iterator[None]:
    """Translate what the file system refuses; that a file is not there is for the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        advice = "free the disk, or correct its permissions"
        raise EnvironmentFailed(f"The record of servers in {home} cannot be used ({error}): {advice}.") from error
