"""Localization without a model: are all files of the fix among the first k of the ranking?"""

from agentless_mini.chain.lexical import survey
from tests.benchmarks.stages import Fix, Measures

FIRST = (1, 3, 5, 10, 20)


def measure(fix: Fix) -> Measures:
    """Return for each k whether all files of the fix are among the first k."""
    ranked = survey(fix.issue, fix.snapshot).ranked
    return {f"files @{most}": float(set(fix.files) <= set(ranked[:most])) for most in FIRST}
