"""Candidates -> the chosen patch, and why: a pure function of what is known.

Without execution the choice is the majority vote over normalised patches, with it dual execution agreement (mission
section 1.5). `standing` counts the votes of each patch and what the tests say of it, `likeness` tells equals apart,
`order` says which is better, `choosing` takes the best and gives the reason. Nothing here runs a test.
"""

from agentless_mini.ranking.choosing import rank, vote
from agentless_mini.ranking.likeness import Likeness
from agentless_mini.ranking.order import Method, ordered
from agentless_mini.ranking.standing import Standing, Totals, counted_votes, poll, standings, totals, valid_patches

__all__ = [
    "Likeness",
    "Method",
    "Standing",
    "Totals",
    "counted_votes",
    "ordered",
    "poll",
    "rank",
    "standings",
    "totals",
    "valid_patches",
    "vote",
]
