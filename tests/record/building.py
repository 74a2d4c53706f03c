"""Values to record, and processes to record them in."""

import subprocess
import sys
import textwrap
from pathlib import Path

from agentless_mini.domain import (
    Completion,
    EditTask,
    Excerpt,
    Issue,
    Message,
    Patch,
    Role,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Stage,
)
from agentless_mini.record import RunStart, Store

HOSTILE = "a\x00b\x1b[31m\ud800\n'); DROP TABLE samples; --\r\n中"
TASK = EditTask("it fails", (ShownFile("a\udcff.py", (Excerpt(3, "x = 1\n"),), whole=False),))
START = RunStart(
    "model \ud800",
    "local",
    "project",
    "c" * 40,
    "t" * 64,
    Issue("It fails.\n" + HOSTILE, "issue.md"),
    ("amini", "repair", "."),
    '{"samples":10}',
    '{"amini":"0.1.0"}',
)


def request(content: str = "Fix it.", *indices: int) -> SampleRequest:
    return SampleRequest(
        "model",
        (Message(Role.SYSTEM, "You repair."), Message(Role.USER, content)),
        SamplingParams(100),
        indices or (0,),
        Stage.REPAIR,
        "local",
    )


def patch(diff: bytes = b"diff --git a/a.py b/a.py\n", normal: str = "n" * 64) -> Patch:
    return Patch(diff, normal, ("a.py",))


def record(store: Store, asked: SampleRequest, *completions: Completion) -> str:
    key = store.put_request(asked)
    for completion in completions:
        store.put_sample(key, asked, completion)
    return key


def python(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a Python script that can import the package and its tests, `before` naming a program that starts it."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
