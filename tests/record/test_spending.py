"""What a store says of what was paid for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import UNTOLD, Completion, Finish, Usage
from agentless_mini.record import RunStatus, Spending, Store
from agentless_mini.record.evaluations import covered
from tests.record.building import START, record, request


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
