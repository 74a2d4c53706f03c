"""Rounds of an evolution, and what early stopping saved: of one run, over those of an evaluation, and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentless_mini.chain.measures import Round, mean, rounds, shares_passed
from agentless_mini.record import RunTrace
from agentless_mini.report.console import Table, row, table
from agentless_mini.report.summary import Stopping

COUNTS = ("round", "samples", "valid", "distinct", "new")
LARGE = 10_000.0  # from here on scores are written with an exponent


SCALES = {
    "reward-model": "what the reward model gave; it is not asked after the last round",
    "tests": "share of tests passed, the mean over reproducing and regression tests",
    "none": "none, since no test and no reward model scored a patch",
}
"""What the scores of patches are: the names that documents have, and words for people."""


@dataclass(frozen=True, slots=True)
class Evolved:
    """The rounds of a run that came to its decision, and the score of each patch by normal form, on one of `SCALES`."""

    scale: str
    rounds: tuple[Round, ...]
    scores: Mapping[str, float]

    def values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rounds = [asdict(one) for one in self.rounds]
        return {"score": self.scale, "rounds": [{"round": one.pop("number"), **one} for one in rounds]}


def evolved(trace: RunTrace) -> Evolved | None:
    """Return the rounds of a run, None where it has but one, or came to no decision."""
    decided = trace.prediction if any(sample.round for sample in trace.samples) else None
    if decided is None:
        return None
    passed = shares_passed(decided.execution) if decided.execution and not trace.scores else {}
    scale = "reward-model" if trace.scores else "tests" if passed else "none"
    scores = dict(trace.scores) or passed
    return Evolved(scale, rounds(decided.candidates, scores), scores)


def evolution_values(found: Sequence[Evolved]) -> dict[str, Any]:
    """Return the object `evolution` of the results of an evaluation: means over instances, round by round.

    A score is the mean over the instances that have one in the round, `scored` of them: not the same in each round.
    """
    by_number: dict[int, list[Round]] = {}
    for one in found:
        for drawn in one.rounds:
            by_number.setdefault(drawn.number, []).append(drawn)
    return {
        "instances": len(found),
        # Instances share their selector, so those that have a scale have the same.
        "score": next((one.scale for one in found if one.scale != "none"), "none"),
        "rounds": [
            {
                "round": number,
                **{name: mean([float(getattr(one, name)) for one in drawn]) for name in COUNTS[1:]},
                "best": mean([one.best for one in drawn if one.best is not None]),
                "mean": mean([one.mean for one in drawn if one.mean is not None]),
                "scored": sum(one.best is not None for one in drawn),
            }
            for number, drawn in sorted(by_number.items())
        ],
    }


def stopping_values(found: Sequence[Stopping]) -> dict[str, Any]:
    """Return the object `stopping` of the results: samples over all instances, of which `stopped` ended early."""
    counts = {name: sum(getattr(one, name) for one in found) for name in ("wanted", "drawn", "saved")}
    stopped, share = sum(one.saved > 0 for one in found), counts["saved"] / counts["wanted"]
    return {"bound": found[0].bound, "instances": len(found), "stopped": stopped, **counts, "share": share}


def rounds_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return rounds, as JSON values, one in a row, with the columns that they have."""
    columns = [name for name in (*COUNTS, "best", "mean", "scored") if all(name in one for one in found)]
    shown = table(*columns, right=columns)
    for one in found:
        row(shown, *(_number(one[name], digits=3 if name in {"best", "mean"} else 1) for name in columns))
    return shown


def _number(value: float | None, digits: int) -> str:
    if value is None or isinstance(value, int):
        return "-" if value is None else str(value)
    return f"{value:.4g}" if digits == 3 and abs(value) >= LARGE else f"{value:.{digits}f}"
