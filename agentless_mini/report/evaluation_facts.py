"""What an evaluation's report needs of one instance: few numbers, however many samples and tests there were.

A run is read, ranked again in part (`measures.Replay`), and let go. No patch is graded here: what is not graded is
unknown, which is None, and neither right nor wrong.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentless_mini.domain import Rejected, Stage
from agentless_mini.measures import Curve, Found, Replay, curves, found
from agentless_mini.ranking import Method
from agentless_mini.store import (
    AttemptRecord,
    AttemptState,
    InstanceRecord,
    PatchRecord,
    PredictionRecord,
    RunTrace,
    recorded_prediction,
)

Known = bool | None
"""Whether a patch resolves its issue; None where that is not known."""

Marks = tuple[tuple[int, Known], ...]
"""Whether the patch is right that is chosen with so many samples or tests, ascending."""

NEVER: Marks = ((0, False),)
UNKNOWN: Marks = ((0, None),)


@dataclass(frozen=True, slots=True)
class Solved:
    """What a run that came to its decision shows. `samples`, `valid` and `correct` count repairs, `distinct` patches.

    `correct` is None where a valid patch is not graded. `chosen` is a normal form, "" where no sample is valid, and
    `share` its share of the votes. `rejected` counts reasons.
    """

    lists: tuple[tuple[str, ...], ...]
    samples: int
    valid: int
    distinct: int
    correct: int | None
    rejected: tuple[tuple[str, int], ...]
    chosen: str
    share: float | None
    resolved: Known
    over_samples: Marks
    over_tests: Marks
    by_vote: Marks


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
    prediction = recorded_prediction(trace)
    return Replay.of(prediction) if prediction else Replay(())


def method_of(trace: RunTrace) -> Method:
    """Return how the run chose."""
    return Method(json.loads(trace.run.start.settings).get("rank", Method.AGREEMENT))


def solved(trace: RunTrace, grades: Mapping[str, bool]) -> Solved | None:
    """Read a run, with what is known of its patches by normal form; None where it came to no decision."""
    if trace.prediction is None:
        return None
    outcomes = [sample.outcome for sample in trace.samples if sample.stage is Stage.REPAIR and sample.outcome]
    normals = Counter(outcome.normal for outcome in outcomes if isinstance(outcome, PatchRecord))
    reasons = Counter(outcome.reason.value for outcome in outcomes if isinstance(outcome, Rejected))
    marks = _marks(trace, grades) if outcomes else (UNKNOWN, UNKNOWN, UNKNOWN)
    return Solved(
        trace.prediction.localization.lists,
        len(outcomes),
        normals.total(),
        len(normals),
        sum(normals[one] for one in normals if grades[one]) if normals.keys() <= grades.keys() else None,
        tuple(sorted(reasons.items())),
        *_chosen(trace.prediction),
        _resolved(trace.prediction, grades) if outcomes else None,
        *marks,
    )


def _marks(trace: RunTrace, grades: Mapping[str, bool]) -> tuple[Marks, Marks, Marks]:
    drawn = curves(replay_of(trace), method_of(trace))
    return _known(drawn.samples, grades), _known(drawn.tests, grades), _known(drawn.votes, grades)


def _known(curve: Curve, grades: Mapping[str, bool]) -> Marks:
    return tuple((at, False if patch is None else grades.get(patch.normal)) for at, patch in curve)


def _chosen(prediction: PredictionRecord) -> tuple[str, float | None]:
    choice = prediction.choice
    return (choice.patch.normal, choice.votes / choice.valid) if choice else ("", None)


def _resolved(prediction: PredictionRecord, grades: Mapping[str, bool]) -> Known:
    return grades.get(prediction.choice.patch.normal) if prediction.choice else False


def at(marks: Iterable[tuple[int, Known]], point: int) -> Known:
    """Return what is known at a point: that of the last mark up to it, or nothing."""
    told: Known = None
    for place, known in marks:
        if place <= point:
            told = known
    return told
