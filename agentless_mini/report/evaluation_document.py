"""The report of an evaluation as one JSON document, read from its store without a request: what `--json` prints.

Its keys are schema, run, results and cost; several evaluations are a list of such documents.

`results` is the same to the byte for an evaluation that was killed and resumed; what was paid for is in `cost`. Runs
are read one after another, so memory grows with the instances and not with their samples.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentless_mini.domain import Patch
from agentless_mini.errors import UsageError, printable
from agentless_mini.record import (
    AttemptRecord,
    EvalStart,
    GradeRecord,
    RunTrace,
    Store,
)
from agentless_mini.report.document import SCHEMA
from agentless_mini.report.evaluation_cost import Prices, cost
from agentless_mini.report.evaluation_facts import InstanceFacts, replay_of, solved
from agentless_mini.report.evaluation_instance import instance_document
from agentless_mini.report.evaluation_results import results


def evaluation_documents(stores: Sequence[Store], prices: Prices) -> list[dict[str, Any]]:
    """Return the reports of evaluations that are shown side by side.

    Where one is in rounds, best@N of the others is told at the ends of its rounds, too: at equal budgets. Raises as
    `evaluation_document`.
    """
    budgets = sorted({end for store in stores for end in _round_ends(store)})
    return [evaluation_document(store, prices, budgets) for store in stores]


def evaluation_document(
    store: Store,
    prices: Prices = Prices(),  # noqa: B008 - frozen
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
        "results": results(facts(store, budgets), budgets),
        "cost": cost(store.evals.spending(), prices),
    }


def one_instance(store: Store, name: str) -> dict[str, Any]:
    """Return one instance in depth. Raises `UsageError` where the evaluation has none of this name."""
    attempts = {attempt.instance: attempt for attempt in store.evals.attempts()}
    for record in store.evals.instances():
        if record.id == name:
            trace, grades = _read(store, attempts.get(name))
            return instance_document(record, attempts.get(name), trace, grades)
    raise UsageError(f"The evaluation has no instance {printable(name)}: amini report without --instance lists them.")


def facts(store: Store, budgets: Collection[int] = ()) -> Iterator[InstanceFacts]:
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
    """Return the run that decided an instance, and which of its patches are right, by normal form."""
    if attempt is None or attempt.run is None:
        return None, {}
    trace = store.runs.trace(attempt.run)
    return trace, _graded(trace, store.evals.grades(attempt.instance))


def _graded(trace: RunTrace, records: Iterable[GradeRecord]) -> dict[str, bool]:
    """Return what is known by normal form. The grade of the earliest sample's own diff counts before any other's."""
    by_diff = {record.diff: record for record in records}
    by_normal = {record.normal: record.resolved for record in reversed(by_diff.values())}
    return {**by_normal, **_by_earliest(trace, by_diff)}


def _by_earliest(trace: RunTrace, by_diff: Mapping[str, GradeRecord]) -> dict[str, bool]:
    patches = [sample.outcome for sample in trace.samples if isinstance(sample.outcome, Patch)]
    earliest = {patch.normal: hashlib.sha256(patch.diff).hexdigest() for patch in reversed(patches)}
    return {normal: by_diff[diff].resolved for normal, diff in earliest.items() if diff in by_diff}


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
