"""The trainers from the command line: one JSON document on stdout, people on stderr, resume after a signal."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentless_mini.cli import app
from agentless_mini.commands.learn_training import require_training
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.learning.rows import Row, read_rows
from agentless_mini.settings.learning import SftSettings, Tracker
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.learning import tiny

pytestmark = pytest.mark.slow


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "agentless_mini", "learn", *map(str, arguments)]


def environment(home: Path) -> Mapping[str, str]:
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Learned = Callable[..., Ended]


@pytest.fixture
def learned(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Learned:
    """Return what runs a command in this process, which has the trainers' libraries: to import them takes long."""
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def run(*arguments: str | Path) -> Ended:
        capfd.readouterr()
        try:
            app(["learn", *map(str, arguments)], prog_name="amini")
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Ended(status, *capfd.readouterr())

    return run


def small(model: Path, data: Path, out: Path) -> tuple[str | Path, ...]:
    return ("sft", data, "--model", model, "--out", out, "--batch", "1", "--accumulate", "1", "--device", "cpu")


def test_a_killed_training_goes_on_and_its_result_is_exported(
    model: Path, tmp_path: Path, rows: list[Row], learned: Learned
) -> None:
    data, out = tiny.write_data(tmp_path, rows), tmp_path / "out"
    long = command(*small(model, data, out), "--steps", "100000")
    with subprocess.Popen(long, env=environment(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stderr is not None
        line = b""
        while b"step 5 of" not in line:
            line = started.stderr.readline()
        started.send_signal(signal.SIGTERM)
        said, _ = started.communicate(timeout=120)
    assert (started.returncode, said) == (130, b"")
    (checkpoint,) = out.glob("checkpoint-*")
    steps = int(checkpoint.name.removeprefix("checkpoint-")) + 1
    done = learned(*small(model, data, out), "--steps", str(steps))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["steps"], document["finished"]) == (steps, True)
    assert "Going on from" in done.stderr
    merged = learned("export", out, "--merge", tmp_path / "whole")
    assert json.loads(merged.stdout)["merged"]["architecture"] == "llama"
    assert (tmp_path / "whole" / "model.safetensors").exists()


@pytest.mark.thorough
def test_the_settings_decide_the_precision_and_not_accelerate(model: Path, tmp_path: Path, rows: list[Row]) -> None:
    import torch

    data = tiny.write_data(tmp_path, rows)
    configured = {**environment(tmp_path), "ACCELERATE_MIXED_PRECISION": "bf16"}
    for precision, expected in (("float32", "no"), ("bfloat16", "bf16")):
        out = tmp_path / precision
        asked = command(*small(model, data, out), "--steps", "1", "--precision", precision)
        done = subprocess.run(asked, env=configured, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
        assert torch.load(out / "training_args.bin", weights_only=False).mixed_precision == expected


def test_parents_are_sampled_for_the_kind_that_shows_them(
    model: Path, tmp_path: Path, rows: list[Row], learned: Learned
) -> None:
    data, out = tiny.write_data(tmp_path, rows), tmp_path / "out"
    plain = learned(*small(model, data, out), "--parents-from", model)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert "only with --kind mutation" in plain.stderr
    assert not out.exists()
    (tmp_path / "few.toml").write_text("[sft]\nparent_tokens = 8\nparent_samples = 2\n")
    few = ("--config", tmp_path / "few.toml")
    asked = (*small(model, data, out), "--parents-from", model, "--kind", "mutation", *few)
    sampled = learned(*asked)
    assert "No row has parents" in sampled.stderr  # the model has not learned anything
    (out / "checkpoint-1").mkdir()
    other = learned(*asked, "--seed", "1")
    assert (other.returncode, other.stdout) == (2, "")
    assert "holds another training" in other.stderr


def test_a_tracker_that_is_not_installed_is_said() -> None:
    tiny.need_training()
    if importlib.util.find_spec("trackio") is not None:
        pytest.skip("trackio is installed")
    with pytest.raises(EnvironmentFailed, match="pip install trackio"):
        require_training(SftSettings(tracker=Tracker.TRACKIO))


def test_what_libraries_print_is_not_the_result() -> None:
    program = """
import subprocess, sys
from agentless_mini.commands.learn_training import stdout_kept
sys.stdout.write("before ")
with stdout_kept():
    print("library")
    subprocess.run([sys.executable, "-c", "print('its server')"])
print("result")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "before result\n"
    assert done.stderr == "library\nits server\n"


def test_a_teacher_behind_an_endpoint_is_asked_once(tmp_path: Path, learned: Learned) -> None:
    rows = tiny.rows(3)
    rules = tuple(
        Rule(
            contains=row.issue, answers=(Answer(text=f"<explanation>\nWhy {row.id}.\n</explanation>\n{row.answer()}"),)
        )
        for row in rows[:2]
    )
    data = tiny.write_data(tmp_path, rows)
    script = Script(rules=(*rules, Rule(answers=(Answer(text="No idea."),))))
    with ScriptedServer(ServedModel(script=script)) as server:
        asked = ("synthesize", data, "--out", tmp_path / "out", "-n", "1", "--base-url", server.url)
        first = learned(*asked)
        assert first.returncode == 0, first.stderr
        chats = len(server.log.chats())
        again = learned(*asked)
        assert len(server.log.chats()) == chats == 3  # two rows come twice
    assert json.loads(first.stdout)["rows"] == json.loads(again.stdout)["rows"]
    assert json.loads(first.stdout)["rows"] == {"reasoning written": 4, "not reproduced": 1}
    written = list(read_rows(tmp_path / "out"))
    assert [row.reasoning for row in written] == ["Why toy@1:0.", "Why toy@1:1.", "", "Why toy@1:0.", "Why toy@1:1."]
