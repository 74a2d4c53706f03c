import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed, UsageError
from agentless_mini.model.process import (
    LOG,
    RECORD,
    Limits,
    NotRunning,
    Server,
    ServerPlan,
    choose_port,
    find_server,
    is_healthy,
    serve,
    stop,
    stop_recorded,
)
from agentless_mini.model.process_table import is_alive
from agentless_mini.model.vllm import READING
from tests.model import fake_engine

LIMITS = Limits(start=20.0, grace=5.0)


def quiet(_: str, __: float) -> None:
    """Nobody watches."""


def plan(*flags: str) -> ServerPlan:
    port = choose_port(None)
    return ServerPlan("vLLM", "fake", (sys.executable, fake_engine.__file__, f"--port={port}", *flags), port, READING)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    yield folder
    if folder.exists():
        stop_recorded(folder, LIMITS)


def test_a_server_that_was_started_is_found_again_until_it_is_stopped(home: Path) -> None:
    assert find_server(home) == NotRunning("No server was started.")
    server = asyncio.run(serve(plan(), home, LIMITS, quiet))
    assert find_server(home) == server
    assert asyncio.run(is_healthy(server))
    assert server.log == home / LOG
    assert stop_recorded(home, LIMITS) == server
    assert not is_alive(server.process)
    assert find_server(home) == stop_recorded(home, LIMITS) == NotRunning("No server was started.")


def test_a_server_that_ended_by_itself_is_remembered_until_it_is_stopped_or_another_is_started(home: Path) -> None:
    server = asyncio.run(serve(plan(), home, LIMITS, quiet))
    stop(server, LIMITS)
    found = find_server(home)
    assert isinstance(found, NotRunning)
    assert f"fake (process {server.process.pid}) has ended; its log is {home / LOG}" in found.reason
    assert found.ended == server
    assert find_server(home) == stop_recorded(home, LIMITS) == found
    assert find_server(home) == NotRunning("No server was started.")
    stop(asyncio.run(serve(plan(), home, LIMITS, quiet)), LIMITS)
    again = asyncio.run(serve(plan(), home, LIMITS, quiet))
    assert find_server(home) == again


def test_a_process_under_a_recorded_number_that_is_another_is_left_alone(home: Path) -> None:
    server = asyncio.run(serve(plan(), home, LIMITS, quiet))
    record = json.loads((home / RECORD).read_text())
    record["process"]["birth"] = "another time"
    (home / RECORD).write_text(json.dumps(record))
    assert isinstance(stop_recorded(home, LIMITS), NotRunning)
    assert is_alive(server.process)
    stop(server, LIMITS)


def test_of_two_starts_at_once_the_second_waits_and_says_so(home: Path) -> None:
    seen: list[str] = []

    async def both() -> tuple[Server | BaseException, ...]:
        first = asyncio.create_task(serve(plan("--slow=1"), home, LIMITS, quiet))
        await asyncio.sleep(0.3)
        second = serve(plan(), home, LIMITS, lambda phase, _: seen.append(phase))
        return tuple(await asyncio.gather(first, second, return_exceptions=True))

    started, refused = asyncio.run(both())
    assert isinstance(started, Server)
    assert isinstance(refused, UsageError)
    assert set(seen) == {"waiting for another start"}
    assert find_server(home) == started


def test_a_start_that_fails_leaves_the_way_free_for_the_next(home: Path) -> None:
    with pytest.raises(EnvironmentFailed):
        asyncio.run(serve(plan("--crash"), home, LIMITS, quiet))
    assert isinstance(asyncio.run(serve(plan(), home, LIMITS, quiet)), Server)


def test_a_server_that_cannot_be_recorded_is_not_left_running(home: Path) -> None:
    (home / f"{RECORD}.new").mkdir(parents=True)
    begun: list[str] = []
    planned = plan("--slow=0.3")
    with pytest.raises(EnvironmentFailed, match="cannot be used"):
        asyncio.run(serve(planned, home, LIMITS, lambda phase, _: begun.append(phase)))
    assert begun
    assert choose_port(planned.port) == planned.port


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_record_of_another_kind_is_an_error_and_kept(home: Path, content: bytes) -> None:
    home.mkdir()
    (home / RECORD).write_bytes(content)
    with pytest.raises(EnvironmentFailed, match="is not one of this version: delete it once its server is stopped"):
        find_server(home)
    assert (home / RECORD).read_bytes() == content
    (home / RECORD).unlink()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailed, match=f"The record of servers in {tmp_path / 'file'} cannot be used"):
        asyncio.run(serve(plan(), tmp_path / "file", LIMITS, quiet))


def test_a_stale_record_stays_while_another_start_is_under_way(home: Path) -> None:
    async def look_meanwhile() -> None:
        old = await serve(plan(), home, LIMITS, quiet)
        stop(old, LIMITS)
        record = (home / RECORD).read_bytes()
        starting = asyncio.create_task(serve(plan("--slow=1"), home, LIMITS, quiet))
        await asyncio.sleep(0.4)
        (home / RECORD).write_bytes(record)
        assert isinstance(stop_recorded(home, LIMITS), NotRunning)
        assert (home / RECORD).read_bytes() == record
        assert find_server(home) != replace(await starting, model="another")

    asyncio.run(look_meanwhile())
