"""What an evaluation measures, as pure functions: estimates, localization, and curves over samples and tests.

`estimates` are the statistics, `localization` compares lists of files with those of the true fix, `replay` ranks parts
of a recorded run again, `rounds` looks at those of an evolution. Nothing here grades a patch or reads a store.
"""

from agentless_mini.chain.measures.estimates import (
    Bin,
    Interval,
    Resampler,
    bootstrap,
    calibration,
    mean,
    pass_at_k,
    points_of_samples,
    points_of_tests,
)
from agentless_mini.chain.measures.localization import Found, found
from agentless_mini.chain.measures.replay import Curve, Curves, Replay, choices, curves
from agentless_mini.chain.measures.rounds import Round, round_ends, rounds, shares_passed

__all__ = [
    "Bin",
    "Curve",
    "Curves",
    "Found",
    "Interval",
    "Replay",
    "Resampler",
    "Round",
    "bootstrap",
    "calibration",
    "choices",
    "curves",
    "found",
    "mean",
    "pass_at_k",
    "points_of_samples",
    "points_of_tests",
    "round_ends",
    "rounds",
    "shares_passed",
]
