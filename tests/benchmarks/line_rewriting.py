"""Measures the embedded model on one-line bugs, against the same mutants in random order.

Run with `python -m tests.benchmarks.line_rewriting [NAME ...]`. Every candidate is executed. It prints the rank of the
first candidate that passes, how many bugs are solved within the first 1, 5, 20, 50 and 100 (with 95 % intervals by
Wilson), and the time: of the clock, and of the processors.

The versions of a bug's module run one after the other, each in a forked process with limits, all in one box: without
network or files of its own where `bwrap` is installed. The bugs in `line_bugs/` were written before anything was
measured on them, and nothing was tuned to them.
"""

import argparse
import json
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
    EditTask,
    Excerpt,
    FileKind,
    Finish,
    Patch,
    ShownFile,
    Snapshot,
    SourceFile,
)
from agentless_mini.edits import Tree, changed_files, read_answer
from agentless_mini.model.embedded.llama import Context, Model
from agentless_mini.model.embedded.mutants import mutants
from agentless_mini.model.embedded.regions import Region
from agentless_mini.model.embedded.sampler import render
from agentless_mini.model.embedded.scoring import SEQUENCES, LineScorer, Rewrite, form
from agentless_mini.settings.model import InProcessSettings
from tests.embedded_model import carried_weights
from tests.evolution.intervals import share

DRIVER = """
import json, os, resource, signal, sys, types
job = json.load(sys.stdin)
passed = []
for code in job["versions"]:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.setitimer(signal.ITIMER_PROF, 0.5)
        signal.alarm(5)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        status = 1
        try:
            module = sys.modules[job["name"]] = types.ModuleType(job["name"])
            exec(compile(code, job["name"] + ".py", "exec"), module.__dict__)
            exec(compile(job["check"], "check.py", "exec"), {"__name__": "check"})
            status = 0
        finally:
            os._exit(status)
    passed.append(os.waitpid(child, 0)[1] == 0)
json.dump(passed, sys.stdout)
"""
WITHIN = (1, 5, 20, 50, 100)
THREADS = 2


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


def load_bugs(names: Iterable[str] = ()) -> list[Bug]:
    """Read the bugs, all of them or those named, and see that each check tells the bug from its fix."""
    paths = sorted((Path(__file__).parent / "line_bugs").glob("*.md"))
    wanted = set(names)
    bugs = [_bug(path) for path in paths if not wanted or path.stem in wanted]
    for bug in bugs:
        if passing(bug, [bug.code, bug.fixed]) != (False, True):
            raise SystemExit(f"The check of {bug.name} does not tell the bug from its fix.")
    return bugs


def _bug(path: Path) -> Bug:
    title, code, fix, check = path.read_text().split("\n## ")
    old, new = _fenced(fix).rstrip("\n").split("\n")
    return Bug(path.stem, title.split("\n", 1)[1].strip(), _fenced(code), (old, new), _fenced(check))


def _fenced(section: str) -> str:
    return section.split("````python\n", 1)[1].rsplit("````", 1)[0]


def passing(bug: Bug, versions: Sequence[str]) -> tuple[bool, ...]:
    """Say of each version of a bug's module whether it passes the check."""
    job = json.dumps({"name": bug.name, "check": bug.check, "versions": list(versions)})
    command = [*_box(), sys.executable, "-I", "-c", DRIVER]
    done = subprocess.run(command, input=job, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def _box() -> list[str]:
    if shutil.which("bwrap") is None:
        return []
    hidden = ["--tmpfs", tempfile.gettempdir(), "--ro-bind", sys.prefix, sys.prefix, "--dev", "/dev"]
    return ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", *hidden]


@dataclass(frozen=True, slots=True)
class Peer:
    """Candidates without an order: how many there are, and how many of them pass."""

    candidates: int
    passing: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one bug: the 1-based rank of the first passing candidate, 0 for none."""

    bug: str
    rank: int
    candidates: int
    tokens: int
    seconds: float
    cpu_seconds: float
    random: Peer


def applied(task: EditTask, bug: Bug, rewrite: Rewrite) -> str:
    """Return the module as a rewrite leaves it, by the project's own parser and applier."""
    file = SourceFile(f"{bug.name}.py", "100644", FileKind.TEXT, bug.code.encode())
    tree = Tree.of(Snapshot("", "", "", (file,)))
    outcome = read_answer(Completion(0, render(task, rewrite), Finish.STOP), tree)
    if not isinstance(outcome, Patch):
        raise SystemExit(f"A rewrite of {bug.name} is no patch: {outcome.reason}")
    return (changed_files(outcome, tree.entries)[0].after or b"").decode()


def measure(bug: Bug, context: Context) -> Outcome:
    """Rank the mutants and execute them all, those that the model was not asked about, too."""
    task = EditTask(bug.issue, (ShownFile(f"{bug.name}.py", (Excerpt(1, bug.code),), whole=True),))
    started, begun = time.monotonic(), time.process_time()
    ranking = LineScorer(context, lambda tokens: None).rank(task, InProcessSettings().copy_tokens)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - begun
    passed = passing(bug, [applied(task, bug, one) for one in ranking.rewrites])
    rank = passed.index(True) + 1 if True in passed else 0
    every = _mutants(bug)
    peer = Peer(len(every), sum(passing(bug, every)))
    tokens = ranking.prompt_tokens + ranking.mutant_tokens
    return Outcome(bug.name, rank, len(ranking.rewrites), tokens, seconds, cpu_seconds, peer)


def _mutants(bug: Bug) -> list[str]:
    """Return the module with each mutant that parses and is new."""
    region = Region(f"{bug.name}.py", 1, bug.code)
    rows = bug.code.split("\n")
    forms = {(row, form(region, row)): "" for row in range(len(rows))}
    found = {
        (one.row, name): "\n".join([*rows[: one.row], one.text, *rows[one.row + 1 :]])
        for one in mutants(region)
        if (name := form(region, one.row, one.text)) is not None
    }
    return [code for key, code in found.items() if key not in forms]


def expected_within(peers: Iterable[Peer], count: int) -> float:
    """Return how many bugs candidates in random order are expected to solve within `count`."""
    solved = 0.0
    for one in peers:
        missed = 1.0
        for drawn in range(min(count, one.candidates)):
            missed *= max(one.candidates - one.passing - drawn, 0) / (one.candidates - drawn)
        solved += 1 - missed
    return solved


def main() -> None:
    """Print within how many candidates each bug is solved, and what all bugs came to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help="of the bugs; by default all")
    bugs = load_bugs(parser.parse_args().names)
    context = Context(Model(carried_weights().path), 8192, SEQUENCES, 512, THREADS)
    outcomes = []
    for bug in bugs:
        outcomes.append(measure(bug, context))
        sys.stdout.write(f"{outcomes[-1]}\n")
        sys.stdout.flush()
    report(outcomes)


def report(outcomes: Sequence[Outcome]) -> None:
    total = len(outcomes)
    solved = [sum(0 < one.rank <= count for one in outcomes) for count in (*WITHIN, sys.maxsize)]
    peers = [expected_within([one.random for one in outcomes], count) for count in (*WITHIN, 100_000)]
    spans = [share(count, total) for count in solved]
    lines = [f"{total} bugs", "within" + " " * 18 + "".join(f"{count:>12}" for count in WITHIN) + "         all"]
    lines.append(f"{'ranked by the model':24}" + "".join(f"{count:>12}" for count in solved))
    lines.append(f"{'  95 %, of all':24}" + "".join(f"{total * one.low:>7.1f}-{total * one.high:.1f}" for one in spans))
    lines.append(f"{'in random order':24}" + "".join(f"{count:>12.1f}" for count in peers))
    for name, values in (
        ("seconds", [one.seconds for one in outcomes]),
        ("CPU seconds", [one.cpu_seconds for one in outcomes]),
        ("tokens", [one.tokens for one in outcomes]),
        ("candidates", [one.candidates for one in outcomes]),
        ("mutants", [one.random.candidates for one in outcomes]),
    ):
        lines.append(f"{name} per file: median {statistics.median(values):.0f}, {min(values):.0f} to {max(values):.0f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
