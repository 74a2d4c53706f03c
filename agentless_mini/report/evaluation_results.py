"""The results of an evaluation as plain values: the same to the byte however often it was killed and resumed.

Nothing in them depends on time, on the order in which anything arrived, or on numbers of runs. Infrastructure failures
and instances that are still under way are counted apart: they are no wrong answers. A rate is null where one of its
patches was not graded, since those that were are no fair sample of all.

What is told of rounds and of an adaptive budget is there only where an evaluation has them. The curves over samples of
an evolution have a point for the end of each round, where N samples are what a shorter evolution would have drawn.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from random import Random
from typing import Any

from agentless_mini.chain.measures import (
    Interval,
    bootstrap,
    calibration,
    mean,
    pass_at_k,
    points_of_samples,
    points_of_tests,
)
from agentless_mini.record import AttemptState
from agentless_mini.report.evaluation_facts import UNKNOWN, InstanceFacts, Known, Marks, Solved, at
from agentless_mini.report.evaluation_rounds import evolution_values, stopping_values

SEED = 0
FAILURES = frozenset({AttemptState.FAILED, AttemptState.INFRASTRUCTURE})
# How SWE-bench Verified says how long a fix takes; any other follow by name.
DIFFICULTIES = ("<15 min fix", "15 min - 1 hour", "1-4 hours", ">4 hours")


def results(facts: Iterable[InstanceFacts], budgets: Collection[int] = ()) -> dict[str, Any]:
    """Return the object `results` of the document, whatever the order of the facts.

    `budgets` are numbers of samples for which the facts were asked, beside those at which curves are drawn anyhow.
    """
    every = sorted(facts, key=lambda one: one.record.id)
    judged = [one for one in every if one.judged]
    return {
        "instances": len(every),
        "attempted": sum(one.attempt is not None for one in every),
        "done": sum(one.attempt is not None and one.attempt.state is AttemptState.DONE for one in every),
        "graded": sum(one.resolved is not None for one in judged),
        "resolved": _resolved(judged),
        "by_repo": _grouped("repo", judged, lambda one: one.record.repo, str),
        "by_difficulty": _grouped("difficulty", judged, lambda one: one.record.difficulty, _how_hard),
        "localization": _localization(judged),
        "format": _format(judged),
        "pass_at_k": _pass_at_k(judged),
        "best_at_n": _over_samples(judged, lambda one: one.over_samples, budgets),
        "best_at_tests": _over_tests(judged),
        "vote_at_n": _over_samples(judged, lambda one: one.by_vote, budgets),
        "calibration": _calibration(judged),
        "failures": _failures(every),
        **_of_rounds(judged),
        **_of_stopping(judged),
        "per_instance": [_instance(one) for one in every],
    }


# --- shares ----------------------------------------------------------------------------------------------------------


def _rate(known: Sequence[Known]) -> float | None:
    """Return the share of what is right, or None while one of them is unknown."""
    return None if None in known else mean([float(one is True) for one in known])


def _interval(known: Sequence[Known]) -> dict[str, float | None]:
    told = None if None in known else bootstrap([float(one is True) for one in known], _dice())
    return _ends(told)


def _ends(interval: Interval | None) -> dict[str, float | None]:
    return {"low": interval.low if interval else None, "high": interval.high if interval else None}


def _dice() -> Random:
    """Return the same dice for each interval: none depends on which others were computed before it."""
    return Random(SEED)  # noqa: S311 - drawn again alike, not for secrets


def _resolved(judged: Sequence[InstanceFacts]) -> dict[str, Any]:
    known = [one.resolved for one in judged]
    return {"count": known.count(True), "of": len(known), "rate": _rate(known), **_interval(known)}


def _grouped(
    name: str,
    judged: Sequence[InstanceFacts],
    group: Callable[[InstanceFacts], str],
    order: Callable[[str], Any],
) -> list[dict[str, Any]]:
    groups: dict[str, list[Known]] = {}
    for one in judged:
        groups.setdefault(group(one), []).append(one.resolved)
    return [
        {name: key, "instances": len(known), "resolved": known.count(True), "rate": _rate(known)}
        for key, known in sorted(groups.items(), key=lambda item: order(item[0]))
    ]


def _how_hard(difficulty: str) -> tuple[int, str]:
    return (DIFFICULTIES.index(difficulty) if difficulty in DIFFICULTIES else len(DIFFICULTIES)), difficulty


# --- stages ----------------------------------------------------------------------------------------------------------


def _localization(judged: Sequence[InstanceFacts]) -> dict[str, Any]:
    shares = [share for one in judged if (share := one.found()) is not None]
    return {
        "instances": len(shares),
        "recall": mean([share.first for share in shares]),
        "recall_any": mean([share.anywhere for share in shares]),
        "all_found": mean([float(share.all_in_first) for share in shares]),
        "all_found_any": mean([float(share.all_anywhere) for share in shares]),
    }


def _format(judged: Sequence[InstanceFacts]) -> dict[str, Any]:
    drawn = [one.solved for one in judged if one.solved]
    samples, valid = sum(one.samples for one in drawn), sum(one.valid for one in drawn)
    reasons: Counter[str] = Counter()
    for one in drawn:
        reasons.update(dict(one.rejected))
    rejected = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return {
        "samples": samples,
        "valid": valid,
        "rate": valid / samples if samples else None,
        "rejected": [{"reason": reason, "count": count} for reason, count in rejected],
    }


def _failures(every: Sequence[InstanceFacts]) -> list[dict[str, Any]]:
    attempts = [one.attempt for one in every if one.attempt and one.attempt.state in FAILURES]
    counts = Counter((attempt.stage, attempt.state.value) for attempt in attempts)
    return [{"stage": stage, "state": state, "count": count} for (stage, state), count in sorted(counts.items())]


# --- curves ----------------------------------------------------------------------------------------------------------


def _most(judged: Sequence[InstanceFacts], marks: Callable[[Solved], Marks]) -> int:
    return max((marks(one.solved)[-1][0] for one in judged if one.solved), default=0)


def _over_samples(
    judged: Sequence[InstanceFacts], marks: Callable[[Solved], Marks], budgets: Collection[int] = ()
) -> list[dict[str, Any]]:
    """Return a curve over samples. Of an evolution it has the points of its rounds, and no others."""
    most = _most(judged, marks)
    ends = {end for one in judged if one.solved for end, _ in one.solved.by_oracle}
    points = ends or {*points_of_samples(most), *(n for n in budgets if n < most)}
    return _along(judged, marks, points)


def _along(
    judged: Sequence[InstanceFacts], marks: Callable[[Solved], Marks], points: Iterable[int]
) -> list[dict[str, Any]]:
    return [{"n": n, **_point(judged, marks, n)} for n in sorted(points) if n]


def _over_tests(judged: Sequence[InstanceFacts]) -> list[dict[str, Any]]:
    points = points_of_tests(_most(judged, lambda one: one.over_tests)) if judged else ()
    return [{"tests": tests, **_point(judged, lambda one: one.over_tests, tests)} for tests in points]


def _point(judged: Sequence[InstanceFacts], marks: Callable[[Solved], Marks], point: int) -> dict[str, Any]:
    known = [at(marks(one.solved) if one.solved else one.missing, point) for one in judged]
    graded = 1 - known.count(None) / len(known)
    return {"rate": _rate(known), **_interval(known), "graded": graded}


def _pass_at_k(judged: Sequence[InstanceFacts]) -> list[dict[str, Any]]:
    """Return the oracle's curve: as if the best of k samples were always chosen.

    The estimator takes samples to be exchangeable. Those of an evolution are not, so that of it the first round alone
    counts: `oracle_at_n` has the others. Those of a run that stopped once its vote was decided are not quite, either.
    """
    drawn = [one.solved.plain if one.solved else _none_right(one) for one in judged]
    most = max((samples for samples, _ in drawn), default=0)
    points = [k for k in points_of_samples(most) if k]
    exact = all(correct is not None for _, correct in drawn)
    return [
        {
            "k": k,
            "value": mean([pass_at_k(samples, correct or 0, k) for samples, correct in drawn]) if exact else None,
            "exact": exact,
        }
        for k in points
    ]


def _of_rounds(judged: Sequence[InstanceFacts]) -> dict[str, Any]:
    """Return what is told of an evolution alone: its rounds, the oracle at their ends, and the curve of plain samples.

    Plain are the samples of the first round, so that `plain_at_n` ends with it.
    """
    found = [one.solved.evolved for one in judged if one.solved and one.solved.evolved]
    if not found:
        return {}
    plain = points_of_samples(_most(judged, _plain))
    return {
        "evolution": evolution_values(found),
        "oracle_at_n": _over_samples(judged, lambda one: one.by_oracle or UNKNOWN),
        "plain_at_n": _along(judged, _plain, plain),
    }


def _plain(one: Solved) -> Marks:
    return one.over_plain or UNKNOWN


def _of_stopping(judged: Sequence[InstanceFacts]) -> dict[str, Any]:
    found = [one.solved.stopping for one in judged if one.solved and one.solved.stopping]
    return {"stopping": stopping_values(found)} if found else {}


def _none_right(one: InstanceFacts) -> tuple[int, int | None]:
    return 0, (0 if one.resolved is False else None)


def _calibration(judged: Sequence[InstanceFacts]) -> list[dict[str, Any]]:
    told = [
        (one.solved.share, one.solved.resolved)
        for one in judged
        if one.solved and one.solved.share is not None and one.solved.resolved is not None
    ]
    return [
        {
            "low": part.low,
            "high": part.high,
            "instances": part.count,
            "resolved": part.right,
            "rate": part.right / part.count if part.count else None,
        }
        for part in calibration(told)
    ]


# --- one row for each instance ---------------------------------------------------------------------------------------


def _instance(one: InstanceFacts) -> dict[str, Any]:
    solved, share = one.solved, one.found()
    return {
        "id": one.record.id,
        "repo": one.record.repo,
        "difficulty": one.record.difficulty,
        "state": one.attempt.state.value if one.attempt else "",
        "stage": one.attempt.stage if one.attempt else "",
        "failure": one.attempt.failure if one.attempt else "",
        "resolved": one.resolved,
        "confidence": solved.share if solved else None,
        "valid": solved.valid if solved else 0,
        "samples": solved.samples if solved else 0,
        "distinct": solved.distinct if solved else 0,
        "recall": share.first if share else None,
        "gold_files": list(one.record.files),
        "files": [list(paths) for paths in solved.lists] if solved else [],
        "chosen": (solved.chosen or None) if solved else None,
    }
