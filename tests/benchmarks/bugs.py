"""What `amini learn bugs` makes of installed packages, how fast, and what a check costs.

    python -m tests.benchmarks.bugs [SOURCE...] [--held-out A,B] [--tokenizer NAME] [--out DIR]

It runs the command, with bubblewrap, and prints one JSON document: tasks by split, kind and package, the share of the
faults tried that changed nothing and of those that changed every call, seconds for 100 tasks, the sizes of prompts
(file and issue) in bytes and, where a tokenizer is named, in its tokens; then how long a check takes in a box of its
own, where each repair must pass and each faulty file fail. Exit code 1 if one does not.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agentless_mini.environments import SandboxKind, SandboxSettings
from agentless_mini.learning.bugs.checking import CheckVerdict, evaluate_row
from agentless_mini.learning.bugs.place import PlainRequest, open_plain
from agentless_mini.learning.rows import Row, read_rows

SOURCES = ("packaging", "click", "Jinja2", "Pygments", "rich", "idna", "urllib3", "textwrap", "heapq", "statistics")
HELD_OUT = "packaging,textwrap"
CHECKED = 40


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=list(SOURCES))
    parser.add_argument("--held-out", default=HELD_OUT)
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch) / "tasks"
        made(options.sources, options.held_out, out)
        rows = list(read_rows(out))
        funnel = json.loads((out / "funnel.json").read_text())
        checks = asyncio.run(checked(rows[:: max(1, len(rows) // CHECKED)][:CHECKED]))
    document = {**summary(rows, funnel), "sizes": sizes(rows, options.tokenizer), "checks": checks}
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0 if checks["wrong"] == 0 else 1


def made(sources: Sequence[str], held_out: str, out: Path) -> None:
    """Run the command; what it says goes on to stderr."""
    command = [sys.executable, "-m", "agentless_mini", "learn", "bugs", *sources, "--out", str(out)]
    subprocess.run([*command, "--sandbox", "local", "--held-out", held_out], stdout=sys.stderr, check=True)


def summary(rows: Sequence[Row], funnel: dict[str, Any]) -> dict[str, Any]:
    """Return the counts."""
    steps = funnel["steps"]
    return {
        "tasks": dict(Counter(row.split for row in rows)),
        "packages": dict(Counter(row.repo for row in rows)),
        "kinds": {kind: counts.get("kept", 0) for kind, counts in funnel["kinds"].items()},
        "double": sum(len(kinds) > 1 for kinds in funnel["tasks"].values()),
        "equivalent": round(steps["equivalent"] / max(1, steps["mutated"]), 3),
        "total": round(steps["total"] / max(1, steps["mutated"]), 3),
        "steps": steps,
    }


def sizes(rows: Sequence[Row], tokenizer: str) -> dict[str, list[int]]:
    """Return the median, the 90th percentile and the largest of file and issue together."""
    texts = [row.issue + "".join(file.before or "" for file in row.files) for row in rows]
    found = {"bytes": spread([len(text.encode()) for text in texts])}
    if tokenizer:
        from transformers import AutoTokenizer

        count = AutoTokenizer.from_pretrained(tokenizer)
        found["tokens"] = spread([len(count(text).input_ids) for text in texts])
    return found


def spread(numbers: Sequence[int]) -> list[int]:
    """Return the median, the 90th percentile and the largest of some numbers."""
    ordered = sorted(numbers)
    return [ordered[len(ordered) // 2], ordered[len(ordered) * 9 // 10], ordered[-1]]


async def checked(rows: Sequence[Row]) -> dict[str, Any]:
    """Let each row's own repair be checked, and a patch that repairs nothing; return how long a box took."""
    wrong = 0
    async with AsyncExitStack() as stack:
        settings = SandboxSettings(kind=SandboxKind.LOCAL)
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "amini"
        opened = await open_plain(PlainRequest(settings, cache, dict(os.environ)), lambda event: None, stack)
        begun = time.monotonic()
        for row in rows:
            path = row.files[0].path
            useless = f"```python\n### {path}.txt\n<<<<<<< SEARCH\n=======\nnothing\n>>>>>>> REPLACE\n```\n"
            verdicts = await evaluate_row(row, (row.answer(), useless), opened)
            wrong += verdicts != (CheckVerdict.PASSED, CheckVerdict.FAILED)
    seconds = (time.monotonic() - begun) / max(1, 2 * len(rows))
    return {"rows": len(rows), "wrong": wrong, "seconds_per_box": round(seconds, 3)}


if __name__ == "__main__":
    sys.exit(main())
