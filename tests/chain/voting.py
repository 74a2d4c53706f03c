"""Candidates that are told apart by letters, and the choice among them by vote alone."""

from collections.abc import Sequence

from agentless_mini.chain.rank import rank
from agentless_mini.domain import Candidate, Choice, Method, Patch, Reason, Rejected

BAD = Rejected(Reason.NO_EDIT, "nothing")


def vote(candidates: Sequence[Candidate]) -> Choice | None:
    """Return the patch whose normal form most samples share, or None where no candidate is valid."""
    return rank(candidates, None, Method.VOTE)


def samples(normals: str) -> list[Candidate]:
    """Return a candidate for each letter, its normal form; a dot is one that was rejected."""
    outcomes = [BAD if one == "." else Patch(f"{one}{at}".encode(), one, ()) for at, one in enumerate(normals)]
    return [Candidate("key", at, at, outcome) for at, outcome in enumerate(outcomes)]
