"""A recorded run as plain values for `--json` (docs/json.md). Write it with `ensure_ascii`, for lone surrogates."""

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentless_mini.chain.rank import confidence
from agentless_mini.domain import Completion, Level, Regressions, Rejected
from agentless_mini.record import PromptRecord, RunRecord, RunSummary, RunTrace, SampleRecord
from agentless_mini.report.rounds import evolved
from agentless_mini.report.summary import stopping, trust_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 2
"""Of every document: it grows where a key goes or changes its meaning, not where one is added."""


def runs_document(summaries: Iterable[RunSummary]) -> dict[str, Any]:
    """Return the list of runs as JSON values, in the order given."""
    runs = [
        {**_run_values(summary.run), "samples": summary.samples, "votes": summary.votes, "valid": summary.valid}
        for summary in summaries
    ]
    return {"schema": SCHEMA, "runs": runs}


def run_document(
    trace: RunTrace, prompts: Iterable[PromptRecord] = (), completions: Iterable[tuple[SampleRecord, Completion]] = ()
) -> dict[str, Any]:
    """Return a run as JSON values, with `text` and `reasoning` in the samples whose completions are given.

    `trust` has the `required` level, whether the patch is `printed`, the levels `shown`, and what is `lacking` or
    speaks against it, as a clause ("" for nothing).
    """
    answers = {(sample.key, sample.index): completion for sample, completion in completions}
    return {
        "schema": SCHEMA,
        "run": _run_values(trace.run),
        "prompts": {prompt.digest: [asdict(message) for message in prompt.messages] for prompt in prompts},
        "samples": [_sample_values(sample, answers.get((sample.key, sample.index))) for sample in trace.samples],
        "boxes": [asdict(box) for box in trace.boxes],
        "prediction": _prediction_values(trace),
        "trust": _trust_values(trace),
        **budget_values(trace),
    }


def budget_values(trace: RunTrace) -> dict[str, Any]:
    """Return the rounds of a run, and what it was spared; each only where there is such a thing."""
    parts = {"evolution": evolved(trace), "stopping": stopping(trace)}
    return {name: part.values() for name, part in parts.items() if part is not None}


def _run_values(run: RunRecord) -> dict[str, Any]:
    texts = {name: json.loads(getattr(run.start, name)) for name in ("settings", "versions")}
    return {**asdict(run), "start": {**asdict(run.start), **texts}}


def _sample_values(sample: SampleRecord, completion: Completion | None) -> dict[str, Any]:
    outcome = sample.outcome and {"valid": not isinstance(sample.outcome, Rejected), **_values(sample.outcome)}
    texts = {"text": completion.text, "reasoning": completion.reasoning} if completion else {}
    return {**_values(sample), "outcome": outcome, **texts}


def _prediction_values(trace: RunTrace) -> dict[str, Any] | None:
    prediction = trace.prediction
    if prediction is None:
        return None
    execution = prediction.execution
    before = {result.id: result.outcome for result in execution.before} if execution else {}
    return {
        "localization": asdict(prediction.localization),
        "choice": (choice := prediction.choice)
        and {**_values(choice), "probability": confidence(trace.candidates(), execution, choice)},
        "notes": list(prediction.notes),
        "regressions": regressions_values(prediction.regressions),
        "execution": execution
        and {
            "cases": [{**_values(case), "before": before.get(case.id)} for case in execution.cases],
            "verdicts": [
                {
                    "normal": verdict.normal,
                    "refusal": verdict.refusal,
                    "outcomes": {result.id: result.outcome for result in verdict.results},
                    "seconds": {result.id: result.seconds for result in verdict.results},
                    "faults": {result.id: asdict(result.fault) for result in verdict.results if result.fault},
                }
                for verdict in execution.verdicts
            ],
        },
    }


def regressions_values(found: Regressions | None) -> dict[str, Any] | None:
    """Return what became of the repository's own tests."""
    return {**asdict(found), "lost": found.lost} if found else None


def _trust_values(trace: RunTrace) -> dict[str, Any] | None:
    if (found := trust_of(trace)) is None:
        return None
    required, shown = found
    return {
        "required": required,
        "printed": shown.suffices(required),
        "shown": [level for level in Level if shown.suffices(level)],
        "lacking": shown.lacks(required),
    }


def _values(value: "DataclassInstance") -> dict[str, Any]:
    """Return a frozen value as JSON values; of a patch `undefined` and `suspicious` are left out where empty."""

    def named(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: _encoded(part) for name, part in fields if part or name not in {"undefined", "suspicious"}}

    return asdict(value, dict_factory=named)


def _encoded(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return {"encoding": "utf-8", "text": value.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "text": base64.b64encode(value).decode("ascii")}
