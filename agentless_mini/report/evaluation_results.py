"""The results of an evaluation as plain values: the same to the byte however often it was killed and resumed.

Nothing in them depends on time, on the order in which anything arrived, or on numbers of runs. Infrastructure failures
and unfinished instances are no wrong answers. A patch that is not graded is unknown (None), and so is a rate with one.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentless_mini.chain.measures import (
    Curve,
    Found,
    Replay,
    calibration,
    curves,
    found,
    gap_won,
    mean,
    pass_at_k,
    points_of_samples,
    points_of_tests,
    wilson,
)
from agentless_mini.chain.rank import confidence
from agentless_mini.domain import Method, Patch, Regressions, Rejected, Stage
from agentless_mini.edits.forms import language_of
from agentless_mini.edits.sources import is_python
from agentless_mini.record import AttemptRecord, AttemptState, InstanceRecord, RunTrace
from agentless_mini.report.document import regressions_values
from agentless_mini.report.rounds import Evolved, evolution_values, evolved, stopping_values
from agentless_mini.report.summary import Stopping, stopping

# How SWE-bench Verified says how long a fix takes; any other follow by name.
HOW_HARD = {"<15 min fix": 0, "15 min - 1 hour": 1, "1-4 hours": 2, ">4 hours": 3}

Known = bool | None
"""Whether a patch resolves its issue; None where that is not known."""

Marks = tuple[tuple[int, Known], ...]
"""Whether the patch is right that is chosen with so many samples or tests, ascending."""


# --- one instance ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Solved:
    """What a run that came to its decision shows: few numbers, however many samples and tests there were.

    `chosen` is a normal form, None where no sample is valid; `rejected` counts reasons. `plain` has the numbers of
    samples and of correct ones (None where a valid one is not graded) for pass@k: of an evolution those of its first
    round. `curves` have the names of the results, `systems` the patches of a choice among other systems.
    """

    lists: tuple[tuple[str, ...], ...]
    samples: int
    valid: int
    distinct: int
    rejected: Counter[str]
    chosen: str | None
    confidence: float | None
    resolved: Known
    curves: Mapping[str, Marks]
    plain: tuple[int, int | None]
    evolved: Evolved | None
    stopping: Stopping | None
    systems: tuple[tuple[str, Known], ...]
    regressions: Regressions | None


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One instance. `attempt` is None before its turn came, `solved` where no run came to its decision."""

    record: InstanceRecord
    attempt: AttemptRecord | None = None
    solved: Solved | None = None

    @property
    def judged(self) -> bool:
        """Return whether it counts: it came to its end, grades and all, and no infrastructure failed."""
        return self.attempt is not None and self.attempt.state in {AttemptState.DONE, AttemptState.FAILED}

    @property
    def resolved(self) -> Known:
        """Return whether the chosen patch is right. No valid patch is wrong, and so is a chain that failed."""
        if self.attempt and self.attempt.state is AttemptState.FAILED:
            return False
        return self.solved.resolved if self.judged and self.solved else None

    @property
    def found(self) -> Found | None:
        """Return how many of the true fix's files the localization named, or None where there was none to compare."""
        return found(self.solved.lists, self.record.files) if self.solved else None

    def at(self, curve: str, point: int) -> Known:
        """Return whether the patch at a point of a curve is right: that of the last mark up to it."""
        if self.solved is None:
            return None if self.resolved is None else False
        return next((right for at, right in reversed(self.solved.curves[curve]) if at <= point), None)


def method_of(trace: RunTrace) -> Method:
    """Return how the run chose."""
    return Method(json.loads(trace.run.start.settings).get("rank", Method.AGREEMENT))


def solved(trace: RunTrace, grades: Mapping[str, bool], more: Collection[int] = ()) -> Solved | None:
    """Read a run, with what is known of its patches by normal form; None without a decision. `more`: see `curves`."""
    if trace.prediction is None:
        return None
    outcomes = [sample.outcome for sample in trace.samples if sample.stage.repairs and sample.outcome]
    first = [one.outcome for one in trace.samples if one.stage.repairs and one.outcome and not one.round]
    normals, plain = _normals(outcomes), _normals(first)
    correct = sum(plain[one] for one in plain if grades[one]) if plain.keys() <= grades.keys() else None
    replay = Replay(trace.prediction)
    drawn = curves(replay, method_of(trace), more)
    choice = trace.prediction.choice

    def known(curve: Curve) -> Marks:
        return tuple((at, False if patch is None else grades.get(patch.normal)) for at, patch in curve)

    drawn_at = {"best_at_n": drawn.samples, "vote_at_n": drawn.votes, "plain_at_n": drawn.plain}
    marks = {name: known(curve) if outcomes else () for name, curve in drawn_at.items()}
    marks["best_at_tests"] = known(drawn.tests) if outcomes else ()
    marks["oracle_at_n"] = tuple((end, _any_right(trace, grades, end)) for end in replay.ends)
    return Solved(
        lists=trace.prediction.localization.lists,
        samples=len(outcomes),
        valid=normals.total(),
        distinct=len(normals),
        rejected=Counter(one.reason.value for one in outcomes if isinstance(one, Rejected)),
        chosen=choice.patch.normal if choice else None,
        confidence=confidence(trace.candidates(), trace.execution, choice),
        resolved=(grades.get(choice.patch.normal) if choice else False) if outcomes else None,
        curves=marks,
        plain=(len(first), correct),
        evolved=evolved(trace),
        stopping=stopping(trace),
        systems=tuple(
            (one.source, grades.get(one.outcome.normal) if isinstance(one.outcome, Patch) else False)
            for one in trace.samples
            if one.stage is Stage.CHOOSE
        ),
        regressions=trace.prediction.regressions,
    )


def _normals(outcomes: Iterable[object]) -> Counter[str]:
    return Counter(outcome.normal for outcome in outcomes if isinstance(outcome, Patch))


def _any_right(trace: RunTrace, grades: Mapping[str, bool], end: int) -> Known:
    drawn = _normals(one.outcome for one in trace.samples if one.order is not None and one.order < end)
    known = {grades.get(normal) for normal in drawn}
    return True if True in known else None if None in known else False


# --- all instances ---------------------------------------------------------------------------------------------------


def results(facts: Iterable[InstanceFacts], budgets: Collection[int] = ()) -> dict[str, Any]:
    """Return the object `results` of the document, with points at `budgets`, for which the facts were asked, too."""
    every = sorted(facts, key=lambda one: one.record.id)
    judged = [one for one in every if one.judged]
    solved = [one.solved for one in judged if one.solved]
    known = [one.resolved for one in judged]
    attempts = [one.attempt for one in every if one.attempt]
    failed = {AttemptState.FAILED, AttemptState.INFRASTRUCTURE}
    failures = Counter((one.stage, one.state.value) for one in attempts if one.state in failed)
    stopped = [one.stopping for one in solved if one.stopping]
    tested = points_of_tests(_most(judged, "best_at_tests")) if judged else ()
    return {
        "instances": len(every),
        "attempted": len(attempts),
        "done": sum(one.state is AttemptState.DONE for one in attempts),
        "graded": len(known) - known.count(None),
        "resolved": {"count": known.count(True), "of": len(known), **_rate(known)},
        "by_repo": _grouped("repo", judged, lambda one: one.repo, str),
        "by_language": _grouped("language", judged, _language, str),
        "by_difficulty": _grouped(
            "difficulty", judged, lambda one: one.difficulty, lambda name: (HOW_HARD.get(name, len(HOW_HARD)), name)
        ),
        "localization": _localization([share for one in judged if (share := one.found) is not None]),
        "format": _format(solved),
        "pass_at_k": _pass_at_k(judged),
        "best_at_n": _over_samples(judged, "best_at_n", budgets),
        "best_at_tests": [{"tests": tests, **_point(judged, "best_at_tests", tests)} for tests in tested],
        "vote_at_n": _over_samples(judged, "vote_at_n", budgets),
        "calibration": _calibration(solved),
        "failures": [
            {"stage": stage, "state": state, "count": count} for (stage, state), count in sorted(failures.items())
        ],
        **_of_rounds(judged, [one.evolved for one in solved if one.evolved]),
        **({"stopping": stopping_values(stopped)} if stopped else {}),
        **_of_systems(judged),
        "per_instance": [_instance(one) for one in every],
    }


def _share(known: Sequence[Known]) -> float | None:
    """Return the share of what is right, null while one is unknown."""
    return None if None in known else mean([float(one is True) for one in known])


def _rate(known: Sequence[Known]) -> dict[str, float | None]:
    """Return the share and its interval."""
    ends = None if None in known else wilson(known.count(True), len(known))
    return {"rate": _share(known), "low": ends.low if ends else None, "high": ends.high if ends else None}


def _grouped(
    name: str, judged: Sequence[InstanceFacts], of: Callable[[InstanceRecord], str], order: Callable[[str], Any]
) -> list[dict[str, Any]]:
    groups: dict[str, list[Known]] = {}
    for one in judged:
        groups.setdefault(of(one.record), []).append(one.resolved)
    return [
        {name: key, "instances": len(known), "resolved": known.count(True), "rate": _share(known)}
        for key, known in sorted(groups.items(), key=lambda item: order(item[0]))
    ]


def _language(record: InstanceRecord) -> str:
    """Return the language of most files of the true fix, "" where it changes none that was there."""
    named = Counter("python" if is_python(path) else _named(path) for path in record.files)
    return max(sorted(named), key=lambda name: named[name], default="")


def _named(path: str) -> str:
    return language_of(path).replace("tsx", "typescript") or path.rpartition(".")[2]


def _localization(shares: Sequence[Found]) -> dict[str, Any]:
    first, anywhere = [share.first for share in shares], [share.anywhere for share in shares]
    return {
        "instances": len(shares),
        "recall": mean(first),
        "recall_any": mean(anywhere),
        "all_found": mean([float(share == 1) for share in first]),
        "all_found_any": mean([float(share == 1) for share in anywhere]),
    }


def _format(solved: Sequence[Solved]) -> dict[str, Any]:
    samples, valid = sum(one.samples for one in solved), sum(one.valid for one in solved)
    reasons = sum((one.rejected for one in solved), Counter[str]())
    rejected = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return {
        "samples": samples,
        "valid": valid,
        "rate": valid / samples if samples else None,
        "rejected": [{"reason": reason, "count": count} for reason, count in rejected],
    }


def _calibration(solved: Sequence[Solved]) -> list[dict[str, Any]]:
    told = ((one.confidence, one.resolved) for one in solved)
    bins = calibration((sure, right) for sure, right in told if sure is not None and right is not None)
    return [{**asdict(one), "rate": one.resolved / one.instances if one.instances else None} for one in bins]


def _of_systems(judged: Sequence[InstanceFacts]) -> dict[str, Any]:
    """Return what a choice among systems has alone: what each resolves, and how far the choice goes."""
    told = [(one.resolved, one.solved.systems) for one in judged if one.solved and one.solved.systems]
    systems: dict[str, list[Known]] = {}
    for name, right in (pair for _, each in told for pair in each):
        systems.setdefault(name, []).append(right)
    if not systems or any(None in marks for marks in systems.values()):
        return {}
    drawn = [mean([float(right is True) for _, right in each]) or 0.0 for _, each in told]
    best = [float(any(right for _, right in each)) for _, each in told]
    chosen = [float(right is True) for right, _ in told]
    gap = gap_won(chosen, drawn, best)
    each = [{"name": name, "resolved": marks.count(True), **_rate(marks)} for name, marks in systems.items()]
    means = {"mean": mean(drawn), "oracle": mean(best), "chosen": mean(chosen)}
    won = gap and {"share": gap[0], "low": gap[1].low, "high": gap[1].high}
    return {"systems": {"each": each, **means, "gap": won}}


# --- curves ----------------------------------------------------------------------------------------------------------


def _most(judged: Sequence[InstanceFacts], curve: str) -> int:
    return max((at for one in judged if one.solved for at, _ in one.solved.curves[curve]), default=0)


def _over_samples(judged: Sequence[InstanceFacts], curve: str, budgets: Collection[int] = ()) -> list[dict[str, Any]]:
    """Return a curve over samples. Of an evolution it has the points of its rounds, and no others."""
    most = _most(judged, curve)
    ends = {end for one in judged if one.solved for end, _ in one.solved.curves["oracle_at_n"]}
    points = ends or {*points_of_samples(most), *(n for n in budgets if n < most)}
    return [{"n": n, **_point(judged, curve, n)} for n in sorted(points) if n]


def _point(judged: Sequence[InstanceFacts], curve: str, point: int) -> dict[str, Any]:
    known = [one.at(curve, point) for one in judged]
    return {**_rate(known), "graded": 1 - known.count(None) / len(known)}


def _pass_at_k(judged: Sequence[InstanceFacts]) -> list[dict[str, Any]]:
    """Return the oracle's curve: as if the best of k samples were chosen; of an evolution, of its first round."""
    drawn = [one.solved.plain if one.solved else (0, 0 if one.resolved is False else None) for one in judged]
    most = max((samples for samples, _ in drawn), default=0)
    exact = all(correct is not None for _, correct in drawn)
    return [
        {
            "k": k,
            "value": mean([pass_at_k(samples, correct or 0, k) for samples, correct in drawn]) if exact else None,
            "exact": exact,
        }
        for k in points_of_samples(most)
        if k
    ]


def _of_rounds(judged: Sequence[InstanceFacts], found: Sequence[Evolved]) -> dict[str, Any]:
    """Return what an evolution alone has: its rounds, the oracle at their ends, and the first one's curve."""
    if not found:
        return {}
    points = points_of_samples(_most(judged, "plain_at_n"))
    return {
        "evolution": evolution_values(found),
        "oracle_at_n": _over_samples(judged, "oracle_at_n"),
        "plain_at_n": [{"n": n, **_point(judged, "plain_at_n", n)} for n in points if n],
    }


def instance_values(record: InstanceRecord, attempt: AttemptRecord | None) -> dict[str, Any]:
    """Return what an instance is and how far it came."""
    return {
        "id": record.id,
        "repo": record.repo,
        "difficulty": record.difficulty,
        "state": attempt.state.value if attempt else "",
        "stage": attempt.stage if attempt else "",
        "failure": attempt.failure if attempt else "",
        "gold_files": list(record.files),
    }


def _instance(one: InstanceFacts) -> dict[str, Any]:
    solved, share = one.solved, one.found
    return {
        **instance_values(one.record, one.attempt),
        "resolved": one.resolved,
        "confidence": solved.confidence if solved else None,
        **{name: getattr(solved, name, 0) for name in ("valid", "samples", "distinct")},
        "recall": share.first if share else None,
        "files": [list(paths) for paths in solved.lists] if solved else [],
        "chosen": solved.chosen if solved else None,
        "regressions": regressions_values(solved.regressions) if solved else None,
    }
