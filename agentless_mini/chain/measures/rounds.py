"""What each round of an evolution brought (Satori, arXiv 2505.23604), and how good its patches are. It chooses nothing.

A run without evolution is one round.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from agentless_mini.chain.measures.estimates import mean
from agentless_mini.chain.ranking import Standing, standings, totals
from agentless_mini.chain.ranking.order import score
from agentless_mini.domain import Candidate, Execution, Patch


@dataclass(frozen=True, slots=True)
class Round:
    """One round, from 0. `valid` counts samples, `distinct` their normal forms, `new` those of no earlier round.

    `best` and `mean` are over the scores of the valid samples, so that a patch counts as often as it was sampled. They
    are None where one of these has no score, since the others are no fair part of the round, and where none is valid.
    """

    number: int
    samples: int
    valid: int
    distinct: int
    new: int
    best: float | None
    mean: float | None


def rounds(candidates: Iterable[Candidate], scores: Mapping[str, float]) -> tuple[Round, ...]:
    """Return the rounds of a run in their order, with scores by normal form, the higher the better."""
    found, seen = [], set[str]()
    for number, drawn in _by_round(candidates):
        normals = [one.outcome.normal for one in drawn if isinstance(one.outcome, Patch)]
        scored = [scores[normal] for normal in normals] if scores.keys() >= set(normals) else []
        new = len(set(normals) - seen)
        found.append(
            Round(number, len(drawn), len(normals), len(set(normals)), new, max(scored, default=None), mean(scored))
        )
        seen.update(normals)
    return tuple(found)


def round_ends(candidates: Iterable[Candidate]) -> tuple[int, ...]:
    """Return how many samples a run had drawn at the end of each round, ascending; none of a run that drew nothing."""
    return tuple(max(one.order for one in drawn) + 1 for _, drawn in _by_round(candidates))


def shares_passed(execution: Execution) -> dict[str, float]:
    """Return the share of tests that pass with each patch, in [0, 1], by normal form; empty where there is no test.

    It is the mean of two shares, of the reproducing tests and of the regression tests (of one, where there is none of
    the other kind): the score of `Method.SCORES`, over its most. A patch that was refused passes nothing.
    """
    count = totals(execution)
    kinds = bool(count.reproducing) + bool(count.regressions)
    each = (Standing(verdict.normal, 1, place) for place, verdict in enumerate(execution.verdicts))
    known = standings(each, execution) if kinds else ()
    return {standing.normal: float(score(standing, count) / kinds) for standing in known}


def _by_round(candidates: Iterable[Candidate]) -> list[tuple[int, Sequence[Candidate]]]:
    ordered = sorted(candidates, key=lambda one: (one.round, one.order))
    return [(number, tuple(drawn)) for number, drawn in groupby(ordered, key=lambda one: one.round)]
