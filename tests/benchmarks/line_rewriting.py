"""Measures line rewriting with the carried model on one-line bugs, against AST mutants in random order.

Run with `python -m tests.benchmarks.line_rewriting [NAME ...]`. Every candidate is executed until one passes the bug's
check: in a fresh process with limits, and without network or files of its own where `bwrap` is installed. It prints the
rank of the first candidate that passes, and how many bugs are solved within the first 1, 5, 20, 50 and 100.

The bugs in `line_bugs/` were written before anything was measured on them, and nothing was tuned to them.
"""

import asyncio
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import (
    Completion,
    Decoding,
    EditTask,
    Excerpt,
    FileKind,
    Patch,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Snapshot,
    SourceFile,
    Stage,
)
from agentless_mini.edits import Tree, read_answer
from agentless_mini.samplers.embedded import EmbeddedSampler, InProcessSettings
from tests.benchmarks.mutants import mutants
from tests.embedded_model import carried_weights

WITHIN = (1, 5, 20, 50, 100)
CANDIDATES = 400
ORDERS = 200
TIMEOUT_S = 5
PRELUDE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
"""


@dataclass(frozen=True, slots=True)
class Bug:
    """A module with a bug in one line, what a user says of it, the line as it should be, and a check."""

    name: str
    issue: str
    code: str
    fix: tuple[str, str]
    check: str

    @property
    def fixed(self) -> str:
        old, new = self.fix
        return "\n".join(new if line == old else line for line in self.code.split("\n"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one bug: 1-based ranks of the first passing candidate, 0 for none."""

    bug: str
    rank: int
    candidates: int
    tokens: int
    seconds: float
    passing_mutants: int
    mutants: int


def load_bugs(names: Iterable[str] = ()) -> list[Bug]:
    """Read the bugs, all of them or those named."""
    paths = sorted((Path(__file__).parent / "line_bugs").glob("*.md"))
    wanted = set(names)
    return [_bug(path) for path in paths if not wanted or path.stem in wanted]


def _bug(path: Path) -> Bug:
    title, code, fix, check = path.read_text().split("\n## ")
    old, new = _fenced(fix).rstrip("\n").split("\n")
    return Bug(path.stem, title.split("\n", 1)[1].strip(), _fenced(code), (old, new), _fenced(check))


def _fenced(section: str) -> str:
    return section.split("````python\n", 1)[1].rsplit("````", 1)[0]


def passes(bug: Bug, code: str) -> bool:
    """Run the bug's check on a version of its module, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{bug.name}.py").write_text(code)
        Path(folder, "run_check.py").write_text(PRELUDE + bug.check)
        command = [sys.executable, "-I", str(Path(folder, "run_check.py")), folder]
        try:
            done = subprocess.run([*_box(folder), *command], capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def _box(folder: str) -> list[str]:
    if shutil.which("bwrap") is None:
        return []
    hidden = ["--tmpfs", tempfile.gettempdir(), "--ro-bind", folder, folder, "--ro-bind", sys.prefix, sys.prefix]
    return ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", *hidden]


async def rewrites(bug: Bug, sampler: EmbeddedSampler) -> list[Completion]:
    """Return every rewrite of a bug's module as the sampler answers it."""
    shown = ShownFile(f"{bug.name}.py", (Excerpt(1, bug.code),), whole=True)
    task = EditTask(bug.issue, (shown,))
    card = await sampler.card()
    request = SampleRequest(
        card.name, (), SamplingParams(256), tuple(range(CANDIDATES)), Stage.REPAIR, bug.name, Decoding.LINES, task
    )
    return [completion async for completion in sampler.sample(request)]


def applied(bug: Bug, completions: Iterable[Completion]) -> list[str]:
    """Return the module as each answer leaves it, by the project's own parser and applier."""
    file = SourceFile(f"{bug.name}.py", "100644", FileKind.TEXT, bug.code.encode())
    tree = Tree.of(Snapshot("", "", "", (file,)))
    outcomes = [read_answer(completion, tree) for completion in completions]
    return [(one.changes[0].after or b"").decode() for one in outcomes if isinstance(one, Patch)]


def first_passing(bug: Bug, versions: Sequence[str]) -> int:
    return next((rank for rank, code in enumerate(versions, 1) if passes(bug, code)), 0)


async def measure(bug: Bug, sampler: EmbeddedSampler) -> Outcome:
    """Rank the rewrites, execute them in order, and execute every mutant."""
    if passes(bug, bug.code) or not passes(bug, bug.fixed):
        raise SystemExit(f"The check of {bug.name} does not tell the bug from its fix.")
    started = time.monotonic()
    completions = await rewrites(bug, sampler)
    seconds = time.monotonic() - started
    tokens = sum(one.usage.prompt_tokens + one.usage.completion_tokens for one in completions)
    versions = applied(bug, completions)
    every = mutants(bug.code)
    passing = sum(passes(bug, code) for code in every)
    return Outcome(bug.name, first_passing(bug, versions), len(versions), tokens, seconds, passing, len(every))


def expected_within(outcomes: Iterable[Outcome], count: int) -> float:
    """Return how many bugs mutants in random order are expected to solve within `count`, over ORDERS orders each."""
    rng = random.Random(0)  # noqa: S311 - orders of mutants, not secrets
    solved = 0
    for one in outcomes:
        for _ in range(ORDERS):
            places = rng.sample(range(one.mutants), one.passing_mutants)
            solved += min(places, default=one.mutants) < min(count, one.mutants)
    return solved / ORDERS


async def main(names: Sequence[str]) -> None:
    outcomes = []
    async with EmbeddedSampler(carried_weights(), InProcessSettings()) as sampler:
        await sampler.card()
        for bug in load_bugs(names):
            outcomes.append(await measure(bug, sampler))
            sys.stdout.write(f"{outcomes[-1]}\n")
            sys.stdout.flush()
    report(outcomes)


def report(outcomes: Sequence[Outcome]) -> None:
    lines = [f"{len(outcomes)} bugs", "within      " + "".join(f"{count:>7}" for count in WITHIN)]
    ours = [sum(0 < one.rank <= count for one in outcomes) for count in WITHIN]
    peer = [expected_within(outcomes, count) for count in WITHIN]
    lines.append("rewrites    " + "".join(f"{solved:>7}" for solved in ours))
    lines.append("AST mutants " + "".join(f"{solved:>7.1f}" for solved in peer))
    solved, by_mutants = sum(one.rank > 0 for one in outcomes), sum(one.passing_mutants > 0 for one in outcomes)
    lines.append(f"solved by any rewrite {solved}, by any mutant {by_mutants}")
    seconds = [one.seconds for one in outcomes]
    lines.append(f"seconds per file: median {statistics.median(seconds):.1f}, most {max(seconds):.1f}")
    lines.append(f"tokens per file: median {statistics.median(one.tokens for one in outcomes):.0f}")
    lines.append(f"candidates per file: {min(o.candidates for o in outcomes)} to {max(o.candidates for o in outcomes)}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
