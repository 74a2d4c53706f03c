"""What the tests of a run were and said comes back, in stores that older versions made too."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import (
    Candidate,
    Case,
    CaseResult,
    Choice,
    Completion,
    Environment,
    Execution,
    Fault,
    Finish,
    GeneratedCase,
    Job,
    JobResult,
    Localization,
    Origin,
    Outcome,
    PackedTree,
    Prediction,
    Reason,
    Regressions,
    Rejected,
    Stage,
    Verdict,
)
from agentless_mini.record import Store
from agentless_mini.record.database import pack, read, unpack, written
from tests.record.building import HOSTILE, START, patch, record, request

NOWHERE = Localization((), ())
KEPT = Case("tests/test_issue_0.py", Origin.GENERATED, "tests/test_issue_0.py", b"assert \xff\0\n" * 500, votes=2)
COMMAND = Case("make test", Origin.GIVEN, command="make test")
OLD = Case("tests/test_a.py::test_f[\ud800]", Origin.REGRESSION, "tests/test_a.py")
FAULT = Fault("AssertionError", HOSTILE, "a\udcff.py", 3)
EXECUTION = Execution(
    (KEPT, COMMAND, OLD),
    (CaseResult(KEPT.id, Outcome.FAIL, 0.5, FAULT), CaseResult(OLD.id, Outcome.PASS)),
    (
        Verdict(
            "n" * 64,
            (
                CaseResult(KEPT.id, Outcome.PASS, 0.25),
                CaseResult(COMMAND.id, Outcome.TIMEOUT),
                CaseResult(OLD.id, Outcome.ERROR, 1.0, FAULT),
            ),
        ),
        Verdict("m" * 64, (), "the folder \ud800 is a symlink"),
    ),
)


def decided(store: Store, prediction: Prediction) -> Execution | None:
    run = store.runs.begin(START)
    store.runs.put_prediction(run, prediction)
    read = store.runs.trace(run).prediction
    assert read is not None
    return read.execution


def test_an_execution_comes_back_as_it_was(store: Store) -> None:
    assert decided(store, Prediction(NOWHERE, (), None, execution=EXECUTION)) == EXECUTION
    assert decided(store, Prediction(NOWHERE, (), None)) is None


def test_what_became_of_the_regression_tests_comes_back(store: Store) -> None:
    for found in (None, Regressions(3, 0, "none \ud800 passes twice"), Regressions(3, 2)):
        run = store.runs.begin(START)
        store.runs.put_prediction(run, Prediction(NOWHERE, (), None, regressions=found))
        trace = store.runs.trace(run)
        assert trace.prediction is not None
        assert trace.prediction.regressions == found


def test_a_later_decision_of_a_run_takes_the_place_of_the_earlier(store: Store) -> None:
    run = store.runs.begin(START)
    less = replace(EXECUTION, cases=(KEPT,), verdicts=(Verdict("k" * 64, (), "no"),))
    for execution in (EXECUTION, less):
        store.runs.put_prediction(run, Prediction(NOWHERE, (), None, execution=execution))
    read = store.runs.trace(run).prediction
    assert read is not None
    assert read.execution == less


def test_a_choice_comes_back_with_what_the_tests_say_of_it(store: Store) -> None:
    run, key = store.runs.begin(START), record(store, request(), Completion(0, "", Finish.STOP))
    choice = Choice(patch(), 1, 1, "so it is", passed=3, reproducing=4, broken=1, regressions=41)
    store.runs.put_prediction(run, Prediction(NOWHERE, (Candidate(key, 0, 0, patch()),), choice))
    read = store.runs.trace(run).prediction
    assert read is not None
    assert read.choice is not None
    told = read.choice
    assert (told.passed, told.reproducing, told.broken, told.regressions) == (3, 4, 1, 41)


def test_a_generated_test_is_what_became_of_its_sample(store: Store) -> None:
    run, asked = store.runs.begin(START), replace(request("Write a test."), stage=Stage.REPRODUCE)
    key = record(store, asked, *(Completion(index, "", Finish.STOP) for index in range(3)))
    for index in range(3):
        store.runs.link(run, key, index)
    refused = Rejected(Reason.NOT_REPRODUCED, HOSTILE)
    generated = (GeneratedCase(key, 0, 1, KEPT), GeneratedCase(key, 1, 0, refused))
    store.runs.put_prediction(run, Prediction(NOWHERE, (), None, generated=generated))
    assert [(sample.index, sample.order, sample.outcome) for sample in store.runs.trace(run).samples] == [
        (1, 0, refused),
        (0, 1, KEPT),
        (2, None, None),
    ]


def test_a_run_that_is_planned_again_has_used_nothing_and_other_runs_have(store: Store) -> None:
    asked = request()
    key = record(store, asked, Completion(0, "", Finish.STOP))
    job = Job(Environment("sha256:1"), PackedTree("d"), (), ())
    store.put_box(job.key(), job, JobResult(()))
    first, second = store.runs.begin(START), store.runs.begin(START)
    for run in (first, second):
        store.runs.link(run, key, 0)
        store.runs.link_box(run, job.key())
        store.runs.put_prediction(run, Prediction(NOWHERE, (Candidate(key, 0, 0, patch()),), None))
    store.runs.unlink(second)
    assert (store.runs.trace(second).samples, store.runs.trace(second).boxes) == ((), ())
    assert len(store.runs.trace(first).samples) == len(store.runs.trace(first).boxes) == 1
    store.runs.link(second, key, 0)
    (sample,) = store.runs.trace(second).samples
    assert (sample.order, sample.outcome, sample.replayed) == (None, None, True)


def test_500_verdicts_on_100_tests_are_small(store: Store, path: Path) -> None:
    cases = tuple(replace(OLD, id=f"tests/test_some_module.py::TestCase::test_number_{at}") for at in range(100))
    results = tuple(CaseResult(case.id, Outcome.FAIL, 0.125, replace(FAULT, message="x" * 2000)) for case in cases)
    verdicts = tuple(Verdict(f"{at:064x}", results) for at in range(500))
    told = decided(store, Prediction(NOWHERE, (), None, execution=Execution(cases, results, verdicts)))
    assert told is not None
    fault = told.verdicts[499].results[99].fault
    assert fault is not None
    assert fault.message == "x" * 500
    store.close()
    assert path.stat().st_size < 2_000_000


# --- the format ------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=()), max_size=20)
faults = st.builds(Fault, texts, texts, texts, st.integers())
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.builds(Case, texts, st.sampled_from(Origin), texts, st.none() | st.binary(max_size=3000), texts))
def test_any_case_can_be_packed(case: Case) -> None:
    assert read(Case, unpack(pack(written(case)))) == case


@given(st.builds(CaseResult, texts, st.sampled_from(Outcome), numbers, st.none() | faults))
def test_any_result_can_be_packed(result: CaseResult) -> None:
    assert read(CaseResult, unpack(pack(written(result)))) == result


@pytest.mark.parametrize("told", [float("nan"), float("inf")])
def test_seconds_that_are_no_number_are_none(store: Store, told: float) -> None:
    result = CaseResult(OLD.id, Outcome.PASS, told)
    found = decided(store, Prediction(NOWHERE, (), None, execution=Execution((OLD,), (result,), ())))
    assert found is not None
    assert found.before == (CaseResult(OLD.id, Outcome.PASS),)
