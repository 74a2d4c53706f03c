"""Starts a model server as a process of its own, waits until it is healthy, records it, and stops it with its children.

A server runs in its own session, under a guard (`process_table`) that ends it when the run that started it dies. Its
output goes to a log, in whose folder it runs: never the repository, whose files Python would import.

The server that `amini serve` left running is recorded, one for each folder of records. The record of one that has ended
stays until it is stopped or another is started: whoever used it is told, and given no other model.
"""

import asyncio
import fcntl
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from agentless_mini.errors import AminiError, EnvironmentFailed, ServerUnreachable, UsageError, boundary
from agentless_mini.model.process_table import KEEP, Family, Process, find_process, is_alive

HOST = "127.0.0.1"
POLL = 0.2
ANSWER_LIMIT = 2.0
KILL_LIMIT = 10.0
RECORD, LOCK, LOG = "server.json", "server.lock", "server.log"
TAIL = 256 * 1024
QUOTED = 300
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PREFIX = re.compile(r"^(\(\S+ pid=\d+\) )?(\w+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] )?")
CALM = re.compile(r"^(\(\S+ pid=\d+\) )?(INFO|DEBUG|WARNING)\b")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
RAISED = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit|NotFound): \S|^(\w+: )?error: \S", re.IGNORECASE)
REPEATED = re.compile(r"[Ss]ee (the )?(root cause|stack trace)|stack trace above|EngineDeadError|WorkerProc")

Progress = Callable[[str, float], None]
"""Told what the server is doing and the seconds since it was started, a few times a second."""


class LogReading(NamedTuple):
    """How the log of one engine is read: expressions with what they show, of which the last line that shows one counts.

    `causes` are known failures, tried in order: an expression, the exception, what to try next.
    """

    phases: tuple[tuple[str, str], ...]
    causes: tuple[tuple[str, type[AminiError], str], ...]

    def phase(self, log: Path) -> str:
        """Return what the server is doing, in a few words."""
        shown = (phase for line in reversed(tail(log)) for pattern, phase in self.phases if re.search(pattern, line))
        return next(shown, "starting")

    def failure(self, engine: str, log: Path) -> AminiError:
        """Return why a server ended before it was ready: the log's last meaningful line, and what to try next."""

        def told(kind: type[AminiError], line: str, advice: str) -> AminiError:
            return kind(f'{engine} ended while it was starting ("{line[:QUOTED]}", log: {log}): {advice}.')

        lines = tuple(PREFIX.sub("", line) for line in tail(log) if not CALM.search(line))
        for pattern, kind, advice in self.causes:
            if shown := [line for line in lines if re.search(pattern, line)]:
                return told(kind, shown[-1], advice)
        # The last line that names an error of its own, else one that names an error, else the last one.
        raised = [line for line in lines if RAISED.search(line)]
        fresh = [line for line in raised if not REPEATED.search(line)]
        last = (fresh or raised or list(lines) or ["it wrote nothing"])[-1]
        return told(EnvironmentFailed, last, "read the log for what led there")


class ServerPlan(NamedTuple):
    """A server to be started, which will listen on `port`; `model` is the name under which requests ask for it."""

    engine: str
    model: str
    command: tuple[str, ...]
    port: int
    reading: LogReading


class Limits(NamedTuple):
    """Seconds: until a server must be healthy, and what one that is stopped has before it is killed."""

    start: float = 1800.0
    grace: float = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was healthy when it was started (in seconds since 1970). `process` leads its group."""

    base_url: str
    model: str
    engine: str
    process: Process
    log: Path
    started: float


def choose_port(port: int | None) -> int:
    """Return the port if it is free, a free one where none is asked for. Raises `UsageError` if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken = f"Port {port} cannot be listened on"
        with boundary({OSError: lambda error: UsageError(f"{taken} ({error}): stop what uses it or choose another.")}):
            probe.bind((HOST, port or 0))
        return int(probe.getsockname()[1])


async def start(plan: ServerPlan, log: Path, limits: Limits, progress: Progress) -> Server:
    """Start a server that outlives this process, and return once it is healthy.

    If this is cancelled, or this process dies before it returns, nothing is left running. Raises what the log shows
    (mostly `EnvironmentFailed`), and `ServerUnreachable` where the server is not healthy in time.
    """
    guard, server = await _bring_up(plan, log, limits, progress)
    try:
        with boundary({BrokenPipeError: lambda _: plan.reading.failure(plan.engine, log)}):
            if guard.stdin is not None:
                with guard.stdin as pipe:
                    pipe.write(KEEP)
        guard.returncode = 0  # it need not be waited for: else Popen warns, when it is collected, that it still runs
    except BaseException:
        _end(guard, limits)
        raise
    return server


@asynccontextmanager
async def running(plan: ServerPlan, log: Path, limits: Limits, progress: Progress) -> AsyncIterator[Server]:
    """Run a server for as long as the block, and no longer if this process is killed. Raises as `start` does."""
    guard, server = await _bring_up(plan, log, limits, progress)
    try:
        yield server
    finally:
        _end(guard, limits)


async def is_healthy(server: Server) -> bool:
    """Return whether the server lives and says that it can serve."""
    port = urlsplit(server.base_url).port
    return port is not None and is_alive(server.process) and await _answers(port)


def stop(server: Server, limits: Limits) -> None:
    """Stop a server, if it lives, and all that it started. Raises `EnvironmentFailed` if processes of it remain."""
    if is_alive(server.process):
        _stop(server.process, limits)
    with suppress(ChildProcessError):  # started by another process, or collected already
        os.waitpid(server.process.pid, os.WNOHANG)


def _stop(leader: Process, limits: Limits) -> None:
    family = Family(leader)
    refused = f"The server (process {leader.pid}) cannot be stopped"
    with boundary({PermissionError: lambda _: EnvironmentFailed(f"{refused}: stop it as the user who started it.")}):
        try:
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(leader.pid, signal.SIGTERM)
            family.wait(limits.grace)
        finally:
            family.kill()
        left = family.wait(KILL_LIMIT)
    if left:
        raise EnvironmentFailed(f"{refused} (processes {left} remain): end them by hand.")


Guard = subprocess.Popen[bytes]


async def _bring_up(plan: ServerPlan, log: Path, limits: Limits, progress: Progress) -> tuple[Guard, Server]:
    guard, begun = _launch(plan.command, log), time.monotonic()
    try:
        process = find_process(guard.pid)
        while guard.poll() is None and not await _answers(plan.port):
            phase, elapsed = plan.reading.phase(log), time.monotonic() - begun
            if elapsed > limits.start:
                raise ServerUnreachable(
                    f"{plan.engine} was not ready {limits.start:.0f} s after its start (last: {phase}, log: {log}): "
                    "read the log, or allow it more time."
                )
            progress(phase, elapsed)
            await asyncio.sleep(POLL)
        if process is None or guard.poll() is not None:
            raise plan.reading.failure(plan.engine, log)
    except BaseException:
        _end(guard, limits)
        raise
    return guard, Server(f"http://{HOST}:{plan.port}/v1", plan.model, plan.engine, process, log, time.time())


def _launch(command: tuple[str, ...], log: Path) -> Guard:
    def refused(error: BaseException) -> EnvironmentFailed:
        return EnvironmentFailed(f"No process can be started for the server ({error}): free memory or processes.")

    unwritable = f"The log {log} cannot be written"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({error}): make room or choose another.")}):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(f"{shlex.join(command)}\n".encode(errors="surrogateescape"))
        output = log.open("ab")
    with output, boundary({OSError: refused}):
        return subprocess.Popen(  # noqa: S603 - an argument list that an engine's plan put together
            (sys.executable, "-P", "-m", "agentless_mini.model.process_table", *command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,
        )


async def _answers(port: int) -> bool:
    """Return whether a healthy server listens on the port."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):  # nobody listens, too slow, or an endless line
        return False


def _end(guard: Guard, limits: Limits) -> None:
    """Stop a server of this process, and wait for its guard."""
    try:
        leader = find_process(guard.pid)
        if leader is not None:
            _stop(leader, limits)
    finally:
        if guard.stdin is not None:
            with suppress(BrokenPipeError):  # what was to be said to a guard that is gone
                guard.stdin.close()
        guard.wait()


def tail(log: Path) -> tuple[str, ...]:
    """Return the last lines of a log that hold text, without colours and control characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = (UNPRINTABLE.sub(" ", COLOURS.sub("", line)).strip() for line in re.split(r"[\r\n]+", text))
    return tuple(line for line in lines if line)


FORMAT: TypeAdapter[Server] = TypeAdapter(Server)


class NotRunning(NamedTuple):
    """There is no server. `reason` says in a sentence how that is known, `ended` is the one that should be there."""

    reason: str
    ended: Server | None = None


def find_server(home: Path) -> Server | NotRunning:
    """Return the server recorded in the folder `home` if its process still lives.

    Whether it answers is `is_healthy`'s to say. Raises `EnvironmentFailed` if the record cannot be read.
    """
    with _readable(home):
        record = (home / RECORD).read_bytes() if (home / RECORD).exists() else None
    if record is None:
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
    and what `start` raises; then and when cancelled, nothing is left running.
    """
    begun = time.monotonic()
    with _open_lock(home) as lock:
        while not _locked(lock):
            progress("waiting for another start", time.monotonic() - begun)
            await asyncio.sleep(POLL)
        found = find_server(home)
        if isinstance(found, Server):
            raise UsageError(f"A server for {found.model} runs already at {found.base_url}: use it, or stop it first.")
        server = await start(plan, home / LOG, limits, progress)
        try:
            with _readable(home):
                fresh = home / f"{RECORD}.new"
                fresh.write_bytes(FORMAT.dump_json(server))
                fresh.replace(home / RECORD)
        except BaseException:
            stop(server, limits)
            raise
        return server


def stop_recorded(home: Path, limits: Limits) -> Server | NotRunning:
    """Stop the recorded server, forget it, and return which it was. Raises `EnvironmentFailed` where it cannot."""
    found = find_server(home)
    if isinstance(found, Server):
        stop(found, limits)
        ended: Server | None = found
    else:
        ended = found.ended
    if ended is not None:
        with _readable(home), (home / LOCK).open("ab") as lock, suppress(FileNotFoundError):
            # Not where a start is under way or another record has taken its place.
            if _locked(lock) and _parse((home / RECORD).read_bytes(), home) == ended:
                (home / RECORD).unlink()
    return found


def _parse(record: bytes, home: Path) -> Server:
    unknown = f"The record {home / RECORD} is not one of this version: delete it once its server is stopped."
    with boundary({ValidationError: lambda _: EnvironmentFailed(unknown)}):
        return FORMAT.validate_json(record)


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


def _readable(home: Path) -> AbstractContextManager[None]:
    """Translate what the file system refuses."""
    place, advice = f"The record of servers in {home} cannot be used", "free the disk, or correct its permissions"
    return boundary({OSError: lambda error: EnvironmentFailed(f"{place} ({error}): {advice}.")})
