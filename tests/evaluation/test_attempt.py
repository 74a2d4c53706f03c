"""One instance is predicted and graded, pays for nothing twice, and a failing machine is no wrong answer."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import (
    Candidate,
    FileKind,
    Localization,
    Method,
    ModelCard,
    Patch,
    Prediction,
    Snapshot,
    SourceFile,
)
from agentless_mini.errors import (
    GradingFailed,
    NodeLost,
    RepositoryError,
    ServerUnreachable,
    UsageError,
)
from agentless_mini.evaluation.attempt import wanted_grades
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.record import AttemptRecord, AttemptState, RunId, Store
from agentless_mini.settings import Config
from agentless_mini.settings.run import Grading, RepairSettings, Until
from tests.chain.voting import vote
from tests.chain.workbench import FIX, NONSENSE, SAME_FIX, WRONG
from tests.evaluation.attempts import assignments, brought, context, dataset, open_store, sampler
from tests.evaluation.bugs import HIDDEN, resolves, tree
from tests.evaluation.faked import answer
from tests.fakes.model import Script, ScriptedSampler
from tests.fakes.sandbox import ScriptedSandbox
from tests.fakes.testbeds import ScriptedTestbeds

DATA = dataset()
TASK = assignments(DATA)[0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "store.sqlite", DATA)) as opened:
        yield opened


def scripted() -> ScriptedTestbeds:
    return ScriptedTestbeds(tree, resolves)


def with_tests() -> tuple[ScriptedTestbeds, ScriptedSandbox]:
    """Return testbeds whose tests pass where the patch mends the cart."""
    sandbox = ScriptedSandbox(answer)
    return ScriptedTestbeds(tree, resolves, sandbox), sandbox


def test_an_instance_is_predicted_and_its_choice_graded(store: Store) -> None:
    testbed = scripted()
    record, _ = brought(TASK, context(store, sampler(WRONG, FIX, NONSENSE, SAME_FIX)), testbed)
    assert (record.state, record.run) == (AttemptState.DONE, 1)
    (grade,) = store.evals.grades()
    assert (grade.instance, grade.resolved, grade.version) == (TASK.instance.id, True, "scripted")
    assert store.evals.submitted() == {TASK.instance.id: testbed.graded[0][1]}


def test_a_second_attempt_opens_no_bed_and_asks_nothing(store: Store) -> None:
    brought(TASK, context(store, sampler(FIX)), scripted())
    again, asked = scripted(), sampler(WRONG)
    record, events = brought(TASK, context(store, asked), again)
    assert (record.state, record.run, again.opened, events) == (AttemptState.DONE, 1, [], [])


def test_what_is_graded_can_be_asked_for_later_without_predicting_again(store: Store) -> None:
    asked = sampler(WRONG, FIX, SAME_FIX, NONSENSE)
    brought(TASK, context(store, asked, Grading.NONE), scripted())
    assert store.evals.grades() == ()
    later = scripted()
    brought(TASK, context(store, sampler(NONSENSE), Grading.ALL), later)
    assert later.opened == [TASK.instance.id]
    assert sorted(grade.resolved for grade in store.evals.grades()) == [False, True]
    assert len(store.runs.summaries()) == 1


def test_an_attempt_that_was_cut_off_pays_only_for_what_it_owes(store: Store) -> None:
    testbed, sandbox = with_tests()
    brought(TASK, context(store, sampler(WRONG, FIX)), testbed)
    paid = len(sandbox.jobs)
    with store._database.transaction():  # as if killed before the end was recorded
        store._database.write("DELETE FROM attempts")
    again, idle = with_tests()
    brought(TASK, context(store, sampler(NONSENSE)), again)
    assert (paid > 0, idle.jobs, again.graded) == (True, [], [])


def test_an_image_that_cannot_be_had_is_no_wrong_answer(store: Store) -> None:
    testbed = ScriptedTestbeds(tree, resolves, missing=frozenset({TASK.instance.image}))
    record, _ = brought(TASK, context(store, sampler(FIX)), testbed)
    assert (record.state, record.stage, record.run) == (AttemptState.INFRASTRUCTURE, "image", None)
    assert store.evals.submitted() == {}
    record, _ = brought(TASK, context(store, sampler(FIX)), scripted())
    assert record.state is AttemptState.DONE


def test_a_grading_that_fails_keeps_the_prediction(store: Store) -> None:
    def broken(instance: Instance, diff: bytes) -> bool:
        raise GradingFailed("The daemon is gone: start it.")

    record, _ = brought(TASK, context(store, sampler(FIX)), ScriptedTestbeds(tree, broken))
    assert (record.state, record.stage, record.run) == (AttemptState.INFRASTRUCTURE, "grading", 1)
    brought(TASK, context(store, sampler(NONSENSE)), scripted())
    assert [grade.resolved for grade in store.evals.grades()] == [True]


def test_an_issue_that_no_context_fits_is_a_wrong_answer(store: Store) -> None:
    tiny = ScriptedSampler(Script.of(FIX), ModelCard("scripted", 60))
    record, _ = brought(TASK, context(store, tiny), scripted())
    assert (record.state, record.stage) == (AttemptState.FAILED, "context")
    assert store.evals.submitted() == {TASK.instance.id: b""}


def test_a_prediction_outlives_a_node_that_is_lost_while_it_is_graded(store: Store) -> None:
    brought(TASK, context(store, sampler(FIX), Grading.NONE), scripted())
    lost = AttemptRecord(TASK.instance.id, None, AttemptState.INFRASTRUCTURE, "node", "The node is gone.")
    store.evals.put_attempt(lost)
    assert store.evals.attempt(TASK.instance.id) == replace(lost, run=RunId(1))
    assert len(store.evals.submitted()) == 1
    brought(TASK, context(store, sampler(NONSENSE)), scripted())
    assert [grade.resolved for grade in store.evals.grades()] == [True]


@pytest.mark.parametrize(
    "error", [ServerUnreachable("gone"), NodeLost("gone"), UsageError("Unreadable."), RepositoryError("No git.")]
)
def test_what_stops_an_evaluation_is_raised(store: Store, error: Exception) -> None:
    def broken(instance: Instance, diff: bytes) -> bool:
        raise error

    with pytest.raises(type(error)):
        brought(TASK, context(store, sampler(FIX)), ScriptedTestbeds(tree, broken))


@pytest.mark.parametrize(("until", "candidates"), [(Until.LOCALIZE, 0), (Until.REPAIR, 2)])
def test_the_chain_ends_where_it_was_told_to(store: Store, until: Until, candidates: int) -> None:
    chain = Config(repair=RepairSettings(samples=2))
    testbed, sandbox = with_tests()
    record, _ = brought(TASK, replace(context(store, sampler(FIX), chain=chain), until=until), testbed)
    assert record.run is not None
    prediction = store.runs.trace(record.run).prediction
    assert prediction is not None
    assert (len(prediction.candidates), prediction.execution, sandbox.jobs) == (candidates, None, [])
    assert prediction.localization.lists == (("shop/cart.py",),)


def test_oracle_files_replace_localization(store: Store) -> None:
    record, _ = brought(replace(TASK, files=("shop/tax.py", "gone.py")), context(store, sampler(NONSENSE)), scripted())
    assert record.run is not None
    trace = store.runs.trace(record.run)
    assert trace.prediction is not None
    assert trace.prediction.localization.lists == (("shop/tax.py",),)
    assert trace.prediction.notes[0] == "Files that were named and cannot be shown as text were left out: 1."


@pytest.mark.parametrize("files", [(), ("a.png", "gone.py")])
def test_oracle_files_of_which_none_can_be_shown_are_noted(store: Store, files: tuple[str, ...]) -> None:
    def with_picture(instance: Instance) -> Snapshot:
        found = tree(instance)
        return replace(found, files=(SourceFile("a.png", "100644", FileKind.BINARY), *found.files))

    task = replace(TASK, files=files)
    record, _ = brought(task, context(store, sampler(FIX)), ScriptedTestbeds(with_picture, resolves))
    assert record.run is not None
    prediction = store.runs.trace(record.run).prediction
    assert prediction is not None
    assert prediction.localization.lists == (("shop/cart.py",),)
    assert prediction.notes[0] == "No file that was named can be shown as text: the model was asked for files."


def test_nothing_of_the_answer_reaches_a_prompt_a_box_or_the_record_of_the_run(store: Store) -> None:
    testbed, sandbox = with_tests()
    at = context(store, sampler(WRONG, FIX, NONSENSE, SAME_FIX), Grading.ALL)
    for task in assignments(DATA):
        brought(task, at, testbed)
    assert len(sandbox.jobs) > 6
    told = "".join(repr(job) for job in sandbox.jobs)
    for record in store.evals.attempts():
        assert record.run is not None
        trace = store.runs.trace(record.run)
        told += repr(trace)
        told += "".join(repr(store.prompt(sample.prompt)) for sample in trace.samples)
    assert "leaves out its first price" in told
    assert all(f"MARKER-{name}" in DATA.solutions[TASK.instance.id].row for name in HIDDEN)
    assert "MARKER" not in told


def candidate(order: int, normal: str) -> Candidate:
    return Candidate("key", order, order, Patch(f"diff {order}".encode(), normal, ()))


def test_what_is_graded_of_a_prediction() -> None:
    candidates = (candidate(0, "a"), candidate(1, "b"), candidate(2, "b"), candidate(3, "c"))
    prediction = Prediction(Localization((), ()), candidates, vote(candidates))

    def normals(grading: Grading) -> list[str]:
        return [patch.normal for patch in wanted_grades(prediction, grading, Method.VOTE)]

    assert normals(Grading.NONE) == []
    assert normals(Grading.CHOSEN) == ["b"]
    assert normals(Grading.CURVE) == ["b", "a"]
    assert sorted(normals(Grading.ALL)) == ["a", "b", "c"]
    nothing = Prediction(Localization((), ()), (), None)
    assert wanted_grades(nothing, Grading.ALL, Method.VOTE) == ()
