"""Measures in how many real repositories the environment that is built runs the tests.

Run with `python -m tests.benchmarks.environments CLONES [--baselines] [--only NAME ...] [--cache FOLDER]`. `CLONES` is
a folder of clones, each taken as its HEAD is. Three test files are picked of each, by a rule and a seed that know
nothing of the outcome: among the files that are named as tests are and hold a test of the runner. A repository counts
if every picked file ran and at least 80 % of its tests passed; a skipped test counts neither way. With `--baselines`
two ways that people try first are built beside it in the same boxes, and judged with the same runner and files: `pip
install -e . pytest`, and uv with every extra of the project that has "test" in its name. A build has 300 seconds where
`--build-seconds` does not say otherwise, and the files have 150 of their own. `--docker IMAGE` builds images on this
one, instead of boxes of bubblewrap.
"""

import argparse
import asyncio
import os
import random
import re
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.chain.generated_tests import holds_test
from agentless_mini.chain.session import NoBoxes, run_files
from agentless_mini.domain import CaseResult, Event, Note, Outcome, Runner, Snapshot
from agentless_mini.environment.build import PLACE
from agentless_mini.environment.declared import READERS, Declared
from agentless_mini.errors import AminiError
from agentless_mini.repository.opening import open_repository
from agentless_mini.run import open_boxes
from agentless_mini.settings.run import SandboxKind, SandboxSettings
from agentless_mini.testing import harness_of

FILES, SEED, SHARE = 3, "environments", 0.8
BUILD_S, BUDGET_S, CLOCK_S, CASE_S = 300, 150.0, 600.0, 30.0
_NAMED = re.compile(r"(?:.*/)?(?:test_[^/]*|tests_[^/]*|[^/]*_tests?|tests|test)\.py")
_NOT_OF_PYTEST = {"tests.py", "test.py"}  # modules of the project, as a rule
_NOT_PICKED = {"fixtures", "data", "testdata", "test_data", "examples", "docs", "benchmarks", "node_modules"}


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one way in one repository. `problem` says why nothing ran."""

    repository: str
    way: str
    runner: str
    python: str
    files: int
    ran: int
    passed: int
    failed: int
    errors: int
    skipped: int
    built_s: float
    tests_s: float
    problem: str = ""

    @property
    def counts(self) -> bool:
        """Tell whether the repository counts as one whose tests run."""
        judged = self.passed + self.failed + self.errors
        return self.files > 0 and self.ran == self.files and self.passed >= SHARE * judged

    def line(self) -> str:
        """Return it as a line of a table of Markdown."""
        told = self.problem.replace("|", "/").replace("\n", " ")[:160]
        cells = (
            self.repository,
            self.way,
            self.runner,
            self.python,
            "yes" if self.counts else "no",
            f"{self.ran}/{self.files}",
        )
        numbers = (self.passed, self.failed, self.errors, self.skipped, f"{self.built_s:.0f}", f"{self.tests_s:.0f}")
        return f"| {' | '.join(map(str, (*cells, *numbers, told)))} |"


HEAD = (
    "| repository | way | runner | Python | counts | files | passed | failed | errors | skipped | build s | tests s "
    "| problem |"
)


def picked(snapshot: Snapshot, runner: Runner, name: str) -> list[str]:
    """Return the paths of the test files to run."""
    others = _NOT_OF_PYTEST if runner is Runner.PYTEST else set[str]()
    named = (file for file in snapshot.files if _NAMED.fullmatch(file.path) and Path(file.path).name not in others)
    likely = [file for file in named if not _NOT_PICKED & set(file.path.split("/"))]
    paths = sorted(file.path for file in likely if holds_test(file.data, runner))
    return sorted(random.Random(f"{SEED}:{name}").sample(paths, min(FILES, len(paths))))  # noqa: S311


def ways_of(snapshot: Snapshot, with_baselines: bool) -> Iterator[tuple[str, str]]:
    """Yield the ways to build, each with its setup command, "" for ours."""
    yield "amini", ""
    if not with_baselines:
        return
    declared, held = Declared(), snapshot.by_path()
    for path, read in READERS.items():
        if path in held:
            read(held[path].data.decode("utf-8", "replace"), declared)
    extras = ",".join(name for name in declared.extras if "test" in name.lower())
    yield "pip", "pip install -e . pytest"
    project = shlex.quote(f".[{extras}]" if extras else ".")
    options = "--no-cache --index-strategy=unsafe-best-match"  # as pip takes several indexes
    yield "uv", f'{PLACE}/uv pip install {options} --python "$VIRTUAL_ENV/bin/python" -e {project} pytest'


async def tried(path: Path, way: str, setup: str, cache: Path, asked: SandboxSettings) -> Row:
    """Build an environment for a clone in one way, and run the picked files."""
    repository = open_repository(str(path), None, cache)
    snapshot = repository.snapshot()
    runner = harness_of(snapshot).runner
    files = picked(snapshot, runner, path.name)
    settings = asked.model_copy(update={"setup": setup})
    events: list[Event] = []
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        problem, results, built = "", tuple[CaseResult, ...](), began
        try:
            boxes = await open_boxes(settings, repository, snapshot, cache, dict(os.environ), stack, events.append)
            built = time.monotonic()
            if isinstance(boxes, NoBoxes):
                problem = boxes.reason
            else:
                results = (await run_files(boxes, files, BUDGET_S, CLOCK_S)).results
        except AminiError as error:
            problem = str(error)
    told_all = [event.text for event in events if isinstance(event, Note)]
    notes = " ".join(text for text in told_all if not text.startswith("Building"))
    pythons = re.findall(r"\(Python (\d+\.\d+)", " ".join(told_all))
    ended = time.monotonic()
    counts = Counter(result.outcome for result in results)
    good = {
        result.id.partition("::")[0]
        for result in results
        if result.outcome in {Outcome.PASS, Outcome.FAIL, Outcome.SKIP}
    }
    faults = Counter(
        f"{one.fault.kind} {one.fault.message}"[:100]
        for one in results
        if one.fault and one.outcome is not Outcome.SKIP
    )
    told = [*([f"{faults.most_common(1)[0][0]} ({len(files)} files)"] if faults else []), problem, notes]
    return Row(
        path.name,
        way,
        runner.value,
        pythons[-1] if pythons else "",
        len(files),
        len(good & set(files)),
        counts[Outcome.PASS],
        counts[Outcome.FAIL],
        counts[Outcome.ERROR] + counts[Outcome.TIMEOUT],
        counts[Outcome.SKIP],
        built - began,
        ended - built,
        " ".join(filter(None, told)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clones", type=Path)
    parser.add_argument("--baselines", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--build-seconds", type=float, default=BUILD_S)
    parser.add_argument("--docker", default="")
    asked = parser.parse_args(arguments)
    settings = SandboxSettings(
        kind=SandboxKind.DOCKER if asked.docker else SandboxKind.LOCAL,
        base_image=asked.docker or SandboxSettings().base_image,
        boxes=1,
        build_seconds=asked.build_seconds,
        case_seconds=CASE_S,
    )
    clones = [path for path in sorted(asked.clones.iterdir()) if not asked.only or path.name in asked.only]
    print(HEAD, "|" + "---|" * HEAD.count(" | ") + "---|", sep="\n", flush=True)  # noqa: T201 - its result
    total, good = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="amini-environments-") as folder:
        for path in clones:
            snapshot = open_repository(str(path), None, Path(folder)).snapshot()
            for way, setup in ways_of(snapshot, asked.baselines):
                row = asyncio.run(tried(path, way, setup, asked.cache or Path(folder), settings))
                total[way] += 1
                good[way] += row.counts
                print(row.line(), flush=True)  # noqa: T201 - its result
    print("\n".join(f"{way}: {good[way]} of {total[way]} repositories" for way in total), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
