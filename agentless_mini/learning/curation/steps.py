"""The steps at which a pull request can be left out, by stable names, and the funnel that counts them."""

import enum
from collections import Counter
from collections.abc import Mapping
from typing import Any


class Step(enum.StrEnum):
    """Why a pull request is no row, in the order in which it is asked."""

    NOT_MERGED = "not-merged"
    BENCHMARK = "benchmark"  # a repository of SWE-bench
    BOT = "bot"
    VERSION_BUMP = "version-bump"
    NO_MIRROR = "no-mirror"
    BENCHMARK_FORK = "benchmark-fork"
    COMMIT_MISSING = "commit-missing"  # the mirror lacks the merge commit or its parents
    HISTORY_UNCLEAR = "history-unclear"  # what it changed cannot be told: an octopus, a rebase of unknown length
    EMPTY = "empty"
    LOCK_FILES_ONLY = "lock-files-only"
    HUGE = "huge"
    NO_CODE = "no-code"
    NOTHING_TO_EDIT = "nothing-to-edit"  # it only creates files: no prompt could show anything
    NO_ISSUE = "no-issue"
    ISSUE_UNKNOWN = "issue-unknown"  # the events tell nothing of the linked issue, or nothing before the merge
    UNREADABLE = "unreadable"  # binary, a link, a submodule, not UTF-8, a path that leaves the tree
    UNSAYABLE = "unsayable"  # the edit format cannot say the change: Python that does not parse
    MIRROR_BROKEN = "mirror-broken"  # git failed on what the mirror has of it
    DUPLICATE = "duplicate"


def funnel(pulls: int, left_out: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the steps in order, each with how many it left out and how many went on."""
    steps, kept = [], pulls
    for step in Step:
        kept -= left_out.get(step, 0)
        steps.append({"step": step.value, "left_out": left_out.get(step, 0), "kept": kept})
    return steps


def counted(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts sorted by name, for a document."""
    return dict(sorted(Counter(counts).items()))
