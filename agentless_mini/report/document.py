"""A recorded run as plain values for `--json`: all that the store knows of it. It reads no store and prints nothing.

`repair --json` and `show RUN --json` write these keys; those with ? are there where there is something of the kind:

    .: schema, run, prompts, samples, boxes, prediction, trust?, evolution?, stopping?
    run: id, start, started, status, finished, exit_code
    run.start: model, instance, repository, commit, tree, issue, command, settings, versions
    prompts.DIGEST[]: role, content
    samples[]: key, index, stage, prompt, finish, usage, replayed, order, outcome, round, repeats, text?, reasoning?
    samples[].usage: prompt_tokens, cached_tokens, completion_tokens
    samples[].outcome: valid, normal?, paths?, diff?, undefined?, reason?, detail?,
        id?, origin?, path?, data?, command?, votes?
    boxes[]: key, environment, tree, files, steps, seconds, replayed
    prediction: localization, choice, notes, execution
    prediction.choice: patch, votes, valid, reason, passed, reproducing, broken, regressions
    prediction.choice.patch: normal, paths, diff, undefined?
    prediction.execution: cases, verdicts
    prediction.execution.cases[]: id, origin, path, data, command, votes, before
    prediction.execution.verdicts[]: normal, refusal, outcomes, seconds, faults

`prompts` is empty without --prompts, and `text` and `reasoning` are there with --completions. `prediction` is null
where the run came to none, its `choice` where no sample became a patch, its `execution` where no test was run.
`outcome` is a patch, a test, or why there is neither (`reason`, `detail`). Times are seconds, or seconds since 1970.
`show --json` writes `schema` and `runs`: of each the keys of `run`, and samples, votes and valid.

Write it with `ensure_ascii`: a text may hold lone surrogates. Bytes that are UTF-8 are `{"encoding": "utf-8", "text":
...}`, any other `{"encoding": "base64", ...}`.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from agentless_mini.domain import Case, Completion, Level, Patch, Rejected, Verdict
from agentless_mini.record import (
    PromptRecord,
    RunRecord,
    RunSummary,
    RunTrace,
    SampleRecord,
)
from agentless_mini.report.rounds import evolved, stopping
from agentless_mini.report.verdicts import trust_of

SCHEMA = 1
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

    `evolution` has the rounds (see `measures.Round`; `score` names their scores), `trust` the `required` level, whether
    the patch is `printed`, the levels `shown`, and what is `lacking` or speaks against it, as a clause ("" for
    nothing).
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
    start = run.start
    return {
        **asdict(run),
        "start": {**asdict(start), "settings": json.loads(start.settings), "versions": json.loads(start.versions)},
    }


def _sample_values(sample: SampleRecord, completion: Completion | None) -> dict[str, Any]:
    outcome: dict[str, Any] | None = None
    match sample.outcome:
        case Patch() as patch:
            outcome = {"valid": True, **_patch_values(patch)}
        case Case() as case:
            outcome = {"valid": True, **_case_values(case)}
        case Rejected(reason, detail):
            outcome = {"valid": False, "reason": reason, "detail": detail}
    texts = {"text": completion.text, "reasoning": completion.reasoning} if completion else {}
    return {**asdict(sample), "outcome": outcome, **texts}


def _prediction_values(trace: RunTrace) -> dict[str, Any] | None:
    prediction = trace.prediction
    if prediction is None:
        return None
    choice = prediction.choice
    execution = prediction.execution
    before = {result.id: result.outcome for result in execution.before} if execution else {}
    return {
        "localization": asdict(prediction.localization),
        "choice": choice and {**asdict(choice), "patch": _patch_values(choice.patch)},
        "notes": list(prediction.notes),
        "execution": execution
        and {
            "cases": [{**_case_values(case), "before": before.get(case.id)} for case in execution.cases],
            "verdicts": [_verdict_values(verdict) for verdict in execution.verdicts],
        },
    }


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


def _case_values(case: Case) -> dict[str, Any]:
    return {**asdict(case), "data": None if case.data is None else _bytes_values(case.data)}


def _verdict_values(verdict: Verdict) -> dict[str, Any]:
    return {
        "normal": verdict.normal,
        "refusal": verdict.refusal,
        "outcomes": {result.id: result.outcome for result in verdict.results},
        "seconds": {result.id: result.seconds for result in verdict.results},
        "faults": {result.id: asdict(result.fault) for result in verdict.results if result.fault},
    }


def _patch_values(patch: Patch) -> dict[str, Any]:
    values = {"normal": patch.normal, "paths": list(patch.paths), "diff": _bytes_values(patch.diff)}
    return {**values, "undefined": list(patch.undefined)} if patch.undefined else values


def _bytes_values(data: bytes) -> dict[str, str]:
    try:
        return {"encoding": "utf-8", "text": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "text": base64.b64encode(data).decode("ascii")}
