"""The choice by vote alone, as tests ask for it."""

from collections.abc import Sequence

from agentless_mini.chain.rank import rank
from agentless_mini.domain import Candidate, Choice, Method


def vote(candidates: Sequence[Candidate]) -> Choice | None:
    """Return the patch whose normal form most samples share, or None where no candidate is valid."""
    return rank(candidates, None, Method.VOTE)
