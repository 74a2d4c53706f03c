"""One instance of an evaluation, or one run, in depth: files, patches, tests, their results, and the choice.

These are the plain values that the page draws and `--json` prints. Texts are as recorded: the page escapes them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from agentless_mini.chain.measures import curves
from agentless_mini.domain import Completion, Patch, Rejected
from agentless_mini.record import (
    AttemptRecord,
    InstanceRecord,
    PromptRecord,
    RunTrace,
    SampleRecord,
)
from agentless_mini.report.document import SCHEMA, budget_values
from agentless_mini.report.evaluation_results import method_of, replay_of
from agentless_mini.report.rounds import evolved
from agentless_mini.report.show import outcome, run_facts, votes_of
from agentless_mini.report.verdicts import distinct

_NOTHING: Mapping[str, Any] = {
    "issue": "", "files": [], "patches": [], "tests": [], "rejected": [], "choice": None, "notes": [],
}  # fmt: skip


def instance_document(
    record: InstanceRecord, attempt: AttemptRecord | None, trace: RunTrace | None, grades: Mapping[str, bool]
) -> dict[str, Any]:
    """Return all that is known of an instance. `resolved` of a patch is null where it was not graded.

    `verdicts` of a patch are the outcomes of `tests`, in their order; empty for a patch that was refused or not run.
    Each patch of an evolution has the `round` of its earliest sample and its `score`, null where it has none.
    """
    drawn = curves(replay_of(trace), method_of(trace)).samples if trace and trace.prediction else ()
    return {
        "schema": SCHEMA,
        "id": record.id,
        "repo": record.repo,
        "difficulty": record.difficulty,
        "state": attempt.state.value if attempt else "",
        "stage": attempt.stage if attempt else "",
        "failure": attempt.failure if attempt else "",
        "gold_files": list(record.files),
        "best_at_n": [
            {
                "n": n,
                "normal": patch.normal if patch else None,
                "resolved": grades.get(patch.normal) if patch else False,
            }
            for n, patch in drawn
            if n
        ],
        **(_depth(trace, grades) if trace else _NOTHING),
    }


def run_instance(
    trace: RunTrace, prompts: Iterable[PromptRecord], completions: Iterable[tuple[SampleRecord, Completion]]
) -> dict[str, Any]:
    """Return all that is known of one run, for its page: as of an instance, with prompts and answers, without grades.

    `facts` are names and texts. A sample in `answers` has its outcome in words, and its normal form as a patch.
    """
    votes = votes_of(trace)
    return {
        "id": f"run {trace.run.id}",
        "facts": run_facts(trace.run)[:-1],  # the issue stands in full beside them
        "settings": {name: json.loads(getattr(trace.run.start, name)) for name in ("settings", "versions")},
        "prompts": {one.digest: [[sent.role.value, sent.content] for sent in one.messages] for one in prompts},
        "answers": [_answer(sample, completion, votes) for sample, completion in completions],
        **_depth(trace, {}),
    }


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


def _depth(trace: RunTrace, grades: Mapping[str, bool]) -> dict[str, Any]:
    """Return what an instance and a run have in common."""
    prediction = trace.prediction
    located = prediction.localization if prediction else None
    execution = prediction.execution if prediction else None
    choice = prediction.choice if prediction else None
    before = {result.id: result.outcome.value for result in execution.before} if execution else {}
    return {
        "issue": trace.run.start.issue.text,
        "files": [
            {"paths": list(paths), "votes": votes} for paths, votes in zip(located.lists, located.votes, strict=True)
        ]
        if located
        else [],
        "patches": _patches(trace, grades),
        "tests": [
            {"id": case.id, "origin": case.origin.value, "votes": case.votes, "before": before.get(case.id)}
            for case in (execution.cases if execution else ())
        ],
        "rejected": [
            {"order": sample.order, "reason": sample.outcome.reason.value, "detail": sample.outcome.detail}
            for sample in trace.samples
            if sample.stage.repairs and isinstance(sample.outcome, Rejected)
        ],
        "choice": choice
        and {
            "normal": choice.patch.normal,
            "votes": choice.votes,
            "valid": choice.valid,
            "share": choice.votes / choice.valid,
            "reason": choice.reason,
            "resolved": grades.get(choice.patch.normal),
        },
        "notes": list(prediction.notes) if prediction else [],
        **budget_values(trace),
    }


def _patches(trace: RunTrace, grades: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the distinct patches, the best first (`verdicts.distinct`), each by its earliest sample."""
    found: dict[str, tuple[Patch, int, list[int]]] = {}
    for sample in trace.samples:
        if isinstance(patch := sample.outcome, Patch) and sample.order is not None:
            found.setdefault(patch.normal, (patch, sample.round, []))[2].append(sample.order)
    execution = trace.prediction.execution if trace.prediction else None
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts} if execution else {}
    evolution = evolved(trace)
    patches = []
    for standing in distinct(trace):
        normal, verdict = standing.normal, verdicts.get(standing.normal)
        patch, number, orders = found[normal]
        values: dict[str, Any] = {
            "normal": normal,
            "diff": patch.diff.decode("utf-8", "backslashreplace"),
            "paths": list(patch.paths),
            "votes": standing.votes,
            "orders": orders,
            "resolved": grades.get(normal),
            "refusal": verdict.refusal if verdict else "",
            "verdicts": [result.outcome.value for result in verdict.results] if verdict else [],
        }
        if evolution:
            values |= {"round": number, "score": evolution.scores.get(normal)}
        patches.append(values)
    return patches
