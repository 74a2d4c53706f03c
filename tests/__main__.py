"""`python -m tests`: the gates, in the order of how quickly they fail. Arguments go to pytest, without the coverage.

The pure core has to be covered wholly, every branch of it, by its own quick tests. They run once more for that, by
themselves: measured, the whole would take far longer, and tests that bound a time would fail.
"""

import subprocess
import sys
from pathlib import Path

from tests.test_architecture import CORE

GATES = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
MEASURED_UNITS = sorted(CORE)
FOLDER = Path(__file__).parent
# A unit's tests are tests/test_UNIT.py or the folder tests/UNIT; some of `edits` are named for a part of it.
PLACES = [FOLDER / name for unit in MEASURED_UNITS for name in (f"test_{unit}.py", unit)]
PLACES += [FOLDER / f"test_{part}.py" for part in ("loose_matching", "patches", "written_answers")]
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


def main(arguments: list[str]) -> int:
    commands = [*GATES, *(() if arguments else COVERAGE), ("pytest", *arguments)]
    for command in commands:
        print("+", *command, flush=True)  # noqa: T201 - a progress line of a script
        code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
