"""Tests meet patches round by round: none meets one twice but to look again, and new files bring their own tests."""

from collections import Counter
from dataclasses import replace

import pytest

from agentless_mini.chain.execute import Batches
from agentless_mini.domain import (
    Case,
    Ending,
    Execution,
    Harness,
    Job,
    JobResult,
    Note,
    Origin,
    Outcome,
    Output,
    Regressions,
    Runner,
    StepResult,
)
from agentless_mini.settings.run import RegressSettings
from tests.chain import boxes
from tests.chain.batches import CART_TEST, GIVEN, SHOWS_IT, TAX_TEST, TREE, Bench, candidates, cart, ids, patch, tax
from tests.chain.workbench import run


def test_a_rerun_over_the_same_patches_runs_nothing() -> None:
    bench = Bench()
    first = bench.over(cart(1), None, cart(13))
    jobs = bench.jobs
    assert ids(first) == [SHOWS_IT.id, CART_TEST]
    assert bench.over(cart(1), None, cart(13)) == first
    assert bench.jobs == jobs


def test_later_patches_meet_the_tests_and_the_earlier_ones_do_not_meet_them_again() -> None:
    bench = Bench()
    bench.over(cart(1))
    before = bench.jobs
    execution = bench.over(cart(1), cart(2), None, cart(2), cart(3))
    assert bench.jobs == before + 2
    assert len(bench.met) == len(set(bench.met)) == 3 * 2
    assert execution is not None
    assert [verdict.normal for verdict in execution.verdicts] == ["cart 1", "cart 2", "cart 3"]


def test_few_regression_tests_that_a_patch_breaks_run_once_more_and_count_as_kept_where_they_pass_then() -> None:
    bench = Bench(busy=CART_TEST)
    execution = bench.over(cart(1), cart(13))
    assert execution is not None
    kept, broken = ([result.outcome for result in verdict.results] for verdict in execution.verdicts)
    assert (kept, broken) == ([Outcome.PASS, Outcome.PASS], [Outcome.FAIL, Outcome.FAIL])
    assert bench.met.count(("# 1", CART_TEST)) == bench.met.count(("# 13", CART_TEST)) == 2
    assert bench.met.count(("# 1", SHOWS_IT.id)) == bench.met.count(("# 13", SHOWS_IT.id)) == 1


def test_new_files_bring_their_regression_tests_which_all_patches_meet() -> None:
    bench = Bench()
    first = bench.over(cart(1))
    second = bench.over(cart(1), tax(1), tax(13))
    assert ids(first) == [SHOWS_IT.id, CART_TEST]
    assert ids(second) == [SHOWS_IT.id, CART_TEST, TAX_TEST]
    assert len(set(bench.met)) == 3 * 3
    assert [one for one, times in Counter(bench.met).items() if times > 1] == [
        ("RATE = 13", CART_TEST),
        ("RATE = 13", TAX_TEST),
    ]
    assert second is not None
    assert [len(verdict.results) for verdict in second.verdicts] == [3, 3, 3]
    assert len(second.before) == 3
    assert {result.outcome for result in second.verdicts[2].results} == {Outcome.FAIL}


def test_all_rounds_at_once_come_to_the_same_verdicts() -> None:
    whole, parts = Bench(), Bench()
    parts.over(cart(1))
    parts.over(cart(1), cart(13))
    assert parts.over(cart(1), cart(13), cart(2)) == whole.over(cart(1), cart(13), cart(2))


def test_a_patch_that_cannot_be_put_over_the_tree_is_refused_once_and_for_all_tests() -> None:
    bench = Bench(refused=b"RATE = 7")
    bench.over(cart(1), tax(7))
    execution = bench.over(cart(1), tax(7), cart(2))
    assert execution is not None
    assert [(verdict.refusal, bool(verdict.results)) for verdict in execution.verdicts] == [
        ("", True), ("it does not fit", False), ("", True),
    ]  # fmt: skip


def test_without_a_patch_nothing_is_run() -> None:
    bench = Bench()
    assert bench.over(None, None) is None
    assert bench.jobs == 0


def test_the_other_tests_of_a_given_tests_file_are_met_by_all_patches_once() -> None:
    bench = Bench((Case(TAX_TEST.replace("test_tax", "test_own"), Origin.GIVEN, "tests/test_tax.py", b""),))
    first = bench.over(cart(1))
    assert ids(first) == [TAX_TEST, CART_TEST]
    bench.over(cart(1), tax(1))
    assert len(bench.met) == len(set(bench.met)) == 2 + 2


def test_without_a_test_there_is_nothing_to_tell() -> None:
    bench = Bench(reproducing=())
    execution = bench.over(patch("shop/none.py", "x", "none"))
    assert execution == Execution((), (), ())
    why = "no test of the repository is related to the files that the patches touch"
    assert bench.batches.regressions == Regressions(0, 0, why)
    assert not [event for event in bench.events if isinstance(event, Note)], "the summary warns, once"


def test_what_became_of_the_regression_tests_is_known_over_all_rounds() -> None:
    bench = Bench()
    assert bench.batches.regressions is None
    bench.over(cart(1))
    assert bench.batches.regressions == Regressions(1, 1)
    bench.over(cart(1), tax(1))
    assert bench.batches.regressions == Regressions(2, 2)


def test_where_no_regression_test_is_wanted_none_is_missed() -> None:
    bench = Bench(budget=0)
    assert ids(bench.over(cart(1))) == [SHOWS_IT.id]
    assert bench.batches.regressions is None
    assert not [event for event in bench.events if isinstance(event, Note)]


def test_what_later_patches_touch_brings_its_own_notes() -> None:
    bench = Bench(flaky="test_tax")
    bench.over(cart(1))
    bench.over(cart(1), patch("shop/none.py", "x", "none"))  # the tests that there are tell something
    assert not [event for event in bench.events if isinstance(event, Note)]
    bench.over(cart(1), tax(1))
    said = "Tests with another result beside the others were dropped: 1."
    assert [event.text for event in bench.events if isinstance(event, Note)] == [said]
    assert bench.batches.regressions == Regressions(2, 1, "1 not passing a second time")


def test_the_limit_of_regression_tests_holds_over_all_rounds() -> None:
    bench = Bench(most=1)
    bench.over(cart(1))
    assert ids(bench.over(cart(1), tax(1))) == [SHOWS_IT.id, CART_TEST]


def test_with_tests_that_are_given_the_others_run_on_the_patches_that_pass_the_most_of_them() -> None:
    bench = Bench((GIVEN, SHOWS_IT), given_first=0)
    execution = bench.over(cart(1), cart(13), None, tax(2))
    assert ids(execution) == [GIVEN.id, SHOWS_IT.id, CART_TEST, TAX_TEST]
    assert execution is not None
    assert [(verdict.normal, len(verdict.results)) for verdict in execution.verdicts] == [
        ("cart 1", 4), ("cart 13", 1), ("tax 2", 4),
    ]  # fmt: skip
    assert [name for changed, name in bench.met if changed == "# 13"] == [GIVEN.id]


def test_where_no_patch_passes_what_is_given_nothing_else_is_run() -> None:
    bench = Bench((GIVEN, SHOWS_IT), given_first=0)
    execution = bench.over(cart(13), tax(13))
    assert ids(execution) == [GIVEN.id]
    assert {name for _, name in bench.met} == {GIVEN.id}


def test_without_a_given_test_that_tells_something_all_run_on_all_patches() -> None:
    bench, plain = Bench(given_first=0), Bench()
    assert bench.over(cart(1), cart(13)) == plain.over(cart(1), cart(13))


def test_of_ranked_patches_no_more_are_tried_once_one_passes_all_tests() -> None:
    bench = Bench((GIVEN, SHOWS_IT), given_first=2)
    execution = bench.over(cart(13), None, cart(131), cart(1), cart(2), cart(3))
    assert execution is not None
    assert [(verdict.normal, len(verdict.results)) for verdict in execution.verdicts] == [
        ("cart 13", 1), ("cart 131", 1), ("cart 1", 3),
    ]  # fmt: skip
    said = "2 of 6 samples were not tested: one that the model finds likelier passes all tests."
    assert Note(said) in bench.events


def test_of_ranked_patches_all_are_tried_where_none_passes_all_tests() -> None:
    bench = Bench((GIVEN,), given_first=1)
    execution = bench.over(cart(13), cart(131))
    assert execution is not None
    assert len(execution.verdicts) == 2


def test_a_patch_that_was_among_the_best_for_a_while_meets_what_later_ones_bring() -> None:
    bench = Bench((GIVEN,), given_first=1, refused=b"never")
    bench.fails = {"test_cart": "# 1"}
    execution = bench.over(cart(1), tax(2))
    assert ids(execution) == [GIVEN.id, CART_TEST, TAX_TEST]
    assert execution is not None
    assert [len(verdict.results) for verdict in execution.verdicts] == [3, 3]


@pytest.mark.parametrize(
    ("first", "now", "doubted"), [(4.0, 0.9, True), (4.0, 1.1, False), (0.9, 0.01, False), (4.0, None, False)]
)
@pytest.mark.parametrize("runner", [Runner.COMMAND, Runner.PYTEST])
def test_a_command_that_passes_in_a_fraction_of_its_time_is_suspicious(
    first: float, now: float | None, doubted: bool, runner: Runner
) -> None:
    def answer(job: Job) -> JobResult:
        failed = StepResult(Ending.EXITED, 1, seconds=first)
        patched = any(file.path == "shop/cart.py" for file in job.files) and now is not None
        return JobResult((StepResult(Ending.EXITED, 0, seconds=now or 0.0) if patched else failed,))

    case = Case("make test", Origin.GIVEN, command="make test")
    if runner is Runner.COMMAND:
        case = Case("tests/test_own.py", Origin.GIVEN, "tests/test_own.py", b"")
    bench, _, _ = boxes.bench(answer, TREE)
    batches = Batches(replace(bench, harness=Harness(runner, ("make",))), (case,), RegressSettings(budget=0))
    run(batches.over(candidates(cart(1))))
    odd = f"{case.id} passes in a fraction of its time without the patch"
    assert batches.doubts(cart(1)) == ((odd,) if doubted else ())
    assert batches.doubts(cart(2)) == ()


@pytest.mark.parametrize(
    ("status", "before", "after", "doubted"),
    [
        (1, "E\n===== 1 failed in 0.12s =====", "===== 1 passed in 0.03s =====", False),
        (1, "E\n===== 1 failed in 0.12s =====", "", True),
        (1, "Ran 2 tests in 0.1s\n\nFAILED (failures=1)", "Ran 2 tests in 0.1s\n\nOK", False),
        (1, "Ran 2 tests in 0.1s\n\nFAILED (failures=1)", "bye", True),
        (1, "AssertionError", "", False),
        (0, "checked 12 files in 0.4 s", "checked 13 files in 1.25 s", False),
        (0, "checked 12 files in 0.4 s", "", True),
        (0, "", "new words", False),
    ],
)
def test_a_command_that_passes_without_its_usual_last_line_is_suspicious(
    status: int, before: str, after: str, doubted: bool
) -> None:
    def answer(job: Job) -> JobResult:
        patched = any(file.path == "shop/cart.py" for file in job.files)
        said = Output((after if patched else before).encode())
        return JobResult((StepResult(Ending.EXITED, 0 if patched else status, said),))

    origin = Origin.GIVEN if status else Origin.REGRESSION
    bench, _, _ = boxes.bench(answer, TREE)
    case = Case("make test", origin, command="make test")
    batches = Batches(bench, (case,), RegressSettings(budget=0))
    run(batches.over(candidates(cart(1))))
    assert batches.doubts(cart(1)) == (("make test passes without its usual last line",) if doubted else ())
