"""Observes many files in one box, and tries many checks: one process after another, and one file for all results.

The plan is read before anything foreign runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from agentless_mini.learning.bugs.inside.observe import observe

PRELOADED = (
    "ast", "base64", "bisect", "collections.abc", "copy", "dataclasses", "datetime", "enum", "functools", "heapq",
    "html", "math", "operator", "re", "string", "textwrap", "typing", "unicodedata", "urllib.parse",
)  # fmt: skip
CHECK_SECONDS = 8.0


def main(plan_path: str, result_path: str) -> None:
    """Do what the plan says: `probes` are observed, `trials` are checks to be run on a file."""
    plan = json.loads(Path(plan_path).read_text("utf-8"))
    for name in PRELOADED:
        __import__(name)
    seen = [observe(probe["source"], probe["calls"]) for probe in plan["probes"]]
    passed = [trial(one["path"], one["source"], one["check"]) for one in plan["trials"]]
    Path(result_path).write_text(json.dumps({"seen": seen, "passed": passed}), "utf-8")


def trial(path: str, source: str, program: str) -> int:
    """Return the exit status of a check on a file, -1 where it takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in ((path, source), (".check.py", program)):
            full = Path(folder, name)
            full.parent.mkdir(parents=True, exist_ok=True)
            full.write_bytes(text.encode())
        try:
            done = subprocess.run(
                [sys.executable, "-I", ".check.py"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=CHECK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1
        return done.returncode
