"""What `amini repair` takes by itself: CPU seconds of a recorded rerun, and when the first request is sent.

    python -m tests.benchmarks.rerun REPOSITORY [FILE] [--sandbox none|local|docker]

REPOSITORY is a clone with a clean working tree, which stays as it is; FILE is the Python file that scripted answers
change (default: the largest that is no test). The same command runs twice in a home of its own against the scripted
server: the first time for the time to the first request, the second for the CPU time. The peer reads and hashes every
file of the tree in a bare Python, twice. With a sandbox the environment is built, so the network is needed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from agentless_mini.chain.file_roles import is_test_path
from tests.chain.workbench import edit
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer

READ_ALL = """
import hashlib, subprocess
for name in subprocess.run(["git", "ls-files", "-z"], capture_output=True).stdout.split(b"\\0")[:-1]:
    try:
        with open(name, "rb") as file:
            hashlib.sha256(file.read())
    except OSError:
        pass
"""
TEST = "import unittest\n\n\nclass IssueTest(unittest.TestCase):\n    def test_it(self):\n        self.fail()\n"


def script(path: str, text: str) -> Script:
    """Return answers that append one of five assignments to a file."""
    last = "".join(text.splitlines(keepends=True)[-12:])
    repairs = tuple(Answer(text=edit(last, f"{last}\n\nADDED = {number}\n", path)) for number in range(5))
    return Script(
        rules=(
            Rule(stage="localize", answers=(Answer(text=f"```\n{path}\n```"),)),
            Rule(stage="reproduce", answers=(Answer(text=f"```python\n{TEST}```"),)),
            Rule(answers=repairs),
        )
    )


def cpu(command: list[str], repository: Path, home: Path) -> float:
    """Return the CPU seconds of a command and all that it starts."""
    before = os.times()
    variables = {**os.environ, "HOME": str(home)}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "AMINI_CONFIG", "AMINI_STORE"):
        variables.pop(name, None)
    done = subprocess.run(command, cwd=repository, env=variables, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode(errors="replace")[-2000:])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def first_request(server: ScriptedServer, began: float, found: list[float]) -> None:
    while not server.log.chats():
        time.sleep(0.005)
    found.append(time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("file", nargs="?")
    parser.add_argument("--sandbox", default="none")
    options = parser.parse_args()
    repository: Path = options.repository.resolve()
    listed = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
    names = listed.splitlines()
    code = [name for name in names if name.endswith(".py") and not is_test_path(name) and (repository / name).is_file()]
    path = options.file or max(code, key=lambda name: (repository / name).stat().st_size)
    model = ServedModel(script=script(path, (repository / path).read_text(encoding="utf-8")), context_window=1 << 20)
    with tempfile.TemporaryDirectory() as name, ScriptedServer(model) as server:
        home, sent = Path(name), list[float]()
        command = [sys.executable, "-m", "agentless_mini", "repair", ".", "--text", f"`{path}` lacks a constant."]
        command += ["--base-url", server.url, "--model", "scripted", "--sandbox", options.sandbox]
        watching = threading.Thread(target=first_request, args=(server, time.monotonic(), sent), daemon=True)
        watching.start()
        cpu(command, repository, home)
        watching.join(1.0)
        asked = len(server.log.chats())
        again = cpu(command, repository, home)
        if len(server.log.chats()) > asked:
            raise SystemExit("The rerun asked the model again.")
        peer = min(cpu([sys.executable, "-I", "-c", READ_ALL], repository, home) for _ in range(2))
    found = {
        "files": len(names),
        "first_request_seconds": round(sent[0], 2),
        "rerun_cpu_seconds": round(again, 2),
        "peer_cpu_seconds": round(peer, 2),
        "ratio": round(again / peer, 1),
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
