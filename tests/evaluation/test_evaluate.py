"""A whole evaluation in a process of its own, over a scripted server: killed and resumed it tells the same."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.commands.config import Machine
from agentless_mini.commands.evaluate import evaluate
from agentless_mini.errors import UsageError
from agentless_mini.record import Store
from agentless_mini.report.evaluation_document import evaluation_document
from tests.evaluation.bugs import read_predictions
from tests.evaluation.faked import SCRIPT, evaluation, open_scripted
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer

COUNT, SAMPLES = 9, 5


def served(delay: float = 0.0) -> ScriptedServer:
    return ScriptedServer(ServedModel(script=SCRIPT), delay=delay)


def started(folder: Path, url: str, samples: int = SAMPLES) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.evaluation.faked", str(folder), url, str(COUNT), str(samples)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def evaluated(folder: Path, url: str, samples: int = SAMPLES) -> str:
    process = started(folder, url, samples)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return told


def results(folder: Path) -> str:
    with Store.open_readonly(folder / "store.sqlite") as store:
        return json.dumps(evaluation_document(store)["results"], sort_keys=True)


def whole(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_an_evaluation_tells_each_instance_and_writes_its_predictions(tmp_path: Path) -> None:
    with served() as server:
        told = evaluated(tmp_path / "e", server.url)
    assert told.count(": resolved (") == COUNT
    predictions = read_predictions(tmp_path / "e" / "all_preds.jsonl")
    assert len(predictions) == COUNT
    assert all(b"+    for price in prices:\n" in diff for diff in predictions.values())
    found = whole(results(tmp_path / "e"))
    assert (found["resolved"]["count"], found["format"]["valid"]) == (COUNT, 4 * COUNT)
    assert found["localization"]["all_found"] == 1.0


def test_more_samples_later_pay_for_the_new_ones_alone(tmp_path: Path) -> None:
    with served() as server:
        evaluated(tmp_path / "e", server.url, 3)
        before = len([chat for chat in server.log.chats() if chat.stage == "repair" for _ in chat.samples])
        evaluated(tmp_path / "e", server.url, 5)
        after = len([chat for chat in server.log.chats() if chat.stage == "repair" for _ in chat.samples])
        told = evaluated(tmp_path / "e", server.url, 5)
        again = len([chat for chat in server.log.chats() if chat.stage == "repair" for _ in chat.samples])
    assert (before, after, again) == (3 * COUNT, 5 * COUNT, 5 * COUNT)
    assert told.count(": resolved (") == COUNT


@pytest.mark.thorough
def test_killed_at_random_moments_it_comes_to_the_same_report_to_the_byte(tmp_path: Path) -> None:
    with served(delay=0.02) as server:
        evaluated(tmp_path / "whole", server.url)
        moments = random.Random(4)  # noqa: S311 - moments of a test
        killed = 0
        for _ in range(8):
            process = started(tmp_path / "torn", server.url)
            time.sleep(1.5 + moments.random() * 1.5)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        evaluated(tmp_path / "torn", server.url)
    assert killed >= 2
    assert results(tmp_path / "torn") == results(tmp_path / "whole")
    assert (tmp_path / "torn" / "all_preds.jsonl").read_bytes() == (tmp_path / "whole" / "all_preds.jsonl").read_bytes()


@pytest.mark.thorough
def test_interrupted_it_stops_at_once_and_writes_what_it_has(tmp_path: Path) -> None:
    with served(delay=0.3) as server:
        process = started(tmp_path / "e", server.url)
        while not (tmp_path / "e" / "store.sqlite").exists():
            time.sleep(0.05)
        time.sleep(2.0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        evaluated(tmp_path / "e", server.url)
    assert whole(results(tmp_path / "e"))["resolved"]["count"] == COUNT


def test_rows_that_swebench_does_not_grade_are_not_sent_to_it(tmp_path: Path) -> None:
    with served() as server:
        asked = evaluation(tmp_path, server.url, 1, SAMPLES)
        strange = {name: replace(one, gradable=False) for name, one in asked.dataset.solutions.items()}
        machine = Machine(tmp_path / "state", tmp_path / "cache", {})
        with pytest.raises(UsageError, match="--grade none"):
            evaluate(replace(asked, dataset=replace(asked.dataset, solutions=strange)), machine, open_scripted)
        assert not server.log.chats()
