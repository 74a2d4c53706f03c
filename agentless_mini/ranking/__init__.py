"""Candidates -> the chosen patch, and why: a pure function of what is known.

Without execution the choice is the majority vote over normalised patches, with it dual execution agreement (mission
section 1.5). `standing` counts what the tests say of each patch, `order` says which is better, `choosing` takes the
best and gives the reason. Nothing here runs a test.
"""

from agentless_mini.ranking.choosing import rank, vote
from agentless_mini.ranking.order import Method, ordered
from agentless_mini.ranking.standing import Standing, Totals, standings, totals

__all__ = ["Method", "Standing", "Totals", "ordered", "rank", "standings", "totals", "vote"]
