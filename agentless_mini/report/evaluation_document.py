"""The report of an evaluation as one JSON document, read from its store without a request: what `--json` prints.

Its keys are schema, run, results and cost; several evaluations are a list of such documents.

`results` is the same to the byte for an evaluation that was killed and resumed; what was paid for is in `cost`. Runs
are read one after another, so memory grows with the instances and not with their samples.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentless_mini.domain import Patch
from agentless_mini.errors import UsageError, printable
from agentless_mini.record import AttemptRecord, EvalStart, RunTrace, Spending, Store
from agentless_mini.report.document import SCHEMA
from agentless_mini.report.evaluation_instance import instance_document
from agentless_mini.report.evaluation_results import InstanceFacts, replay_of, results, solved

MILLION = 1_000_000
HOUR = 3600


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
    """Return the reports of evaluations that are shown side by side.

    Where one is in rounds, the others have best@N at the ends of its rounds, too: at equal budgets. Raises as
    `evaluation_document`.
    """
    budgets = sorted({end for store in stores for end in _round_ends(store)})
    return [evaluation_document(store, prices, budgets) for store in stores]


def evaluation_document(
    store: Store,
    prices: Prices = Prices(),
    budgets: Collection[int] = (),
) -> dict[str, Any]:
    """Return the report of the store's evaluation, also while it is going on.

    `budgets` are numbers of samples at which best@N is wanted beside the usual ones.
    Raises `UsageError` where the store has none, `StoreError` where it cannot be read.
    """
    start = store.evals.start()
    return {
        "schema": SCHEMA,
        "run": _run(start, store.evals.grade_versions()),
        "results": results(_facts(store, budgets), budgets),
        "cost": _cost(store.evals.spending(), prices),
    }


def one_instance(store: Store, name: str) -> dict[str, Any]:
    """Return one instance in depth. Raises `UsageError` where the evaluation has none of this name."""
    attempts = {attempt.instance: attempt for attempt in store.evals.attempts()}
    for record in store.evals.instances():
        if record.id == name:
            trace, grades = _read(store, attempts.get(name))
            return instance_document(record, attempts.get(name), trace, grades)
    raise UsageError(f"The evaluation has no instance {printable(name)}: amini report without --instance lists them.")


def _facts(store: Store, budgets: Collection[int]) -> Iterator[InstanceFacts]:
    """Yield what the report needs of each instance, in order of id, one run in memory at a time."""
    attempts = {attempt.instance: attempt for attempt in store.evals.attempts()}
    for record in store.evals.instances():
        attempt = attempts.get(record.id)
        trace, grades = _read(store, attempt)
        yield InstanceFacts(record, attempt, solved(trace, grades, budgets) if trace else None)


def _round_ends(store: Store) -> tuple[int, ...]:
    """Return how many samples there are at the end of each round, empty without rounds: of any decided instance."""
    for attempt in store.evals.attempts():
        if attempt.run is not None and (replay := replay_of(store.runs.trace(attempt.run))).samples:
            return replay.ends
    return ()


def _read(store: Store, attempt: AttemptRecord | None) -> tuple[RunTrace | None, dict[str, bool]]:
    """Return the run that decided an instance, and which of its patches are right, by normal form.

    The grade of the earliest sample's own diff counts before any other's.
    """
    if attempt is None or attempt.run is None:
        return None, {}
    trace = store.runs.trace(attempt.run)
    by_diff = {record.diff: record for record in store.evals.grades(attempt.instance)}
    grades = {record.normal: record.resolved for record in reversed(by_diff.values())}
    patches = [sample.outcome for sample in trace.samples if isinstance(sample.outcome, Patch)]
    earliest = {patch.normal: hashlib.sha256(patch.diff).hexdigest() for patch in reversed(patches)}
    return trace, grades | {normal: by_diff[diff].resolved for normal, diff in earliest.items() if diff in by_diff}


def _run(start: EvalStart, graded: Sequence[str]) -> dict[str, Any]:
    return {
        "name": start.name,
        "dataset": start.dataset,
        "fingerprint": start.fingerprint,
        "model": start.model,
        "versions": {**json.loads(start.versions), **({"swebench": ", ".join(graded)} if graded else {})},
        "settings": json.loads(start.settings),
        "started": datetime.fromtimestamp(start.started, UTC).isoformat(timespec="seconds"),
    }


def _cost(spent: Spending, prices: Prices) -> dict[str, Any]:
    """Return the object `cost`: everything paid for, over all commands that worked on the evaluation.

    Tokens are sums of what servers reported, null where they reported none; `untold` counts the samples without a
    report. `prefill_ratio` is what the server computed of prompts, over what it would compute if no two shared anything
    and none came twice; null where some of that is not reported. `model_seconds` is wall-clock time in which samples
    were waited for (see `Spending`). The price is null where none is given, and so is a part without a price.
    """
    computed = spent.prompt_tokens - spent.cached_tokens
    all_told = spent.distinct_tokens and not spent.untold_prompts and not spent.untold_cached
    return {
        "prompt_tokens": _told(spent.prompt_tokens, spent.untold_prompts),
        "cached_tokens": _told(spent.cached_tokens, spent.untold_cached),
        "completion_tokens": _told(spent.completion_tokens, spent.untold_answers),
        "distinct_prompt_tokens": _told(spent.distinct_tokens, spent.untold_prompts),
        "untold": {
            "prompt_tokens": spent.untold_prompts,
            "cached_tokens": spent.untold_cached,
            "completion_tokens": spent.untold_answers,
        },
        "prefill_ratio": computed / spent.distinct_tokens if all_told else None,
        "model_seconds": spent.model_seconds,
        "sandbox_seconds": spent.box_seconds,
        "grading_seconds": spent.grading_seconds,
        "wall_seconds": spent.wall_seconds,
        "price": None if prices == Prices() else _priced(spent, prices),
    }


def _told(tokens: int, untold: int) -> int | None:
    return None if untold and not tokens else tokens


def _priced(spent: Spending, prices: Prices) -> dict[str, float | None]:
    """Return what each part costs, null where its price or some of its tokens are not known, and the sum of the others.

    What servers do not report as coming from their cache counts as computed.
    """

    def times(price: float | None, amount: float, untold: int = 0) -> float | None:
        return None if price is None or untold else price * amount

    cached = prices.prompt if prices.cached is None else prices.cached
    computed = (spent.prompt_tokens - spent.cached_tokens) / MILLION
    parts = {
        "prompt": times(prices.prompt, computed, spent.untold_prompts),
        "cached": times(cached, spent.cached_tokens / MILLION, spent.untold_prompts),
        "completion": times(prices.completion, spent.completion_tokens / MILLION, spent.untold_answers),
        "boxes": times(prices.box_hour, spent.box_seconds / HOUR),
    }
    return {**parts, "total": sum(part for part in parts.values() if part is not None)}
