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

from agentless_mini.domain import Decoding
from agentless_mini.record import Store
from tests.commands.running import Done, Home, one_sentence, script

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is not None, reason="a real vLLM is installed here and would be started instead"
)

ROOT = str(Path(__file__).parents[2])
VLLM = """#!{python}
import re, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.fakes.server import main
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

    def amini(self, *arguments: str, **more: object) -> Done:
        """Run it in a process of its own: a server that it leaves running is not this one's child."""
        return self.process(*arguments, env={"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"})


@pytest.fixture
def box(home: Home) -> Iterator[Box]:
    script().dump(home.root / "script.json")
    program = home.root / "bin/vllm"
    program.parent.mkdir()
    calls, answers = str(home.root / "calls"), str(home.root / "script.json")
    program.write_text(VLLM.format(python=sys.executable, root=ROOT, calls=calls, script=answers))
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


@pytest.mark.thorough
def test_who_used_a_server_that_is_gone_is_asked_for_it_and_given_no_other_model(box: Box) -> None:
    box.amini("serve", "org/coder", "--engine", "vllm")
    repair = ("repair", ".", "../issue.md", "--engine", "vllm", "-n")
    served = box.amini(*repair, "5")
    assert (served.returncode, len(box.calls())) == (0, 1), served.stderr  # it is used, and no other is started
    os.kill(json.loads(box.amini("serve", "--status", "--json").stdout)["process"]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while servers(box) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers(box) == []  # it ends with the process that guards it
    recorded, owed = box.amini(*repair, "5"), box.amini(*repair, "9")
    unnamed = box.amini("repair", ".", "../issue.md", "-n", "9")
    assert (recorded.returncode, recorded.stdout) == (0, served.stdout)
    for done in (owed, unnamed):
        assert (done.returncode, done.stdout) == (3, "")
        assert "The server for org/coder (process " in done.stderr.splitlines()[-1]
        assert "has ended" in done.stderr.splitlines()[-1]
        assert "Start it again with `amini serve`" in done.stderr.splitlines()[-1]
    box.amini("serve", "--stop")
    stopped = box.amini("repair", ".", "../issue.md", "-n", "9")
    assert stopped.returncode == 3
    assert "The latest run here asked org/coder (http://127.0.0.1:" in stopped.stderr.splitlines()[-1]
    assert len(box.calls()) == 1


def test_a_server_that_a_run_starts_decodes_as_the_user_says(box: Box) -> None:
    arguments = ("repair", ".", "../issue.md", "-n", "5", "--engine", "vllm", "--model", "org/coder")
    done = box.amini(*arguments, "--decoding", "grammar", "--store", "../s.sqlite")
    assert done.returncode == 0, done.stderr
    with Store.open_readonly(box.root / "s.sqlite") as store:
        card = store.card("org/coder (context None, grammar)")
    assert card is not None
    assert card.decoding is Decoding.GRAMMAR


def test_a_run_that_is_all_in_the_record_starts_nothing(box: Box) -> None:
    arguments = ("repair", ".", "../issue.md", "-n", "5", "--engine", "vllm", "--model", "org/coder")
    first, second = box.amini(*arguments), box.amini(*arguments)
    assert (first.returncode, len(box.calls())) == (0, 1)
    assert second.stdout == first.stdout


def test_a_killed_run_leaves_no_server_behind(box: Box) -> None:
    environment = box.environment({"PATH": f"{box.root / 'bin'}:{os.environ['PATH']}"})
    command = box.command("repair", ".", "../issue.md", "-n", "5", "--engine", "vllm", "-m", "org/coder")
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
    words = ("repair", ".", "../issue.md", "--engine", "vllm", "-m", "org/coder")
    told = one_sentence(home.amini(*words).stderr.strip().split("\n")[-1])
    assert "[vllm]" in told
