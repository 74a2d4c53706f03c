"""A run can be looked at later: what it used, what became of it, how it was decided."""

import contextlib
import sqlite3
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.rank import counted_votes
from agentless_mini.domain import (
    Candidate,
    Choice,
    Completion,
    Finish,
    GeneratedCase,
    Localization,
    Prediction,
    Reason,
    Rejected,
    Stage,
    Usage,
)
from agentless_mini.errors import UsageError
from agentless_mini.record import RunId, RunStatus, Store
from tests.record.building import HOSTILE, START, patch, record, request


def test_a_run_comes_back_with_all_that_it_used_and_decided(store: Store) -> None:
    asked, run = request("Fix it.", 0, 1, 2), store.runs.begin(START)
    completions = [Completion(index, f"answer {index}", Finish.STOP, usage=Usage(9, 0, 4)) for index in range(3)]
    key = record(store, asked, *completions)
    for index in (2, 0, 1):
        store.runs.link(run, key, index)
    valid = patch()
    candidates = (
        Candidate(key, 0, 0, valid),
        Candidate(key, 1, 1, Rejected(Reason.NOT_FOUND, HOSTILE)),
        Candidate(key, 2, 2, replace(valid, diff=b"diff \xff\r\n")),
    )
    localization = Localization((("a.py", "b\udcff.py"), ("c.py",)), (3, 1), ("a.py",), 5, 9)
    choice = Choice(valid, 2, 2, "2 of 2 have it")
    store.runs.put_prediction(run, Prediction(localization, candidates, choice, ("the tree was cut",)))
    store.runs.finish(run, RunStatus.DONE, 0)

    trace = store.runs.trace(run)
    assert (trace.run.start, trace.run.status, trace.run.exit_code) == (START, RunStatus.DONE, 0)
    assert trace.run.finished is not None
    assert trace.run.started <= trace.run.finished <= time.time()
    assert [sample.outcome for sample in trace.samples] == [
        valid,
        Rejected(Reason.NOT_FOUND, HOSTILE),
        replace(valid, diff=b"diff \xff\r\n"),
    ]
    assert [(sample.order, sample.index, sample.replayed) for sample in trace.samples] == [
        (0, 0, False),
        (1, 1, False),
        (2, 2, False),
    ]
    assert {sample.prompt for sample in trace.samples} == {asked.prompt_digest()}
    assert trace.samples[0].usage == Usage(9, 0, 4)
    assert trace.prediction is not None
    assert (trace.prediction.localization, trace.prediction.notes) == (localization, ("the tree was cut",))
    assert trace.prediction.choice is not None
    assert trace.prediction.choice == choice
    (summary,) = store.runs.summaries()
    assert (summary.run, summary.samples, summary.votes, summary.valid) == (trace.run, 3, 2, 2)


def test_what_the_vote_goes_by_comes_back(store: Store) -> None:
    asked, run = request("Fix it.", 0, 1), store.runs.begin(START)
    key = record(store, asked, *(Completion(index, "answer", Finish.STOP) for index in range(2)))
    unsound = replace(patch(), undefined=("foo", "\u00e9"))
    candidates = Candidate(key, 0, 0, unsound), Candidate(key, 1, 1, unsound, repeats=True)
    for index in range(2):
        store.runs.link(run, key, index)
    store.runs.put_prediction(run, Prediction(Localization((), ()), candidates, Choice(unsound, 1, 1, "one")))
    told = store.runs.trace(run).prediction
    assert told is not None
    assert told.candidates == candidates
    assert counted_votes(told.candidates) == counted_votes(candidates)
    assert told.choice is not None
    assert told.choice.patch.undefined == unsound.undefined


def test_a_sample_of_which_nothing_was_made_is_neither_a_candidate_nor_a_test(store: Store) -> None:
    run, keys = store.runs.begin(START), {}
    for stage in (Stage.REPAIR, Stage.REPRODUCE):
        keys[stage] = record(
            store,
            replace(request(stage.value), stage=stage),
            *(Completion(index, "", Finish.STOP) for index in range(2)),
        )
        for index in range(2):
            store.runs.link(run, keys[stage], index)
    candidates = (Candidate(keys[Stage.REPAIR], 0, 0, Rejected(Reason.NO_EDIT, "")),)
    generated = (GeneratedCase(keys[Stage.REPRODUCE], 0, 0, Rejected(Reason.NO_TEST, "")),)
    store.runs.put_prediction(run, Prediction(Localization((), ()), candidates, None, generated=generated))
    told = store.runs.trace(run).prediction
    assert told is not None
    assert (told.candidates, told.generated) == (candidates, generated)


def test_samples_are_shown_by_stage_and_in_the_order_they_came_where_nothing_was_made_of_them(store: Store) -> None:
    run, located = store.runs.begin(START), replace(request("Where?"), stage=Stage.LOCALIZE)
    for asked in (request("Fix."), located):
        key = record(store, asked, *(Completion(index, "", Finish.STOP) for index in range(3)))
        for index in (1, 2, 0):
            store.runs.link(run, key, index)
    rejected = Candidate(request("Fix.").key(), 0, 0, Rejected(Reason.NO_EDIT, ""))
    store.runs.put_prediction(run, Prediction(Localization((), ()), (rejected,), None))
    trace = store.runs.trace(run)
    assert [(sample.stage, sample.index) for sample in trace.samples] == [
        *((Stage.LOCALIZE, index) for index in (1, 2, 0)),
        *((Stage.REPAIR, index) for index in (0, 1, 2)),
    ]
    assert [sample.order for sample in trace.samples] == [None, None, None, 0, None, None]


def test_a_sample_that_an_earlier_run_used_was_replayed(store: Store) -> None:
    key = record(store, request(), Completion(0, "", Finish.STOP), Completion(1, "", Finish.STOP))
    first, second = store.runs.begin(START), store.runs.begin(START)
    store.runs.link(first, key, 0)
    for index in (0, 1, 1):
        store.runs.link(second, key, index)
    assert [sample.replayed for sample in store.runs.trace(first).samples] == [False]
    assert [sample.replayed for sample in store.runs.trace(second).samples] == [True, False]
    assert [summary.run.id for summary in store.runs.summaries()] == [second, first]


def test_an_unknown_run_is_a_usage_error(store: Store) -> None:
    with pytest.raises(UsageError, match="no run 7"):
        store.runs.trace(RunId(7))


def test_equal_patches_are_stored_once(store: Store, path: Path) -> None:
    run = store.runs.begin(START)
    key = record(store, request(), *(Completion(index, "", Finish.STOP) for index in range(20)))
    big = patch(diff=b"+" * 100_000)
    for index in range(20):
        store.runs.link(run, key, index)
    candidates = tuple(Candidate(key, index, index, big) for index in range(20))
    store.runs.put_prediction(run, Prediction(Localization((), ()), candidates, None))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM patches").fetchone() == (1,)


def test_reading_500_samples_loads_their_prompt_not_once(store: Store, path: Path) -> None:
    run, asked = store.runs.begin(START), request("x" * 1_000_000)
    key = record(store, asked, *(Completion(index, "", Finish.STOP) for index in range(500)))
    for index in range(500):
        store.runs.link(run, key, index)
    tracemalloc.start()
    try:
        assert len(store.runs.trace(run).samples) == 500
        assert all(store.get_sample(key, index) for index in range(500))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    store.close()
    assert path.stat().st_size < 2_000_000


def test_a_killed_run_is_interrupted_for_readers_and_for_the_next_run(path: Path) -> None:
    with Store.open(path) as store:
        run = store.runs.begin(START)
        with Store.open_readonly(path) as reader:
            assert reader.runs.trace(run).run.status is RunStatus.RUNNING
    with Store.open_readonly(path) as reader:
        assert reader.runs.trace(run).run.status is RunStatus.INTERRUPTED
        assert reader.runs.summaries()[0].run.status is RunStatus.INTERRUPTED
    with Store.open(path) as store:
        assert store.runs.trace(run).run.status is RunStatus.INTERRUPTED
