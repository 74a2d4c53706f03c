"""One instance of an evaluation in depth, as plain values: files, patches, tests, what each says, and the choice.

It is what the page draws and `--json` prints. Texts are as they were recorded: whoever shows them escapes them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from agentless_mini.chain.measures import curves
from agentless_mini.domain import Case, CaseResult, Completion, Execution, Patch, Prediction, Rejected
from agentless_mini.record import (
    AttemptRecord,
    InstanceRecord,
    PromptRecord,
    RunTrace,
    SampleRecord,
)
from agentless_mini.report.document import SCHEMA, budget_values
from agentless_mini.report.evaluation_facts import method_of, replay_of
from agentless_mini.report.rounds import evolved
from agentless_mini.report.show import outcome, run_facts, votes_of
from agentless_mini.report.verdicts import distinct

Answer = tuple[SampleRecord, Completion]


def instance_document(
    record: InstanceRecord, attempt: AttemptRecord | None, trace: RunTrace | None, grades: Mapping[str, bool]
) -> dict[str, Any]:
    """Return all that is known of an instance. `resolved` of a patch is null where it was not graded.

    `verdicts` of a patch are the outcomes of `tests`, in their order; empty for a patch that was refused or not run.
    An evolution tells of each patch the `round` of its earliest sample and its `score`, null where it has none.
    """
    return {
        "schema": SCHEMA,
        "id": record.id,
        "repo": record.repo,
        "difficulty": record.difficulty,
        "state": attempt.state.value if attempt else "",
        "stage": attempt.stage if attempt else "",
        "failure": attempt.failure if attempt else "",
        "gold_files": list(record.files),
        "best_at_n": _best_at_n(trace, grades) if trace and trace.prediction else [],
        **(_depth(trace, grades) if trace else _NOTHING),
    }


def run_instance(trace: RunTrace, prompts: Iterable[PromptRecord], completions: Iterable[Answer]) -> dict[str, Any]:
    """Return all that is known of one run, for its page: as of an instance, with prompts and answers, without grades.

    `facts` are names and texts. A sample is in `answers` with what became of it in words, and in `normal` as a patch.
    """
    votes = votes_of(trace)
    return {
        "id": f"run {trace.run.id}",
        "facts": run_facts(trace.run)[:-1],  # the issue stands in full beside them
        "settings": {name: json.loads(getattr(trace.run.start, name)) for name in ("settings", "versions")},
        "prompts": {one.digest: [[said.role.value, said.content] for said in one.messages] for one in prompts},
        "answers": [_answer(sample, completion, votes) for sample, completion in completions],
        **_depth(trace, {}),
    }


def _depth(trace: RunTrace, grades: Mapping[str, bool]) -> dict[str, Any]:
    """Return what an instance and a run are shown with alike."""
    prediction = trace.prediction
    return {
        "issue": trace.run.start.issue.text,
        "files": _files(prediction) if prediction else [],
        "patches": _patches(trace, grades),
        "tests": _tests(prediction.execution) if prediction and prediction.execution else [],
        "rejected": _rejected(trace),
        "choice": _choice(prediction, grades) if prediction else None,
        "notes": list(prediction.notes) if prediction else [],
        **budget_values(trace),
    }


_NOTHING: Mapping[str, Any] = {
    "issue": "", "files": [], "patches": [], "tests": [], "rejected": [], "choice": None, "notes": [],
}  # fmt: skip


def _answer(sample: SampleRecord, completion: Completion, votes: Counter[str]) -> dict[str, Any]:
    return {
        "stage": sample.stage.value,
        "prompt": sample.prompt,
        "sample": sample.index if sample.order is None else sample.order,
        "outcome": outcome(sample, votes),
        "normal": sample.outcome.normal if isinstance(sample.outcome, Patch) else None,
        "finish": sample.finish.value,
        "tokens": sample.usage.completion_tokens,
        "reasoning": completion.reasoning,
        "text": completion.text,
    }


def _files(prediction: Prediction) -> list[dict[str, Any]]:
    located = prediction.localization
    return [{"paths": list(paths), "votes": votes} for paths, votes in zip(located.lists, located.votes, strict=True)]


def _patches(trace: RunTrace, grades: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the distinct patches, the best first (`verdicts.distinct`), each by its earliest sample."""
    orders: dict[str, list[int]] = {}
    first: dict[str, Patch] = {}
    for sample in trace.samples:
        if isinstance(sample.outcome, Patch) and sample.order is not None:
            orders.setdefault(sample.outcome.normal, []).append(sample.order)
            first.setdefault(sample.outcome.normal, sample.outcome)
    execution = trace.prediction.execution if trace.prediction else None
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts} if execution else {}
    told = _of_rounds(trace)
    return [
        {
            "normal": normal,
            "diff": first[normal].diff.decode("utf-8", "backslashreplace"),
            "paths": list(first[normal].paths),
            "votes": votes,
            "orders": orders[normal],
            "resolved": grades.get(normal),
            "refusal": verdicts[normal].refusal if normal in verdicts else "",
            "verdicts": _outcomes(verdicts[normal].results) if normal in verdicts else [],
            **told.get(normal, {}),
        }
        for normal, votes in ((one.normal, one.votes) for one in distinct(trace))
    ]


def _of_rounds(trace: RunTrace) -> dict[str, dict[str, Any]]:
    """Return what an evolution has to tell of each patch more, by normal form."""
    found = evolved(trace)
    if found is None:
        return {}
    drawn = [(one.outcome, one.round) for one in reversed(trace.samples)]
    earliest = {patch.normal: number for patch, number in drawn if isinstance(patch, Patch)}
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


def _choice(prediction: Prediction, grades: Mapping[str, bool]) -> dict[str, Any] | None:
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
