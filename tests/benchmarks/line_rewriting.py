"""Measures line rewriting with the carried model on one-line bugs, against mutants in random order.

Run with `python -m tests.benchmarks.line_rewriting [NAME ...]`. Every candidate is executed. It prints the rank of the
first candidate that passes, and how many bugs are solved within the first 1, 5, 20, 50 and 100: by the order that a
user gets, by that of its two halves (what the model came upon, and the mutants that it was asked about), and by two
sets of mutants in random order, without a model.

The bugs in `line_bugs/` were written before anything was measured on them, and nothing was tuned to them.
"""

import statistics
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

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
from agentless_mini.line_edits import Novelty, Rewrite, ranked, render
from agentless_mini.line_mutants import mutants as line_mutants
from agentless_mini.line_regions import Region
from agentless_mini.line_rewriting import Kind
from agentless_mini.samplers.embedded import InProcessSettings
from agentless_mini.serving.line_scoring import FORKS_AT_ONCE, LineScorer
from agentless_mini.serving.llama import Context, Model, Shape
from tests.benchmarks.line_checks import Bug, load_bugs, passing
from tests.benchmarks.mutants import mutants
from tests.embedded_model import carried_weights

WITHIN = (1, 5, 20, 50, 100)
THREADS = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """Candidates without an order: how many there are, and how many of them pass."""

    candidates: int
    passing: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one bug: 1-based ranks of the first passing candidate, 0 for none."""

    bug: str
    rank: int
    found_rank: int
    mutant_rank: int
    candidates: int
    tokens: int
    seconds: float
    line_mutants: Peer
    ast_mutants: Peer


def applied(task: EditTask, bug: Bug, rewrite: Rewrite) -> str:
    """Return the module as a rewrite leaves it, by the project's own parser and applier."""
    file = SourceFile(f"{bug.name}.py", "100644", FileKind.TEXT, bug.code.encode())
    tree = Tree.of(Snapshot("", "", "", (file,)))
    outcome = read_answer(Completion(0, render(task, rewrite), Finish.STOP), tree)
    if not isinstance(outcome, Patch):
        raise SystemExit(f"A rewrite of {bug.name} is no patch: {outcome.reason}")
    return (changed_files(outcome, tree.entries)[0].after or b"").decode()


def measure(bug: Bug, context: Context) -> Outcome:
    """Rank the rewrites and execute them all, and every mutant."""
    task = EditTask(bug.issue, (ShownFile(f"{bug.name}.py", (Excerpt(1, bug.code),), whole=True),))
    started = time.monotonic()
    scored = LineScorer(context, lambda tokens: None).score(task, InProcessSettings().copy_tokens)
    order = ranked(scored.regions, scored.rewrites)
    seconds = time.monotonic() - started
    halves = [
        ranked(scored.regions, [one for one in scored.rewrites if (one.kind is Kind.MUTANT) == is_mutant])
        for is_mutant in (False, True)
    ]
    versions = {rewrite: applied(task, bug, rewrite) for one in (order, *halves) for rewrite in one}
    good = {code for code, ok in zip(versions.values(), passing(bug, list(versions.values())), strict=True) if ok}
    rank, found_rank, mutant_rank = (_first_in(good, [versions[one] for one in each]) for each in (order, *halves))
    tokens = scored.prompt_tokens + scored.fork_tokens
    peers = [_peer(bug, versions) for versions in (_line_mutants(bug), mutants(bug.code))]
    return Outcome(bug.name, rank, found_rank, mutant_rank, len(order), tokens, seconds, *peers)


def _first_in(good: Collection[str], versions: Sequence[str]) -> int:
    return next((rank for rank, code in enumerate(versions, 1) if code in good), 0)


def _line_mutants(bug: Bug) -> list[str]:
    region = Region(f"{bug.name}.py", 1, bug.code)
    novelty = Novelty([region])
    rows = bug.code.split("\n")
    every = [Rewrite(region, one.row, one.text) for one in line_mutants(region)]
    return ["\n".join([*rows[: one.row], one.text, *rows[one.row + 1 :]]) for one in every if novelty.admits(one)]


def _peer(bug: Bug, versions: Sequence[str]) -> Peer:
    return Peer(len(versions), sum(passing(bug, versions)))


def expected_within(peers: Iterable[Peer], count: int) -> float:
    """Return how many bugs candidates in random order are expected to solve within `count`."""
    solved = 0.0
    for one in peers:
        missed = 1.0
        for drawn in range(min(count, one.candidates)):
            missed *= max(one.candidates - one.passing - drawn, 0) / (one.candidates - drawn)
        solved += 1 - missed
    return solved


def main(names: Sequence[str]) -> None:
    bugs = load_bugs(names)
    context = Context(Model(carried_weights().path), Shape(8192, FORKS_AT_ONCE + 1, 512, THREADS))
    outcomes = []
    for bug in bugs:
        outcomes.append(measure(bug, context))
        sys.stdout.write(f"{outcomes[-1]}\n")
        sys.stdout.flush()
    report(outcomes)


def report(outcomes: Sequence[Outcome]) -> None:
    lines = [f"{len(outcomes)} bugs", "within" + " " * 22 + "".join(f"{count:>6}" for count in WITHIN) + "   all"]
    lines.append(_row("rewrites", [one.rank for one in outcomes]))
    lines.append(_row("  what the model came upon", [one.found_rank for one in outcomes]))
    lines.append(_row("  mutants by the model", [one.mutant_rank for one in outcomes]))
    lines.append(_peer_row("  mutants in random order", [one.line_mutants for one in outcomes]))
    lines.append(_peer_row("AST mutants, random order", [one.ast_mutants for one in outcomes]))
    for name, values in (
        ("seconds", [one.seconds for one in outcomes]),
        ("tokens", [one.tokens for one in outcomes]),
        ("candidates", [one.candidates for one in outcomes]),
        ("mutants", [one.line_mutants.candidates for one in outcomes]),
    ):
        lines.append(f"{name} per file: median {statistics.median(values):.0f}, {min(values):.0f} to {max(values):.0f}")
    sys.stdout.write("\n".join(lines) + "\n")


def _row(name: str, ranks: Sequence[int]) -> str:
    solved = [sum(0 < rank <= count for rank in ranks) for count in (*WITHIN, sys.maxsize)]
    return f"{name:28}" + "".join(f"{count:>6}" for count in solved)


def _peer_row(name: str, peers: Sequence[Peer]) -> str:
    solved = [expected_within(peers, count) for count in (*WITHIN, 100_000)]
    return f"{name:28}" + "".join(f"{count:>6.1f}" for count in solved)


if __name__ == "__main__":
    main(sys.argv[1:])
