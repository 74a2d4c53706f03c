"""The rounds of one run, and what an adaptive budget left out of it: as plain values, and as a table for people.

Which patches a prompt was shown is not told: it stands in the prompt (`amini show --prompts`).
"""

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentless_mini.chain.measures import Round, rounds, shares_passed
from agentless_mini.domain import Execution
from agentless_mini.record import RunTrace
from agentless_mini.report.cells import Table, row, table

# From here on scores are written with an exponent.
LARGE = 10_000.0


class Scale(enum.StrEnum):
    """What the scores of patches are."""

    REWARD_MODEL = "reward-model"  # what the reward model gave that selected them
    TESTS = "tests"  # shares of tests passed (`measures.shares_passed`)
    NONE = "none"  # nothing tells which patch is better

    @property
    def words(self) -> str:
        """Return what it is for people."""
        return {
            Scale.REWARD_MODEL: "what the reward model gave; it is not asked after the last round",
            Scale.TESTS: "share of tests passed, the mean of those of reproducing and of regression tests",
            Scale.NONE: "there is none, since neither tests nor a reward model said anything",
        }[self]


@dataclass(frozen=True, slots=True)
class Evolved:
    """An evolution that came to its decision: its rounds, and the score of each patch by normal form."""

    scale: Scale
    rounds: tuple[Round, ...]
    scores: Mapping[str, float]

    def values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"score": self.scale.value, "rounds": [round_values(one) for one in self.rounds]}


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a run drew of the samples that were wanted, where it was to stop once the vote is decided (`bound`)."""

    bound: float
    wanted: int
    drawn: int

    @property
    def saved(self) -> int:
        """Return how many were not drawn."""
        return max(0, self.wanted - self.drawn)

    def values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "saved": self.saved}


def evolved(trace: RunTrace) -> Evolved | None:
    """Return the rounds of a run, None where it has but one, or came to no decision."""
    decided = trace.prediction if any(sample.round for sample in trace.samples) else None
    if decided is None:
        return None
    scale, scores = _scores(trace, decided.execution)
    return Evolved(scale, rounds(decided.candidates, scores), scores)


def stopping(trace: RunTrace) -> Stopping | None:
    """Return what the run was spared, None where its samples were not to stop early, or it drew or decided nothing."""
    repair = json.loads(trace.run.start.settings).get("repair", {})
    bound = repair.get("stop_when")
    decided = trace.prediction if bound is not None else None
    drawn = len(decided.candidates) if decided else 0
    return Stopping(bound, repair["samples"], drawn) if drawn else None


def round_values(one: Round) -> dict[str, Any]:
    """Return a round as JSON values."""
    values = asdict(one)
    return {"round": values.pop("number"), **values}


def rounds_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return rounds, as JSON values, one in a row, with the columns that they have."""
    columns = {name: told for name, told in _COLUMNS.items() if all(name in one for one in found)}
    shown = table(*columns, right=columns)
    for one in found:
        row(shown, *(told(one[name]) for name, told in columns.items()))
    return shown


def _count(number: float) -> str:
    """Return a count, or a mean of counts to a tenth."""
    return str(number) if isinstance(number, int) else f"{number:.1f}"


def _score(value: float | None) -> str:
    """Return a score to three digits after the point, or a large one to four digits in all."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < LARGE else f"{value:.4g}"


_COLUMNS: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(("round", "samples", "valid", "distinct", "new"), _count),
    **dict.fromkeys(("best", "mean"), _score),
    "scored": _count,
}


def _scores(trace: RunTrace, execution: Execution | None) -> tuple[Scale, Mapping[str, float]]:
    if trace.scores:
        return Scale.REWARD_MODEL, dict(trace.scores)
    passed = shares_passed(execution) if execution else {}
    return (Scale.TESTS, passed) if passed else (Scale.NONE, {})
