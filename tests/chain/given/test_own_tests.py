"""The user's own failing tests and those that the issue names: what is taken, what is told."""

from collections.abc import Sequence

import pytest

from agentless_mini.chain.given import named_cases, own_cases
from agentless_mini.chain.reproduce import confirm
from agentless_mini.domain import (
    BoxDone,
    Case,
    Ending,
    Event,
    Fault,
    FileKind,
    GivenTests,
    Harness,
    Issue,
    Job,
    JobResult,
    Note,
    Origin,
    Outcome,
    Phase,
    PhaseStarted,
    ResultFile,
    Runner,
    SourceFile,
    StepResult,
)
from agentless_mini.errors import EnvironmentFailed, UsageError
from tests.chain.boxes import PASSES, Said, bench, fails, recording
from tests.chain.workbench import run, shop, text_file
from tests.fakes.records import record_for
from tests.fakes.sandbox import Answering, each_step, exited, refusing

CART = text_file(
    "tests/test_cart.py", "def test_total(): ...\n\n\nclass TestCart:\n    def test_first_price(self): ...\n"
)
TREE = shop(CART, SourceFile("tests/data.bin", "100644", FileKind.BINARY))
NAMES_ONE = Issue("The total is wrong: test_first_price shows it.")


def given(*tests: str, commands: Sequence[str] = (), runner: Runner = Runner.PYTEST) -> tuple[Case, ...]:
    return own_cases(GivenTests(tests=tests, commands=tuple(commands)), TREE, runner)


def named(runner: Runner = Runner.PYTEST) -> tuple[Case, ...]:
    return named_cases(NAMES_ONE, TREE, runner)


def confirmed(
    own: Sequence[Case], of_issue: Sequence[Case], answer: Answering
) -> tuple[tuple[Case, ...], list[str], list[Event]]:
    made, _, events = bench(answer, TREE)
    kept = run(confirm(own, of_issue, made))
    return kept, [event.text for event in events if isinstance(event, Note)], events


def saying(said: Said) -> Answering:
    return recording(lambda _, __: said)


@pytest.mark.parametrize(
    ("said", "id_"),
    [
        ("tests/test_cart.py", "tests/test_cart.py"),
        ("tests/test_cart.py::test_total", "tests/test_cart.py::test_total"),
        ("./tests/test_cart.py::TestCart::test_x[a::b/c]", "tests/test_cart.py::TestCart::test_x[a::b/c]"),
        ("tests\\test_cart.py::test_total", "tests/test_cart.py::test_total"),
    ],
)
def test_a_test_of_the_users_is_taken_with_the_file_as_it_is_now(said: str, id_: str) -> None:
    assert given(said) == (Case(id_, Origin.GIVEN, "tests/test_cart.py", CART.data),)


@pytest.mark.parametrize(
    "said",
    [
        "tests/test_card.py",
        "tests/data.bin",
        "../tests/test_cart.py",
        "/tests/test_cart.py",
        "tests",
        "",
        "::test_total",
        "tests/test_cart.py::",
        "tests/test_cart.py::TestCart::test_x[",
        "tests/test_cart.py::TestCart:test_x",
        "tests/test_cart.py::TestCart::",
        "tests/test_cart.py::the total",
        "tests/\x07.py",
    ],
)
def test_a_path_or_name_that_is_none_is_a_usage_error(said: str) -> None:
    with pytest.raises(UsageError, match="--failing-test") as raised:
        given(said)
    assert str(raised.value).isprintable()


def test_where_files_run_as_a_whole_there_are_no_names() -> None:
    runner = Runner.COMMAND
    assert [case.id for case in given("tests/test_cart.py", runner=runner)] == ["tests/test_cart.py"]
    assert named(runner) == ()
    with pytest.raises(UsageError, match=r"cannot be run by name here: give --failing-test tests/test_cart\.py alone"):
        given("tests/test_cart.py::test_total", runner=runner)


def test_a_command_is_a_test_without_a_file() -> None:
    assert given(commands=["make check | grep ok"]) == (
        Case("make check | grep ok", Origin.GIVEN, command="make check | grep ok"),
    )
    for empty in ("", "  \n", "a\0b"):
        with pytest.raises(UsageError, match="--failing-cmd"):
            given(commands=[empty])


def test_tests_that_the_issue_names_come_after_the_users_and_once() -> None:
    (one,) = named()
    assert one == Case("tests/test_cart.py::TestCart::test_first_price", Origin.GENERATED, CART.path, CART.data)
    assert confirmed(given("tests/test_cart.py::test_total"), [one], saying(fails()))[0][1:] == (one,)
    assert confirmed(given(one.id), [one], saying(fails()))[0] == given(one.id)


@pytest.mark.parametrize("said", [fails(), (Outcome.ERROR, None), (Outcome.TIMEOUT, Fault("", "slow"))])
def test_what_does_not_pass_is_kept(said: Said) -> None:
    own = given("tests/test_cart.py::test_total", commands=["false"])
    kept, _, events = confirmed(own, named(), saying(said))
    assert kept == (*own, *(named() if said == fails() else ()))
    assert events[0] == PhaseStarted(Phase.REPRODUCTION, 1)
    assert isinstance(events[1], BoxDone)


def test_one_box_runs_them_all() -> None:
    made, sandbox, _ = bench(saying(fails()), TREE)
    run(confirm(given("tests/test_cart.py::test_total", commands=["false"]), named(), made))
    (job,) = sandbox.jobs
    assert [step.argv[0] for step in job.steps] == ["python3", "sh"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (PASSES, "passes already"),
        ((Outcome.SKIP, None), "is skipped"),
        (
            (Outcome.ERROR, Fault("ModuleNotFoundError", "No module named 'x'\nat all", "", 0)),
            "No module named 'x'): if",
        ),
        ((Outcome.TIMEOUT, None), "takes longer"),
    ],
)
def test_the_user_is_told_of_their_own_and_not_of_what_the_issue_names(said: Said, words: str) -> None:
    kept, notes, _ = confirmed(given("tests/test_cart.py::test_total"), (), saying(said))
    assert words in notes[0]
    assert notes[0].isprintable()
    assert len(kept) == (said[0] in {Outcome.ERROR, Outcome.TIMEOUT})
    of_issue, told, _ = confirmed((), named(), saying(said))
    assert (of_issue, len(told)) == ((), len(kept))


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (fails(), True),
        (fails("ModuleNotFoundError", "No module named 'x'", "tests/test_cart.py"), False),
        (fails("URLError", "no route to host"), False),
        (fails("gaierror", "Name or service not known"), False),
        ((Outcome.TIMEOUT, None), False),
        ((Outcome.ERROR, Fault("FixtureLookupError", "", "tests/test_cart.py")), False),
    ],
)
def test_what_the_issue_names_counts_where_it_fails_because_of_the_issue(said: Said, counts: bool) -> None:
    (one,) = named()
    kept, notes, _ = confirmed((), (one,), saying(said))
    assert kept == ((one,) if counts else ())
    assert [one.id in note for note in notes] == ([] if counts else [True])


def test_a_test_that_fails_is_nothing_to_tell() -> None:
    assert confirmed(given("tests/test_cart.py"), (), saying(fails()))[1] == []


def test_a_test_that_is_not_there_is_a_usage_error_only_if_the_user_gave_it() -> None:
    absent = saying((Outcome.NOT_COLLECTED, None))
    with pytest.raises(UsageError, match=r"There is no test 'tests/test_cart\.py::test_gone'"):
        confirmed(given("tests/test_cart.py::test_gone"), (), absent)
    assert confirmed((), named(), absent)[:2] == ((), [])


@pytest.mark.parametrize(
    ("runner", "form"),
    [
        (Runner.PYTEST, "PATH::NAME, such as tests/test_cart.py::test_total"),
        (Runner.UNITTEST, "PATH::NAME, such as tests/test_cart.py::CartTest::test_total"),
        (Runner.JEST, "PATH::NAME with the names that jest reports, such as cart.test.js::cart::adds"),
        (Runner.GO, "PATH::NAME with the names that go test reports, such as cart_test.go::TestTotal::one"),
        (Runner.REPORT, "PATH::NAME as the report of --test-cmd has it"),
    ],
)
def test_how_a_test_is_named_is_told_in_the_runners_own_form(runner: Runner, form: str) -> None:
    def saying_nothing(job: Job) -> JobResult:
        events = ({"event": "begun"}, {"event": "done"}, {"event": "closed"})
        left = [(ResultFile(step.results[0], record_for(step, events)),) for step in job.steps]
        return JobResult(tuple(StepResult(Ending.EXITED, 0, results=files) for files in left))

    boxes, _, _ = bench(saying_nothing, TREE, Harness(runner, ("run",)))
    with pytest.raises(UsageError) as raised:
        run(confirm(given("tests/test_cart.py::test_gone", runner=runner), (), boxes))
    assert str(raised.value).endswith(f": give --failing-test {form}.")


def test_a_command_that_cannot_be_run_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"'pytst' cannot be run here.*--failing-cmd"):
        confirmed(given(commands=["pytst"]), (), each_step(exited(127)))


def test_a_command_that_takes_too_long_is_kept_and_told() -> None:
    late = each_step(StepResult(Ending.TIMED_OUT))
    kept, notes, _ = confirmed(given(commands=["sleep 99"]), (), late)
    assert (len(kept), len(notes)) == (1, 1)


def test_a_machine_that_cannot_place_the_tests_is_an_error() -> None:
    with pytest.raises(EnvironmentFailed, match="a symlink"):
        confirmed(given("tests/test_cart.py"), (), refusing("tests is a symlink"))


def test_without_cases_nothing_is_run() -> None:
    assert confirmed((), (), lambda job: JobResult((), str(job))) == ((), [], [])
