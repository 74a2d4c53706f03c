"""What a store says of what was paid for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import UNTOLD, Completion, Finish, Issue, Patch, Usage
from agentless_mini.record import RunStatus, Spending, Store, traced_scoring
from agentless_mini.record.evaluations import covered
from tests.record.building import START, patch, record, request


def test_nothing_was_paid_for_at_first(store: Store) -> None:
    assert store.evals.spending() == Spending()


def test_a_killed_run_lasted_until_the_last_that_it_paid_for(store: Store) -> None:
    run = store.runs.begin(START)
    key = record(store, request(), Completion(0, "", Finish.STOP, usage=Usage(5, 2, 3)))
    store.runs.link(run, key, 0)
    assert store.runs.trace(run).run.finished is None
    told = store.evals.spending()
    assert (told.prompt_tokens, told.cached_tokens, told.completion_tokens, told.distinct_tokens) == (5, 2, 3, 5)
    assert 0 < told.model_seconds <= told.wall_seconds < 60
    again = store.runs.begin(replace(START, instance="other"))
    store.runs.link(again, key, 0)  # replayed: it was there before the run began
    store.runs.finish(again, RunStatus.DONE, 0)
    replayed = store.evals.spending()
    assert (replayed.prompt_tokens, replayed.model_seconds) == (5, told.model_seconds)
    assert replayed.wall_seconds > told.wall_seconds


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [((), 0.0), (((1, 3), (2, 5)), 4.0), (((7, 8), (1, 3)), 3.0), (((1, 9), (2, 3), (8, 10)), 9.0)],
)
def test_spans_that_overlap_count_once(spans: tuple[tuple[float, float], ...], seconds: float) -> None:
    assert covered(spans) == seconds


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple)))
def test_what_is_covered_is_every_moment_once(spans: list[tuple[int, ...]]) -> None:
    moments = {moment for beginning, end in spans for moment in range(beginning, end)}
    assert covered(spans) == len(moments)


def test_what_servers_did_not_tell_is_counted_and_not_summed_up(store: Store) -> None:
    told = [Usage(5, None, 3), Usage(0, 0, None), UNTOLD]
    key = record(store, request(), *(Completion(n, "", Finish.STOP, usage=usage) for n, usage in enumerate(told)))
    assert [one.usage for index in range(3) if (one := store.get_sample(key, index))] == told
    spent = store.evals.spending()
    assert (spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens) == (5, 0, 3)
    assert (spent.untold_prompts, spent.untold_cached, spent.untold_answers) == (1, 2, 2)
    run = store.runs.begin(START)
    for number in range(3):
        store.runs.link(run, key, number)
    assert [sample.usage for sample in store.runs.trace(run).samples] == told


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
