"""Candidates -> the chosen patch, and why: a pure function of what is known.

Without execution the choice is the majority vote over normalised patches (mission section 1.5).
"""

from collections import Counter
from collections.abc import Sequence

from agentless_mini.domain import Candidate, Choice, Patch


def vote(candidates: Sequence[Candidate]) -> Choice | None:
    """Return the patch whose normal form most candidates share, or None where no candidate is valid.

    The earliest sample (smallest `order`) breaks ties and stands for its group.
    """
    valid = sorted((candidate for candidate in candidates if isinstance(candidate.outcome, Patch)), key=_order)
    patches = [candidate.outcome for candidate in valid if isinstance(candidate.outcome, Patch)]
    if not patches:
        return None
    counts = Counter(patch.normal for patch in patches)
    winner = max(patches, key=lambda patch: counts[patch.normal])  # max() keeps the earliest of equals
    votes = counts[winner.normal]
    return Choice(winner, votes, len(patches), _reason(votes, len(patches), counts))


def _order(candidate: Candidate) -> int:
    return candidate.order


def _reason(votes: int, valid: int, counts: Counter[str]) -> str:
    tied = sum(1 for count in counts.values() if count == votes)
    if votes == 1 and tied > 1:
        return f"no two of {valid} valid samples agree; the earliest was taken"
    told = f"{votes} of {valid} valid samples agree on this change"
    return told if tied == 1 else f"{told}, as many as on each of {tied - 1} other; the earliest was taken"
