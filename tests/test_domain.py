"""What the data types derive: identities that hold, and texts for people."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agentless_mini.domain import (
    BoxLimits,
    CaseResult,
    Decoding,
    EditTask,
    Ending,
    Environment,
    FileChange,
    GivenTests,
    ImageTree,
    Job,
    Message,
    Origin,
    Outcome,
    Output,
    PackedTree,
    PlacedFile,
    Proposal,
    Regressions,
    RewardModel,
    Role,
    SampleRequest,
    SamplingParams,
    ScoreRequest,
    ScoreRoute,
    Stage,
    Step,
    StepResult,
    Verdict,
    placed_files,
)

REQUEST = SampleRequest("m", (Message(Role.USER, "x"),), SamplingParams(8), (0, 1), Stage.REPAIR, "shop@c")
JOB = Job(Environment("sha256:1"), PackedTree("d"), (PlacedFile("a.py", b"x"),), (Step(("true",)),))


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, indices=(5,)),
        replace(REQUEST, stage=Stage.LOCALIZE),
        replace(REQUEST, instance="another"),
    ],
)
def test_what_only_accounts_for_a_request_is_no_part_of_its_identity(other: SampleRequest) -> None:
    assert other.key() == REQUEST.key()


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, model="n"),
        replace(REQUEST, messages=(Message(Role.SYSTEM, "x"),)),
        replace(REQUEST, params=SamplingParams(8, seed=1)),
        replace(REQUEST, decoding=Decoding.GRAMMAR),
        replace(REQUEST, task=EditTask("issue", ())),
    ],
)
def test_whatever_changes_the_answer_changes_the_identity_of_a_request(other: SampleRequest) -> None:
    assert other.key() != REQUEST.key()


@pytest.mark.parametrize(
    "change",
    [
        lambda job: replace(job, environment=Environment("sha256:2")),
        lambda job: replace(job, tree=PackedTree("e")),
        lambda job: replace(job, tree=ImageTree("/repo")),
        lambda job: replace(job, files=(PlacedFile("a.py", b"y"),)),
        lambda job: replace(job, files=(PlacedFile("a.py", None),)),
        lambda job: replace(job, files=(PlacedFile("a.py", b"x", "100755"),)),
        lambda job: replace(job, steps=(Step(("false",)),)),
        lambda job: replace(job, limits=BoxLimits(seconds=1)),
    ],
)
def test_whatever_changes_the_result_changes_the_identity_of_a_job(change: Callable[[Job], Job]) -> None:
    assert change(JOB).key() != JOB.key()


SCORED = ScoreRequest(RewardModel("m"), "prompt", ("answer", "b"))


@pytest.mark.parametrize(
    "other",
    [
        replace(SCORED, model=RewardModel("n")),
        replace(SCORED, model=RewardModel("m", ScoreRoute.POOLING)),
        replace(SCORED, model=RewardModel("m", label=1)),
        replace(SCORED, prompt="another"),
        replace(SCORED, answers=("another", "c")),
        replace(SCORED, prompt="promptan", answers=("swer", "c")),
    ],
)
def test_whatever_changes_a_score_changes_its_identity(other: ScoreRequest) -> None:
    assert not set(other.keys()) & set(SCORED.keys())


def test_a_score_has_one_identity_whatever_else_is_scored() -> None:
    assert replace(SCORED, answers=("b", "c", "answer")).keys()[::2] == SCORED.keys()[::-1]


def test_whole_and_broken_seconds_are_the_same_job() -> None:
    whole = replace(JOB, steps=(Step(("true",), seconds=60),), limits=BoxLimits(seconds=900))
    assert whole.key() == JOB.key()


def test_a_patch_is_placed_file_by_file_and_what_it_deletes_is_taken_away() -> None:
    changes = (FileChange("a.py", b"old", b"new", "100755"), FileChange("b.py", b"old", None, "100644"))
    placed = placed_files(changes)
    assert placed == (PlacedFile("a.py", b"new", "100755"), PlacedFile("b.py", None))


def test_output_tells_what_was_cut() -> None:
    assert Output(b"all \xff").text() == "all \ufffd"
    assert Output(b"head", b"tail", 7).text() == "head\n[... 7 bytes cut ...]\ntail"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (StepResult(Ending.EXITED, 0), True),
        (StepResult(Ending.EXITED, 1), False),
        (StepResult(Ending.TIMED_OUT), False),
    ],
)
def test_a_step_succeeded_that_ended_by_itself_with_status_zero(result: StepResult, expected: bool) -> None:
    assert result.succeeded is expected


def test_a_verdict_names_what_passed() -> None:
    results = (CaseResult("a", Outcome.PASS), CaseResult("b", Outcome.FAIL), CaseResult("c", Outcome.SKIP))
    assert Verdict("n", results).passed() == {"a"}


@pytest.mark.parametrize("origin", list(Origin))
def test_every_test_but_a_regression_test_reproduces_the_issue(origin: Origin) -> None:
    assert origin.reproduces == (origin is not Origin.REGRESSION)


def test_repairs_are_drawn_in_two_stages_or_come_from_elsewhere() -> None:
    assert {stage for stage in Stage if stage.repairs} == {Stage.REPAIR, Stage.EVOLVE, Stage.CHOOSE}


def test_a_test_of_the_users_has_one_id_however_its_path_is_written() -> None:
    given = GivenTests(("./tests\\test_a.py::test_b", "tests/test_a.py"), ("make check",))
    assert given.ids() == ("tests/test_a.py::test_b", "tests/test_a.py", "make check")


def test_a_patch_that_was_made_elsewhere_is_asked_for_by_its_bytes() -> None:
    one = Proposal("agent", b"diff").request()
    assert (one.model, one.stage) == ("agent", Stage.CHOOSE)
    assert one.key() == Proposal("agent", b"diff").request().key()
    assert one.key() != Proposal("agent", b"diff ").request().key() != Proposal("other", b"diff ").request().key()


def test_regression_tests_that_none_ran_are_told_with_a_warning() -> None:
    assert str(Regressions(5, 3)) == "5 found, 3 run, 2 lost"
    lost = Regressions(5, 0, "none passes before the patch")
    assert str(lost) == "5 found, none run; WARNING: none tells what a patch breaks: none passes before the patch"
