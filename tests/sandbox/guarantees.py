"""`python -m tests.sandbox.guarantees`: try every attack in every sandbox, and write what held into the manual.

A row of the table is an attack, by the sentence that its test is named by; a test compares the rows with the suites. It
takes some minutes, and needs Docker, bubblewrap and Landlock for all three columns.
"""

import os
import platform
import re
import sys
from pathlib import Path

import pytest

import agentless_mini
from tests.environment.test_hostile_build import ATTACKS as BUILDS
from tests.sandbox.attacks import AttackSuite
from tests.sandbox.isolation import ATTACKS as CALLS

PAGE = Path(agentless_mini.__file__).parent / "docs" / "security.md"
BEGIN, END = "<!-- attacks: python -m tests.sandbox.guarantees -->\n", "<!-- end of attacks -->\n"
COLUMNS = ("docker", "bubblewrap", "landlock")
ABOUT_CALLS = "test_what_lies_beneath_and_beside_cannot_be_reached"
NAMED = {"test_local": "bubblewrap", "test_landlock": "landlock", "test_docker": "docker"}
FILES = ("tests/sandbox/test_local.py", "tests/sandbox/test_landlock.py", "tests/sandbox/test_docker.py")
BUILD_FILE = "tests/environment/test_hostile_build.py"
WRITTEN = {"hosts home": "host's home", "ones own": "one's own", "killed stopped traced": "killed, stopped, traced"}
WORDS = {"passed": "held", "skipped": "not tried", "failed": "**open**"}


def suite() -> dict[str, str]:
    """Return the sentence of each test of the attack suite by its name."""
    names = [name for name in vars(AttackSuite) if name.startswith("test_")]
    found = {name: name.removeprefix("test_").replace("_", " ") for name in names}
    for plain, written in WRITTEN.items():
        found = {name: sentence.replace(plain, written) for name, sentence in found.items()}
    return found


def rows() -> list[str]:
    return [*suite().values(), *CALLS, *BUILDS]


def told() -> list[str]:
    """Return the rows that the manual has."""
    return re.findall(r"^\| (.+?) \|", between(PAGE.read_text()), re.MULTILINE)[1:]


def between(text: str) -> str:
    return text.partition(BEGIN)[2].partition(END)[0]


class Outcomes:
    """What became of each test, by its column and name."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, *_, name = report.nodeid.split("::")
        column = NAMED.get(Path(file).stem) or name.rpartition("_")[2]
        if "OldLandlock" not in report.nodeid and (report.when == "call" or not report.passed):
            self.found[column, "build" if file == BUILD_FILE else name] = report.outcome

    def line(self, row: str, test: str) -> str:
        cells = [WORDS[self.found.get((column, test), "skipped")] for column in COLUMNS]
        return f"| {row} | {' | '.join(cells)} |"


def table(outcomes: Outcomes) -> str:
    lines = ["| attack | Docker | bubblewrap | Landlock |", "|---|---|---|---|"]
    lines += [outcomes.line(sentence, name) for name, sentence in suite().items()]
    lines += [outcomes.line(row, ABOUT_CALLS) for row in CALLS] + [outcomes.line(row, "build") for row in BUILDS]
    return "\n".join(lines) + "\n"


def main() -> int:
    outcomes, wanted = Outcomes(), " or ".join((*suite(), ABOUT_CALLS, "hostile"))
    words = ["-q", "-n", "0", "--slow", "--thorough", "-k", wanted, *FILES, BUILD_FILE]
    status = pytest.main(words, plugins=[outcomes])
    kernel = platform.release().split("-")[0]
    user = "root" if os.geteuid() == 0 else "a user without rights"
    before, _, rest = PAGE.read_text().partition(BEGIN)
    told = f"Tried on Linux {kernel} ({platform.machine()}), as {user}.\n\n{table(outcomes)}"
    PAGE.write_text(f"{before}{BEGIN}{told}{END}{rest.partition(END)[2]}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
