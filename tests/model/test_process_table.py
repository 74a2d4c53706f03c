import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

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
