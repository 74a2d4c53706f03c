"""A recorded run as the prediction that it came to, for whoever ranks it again or goes on from it."""

from agentless_mini.domain import (
    Candidate,
    Case,
    Choice,
    GeneratedCase,
    Patch,
    Prediction,
    Rejected,
    Stage,
)
from agentless_mini.record.records import ChoiceRecord, PatchRecord, RunTrace


def recorded_prediction(trace: RunTrace) -> Prediction | None:
    """Return what the run came to, None where it was not decided. Its patches have no `changes`: the diff is kept."""
    decided = trace.prediction
    if decided is None:
        return None
    generated = []
    for sample in trace.samples:
        match sample.stage, sample.order, sample.outcome:
            case Stage.REPRODUCE, int(order), Case() | Rejected() as outcome:
                generated.append(GeneratedCase(sample.key, sample.index, order, outcome))
    choice = _choice(decided.choice) if decided.choice else None
    return Prediction(
        decided.localization,
        recorded_candidates(trace),
        choice,
        decided.notes,
        tuple(generated),
        decided.execution,
    )


def recorded_candidates(trace: RunTrace) -> tuple[Candidate, ...]:
    """Return what became of the samples of a run, in order of sample."""
    return tuple(
        Candidate(sample.key, sample.index, sample.order, _patch(sample.outcome), sample.round, sample.repeats)
        for sample in trace.samples
        if sample.stage.repairs and sample.order is not None and isinstance(sample.outcome, PatchRecord | Rejected)
    )


def _patch(outcome: PatchRecord | Rejected) -> Patch | Rejected:
    return outcome if isinstance(outcome, Rejected) else Patch((), outcome.diff, outcome.normal, outcome.undefined)


def _choice(record: ChoiceRecord) -> Choice:
    return Choice(
        Patch((), record.patch.diff, record.patch.normal, record.patch.undefined),
        record.votes,
        record.valid,
        record.reason,
        record.passed,
        record.reproducing,
        record.broken,
        record.regressions,
    )
