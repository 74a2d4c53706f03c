"""What an evaluation's report needs of one instance: few numbers, however many samples and tests there were.

A run is read, ranked again in part (`measures.Replay`), and let go. No patch is graded here: what is not graded is
unknown, which is None, and neither right nor wrong.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from agentless_mini.chain.measures import Curve, Found, Replay, curves, found
from agentless_mini.domain import Method, Patch, Prediction, Rejected
from agentless_mini.record import (
    AttemptRecord,
    AttemptState,
    InstanceRecord,
    RunTrace,
)
from agentless_mini.report.rounds import Evolved, Stopping, evolved, stopping

Known = bool | None
"""Whether a patch resolves its issue; None where that is not known."""

Marks = tuple[tuple[int, Known], ...]
"""Whether the patch is right that is chosen with so many samples or tests, ascending."""

NEVER: Marks = ((0, False),)
UNKNOWN: Marks = ((0, None),)


@dataclass(frozen=True, slots=True)
class Solved:
    """What a run that came to its decision shows. `samples` and `valid` count repairs, `distinct` patches.

    `chosen` is a normal form, "" where no sample is valid, and `share` its share of the votes. `rejected` counts
    reasons. `plain` has the numbers of samples and of correct ones (None where a valid one is not graded) that pass@k
    is estimated from: of an evolution those of its first round alone, since the estimator takes samples to be
    exchangeable, and later ones hang on earlier ones. `over_plain` is the curve of that round, and `by_oracle` tells
    for the end of each whether any sample so far is right; both are empty without rounds.
    """

    lists: tuple[tuple[str, ...], ...]
    samples: int
    valid: int
    distinct: int
    rejected: tuple[tuple[str, int], ...]
    chosen: str
    share: float | None
    resolved: Known
    over_samples: Marks
    over_tests: Marks
    by_vote: Marks
    plain: tuple[int, int | None]
    over_plain: Marks = ()
    by_oracle: Marks = ()
    evolved: Evolved | None = None
    stopping: Stopping | None = None


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One instance. `attempt` is None before its turn came, `solved` where no run came to its decision."""

    record: InstanceRecord
    attempt: AttemptRecord | None = None
    solved: Solved | None = None

    @property
    def judged(self) -> bool:
        """Return whether it counts: it came to its end, grades and all, and the machine did its part."""
        return self.attempt is not None and self.attempt.state in {AttemptState.DONE, AttemptState.FAILED}

    @property
    def resolved(self) -> Known:
        """Return whether the chosen patch is right. No valid patch is wrong, and so is a chain that failed."""
        if self.attempt is None or not self.judged:
            return None
        if self.attempt.state is AttemptState.FAILED:
            return False
        return self.solved.resolved if self.solved else None

    @property
    def missing(self) -> Marks:
        """Return what stands for its curves where no run came to its decision."""
        return UNKNOWN if self.resolved is None else NEVER

    def found(self) -> Found | None:
        """Return how many of the true fix's files the localization named, or None where there was none to compare."""
        return found(self.solved.lists, self.record.files) if self.solved else None


def replay_of(trace: RunTrace) -> Replay:
    """Return a recorded run that came to its decision, to be ranked again."""
    prediction = trace.prediction
    return Replay.of(prediction) if prediction else Replay(())


def method_of(trace: RunTrace) -> Method:
    """Return how the run chose."""
    return Method(json.loads(trace.run.start.settings).get("rank", Method.AGREEMENT))


def solved(trace: RunTrace, grades: Mapping[str, bool], more: Collection[int] = ()) -> Solved | None:
    """Read a run, with what is known of its patches by normal form; None where it came to no decision.

    `more` are numbers of samples at which its curve is wanted, too (see `measures.curves`).
    """
    if trace.prediction is None:
        return None
    outcomes = [sample.outcome for sample in trace.samples if sample.stage.repairs and sample.outcome]
    normals = _normals(outcomes)
    reasons = Counter(outcome.reason.value for outcome in outcomes if isinstance(outcome, Rejected))
    replay = replay_of(trace)
    drawn = curves(replay, method_of(trace), more)
    main = (drawn.samples, drawn.tests, drawn.votes)
    over_samples, over_tests, by_vote = (_known(curve, grades) if outcomes else UNKNOWN for curve in main)
    chosen, share = _chosen(trace.prediction)
    return Solved(
        lists=trace.prediction.localization.lists,
        samples=len(outcomes),
        valid=normals.total(),
        distinct=len(normals),
        rejected=tuple(sorted(reasons.items())),
        chosen=chosen,
        share=share,
        resolved=_resolved(trace.prediction, grades) if outcomes else None,
        over_samples=over_samples,
        over_tests=over_tests,
        by_vote=by_vote,
        plain=_plain(trace, grades),
        over_plain=_known(drawn.plain, grades),
        by_oracle=tuple((end, _any_right(trace, grades, end)) for end in replay.ends),
        evolved=evolved(trace),
        stopping=stopping(trace),
    )


def _normals(outcomes: Iterable[object]) -> Counter[str]:
    return Counter(outcome.normal for outcome in outcomes if isinstance(outcome, Patch))


def _correct(normals: Counter[str], grades: Mapping[str, bool]) -> int | None:
    """Return how many samples are right, None where one of their patches is not graded."""
    known = normals.keys() <= grades.keys()
    return sum(normals[one] for one in normals if grades[one]) if known else None


def _plain(trace: RunTrace, grades: Mapping[str, bool]) -> tuple[int, int | None]:
    first = [one.outcome for one in trace.samples if one.stage.repairs and one.outcome and not one.round]
    return len(first), _correct(_normals(first), grades)


def _any_right(trace: RunTrace, grades: Mapping[str, bool], end: int) -> Known:
    drawn = _normals(one.outcome for one in trace.samples if one.order is not None and one.order < end)
    told = {grades.get(normal) for normal in drawn}
    return True if True in told else None if None in told else False


def _known(curve: Curve, grades: Mapping[str, bool]) -> Marks:
    return tuple((at, False if patch is None else grades.get(patch.normal)) for at, patch in curve)


def _chosen(prediction: Prediction) -> tuple[str, float | None]:
    choice = prediction.choice
    return (choice.patch.normal, choice.votes / choice.valid) if choice else ("", None)


def _resolved(prediction: Prediction, grades: Mapping[str, bool]) -> Known:
    return grades.get(prediction.choice.patch.normal) if prediction.choice else False


def at(marks: Iterable[tuple[int, Known]], point: int) -> Known:
    """Return what is known at a point: that of the last mark up to it, or nothing."""
    told: Known = None
    for place, known in marks:
        if place <= point:
            told = known
    return told
