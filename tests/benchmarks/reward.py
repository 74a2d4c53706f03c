"""Rewards per second: this project's way beside plain difflib, on changes of 50 to 400 lines.

    python -m tests.benchmarks.reward [--most LINES]

A row is 1,500 lines of installed packages; its oracle replaces some of them by others, and a rollout makes each
replacement of the oracle with a probability of 0.6, else one of its own, or none. This project's way keeps an `Oracle`
for the row. The plain way makes both diffs for each rollout and compares them by `difflib.SequenceMatcher`; the same by
`cydifflib`, where it is installed, is told beside it. The ways take turns, and their values must be equal. Exit code 1
if they are not, or if this project's way is, over all, less than 10 times as fast as the plain one.

Plain difflib takes minutes for one reward of 400 lines, so of those there are two. It is some six minutes in all, of
the processor's time: a busy machine makes it longer, not different.
"""

import argparse
import difflib
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agentless_mini.domain import FileChange
from agentless_mini.learning import matching
from agentless_mini.learning.reward import Oracle
from tests.benchmarks import say
from tests.learning.reward.answers import sources

LINES = 1_500
ROLLOUTS = {50: 16, 100: 8, 200: 4, 400: 2}
LEAST_RATIO = 10
SEED = 20_250_218

Lines = Sequence[str]


@dataclass
class Times:
    """Seconds of the processor that the ways have taken, by name: the machine may be busy."""

    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, name: str, way: Callable[[Lines], float], after: Lines) -> float:
        """Return what the way comes to for a rollout, and add its time."""
        start = time.process_time()
        value = way(after)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return value


def plain(before: Lines, after: Lines, oracle: Lines, library: type[difflib.SequenceMatcher[str]]) -> float:
    """Return the reward of one file, nothing kept and nothing shared."""
    said, true = ("\n".join([*difflib.unified_diff(before, new, lineterm="")][2:]) for new in (after, oracle))
    return float(library(None, said, true, autojunk=False).ratio())


def replaced(dice: random.Random, before: Lines, foreign: Lines, count: int) -> dict[int, str]:
    """Return lines to put in the place of some, that differ from them: half of the lines of a diff are removed."""
    return {at: f"{dice.choice(foreign)} #" for at in dice.sample(range(len(before)), count // 2)}


def rollout(dice: random.Random, before: Lines, foreign: Lines, oracle: dict[int, str]) -> dict[int, str]:
    """Return what a rollout replaces: some as the oracle does, some otherwise, some not at all."""
    own = {at: line for at, line in oracle.items() if dice.random() < 0.6}
    return {**replaced(dice, before, foreign, 2 * (len(oracle) - len(own))), **own}


def put(before: Lines, lines: dict[int, str]) -> list[str]:
    return [lines.get(at, line) for at, line in enumerate(before)]


def change(before: Lines, after: Lines) -> FileChange:
    old, new = ("".join(f"{line}\n" for line in side).encode() for side in (before, after))
    return FileChange("f.py", old, new, "100644")


def measured(size: int, rollouts: int) -> Times:
    """Return the times of all ways over the rollouts of one row; the values are equal."""
    dice = random.Random(SEED + size)  # noqa: S311 - drawn again alike, not for secrets
    pool = [line for _, text in sources() for line in text.splitlines() if line.strip()]
    start = dice.randrange(len(pool) - LINES)
    before = pool[start : start + LINES]
    edits = replaced(dice, before, pool, size)
    true = put(before, edits)
    times = Times()
    oracle = Oracle([change(before, true)])
    ways: dict[str, Callable[[Lines], float]] = {
        "ours": lambda after: oracle.similarity([change(before, after)]),
        "difflib": lambda after: plain(before, after, true, difflib.SequenceMatcher),
    }
    if matching.SequenceMatcher is not difflib.SequenceMatcher:
        ways["cydifflib"] = lambda after: plain(before, after, true, matching.SequenceMatcher)
    for _ in range(rollouts):
        after = put(before, rollout(dice, before, pool, edits))
        values = {times.of(name, way, after) for name, way in ways.items()}
        if len(values) > 1:
            raise SystemExit(f"the values differ: {sorted(values)}")
    return times


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reward")
    parser.add_argument("--most", type=int, default=max(ROLLOUTS))
    given = parser.parse_args(arguments)
    total = Times()
    for size, rollouts in ((size, count) for size, count in ROLLOUTS.items() if size <= given.most):
        seconds = measured(size, rollouts).seconds
        for name, taken in seconds.items():
            total.seconds[name] = total.seconds.get(name, 0.0) + taken
        rates = ", ".join(f"{name} {rollouts / taken:.3g}" for name, taken in sorted(seconds.items()))
        ratios = " and ".join(f"{taken / seconds['ours']:.1f} times {name}'s" for name, taken in others(seconds))
        say(f"{size} lines, {rollouts} rollouts, rewards a second: {rates}; ours is {ratios}")
    return int(total.seconds["difflib"] < LEAST_RATIO * total.seconds["ours"])


def others(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted((name, taken) for name, taken in seconds.items() if name != "ours")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
