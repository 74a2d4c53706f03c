"""Candidates -> the chosen patch, and why: a pure function of what is known.

Without execution the choice is the majority vote over normalised patches, with it dual execution agreement (CodeT,
arXiv 2207.10397). `standing` counts the votes of each patch and what the tests say of it, `likeness` tells equals
apart, `order` says which is better, `choosing` takes the best and gives the reason, `trusting` says what it has shown.
Nothing here runs a test.
"""

from agentless_mini.chain.ranking.choosing import rank, vote
from agentless_mini.chain.ranking.likeness import Likeness
from agentless_mini.chain.ranking.order import ordered
from agentless_mini.chain.ranking.standing import (
    Standing,
    Totals,
    counted_votes,
    poll,
    standings,
    totals,
    valid_patches,
)
from agentless_mini.chain.ranking.trusting import Chosen, Trust, trust

__all__ = [
    "Chosen",
    "Likeness",
    "Standing",
    "Totals",
    "Trust",
    "counted_votes",
    "ordered",
    "poll",
    "rank",
    "standings",
    "totals",
    "trust",
    "valid_patches",
    "vote",
]
