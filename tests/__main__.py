"""`python -m tests`: the gates, in the order of how quickly they fail. Arguments go to pytest, after lint and types.

The first half, all that `--quick` runs, ends within 90 seconds on two idle cores: lint and types, and the tests of the
pure core and of the chain. Those of the core are measured, for they have to cover it wholly, every branch of it; types
and chain are checked beside them. The second half runs all other tests, in one process more than there are cores, 9 at
most, for many wait for a box or a server. A file stays in one of them, with what its tests share.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.test_architecture import CORE

LINT = (("ruff", "check", "."), ("ruff", "format", "--check", "."))
TYPES = ("mypy",)
MEASURED_UNITS = sorted(CORE)
PROCESSES = min(8, os.cpu_count() or 1)
FOLDER = Path(__file__).parent
# A unit's tests are tests/ROOM/test_UNIT.py or the folder tests/UNIT.
PLACES = [
    place for unit in MEASURED_UNITS for place in (FOLDER / unit, (FOLDER / unit).parent / f"test_{Path(unit).name}.py")
]
CORE_TESTS = sorted(str(path.relative_to(FOLDER.parent)) for path in PLACES if path.exists())
CHAIN_TESTS = sorted(
    str(path.relative_to(FOLDER.parent))
    for path in (FOLDER / "chain").glob("test_*.py")
    if str(path.relative_to(FOLDER.parent)) not in CORE_TESTS
)
# Tests of the core that bound a time, or try hundreds of inputs: they find faults, and cover nothing more.
UNMEASURED = ("in_seconds", "any_change", "what_is_accepted_applies")
MEASURED = ("pytest", "-q", "-p", "no:cacheprovider", "-k", f"not ({' or '.join(UNMEASURED)})", *CORE_TESTS)
COVERAGE = (
    ("coverage", "erase"),
    ("coverage", "run", "-m", *MEASURED, "-n", str(PROCESSES)),
    ("coverage", "combine", "--quiet"),
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
PYTEST = ("pytest", "-n", str(PROCESSES + 1), "--dist", "loadfile", "--no-loadscope-reorder")


def main(arguments: list[str]) -> int:
    if arguments and arguments != ["--quick"]:
        return in_turn(*LINT, TYPES, (*PYTEST, *arguments))
    first = in_turn(*LINT) or side_by_side(COVERAGE, (TYPES, ("pytest", "-q", *CHAIN_TESTS)))
    return first or (0 if arguments else in_turn((*PYTEST, "--rest")))


def in_turn(*commands: tuple[str, ...]) -> int:
    """Run one after the other until one fails, and return its status, or 0."""
    for command in commands:
        say("+", *command)
        if code := subprocess.run(python(command), check=False).returncode:
            return code
    return 0


def side_by_side(one: Sequence[tuple[str, ...]], other: Sequence[tuple[str, ...]]) -> int:
    """Run two turns beside each other; what the other one says comes when both are done."""
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(heard, other)
        code = in_turn(*one)
        other_code, said = beside.result()
    say(said)
    return code or other_code


def heard(commands: Sequence[tuple[str, ...]]) -> tuple[int, str]:
    """Run as `in_turn` does; return the status, and what was said instead of saying it."""
    told = ""
    for command in commands:
        done = subprocess.run(python(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        told += f"+ {' '.join(command)}\n{done.stdout}"
        if done.returncode:
            return done.returncode, told
    return 0, told


def is_in_first_half(path: Path, name: str) -> bool:
    """Tell whether the first half runs a test, given by its file and its name."""
    said = str(path.relative_to(FOLDER.parent))
    if said in CHAIN_TESTS:
        return True
    in_core = any(said == place or said.startswith(f"{place}/") for place in CORE_TESTS)
    return in_core and not any(word in name for word in UNMEASURED)


def python(command: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", *command]


def say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201 - the progress of a script


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
