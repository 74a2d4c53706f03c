import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed, ServerUnreachable, UsageError
from agentless_mini.model.process import Limits, Server, ServerPlan, choose_port, is_healthy, running, start, stop
from agentless_mini.model.process_table import (
    PROC,
    Family,
    Process,
    find_process,
    from_proc,
    from_ps,
    is_alive,
    processes,
)
from agentless_mini.model.vllm import READING
from tests.model import fake_engine
from tests.model.fake_engine import numbers

LIMITS = Limits(start=20.0, grace=5.0)
GUARD_GRACE = 15.0


def quiet(_: str, __: float) -> None:
    """Nobody watches."""


def plan_of(pids: Path, *flags: str) -> ServerPlan:
    port = choose_port(None)
    command = (sys.executable, fake_engine.__file__, f"--port={port}", f"--pids={pids}", *flags)
    return ServerPlan("vLLM", "fake", command, port, READING)


def alive(numbers: tuple[int, ...], within: float = 0.0) -> tuple[int, ...]:
    deadline = time.monotonic() + within
    while (left := tuple(number for number in numbers if number in processes())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pids"
    yield path
    written = tuple(map(int, path.read_text().split())) if path.exists() else ()
    left = alive(written)
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert left == ()


OWNER = """
import asyncio, sys
from pathlib import Path
from agentless_mini.model.process import Limits, ServerPlan, {entry}
from agentless_mini.model.vllm import READING

async def main() -> None:
    plan = ServerPlan("vLLM", "fake", tuple(sys.argv[3:]), int(sys.argv[2]), READING)
    {work}

asyncio.run(main())
"""
RUNS = """async with running(plan, Path(sys.argv[1]), Limits(20, 5), print):
        print("healthy", flush=True)
        await asyncio.sleep(300)"""
STARTS = """await start(plan, Path(sys.argv[1]), Limits(20, 5), print)
    print("healthy", flush=True)"""


def owner(log: Path, plan: ServerPlan, entry: str, work: str) -> subprocess.Popen[bytes]:
    """Start a process that starts a server."""
    program = OWNER.format(entry=entry, work=work)
    command = [sys.executable, "-c", program, str(log), str(plan.port), *plan.command]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def wait_for(line: bytes, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert line in iter(process.stdout.readline, b"")


def failure(plan: ServerPlan, log: Path, limits: Limits, kind: type[Exception]) -> str:
    """Return how a start fails."""
    with pytest.raises(kind) as caught:
        asyncio.run(start(plan, log, limits, quiet))
    return str(caught.value)


def test_a_server_is_healthy_when_it_is_handed_over(tmp_path: Path, pids: Path) -> None:
    seen: list[tuple[str, float]] = []
    log = tmp_path / "logs" / "log"
    plan = plan_of(pids, "--say=Loading safetensors checkpoint shards", "--slow=0.5")
    server = asyncio.run(start(plan, log, LIMITS, lambda phase, elapsed: seen.append((phase, elapsed))))
    try:
        assert asyncio.run(is_healthy(server))
        assert server.base_url == f"http://127.0.0.1:{plan.port}/v1"
        assert (server.model, server.engine, server.log) == ("fake", "vLLM", log)
        assert "loading the weights" in [phase for phase, _ in seen]
        assert [elapsed for _, elapsed in seen] == sorted(elapsed for _, elapsed in seen)
    finally:
        stop(server, LIMITS)
    assert not asyncio.run(is_healthy(server))
    stop(server, LIMITS)  # a second time there is nothing to do


def test_a_server_that_does_not_want_to_stop_is_killed_after_the_grace_with_all_of_it(
    tmp_path: Path, pids: Path
) -> None:
    server = asyncio.run(start(plan_of(pids, "--stubborn", "--children=4"), tmp_path / "log", LIMITS, quiet))
    started, begun = numbers(pids, 5), time.monotonic()
    stop(server, Limits(grace=0.5))
    assert 0.5 <= time.monotonic() - begun < 4
    assert alive(started) == ()


def test_a_crash_is_told_in_one_sentence_with_the_line_and_the_log(tmp_path: Path, pids: Path) -> None:
    line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    plan = plan_of(pids, f"--say={line}", "--say=RuntimeError: see root cause above", "--crash", "--children=2")
    said = failure(plan, tmp_path / "log", LIMITS, EnvironmentFailed)
    assert f'vLLM ended while it was starting ("{line}", log: {tmp_path / "log"}): shorten the context' in said
    assert alive(numbers(pids, 1)) == ()


def test_a_crash_leaves_no_child_either(tmp_path: Path, pids: Path) -> None:
    failure(plan_of(pids, "--children=2", "--slow=1", "--fall"), tmp_path / "log", LIMITS, EnvironmentFailed)
    assert alive(numbers(pids, 3)) == ()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    plan = ServerPlan("vLLM", "fake", ("/nowhere/python",), choose_port(None), READING)
    assert "No such file or directory: '/nowhere/python'" in failure(plan, tmp_path / "log", LIMITS, EnvironmentFailed)


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, pids: Path) -> None:
    (tmp_path / "file").touch()
    said = failure(plan_of(pids), tmp_path / "file" / "log", LIMITS, EnvironmentFailed)
    assert f"The log {tmp_path / 'file' / 'log'} cannot be written" in said


def test_a_server_that_is_not_ready_in_time_is_given_up_and_stopped(tmp_path: Path, pids: Path) -> None:
    plan = plan_of(pids, "--slow=300", "--children=1", "--say=Compiling a graph")
    said = failure(plan, tmp_path / "log", Limits(start=1.0, grace=0.5), ServerUnreachable)
    assert "vLLM was not ready 1 s after its start (last: compiling the model" in said
    assert alive(numbers(pids, 2)) == ()


def test_giving_up_the_wait_stops_what_was_started(tmp_path: Path, pids: Path) -> None:
    async def given_up() -> None:
        work = asyncio.create_task(start(plan_of(pids, "--slow=300"), tmp_path / "log", LIMITS, quiet))
        await asyncio.to_thread(numbers, pids, 1)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(given_up())
    assert alive(numbers(pids, 1)) == ()


def test_a_server_runs_as_long_as_the_block_and_no_longer(tmp_path: Path, pids: Path) -> None:
    async def fail_inside() -> None:
        async with running(plan_of(pids, "--children=1"), tmp_path / "log", Limits(grace=0.5), quiet) as server:
            assert await is_healthy(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail_inside())
    assert alive(numbers(pids, 2)) == ()


def test_a_server_does_not_outlive_a_run_that_is_killed(tmp_path: Path, pids: Path) -> None:
    with owner(tmp_path / "log", plan_of(pids, "--children=1"), "running", RUNS) as run:
        wait_for(b"healthy\n", run)
        run.kill()
    assert alive(numbers(pids, 2), within=GUARD_GRACE) == ()


def test_a_start_that_is_killed_half_way_leaves_nothing(tmp_path: Path, pids: Path) -> None:
    with owner(tmp_path / "log", plan_of(pids, "--slow=300"), "start", STARTS) as run:
        started = numbers(pids, 1)
        run.kill()
    assert alive(started, within=GUARD_GRACE) == ()


def test_an_interrupt_while_waiting_leaves_nothing(tmp_path: Path, pids: Path) -> None:
    with owner(tmp_path / "log", plan_of(pids, "--slow=300"), "start", STARTS) as run:
        started = numbers(pids, 1)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) != 0
    assert alive(started) == ()


def test_a_started_server_outlives_its_starter_and_can_be_stopped_by_another(tmp_path: Path, pids: Path) -> None:
    plan = plan_of(pids)
    with owner(tmp_path / "log", plan, "start", STARTS) as run:
        wait_for(b"healthy\n", run)
        assert run.wait(60) == 0
    (number,) = numbers(pids, 1)
    leader = processes()[processes()[number].group]
    server = Server(f"http://127.0.0.1:{plan.port}/v1", "fake", "vLLM", leader, tmp_path / "log", 0.0)
    time.sleep(0.3)
    assert asyncio.run(is_healthy(server))
    stop(server, LIMITS)
    assert alive((number, leader.pid), within=5) == ()


def test_a_port_in_use_is_refused_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} cannot be listened on .*choose another"):
            choose_port(port)
    assert choose_port(port) == port


def test_the_folder_that_a_run_stands_in_is_not_imported_from(
    tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "repository"
    (hostile / "agentless_mini").mkdir(parents=True)
    for name in ("agentless_mini/__init__.py", "threading.py", "signal.py", "argparse.py"):
        (hostile / name).write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})")
    monkeypatch.chdir(hostile)
    server = asyncio.run(start(plan_of(pids), tmp_path / "log", LIMITS, quiet))
    stop(server, LIMITS)
    assert not (tmp_path / "imported").exists()


SLEEP = "import time; print('up', flush=True); time.sleep(300)"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-c", SLEEP]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_living_process_is_found_with_its_parent_and_group(sleeper: subprocess.Popen[str]) -> None:
    found = processes()[sleeper.pid]
    assert (found.pid, found.parent, found.group) == (sleeper.pid, os.getpid(), sleeper.pid)
    assert is_alive(found)


def test_another_process_under_the_same_number_is_not_the_same(sleeper: subprocess.Popen[str]) -> None:
    assert not is_alive(Process(sleeper.pid, os.getpid(), sleeper.pid, "born at another time"))


def test_a_process_that_ended_is_gone_even_before_it_is_collected(sleeper: subprocess.Popen[str]) -> None:
    found = processes()[sleeper.pid]
    sleeper.kill()
    deadline = time.monotonic() + 5
    while is_alive(found) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert find_process(sleeper.pid) is None
    assert sleeper.returncode is None  # nobody has collected it yet


@pytest.mark.skipif(not PROC.joinpath("self/stat").exists(), reason="there is no /proc to compare with")
def test_both_ways_of_reading_the_table_agree(sleeper: subprocess.Popen[str]) -> None:
    def kinship(table: tuple[Process, ...]) -> list[tuple[int, int, int]]:
        wanted = {sleeper.pid, os.getpid()}
        return sorted((found.pid, found.parent, found.group) for found in table if found.pid in wanted)

    assert kinship(from_ps()) == kinship(from_proc())
    births = {found.birth for _ in range(2) for found in from_ps() if found.pid == sleeper.pid}
    assert len(births) == 1


def test_a_family_holds_a_child_that_left_its_group_and_survives_its_parent() -> None:
    program = [sys.executable, "-c", PARENT]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        family = Family(processes()[parent.pid])
        assert family.alive() == tuple(sorted((parent.pid, child)))
        parent.kill()
        parent.wait()
        assert family.wait(0.0) == (child,)
        family.kill()
        assert family.wait(5.0) == ()


def test_what_a_family_spares_is_neither_listed_nor_ended(sleeper: subprocess.Popen[str]) -> None:
    family = Family(processes()[sleeper.pid], spared=frozenset({sleeper.pid}))
    family.kill()
    assert family.alive() == ()
    assert sleeper.poll() is None
