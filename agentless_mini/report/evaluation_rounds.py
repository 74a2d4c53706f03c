"""What the instances of an evaluation say of its rounds, and of an adaptive budget, as plain values."""

from collections.abc import Iterable, Sequence
from typing import Any

from agentless_mini.chain.measures import Round, mean
from agentless_mini.report.rounds import Evolved, Scale, Stopping

COUNTS = ("samples", "valid", "distinct", "new")


def evolution_values(found: Sequence[Evolved]) -> dict[str, Any]:
    """Return the object `evolution` of the results: means over instances, round by round.

    A score is the mean over the instances that have one in the round, of which there are `scored`: those with a valid
    patch, all scored. So the scores of two rounds need not be of the same instances.
    """
    numbers = sorted({one.number for evolved in found for one in evolved.rounds})
    drawn = {number: [one for evolved in found for one in evolved.rounds if one.number == number] for number in numbers}
    return {
        "instances": len(found),
        "score": _scale(found).value,
        "rounds": [_round(number, drawn[number]) for number in numbers],
    }


def stopping_values(found: Sequence[Stopping]) -> dict[str, Any]:
    """Return the object `stopping` of the results: samples over all instances, of which `stopped` ended early."""
    wanted, saved = sum(one.wanted for one in found), sum(one.saved for one in found)
    return {
        "bound": found[0].bound,
        "instances": len(found),
        "stopped": sum(one.saved > 0 for one in found),
        "wanted": wanted,
        "drawn": sum(one.drawn for one in found),
        "saved": saved,
        "share": saved / wanted,
    }


def _scale(found: Iterable[Evolved]) -> Scale:
    """Return the scale of the instances that have any: they share their selector."""
    return next((one.scale for one in found if one.scale is not Scale.NONE), Scale.NONE)


def _round(number: int, drawn: Sequence[Round]) -> dict[str, Any]:
    counts = {name: mean([float(getattr(one, name)) for one in drawn]) for name in COUNTS}
    best = [one.best for one in drawn if one.best is not None]
    return {
        "round": number,
        **counts,
        "best": mean(best),
        "mean": mean([one.mean for one in drawn if one.mean is not None]),
        "scored": len(best),
    }
