"""An outcome -> its reward, its format penalty, and the shaped reward of Satori (arXiv 2505.23604).

| outcome of an answer                                                   | reward       | F    |
|------------------------------------------------------------------------|--------------|------|
| a patch                                                                | its measure  | 0    |
| truncated, no-edit, malformed, bad-path: not in the format             | -1           | 1    |
| search-not-found, search-ambiguous, file-exists, not-editable: its edits do not match | -1 | 1 |
| syntax-error, encoding, refused-by-git, placeholder: its edits match, their result is of no use | -1 | 1 |
| no-change, no-effect: a change was asked for                           | -1           | 1    |
| withheld, and reasons of generated tests: not the answer's doing       | None         | 0    |

So the reward is -1 exactly where `amini repair` has no candidate. SWE-RL's own reward is -1 where an edit is missing or
does not match, and where SEARCH and REPLACE are the same; it does not parse the code. An answer with nothing to
compare it with (the oracle changes nothing) has no reward.
"""

from collections.abc import Mapping
from types import MappingProxyType

from agentless_mini.domain import Patch, Reason, Rejected, RewardKind
from agentless_mini.edits import Tree, changed_files
from agentless_mini.learning.reward.similarity import Oracle

WORST = -1.0

COSTS: Mapping[Reason, float] = MappingProxyType(
    dict.fromkeys(
        (
            Reason.TRUNCATED,
            Reason.NO_EDIT,
            Reason.MALFORMED,
            Reason.PLACEHOLDER,
            Reason.BAD_PATH,
            Reason.NOT_FOUND,
            Reason.AMBIGUOUS,
            Reason.EXISTS,
            Reason.NOT_EDITABLE,
            Reason.SYNTAX,
            Reason.ENCODING,
            Reason.REFUSED_BY_GIT,
            Reason.NO_CHANGE,
            Reason.NO_EFFECT,
        ),
        1.0,
    )
)
"""The format penalty of each reason that is an answer's own fault; others have none, and no reward either."""


def reward(
    outcome: Patch | Rejected, oracle: Oracle, tree: Tree, kind: RewardKind = RewardKind.SIMILARITY
) -> float | None:
    """Return SWE-RL's reward of an answer to the oracle's row, whose tree it is, in [-1, 1], None where it has none.

    `kind` is SIMILARITY, DIFF or DISCRETE; the others need more than an oracle.
    """
    if not oracle or (isinstance(outcome, Rejected) and outcome.reason not in COSTS):
        return None
    if isinstance(outcome, Rejected):
        return WORST
    changes = changed_files(outcome, tree.entries)
    return oracle.equality(changes) if kind is RewardKind.DISCRETE else oracle.similarity(changes)


def format_penalty(outcome: Patch | Rejected, costs: Mapping[Reason, float] = COSTS) -> float:
    """Return F of Satori: 0 for a patch, for a rejected answer what its reason costs."""
    return costs.get(outcome.reason, 0.0) if isinstance(outcome, Rejected) else 0.0


def shaped(value: float | None, parent: float | None, penalty: float, weight: float) -> float | None:
    """Return R(y) - R(y') - weight * F(y), None where either potential is (Satori-SWE; its weight is not published).

    A potential says how good an outcome is by itself: similarity, tests passed, a reward model; None where nobody can
    tell. `value` is that of the answer, `parent` that of the attempt it was shown. Without penalties the gains of
    the rounds of one lineage add up to the last potential less the first: shaping favours no detour.
    """
    if value is None or parent is None:
        return None
    return value - parent - weight * penalty
