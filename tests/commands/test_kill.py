"""Killed at any moment, a run goes on where it was: nothing that is recorded is asked for again."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from agentless_mini.domain import Stage
from agentless_mini.record import Store
from tests.chain.workbench import FIX, NONSENSE, SAME_FIX, WRONG
from tests.commands.running import Home, one_sentence, script, server, with_signals
from tests.fakes.log import Seen
from tests.fakes.protocol import Dialect, ServedModel
from tests.fakes.server import ScriptedServer

SAMPLES = 8
REPAIRS = (WRONG, SAME_FIX, FIX, WRONG, FIX)


def recorded(home: Home) -> set[tuple[str, int]]:
    """Return the (stage, index) of every sample in the store; localization and repair have one prompt each."""
    if not (home.root / "s.sqlite").exists():
        return set()
    with Store.open_readonly(home.root / "s.sqlite") as store:
        keys = {
            sample.key: sample.stage
            for run in store.runs.summaries()
            for sample in store.runs.trace(run.run.id).samples
        }
        return {(stage, index) for key, stage in keys.items() for index in store.recorded(key)}


def asked(chats: tuple[Seen, ...]) -> Iterator[tuple[str, int]]:
    return ((chat.stage, sample) for chat in chats for sample in chat.samples)


def arguments(url: str) -> tuple[str, ...]:
    return ("repair", ".", "../issue.md", "--base-url", url, "-n", str(SAMPLES), "--store", "../s.sqlite")


def start(home: Home, *words: str, ctrl_c: str = "DFL") -> "subprocess.Popen[str]":
    """Start a command, which a shell in the background would have ignore Ctrl-C."""
    return subprocess.Popen(
        with_signals(home.command(*words), SIGINT=ctrl_c, SIGHUP="DFL"),
        cwd=home.repository,
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "kills", [pytest.param(6, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.thorough)]
)
def test_killed_at_random_moments_it_ends_with_the_same_patch_and_asks_for_nothing_twice(
    home: Home, kills: int
) -> None:
    with server(*REPAIRS) as endpoint:
        whole = home.amini(*arguments(endpoint.url)[:-1], "../whole.sqlite")
    assert whole.returncode == 0
    moments = random.Random(20)  # noqa: S311 - moments of a test
    kept: set[tuple[str, int]] = set()
    with server(*REPAIRS, delay=0.004) as endpoint:
        for _ in range(kills):
            before = len(endpoint.log.chats())
            process = start(home, *arguments(endpoint.url))
            time.sleep(moments.uniform(0.3, 1.6))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert not kept & set(asked(endpoint.log.chats()[before:]))
            assert kept <= recorded(home)
            kept = recorded(home)
        before = len(endpoint.log.chats())
        last = home.amini(*arguments(endpoint.url))
        assert not kept & set(asked(endpoint.log.chats()[before:]))
    assert (last.returncode, last.stdout) == (0, whole.stdout)
    assert recorded(home) == {(Stage.LOCALIZE, n) for n in range(4)} | {(Stage.REPAIR, n) for n in range(SAMPLES)}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_keeps_what_it_has_and_leaves_no_request_running(
    home: Home, sent: signal.Signals
) -> None:
    with server(*REPAIRS, delay=0.5) as endpoint:
        process = start(home, *arguments(endpoint.url))
        deadline = time.monotonic() + 120
        while not any(chat.stage == "repair" for chat in endpoint.log.chats()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sent)
        printed, told = process.communicate(timeout=120)
        assert (process.returncode, printed) == (130, "")
        assert "the same command continues from there" in one_sentence(told.strip().split("\n")[-1])
        assert {pair for pair in recorded(home) if pair[0] == "localize"} == {("localize", n) for n in range(4)}
        with Store.open_readonly(home.root / "s.sqlite") as store:
            (summary,) = store.runs.summaries()
        assert (summary.run.status, summary.run.exit_code) == ("interrupted", 130)
        while not endpoint.log.left and time.monotonic() < deadline:
            time.sleep(0.05)
        assert endpoint.log.left


@pytest.mark.parametrize(
    ("sent", "ctrl_c"),
    [
        pytest.param(signal.SIGINT, "DFL", marks=pytest.mark.slow, id="SIGINT"),
        pytest.param(signal.SIGTERM, "DFL", marks=pytest.mark.thorough, id="SIGTERM"),
        pytest.param(signal.SIGHUP, "DFL", marks=pytest.mark.thorough, id="SIGHUP"),
        pytest.param(signal.SIGTERM, "IGN", marks=pytest.mark.slow, id="SIGTERM in the background of a shell"),
    ],
)
def test_what_had_arrived_when_it_was_ended_is_paid_for_once(home: Home, sent: signal.Signals, ctrl_c: str) -> None:
    # A server of which it is not known yet whether it tells usage: no choice is booked before the end of all.
    more = ("--files", "shop/cart.py", "--context", "8192")
    played = ServedModel(script=script(NONSENSE, WRONG, FIX, NONSENSE, FIX), dialect=Dialect.PLAIN)
    with ScriptedServer(played, delay=0.4) as endpoint:
        process = start(home, *arguments(endpoint.url), *more, ctrl_c=ctrl_c)
        repairs: set[int] = set()
        while process.poll() is None and not repairs:
            time.sleep(0.02)
            log = endpoint.log
            repairs = {one.sample for one in log.deliveries if log.requests[one.request].stage == "repair"}
        # What the server has sent may not be read yet; the longer answers take half a minute more.
        time.sleep(min(10.0, 2.0 + os.getloadavg()[0] / 2))
        process.send_signal(sent)
        told = process.communicate(timeout=120)[1]
        assert process.returncode == 130, told
    assert repairs
    with ScriptedServer(played) as endpoint:
        again = home.amini(*arguments(endpoint.url), *more)
        assert again.returncode == 0, again.stderr
        assert repairs.isdisjoint(index for _, index in asked(endpoint.log.chats()))
