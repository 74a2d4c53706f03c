"""Runs `amini` as users do, in an environment of its own and against the scripted server."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini import cli
from tests.chain.workbench import CART, FIX, NONSENSE, SAME_FIX, WRONG
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import ISOLATED, make_repository, write_files

FILES = {"shop/cart.py": CART.encode(), "shop/tax.py": b"RATE = 0.2\n", "tests/test_cart.py": b"import shop.cart\n"}
ISSUE = "The total of a cart leaves out its first price.\n"
LOCALIZED = Rule(stage="localize", answers=(Answer(text="```\nshop/cart.py\n```"),))
VOTE_ALONE = '[sandbox]\nkind = "none"\n'
"""The settings of a home whose tests are about something else than execution."""
REPAIRS = (WRONG, FIX, NONSENSE, SAME_FIX, FIX)


def script(*repairs: str) -> Script:
    answers = tuple(Answer(text=text) for text in repairs or REPAIRS)
    return Script(rules=(LOCALIZED, Rule(stage="repair", answers=answers)))


def server(*repairs: str, delay: float = 0.0) -> ScriptedServer:
    return ScriptedServer(ServedModel(script=script(*repairs)), delay=delay)


Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Home:
    """A user's home and the repository that they work in."""

    root: Path
    repository: Path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            **ISOLATED,
            **(more or {}),
        }

    def amini(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Done:
        """Run a command in this process, which saves its start and imports of a second."""
        return in_this_process(arguments, self.repository, self.environment(env), stdin)

    def process(self, *arguments: str, env: Mapping[str, str] | None = None) -> Done:
        """Run a command in a process of its own."""
        return self.run(self.command(*arguments), env)

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None, folder: str = ".") -> Done:
        """Run any command line in this home, from a folder of the repository."""
        how: Any = {"cwd": self.repository / folder, "env": self.environment(env), "timeout": 300, "check": False}
        return subprocess.run(command, capture_output=True, text=True, errors="replace", **how)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agentless_mini", *arguments]


def with_signals(command: Sequence[str], **ways: str) -> list[str]:
    """Return a command that starts with signals as they are named here (SIGHUP="DFL" or "IGN")."""
    code = "import os, signal, sys; "
    code += "".join(f"signal.signal(signal.{name}, signal.SIG_{way}); " for name, way in ways.items())
    return [sys.executable, "-c", f"{code}os.execvp(sys.argv[1], sys.argv[1:])", *command]


def home_in(folder: Path) -> Home:
    """Make a home whose tests are about something else than execution."""
    (folder / "issue.md").write_text(ISSUE)
    write_files(folder / "config" / "amini", {"config.toml": VOTE_ALONE.encode()})
    return Home(folder, make_repository(folder / "shop", FILES))


def in_this_process(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str) -> Done:
    """Run a command as a process of its own would: with streams, variables, arguments and a folder of its own."""
    before = dict(os.environ), Path.cwd(), sys.argv, (sys.stdin, sys.stdout, sys.stderr)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin.encode())
        files[0].seek(0)
        kept = [os.dup(number) for number in range(3)]
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = ["amini", *arguments]
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 - a number
            for number, mode, errors in ((0, "r", "surrogateescape"), (1, "w", "strict"), (2, "w", "backslashreplace"))
        )
        try:
            cli.app(arguments, prog_name="amini")
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.environ.clear()
            os.environ.update(before[0])
            os.chdir(before[1])
            sys.argv = before[2]
            sys.stdin, sys.stdout, sys.stderr = before[3]
            for number, old in enumerate(kept):
                os.dup2(old, number)
                os.close(old)
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code or 0, *(file.read().decode() for file in files[1:]))


def one_sentence(stderr: str) -> str:
    """Return what an error said, making sure that it is all that stderr holds: one line of one sentence."""
    (line,) = stderr.strip().split("\n")
    assert line.startswith("amini: ")
    assert line.endswith(".")
    assert "Traceback" not in line
    return line.removeprefix("amini: ")
