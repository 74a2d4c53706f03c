"""What came of a call, and which of many calls tell enough of a function to be kept.

An outcome is foreign text: it is compared and shown, never evaluated.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Outcome = tuple[str, ...]
"""("returns", text), ("raises", type, message), ("hangs",), ("dies",), ("unfit",) or ("unloadable", type)."""

FEWEST = 4
_RAISED_SHARE = 3  # one in so many of what is kept may be an exception
_RAISED = re.compile(r"\braise\s+(?:\w+\.)*(\w+)")


@dataclass(frozen=True, slots=True)
class Observation:
    """A call as it is written, and what comes of it."""

    call: str
    outcome: Outcome


def worth_keeping(
    text: str, calls: Sequence[str], runs: Sequence[Sequence[Outcome]], most: int
) -> tuple[Observation, ...]:
    """Return what tells of a function: calls with the same outcome in each run, those with new outcomes first.

    An exception counts if the file itself raises its type. Nothing is returned where it would not tell enough: too
    few calls, or the same outcome for all.
    """
    meant = set(_RAISED.findall(text))
    agreed = [
        Observation(call, outcomes[0])
        for call, *outcomes in zip(calls, *runs, strict=True)
        if len(set(outcomes)) == 1 and _is_meant(outcomes[0], meant)
    ]
    chosen = sorted(_chosen(agreed, most), key=agreed.index)
    distinct = {seen.outcome for seen in chosen}
    returned = sum(seen.outcome[0] == "returns" for seen in chosen)
    return tuple(chosen) if len(chosen) >= FEWEST and len(distinct) > 1 and returned else ()


def _is_meant(outcome: Outcome, meant: set[str]) -> bool:
    return outcome[0] == "returns" or (outcome[0] == "raises" and outcome[1] in meant)


def _chosen(agreed: Sequence[Observation], most: int) -> Iterator[Observation]:
    raising = [seen for seen in agreed if seen.outcome[0] == "raises"]
    others = [seen for seen in agreed if seen.outcome[0] == "returns"]
    share = max(most // _RAISED_SHARE, most - len(others))
    kept = _varied(raising, share)
    yield from kept
    yield from _varied(others, most - len(kept))


def _varied(seen: Sequence[Observation], most: int) -> list[Observation]:
    """Return the first of each outcome, then the second of each, and so on."""
    times: dict[Outcome, int] = {}
    ranked = []
    for number, one in enumerate(seen):
        times[one.outcome] = times.get(one.outcome, 0) + 1
        ranked.append((times[one.outcome], number))
    return [seen[number] for _, number in sorted(ranked)[:most]]


def changed(kept: Sequence[Observation], outcomes: Iterable[Outcome]) -> tuple[Observation, ...]:
    """Return what comes of the calls of which something else comes now."""
    pairs = zip(kept, outcomes, strict=True)
    return tuple(Observation(seen.call, outcome) for seen, outcome in pairs if outcome != seen.outcome)
