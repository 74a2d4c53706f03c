"""`amini serve`, and `amini repair` without an endpoint, against a `vllm` on the PATH that is the scripted server."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.running import Home, one_sentence, script

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="a real vLLM is installed here and would be started instead"
)

VLLM = """#!{python}
import re, sys
from pathlib import Path
from agentless_mini.samplers.scripted_server import main
Path({calls!r}).open("a").write(" ".join(sys.argv[1:]) + "\\n")
given = dict(re.findall(r"--([a-z-]+)=(\\S+)", " ".join(sys.argv)))
sys.argv = ["scripted", "--script", {script!r}, "--port", given["port"], "--model", given["served-model-name"]]
sys.exit(main())
"""


class Box(Home):
    """A home with a `vllm` on its PATH."""

    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def amini(self, *arguments: str, **more: object) -> "subprocess.CompletedProcess[str]":
        return super().amini(*arguments, env={"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"})


@pytest.fixture
def box(home: Home) -> Iterator[Box]:
    script().dump(home.root / "script.json")
    program = home.root / "bin/vllm"
    program.parent.mkdir()
    calls, answers = str(home.root / "calls"), str(home.root / "script.json")
    program.write_text(VLLM.format(python=sys.executable, calls=calls, script=answers))
    program.chmod(0o755)
    box = Box(home.root, home.repository)
    yield box
    box.amini("serve", "--stop")


def servers(box: Box) -> list[str]:
    """Return the command lines of the servers of this box that still run."""
    return [line for line in processes() if str(box.root / "bin/vllm") in line]


def processes() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")


def test_a_server_is_started_found_used_and_stopped(box: Box) -> None:
    started = box.amini("serve", "org/coder", "--engine", "vllm", "--context", "4096", "--", "--seed=3")
    assert started.returncode == 0, started.stderr
    url = started.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    assert "org/coder is served by vLLM" in started.stderr
    (call,) = box.calls()
    assert call.startswith("serve org/coder ")
    assert "--max-model-len=4096" in call
    assert "--enable-prefix-caching" in call
    assert call.endswith("--seed=3")
    status = json.loads(box.amini("serve", "--status", "--json").stdout)
    assert (status["base_url"], status["model"]) == (url, "org/coder")
    repaired = box.amini("repair", ".", "../issue.md", "-n", "5")
    assert repaired.returncode == 0, repaired.stderr
    assert repaired.stdout.startswith("diff --git")
    assert "runs already" in one_sentence(box.amini("serve", "org/other", "--engine", "vllm").stderr.split("\n")[-2])
    stopped = box.amini("serve", "--stop")
    assert (stopped.returncode, servers(box)) == (0, [])
    assert box.amini("serve", "--status").returncode == 3


def test_repair_starts_a_server_for_its_own_duration(box: Box) -> None:
    repaired = box.amini("repair", ".", "../issue.md", "-n", "5", "--engine", "vllm", "--model", "org/coder")
    assert repaired.returncode == 0, repaired.stderr
    assert "Starting vLLM for org/coder" in repaired.stderr
    assert servers(box) == []


def test_a_run_that_is_all_in_the_record_starts_nothing(box: Box) -> None:
    arguments = ("repair", ".", "../issue.md", "-n", "5", "--engine", "vllm", "--model", "org/coder")
    first, second = box.amini(*arguments), box.amini(*arguments)
    assert (first.returncode, len(box.calls())) == (0, 1)
    assert second.stdout == first.stdout


def test_a_killed_run_leaves_no_server_behind(box: Box) -> None:
    environment = box.environment({"PATH": f"{box.root / 'bin'}:{os.environ['PATH']}"})
    command = box.command("repair", ".", "../issue.md", "-n", "5", "--engine", "vllm")
    process = subprocess.Popen(
        command, cwd=box.repository, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not servers(box) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers(box)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while servers(box) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers(box) == []


def test_without_vllm_the_sentence_says_what_to_install(home: Home) -> None:
    told = one_sentence(home.amini("repair", ".", "../issue.md", "--engine", "vllm").stderr.strip().split("\n")[-1])
    assert "[vllm]" in told
