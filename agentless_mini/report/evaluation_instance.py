"""One instance of an evaluation in depth, as plain values: files, patches, tests, what each says, and the choice.

It is what the page draws and `--json` prints. Texts are as they were recorded: whoever shows them escapes them.
"""

from collections.abc import Mapping
from typing import Any

from agentless_mini.domain import Case, CaseResult, Execution, Rejected
from agentless_mini.measures import curves
from agentless_mini.report.document import budget_values
from agentless_mini.report.evaluation_facts import method_of, replay_of
from agentless_mini.report.rounds import evolved
from agentless_mini.store import AttemptRecord, InstanceRecord, PatchRecord, PredictionRecord, RunTrace


def instance_document(
    record: InstanceRecord, attempt: AttemptRecord | None, trace: RunTrace | None, grades: Mapping[str, bool]
) -> dict[str, Any]:
    """Return all that is known of an instance. `resolved` of a patch is null where it was not graded.

    `verdicts` of a patch are the outcomes of `tests`, in their order; empty for a patch that was refused or not run.
    An evolution tells of each patch the `round` of its earliest sample and its `score`, null where it has none.
    """
    prediction = trace.prediction if trace else None
    return {
        "id": record.id,
        "repo": record.repo,
        "difficulty": record.difficulty,
        "state": attempt.state.value if attempt else "",
        "stage": attempt.stage if attempt else "",
        "failure": attempt.failure if attempt else "",
        "issue": trace.run.start.issue.text if trace else "",
        "gold_files": list(record.files),
        "files": _files(prediction) if prediction else [],
        "patches": _patches(trace, grades) if trace else [],
        "tests": _tests(prediction.execution) if prediction and prediction.execution else [],
        "rejected": _rejected(trace) if trace else [],
        "choice": _choice(prediction, grades) if prediction else None,
        "best_at_n": _best_at_n(trace, grades) if trace and prediction else [],
        "notes": list(prediction.notes) if prediction else [],
        **(budget_values(trace) if trace else {}),
    }


def _files(prediction: PredictionRecord) -> list[dict[str, Any]]:
    located = prediction.localization
    return [{"paths": list(paths), "votes": votes} for paths, votes in zip(located.lists, located.votes, strict=True)]


def _patches(trace: RunTrace, grades: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the distinct patches, most votes first, each by its earliest sample."""
    orders: dict[str, list[int]] = {}
    first: dict[str, PatchRecord] = {}
    for sample in trace.samples:
        if isinstance(sample.outcome, PatchRecord) and sample.order is not None:
            orders.setdefault(sample.outcome.normal, []).append(sample.order)
            first.setdefault(sample.outcome.normal, sample.outcome)
    execution = trace.prediction.execution if trace.prediction else None
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts} if execution else {}
    told = _of_rounds(trace)
    ranked = sorted(first, key=lambda normal: (-len(orders[normal]), orders[normal][0]))
    return [
        {
            "normal": normal,
            "diff": first[normal].diff.decode("utf-8", "backslashreplace"),
            "paths": list(first[normal].paths),
            "votes": len(orders[normal]),
            "orders": orders[normal],
            "resolved": grades.get(normal),
            "refusal": verdicts[normal].refusal if normal in verdicts else "",
            "verdicts": _outcomes(verdicts[normal].results) if normal in verdicts else [],
            **told.get(normal, {}),
        }
        for normal in ranked
    ]


def _of_rounds(trace: RunTrace) -> dict[str, dict[str, Any]]:
    """Return what an evolution has to tell of each patch more, by normal form."""
    found = evolved(trace)
    if found is None:
        return {}
    drawn = [(one.outcome, one.round) for one in reversed(trace.samples)]
    earliest = {patch.normal: number for patch, number in drawn if isinstance(patch, PatchRecord)}
    return {normal: {"round": number, "score": found.scores.get(normal)} for normal, number in earliest.items()}


def _outcomes(found: tuple[CaseResult, ...]) -> list[str]:
    return [result.outcome.value for result in found]


def _tests(execution: Execution) -> list[dict[str, Any]]:
    before = {result.id: result.outcome.value for result in execution.before}
    return [_test(case, before) for case in execution.cases]


def _test(case: Case, before: Mapping[str, str]) -> dict[str, Any]:
    return {"id": case.id, "origin": case.origin.value, "votes": case.votes, "before": before.get(case.id)}


def _rejected(trace: RunTrace) -> list[dict[str, Any]]:
    return [
        {"order": sample.order, "reason": sample.outcome.reason.value, "detail": sample.outcome.detail}
        for sample in trace.samples
        if sample.stage.repairs and isinstance(sample.outcome, Rejected)
    ]


def _choice(prediction: PredictionRecord, grades: Mapping[str, bool]) -> dict[str, Any] | None:
    choice = prediction.choice
    if choice is None:
        return None
    return {
        "normal": choice.patch.normal,
        "votes": choice.votes,
        "valid": choice.valid,
        "share": choice.votes / choice.valid,
        "reason": choice.reason,
        "resolved": grades.get(choice.patch.normal),
    }


def _best_at_n(trace: RunTrace, grades: Mapping[str, bool]) -> list[dict[str, Any]]:
    drawn = curves(replay_of(trace), method_of(trace)).samples
    return [
        {"n": n, "normal": patch.normal if patch else None, "resolved": grades.get(patch.normal) if patch else False}
        for n, patch in drawn
        if n
    ]
