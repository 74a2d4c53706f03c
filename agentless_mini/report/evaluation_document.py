"""The report of an evaluation as one JSON document, and one instance or run in depth: what `--json` and the page have.

It is read from the store alone, one run in memory at a time. `results` is the same to the byte for an evaluation that
was killed and resumed.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentless_mini.chain.measures import Replay, curves
from agentless_mini.chain.rank import confidence
from agentless_mini.domain import Completion, Patch, Rejected
from agentless_mini.errors import UsageError, printable
from agentless_mini.record import AttemptRecord, InstanceRecord, PromptRecord, RunTrace, SampleRecord, Spending, Store
from agentless_mini.report.document import SCHEMA, budget_values, regressions_values
from agentless_mini.report.evaluation_results import InstanceFacts, instance_values, method_of, results, solved
from agentless_mini.report.rounds import evolved
from agentless_mini.report.show import outcome, run_facts, votes_of
from agentless_mini.report.summary import distinct, sources

_NOTHING: Mapping[str, Any] = {
    "issue": "", "files": [], "patches": [], "tests": [], "rejected": [], "choice": None, "notes": [],
    "regressions": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens and an hour of a box cost, in one currency; None where that is not known.

    `prompt` is for tokens that the server computes, `cached` for those from its cache; without it they cost the same.
    """

    prompt: float | None = None
    cached: float | None = None
    completion: float | None = None
    box_hour: float | None = None


def evaluation_documents(stores: Sequence[Store], prices: Prices) -> list[dict[str, Any]]:
    """Return the reports of evaluations that are shown side by side. Raises as `evaluation_document`.

    Where one is in rounds, the others have best@N at the ends of its rounds, too: at equal budgets.
    """
    ends: set[int] = set()
    for store in stores:  # all of its instances have the same rounds, so any that is decided says where they end
        runs = (store.runs.trace(one.run) for one in store.evals.attempts() if one.run is not None)
        replays = (Replay(trace.prediction) for trace in runs if trace.prediction)
        ends |= set(next((replay.ends for replay in replays if replay.samples), ()))
    return [evaluation_document(store, prices, sorted(ends)) for store in stores]


def evaluation_document(store: Store, prices: Prices = Prices(), budgets: Collection[int] = ()) -> dict[str, Any]:
    """Return the report of the store's evaluation, also while it goes on, with points of best@N at `budgets`, too.

    Raises `UsageError` where the store has none, `StoreError` where it cannot be read.
    """
    start, graded = store.evals.start(), store.evals.grade_versions()
    facts = (
        InstanceFacts(record, attempt, solved(*found, budgets) if found else None)
        for record, attempt, found in _instances(store)
    )
    return {
        "schema": SCHEMA,
        "run": {
            "name": start.name,
            "dataset": start.dataset,
            "fingerprint": start.fingerprint,
            "model": start.model,
            "versions": {**json.loads(start.versions), **({"swebench": ", ".join(graded)} if graded else {})},
            "settings": json.loads(start.settings),
            "started": datetime.fromtimestamp(start.started, UTC).isoformat(timespec="seconds"),
        },
        "results": results(facts, budgets),
        "cost": _cost(store.evals.spending(), prices),
    }


def one_instance(store: Store, name: str) -> dict[str, Any]:
    """Return all that is known of an instance. Raises `UsageError` where the evaluation has none of this name.

    `resolved` of a patch is null where it was not graded. `verdicts` of a patch are the outcomes of `tests`, in their
    order; empty for a patch that was refused or not run.
    """
    for record, attempt, found in _instances(store, name):
        trace, grades = found or (None, {})
        drawn = curves(Replay(trace.prediction), method_of(trace)).samples if trace and trace.prediction else ()
        chosen = [
            {"n": n, "normal": patch and patch.normal, "resolved": grades.get(patch.normal) if patch else False}
            for n, patch in drawn
            if n
        ]
        depth = _depth(trace, grades) if trace else _NOTHING
        return {"schema": SCHEMA, **instance_values(record, attempt), "best_at_n": chosen, **depth}
    raise UsageError(f"The evaluation has no instance {printable(name)}: amini report without --instance lists them.")


def run_instance(
    trace: RunTrace, prompts: Iterable[PromptRecord], completions: Iterable[tuple[SampleRecord, Completion]]
) -> dict[str, Any]:
    """Return all that is known of one run, for its page: as of an instance, with prompts and answers."""
    votes = votes_of(trace)
    return {
        "id": f"run {trace.run.id}",
        "facts": run_facts(trace.run)[:-1],  # the issue stands in full beside them
        "settings": {name: json.loads(getattr(trace.run.start, name)) for name in ("settings", "versions")},
        "prompts": {one.digest: [[sent.role.value, sent.content] for sent in one.messages] for one in prompts},
        "answers": [
            {
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
            for sample, completion in completions
        ],
        **_depth(trace, {}),
    }


def _instances(
    store: Store, name: str = ""
) -> Iterator[tuple[InstanceRecord, AttemptRecord | None, tuple[RunTrace, dict[str, bool]] | None]]:
    """Yield the instances in order of id, or one: how far it came, the run that decided it, and its patches' grades.

    By normal form: the grade of the earliest sample's own diff counts before any other's.
    """
    attempts = {attempt.instance: attempt for attempt in store.evals.attempts()}
    for record in store.evals.instances():
        if name and record.id != name:
            continue
        attempt = attempts.get(record.id)
        if attempt is None or attempt.run is None:
            yield record, attempt, None
            continue
        trace = store.runs.trace(attempt.run)
        by_diff = {graded.diff: graded for graded in store.evals.grades(record.id)}
        grades = {graded.normal: graded.resolved for graded in reversed(by_diff.values())}
        patches = [sample.outcome for sample in trace.samples if isinstance(sample.outcome, Patch)]
        earliest = {patch.normal: hashlib.sha256(patch.diff).hexdigest() for patch in reversed(patches)}
        own = {normal: by_diff[diff].resolved for normal, diff in earliest.items() if diff in by_diff}
        yield record, attempt, (trace, grades | own)


def _depth(trace: RunTrace, grades: Mapping[str, bool]) -> dict[str, Any]:
    """Return what an instance and a run have in common."""
    prediction, execution, choice = trace.prediction, trace.execution, trace.choice
    found = prediction.localization if prediction else None
    located = zip(found.lists, found.votes, strict=True) if found else ()
    before = {result.id: result.outcome.value for result in execution.before} if execution else {}
    return {
        "issue": trace.run.start.issue.text,
        "files": [{"paths": list(paths), "votes": votes} for paths, votes in located],
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
            "probability": confidence(trace.candidates(), execution, choice),
            "reason": choice.reason,
            "resolved": grades.get(choice.patch.normal),
        },
        "notes": list(prediction.notes) if prediction else [],
        "regressions": regressions_values(prediction.regressions) if prediction else None,
        **budget_values(trace),
    }


def _patches(trace: RunTrace, grades: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the distinct patches, the best first (`verdicts.distinct`), each by its earliest sample."""
    found: dict[str, tuple[Patch, int, list[int]]] = {}
    for sample in trace.samples:
        if isinstance(patch := sample.outcome, Patch) and sample.order is not None:
            found.setdefault(patch.normal, (patch, sample.round, []))[2].append(sample.order)
    execution = trace.execution
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts} if execution else {}
    evolution, made = evolved(trace), sources(trace)
    patches = []
    for standing in distinct(trace):
        normal, verdict = standing.normal, verdicts.get(standing.normal)
        patch, number, orders = found[normal]
        values = {
            "normal": normal,
            "diff": patch.diff.decode("utf-8", "backslashreplace"),
            "paths": list(patch.paths),
            "votes": standing.votes,
            "orders": orders,
            **({"from": made[normal]} if made else {}),
            "resolved": grades.get(normal),
            "refusal": verdict.refusal if verdict else "",
            "verdicts": [result.outcome.value for result in verdict.results] if verdict else [],
            **({"round": number, "score": evolution.scores.get(normal)} if evolution else {}),
        }
        patches.append(values)
    return patches


def _cost(spent: Spending, prices: Prices) -> dict[str, Any]:
    """Return the object `cost`: everything paid for, over all commands that worked on the evaluation (docs/json.md)."""

    tokens = {
        "prompt_tokens": (spent.prompt_tokens, spent.untold_prompts),
        "cached_tokens": (spent.cached_tokens, spent.untold_cached),
        "completion_tokens": (spent.completion_tokens, spent.untold_answers),
        "distinct_prompt_tokens": (spent.distinct_tokens, spent.untold_prompts),
    }
    computed = spent.prompt_tokens - spent.cached_tokens
    all_told = spent.distinct_tokens and not spent.untold_prompts and not spent.untold_cached
    return {
        **{name: None if untold and not told else told for name, (told, untold) in tokens.items()},
        "untold": {name: untold for name, (_, untold) in tokens.items() if name != "distinct_prompt_tokens"},
        "prefill_ratio": computed / spent.distinct_tokens if all_told else None,
        "model_seconds": spent.model_seconds,
        "sandbox_seconds": spent.box_seconds,
        "grading_seconds": spent.grading_seconds,
        "wall_seconds": spent.wall_seconds,
        "price": None if prices == Prices() else _priced(spent, prices),
    }


def _priced(spent: Spending, prices: Prices) -> dict[str, float | None]:
    """Return what each part costs, null where its price or some tokens are not known, and the sum of the others."""

    def times(price: float | None, amount: float, untold: int = 0) -> float | None:
        return None if price is None or untold else price * amount

    cached = prices.prompt if prices.cached is None else prices.cached
    computed = spent.prompt_tokens - spent.cached_tokens
    parts = {
        "prompt": times(prices.prompt, computed / 1e6, spent.untold_prompts),
        "cached": times(cached, spent.cached_tokens / 1e6, spent.untold_prompts),
        "completion": times(prices.completion, spent.completion_tokens / 1e6, spent.untold_answers),
        "boxes": times(prices.box_hour, spent.box_seconds / 3600),
    }
    return {**parts, "total": sum(part for part in parts.values() if part is not None)}
