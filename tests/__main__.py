"""`python -m tests`: the gates, in the order of how quickly they fail. Arguments go to pytest, without the coverage.

The pure core has to be covered wholly, every branch of it, by its own quick tests. They run once more for that, by
themselves: measured, the whole would take far longer, and tests that bound a time would fail.

pytest runs in as many processes as there are cores, 8 at most. A file stays in one of them, with what its tests share.
mypy and what measures the coverage take one core each, and run beside each other.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.test_architecture import CORE

GATES = (("ruff", "check", "."), ("ruff", "format", "--check", "."))
TYPES = ("mypy",)
MEASURED_UNITS = sorted(CORE)
FOLDER = Path(__file__).parent
# A unit's tests are tests/ROOM/test_UNIT.py or the folder tests/UNIT.
PLACES = [
    place for unit in MEASURED_UNITS for place in (FOLDER / unit, (FOLDER / unit).parent / f"test_{Path(unit).name}.py")
]
CORE_TESTS = sorted(str(path.relative_to(FOLDER.parent)) for path in PLACES if path.exists())
# Those that bound a time, and those that try hundreds of inputs: they find faults, and cover nothing more.
NOT_MEASURED = "not in_seconds and not any_change and not what_is_accepted_applies"
MEASURED = ("pytest", "-q", "-p", "no:cacheprovider", "-k", NOT_MEASURED, *CORE_TESTS)
COVERAGE = (
    ("coverage", "run", "--branch", "--source=agentless_mini", "-m", *MEASURED),
    (
        "coverage",
        "report",
        "--show-missing",
        "--skip-covered",
        "--fail-under=100",
        "--include=" + ",".join(f"agentless_mini/{unit}.py,agentless_mini/{unit}/*" for unit in MEASURED_UNITS),
        "--omit=*/inside/*",
    ),
)
PROCESSES = min(8, os.cpu_count() or 1)
PYTEST = ("pytest", "-n", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder")


def main(arguments: list[str]) -> int:
    return in_turn(*GATES) or types_beside(*(() if arguments else COVERAGE)) or in_turn((*PYTEST, *arguments))


def in_turn(*commands: tuple[str, ...]) -> int:
    """Run one after the other until one fails, and return its status, or 0."""
    for command in commands:
        say("+", *command)
        if code := subprocess.run(python(command), check=False).returncode:
            return code
    return 0


def types_beside(*commands: tuple[str, ...]) -> int:
    """Run these while the types are checked; what the checker says comes when they are done."""
    with subprocess.Popen(python(TYPES), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as checker:
        code = in_turn(*commands)
        said, _ = checker.communicate()
    say("+", *TYPES)
    say(said.rstrip())
    return code or checker.returncode


def python(command: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", *command]


def say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201 - the progress of a script


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
