"""What an answer is worth: the rewards of SWE-RL and Satori-SWE (arXiv 2502.18449, 2505.23604).

An answer is read by `edits.read_answer`, the reader of inference: what is rewarded is what `amini repair` would apply.
`read_diff` is the one other reader, for models that are to answer in unified diffs; it hands what it read to the same
applier. A reward is a number, or None where it cannot be told: infrastructure that failed is never a bad mark.

It is pure: no test is run and no model asked here; what they say is passed to `shaped` as a number.
"""

from agentless_mini.learning.reward.matching import ratio
from agentless_mini.learning.reward.scoring import COSTS, WORST, format_penalty, reward, shaped
from agentless_mini.learning.reward.similarity import Oracle, file_diff, similarity
from agentless_mini.learning.reward.unified import apply_diff, read_diff

__all__ = [
    "COSTS",
    "WORST",
    "Oracle",
    "apply_diff",
    "file_diff",
    "format_penalty",
    "ratio",
    "read_diff",
    "reward",
    "shaped",
    "similarity",
]
