"""Starts a model server as a process of its own, waits until it is healthy, and stops it with all that it started.

A server runs in its own session, under a guard that ends it when the run that started it dies. Its standard output goes
to a log, and its working folder is the log's: never the repository, whose files Python would import from there. Which
program it is and how its log reads is the engines' business; which server runs at the moment is written down elsewhere.
"""

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from agentless_mini.errors import EnvironmentFailed, ServerUnreachable, UsageError, boundary
from agentless_mini.model.guard import KEEP
from agentless_mini.model.process_table import Family, Process, find_process, is_alive
from agentless_mini.model.startup_log import LogReading

HOST = "127.0.0.1"
POLL = 0.2
ANSWER_LIMIT = 2.0
KILL_LIMIT = 10.0

Progress = Callable[[str, float], None]
"""Told what the server is doing and the seconds since it was started, a few times a second."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A server to be started: the command line, the port that it will listen on, and how its log is read.

    `model` is the name under which requests ask for it.
    """

    engine: str
    model: str
    command: tuple[str, ...]
    port: int
    reading: LogReading


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: until a server must be healthy, and what one that is stopped has before it is killed."""

    start: float = 1800.0
    grace: float = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was healthy when it was started.

    `process` leads its group. `base_url` is what an OpenAI client takes; `started` is in seconds since 1970.
    """

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
            _let_go(guard)
    except BaseException:
        _end(guard, limits)
        raise
    return server


@asynccontextmanager
async def running(plan: ServerPlan, log: Path, limits: Limits, progress: Progress) -> AsyncIterator[Server]:
    """Run a server for as long as the block: it is stopped after it, and if this process is killed, too.

    Raises as `start` does.
    """
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
    """Stop a server and all that it started: asked first, killed after the grace. Nothing to do if it is gone.

    Raises `EnvironmentFailed` if processes of it remain.
    """
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
    guard = _launch(plan.command, log)
    try:
        process = find_process(guard.pid)
        await _until_healthy(guard, (plan, log), limits, progress)
        if process is None or guard.poll() is not None:
            raise plan.reading.failure(plan.engine, log)
    except BaseException:
        _end(guard, limits)
        raise
    return guard, Server(f"http://{HOST}:{plan.port}/v1", plan.model, plan.engine, process, log, time.time())


def _launch(command: tuple[str, ...], log: Path) -> Guard:
    def refused(error: BaseException) -> EnvironmentFailed:
        return EnvironmentFailed(f"No process can be started for the server ({error}): free memory or processes.")

    with _begin_log(command, log) as output, boundary({OSError: refused}):
        return subprocess.Popen(  # noqa: S603 - an argument list that an engine's plan put together
            (sys.executable, "-P", "-m", "agentless_mini.model.guard", *command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,
        )


def _begin_log(command: tuple[str, ...], log: Path) -> BinaryIO:
    unwritable = f"The log {log} cannot be written"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({error}): make room or choose another.")}):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(f"{shlex.join(command)}\n".encode(errors="surrogateescape"))
        return log.open("ab")


async def _until_healthy(guard: Guard, started: tuple[ServerPlan, Path], limits: Limits, progress: Progress) -> None:
    plan, log = started
    begun = time.monotonic()
    while guard.poll() is None:
        if await _answers(plan.port):
            return
        elapsed = time.monotonic() - begun
        if elapsed > limits.start:
            raise ServerUnreachable(
                f"{plan.engine} was not ready {limits.start:.0f} s after its start (last: {plan.reading.phase(log)}, "
                f"log: {log}): read the log, or allow it more time."
            )
        progress(plan.reading.phase(log), elapsed)
        await asyncio.sleep(POLL)


async def _answers(port: int) -> bool:
    """Return whether a healthy server listens on the port of this machine."""
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


def _let_go(guard: Guard) -> None:
    """Tell the guard that the server may stay, and this process that it need not wait for the guard."""
    if guard.stdin is not None:
        with guard.stdin as pipe:
            pipe.write(KEEP)
    guard.returncode = 0  # else Popen warns, when it is collected, about a child that still runs


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
