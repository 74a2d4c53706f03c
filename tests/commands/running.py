"""Runs `amini` as users do: a process of its own, in an environment of its own, against the scripted server."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chain.workbench import CART, FIX, NONSENSE, SAME_FIX, WRONG
from tests.fakes.model import Answer, Rule, Script
from tests.fakes.protocol import ServedModel
from tests.fakes.server import ScriptedServer
from tests.gitrepo import ISOLATED

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

    def amini(
        self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            cwd=self.repository,
            env=self.environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "agentless_mini", *arguments]


def one_sentence(stderr: str) -> str:
    """Return what an error said, making sure that it is all that stderr holds: one line of one sentence."""
    (line,) = stderr.strip().split("\n")
    assert line.startswith("amini: ")
    assert line.endswith(".")
    assert "Traceback" not in line
    return line.removeprefix("amini: ")
