"""What a reward model gave the patches of a run, and that only that run has it."""

import asyncio
from collections.abc import Mapping, Sequence

from agentless_mini.domain import Issue, Patch
from agentless_mini.record import Store, traced_scoring
from tests.record.building import START, patch


async def lengths(issue: Issue, patches: Sequence[Patch]) -> Mapping[str, float]:
    return {one.normal: len(one.diff) / 4 for one in patches}


def test_scores_are_kept_by_run_and_the_last_one_counts(store: Store) -> None:
    one, other = store.runs.begin(START), store.runs.begin(START)
    store.runs.put_scores(one, {"b": 1.0, "a": -2.5})
    store.runs.put_scores(one, {"b": 0.25})
    store.runs.put_scores(other, {"a": 3.0})
    assert store.runs.trace(one).scores == (("a", -2.5), ("b", 0.25))
    assert store.runs.trace(other).scores == (("a", 3.0),)


def test_a_run_that_is_planned_again_forgets_them(store: Store) -> None:
    one, other = store.runs.begin(START), store.runs.begin(START)
    for run in (one, other):
        store.runs.put_scores(run, {"a": 1.0})
    store.runs.unlink(one)
    assert (store.runs.trace(one).scores, store.runs.trace(other).scores) == ((), (("a", 1.0),))


def test_scoring_that_is_traced_answers_alike(store: Store) -> None:
    run = store.runs.begin(START)
    patches = [patch(b"diff", "a"), patch(b"diff of more", "b")]

    async def asked() -> Mapping[str, float]:
        return await traced_scoring(lengths, store, run)(Issue("It fails."), patches)

    found = asyncio.run(asked())
    assert found == {"a": 1.0, "b": 3.0}
    assert dict(store.runs.trace(run).scores) == found
