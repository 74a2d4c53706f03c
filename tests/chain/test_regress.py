"""The repository's own tests that every patch meets: related, passing, within the budget and the clock."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.chain.execute import FILES_AT_ONCE, READING, regress
from agentless_mini.domain import (
    BoxDone,
    Case,
    Ending,
    Event,
    Harness,
    Job,
    JobResult,
    Note,
    Origin,
    PastCommit,
    Phase,
    PhaseSaid,
    PhaseStarted,
    Regressions,
    Runner,
    Snapshot,
    Step,
    StepResult,
)
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.ports import Find
from agentless_mini.settings.run import RegressSettings
from agentless_mini.testing.records import LEFT
from tests.chain.boxes import bench
from tests.chain.workbench import run, shop, text_file
from tests.fakes.records import record_for
from tests.fakes.sandbox import Answering, exited
from tests.testing.boxes import RealBoxes

Known = Mapping[str, tuple[str, float]]
"""What comes of each test, and the seconds that it says it takes."""

DJANGO = Harness(Runner.DJANGO, ("python", "tests/runtests.py"))
CART = "tests/test_cart.py"
CODE = "from shop import cart\ndef test_one(): ...\n"
SHOP = shop(text_file(CART, CODE), text_file("tests/test_other.py", "def test_two(): ...\n"))


def knowing(*boxes: Known) -> Answering:
    """Answer each box in turn with what is known of the tests that it wants; the last answers all that follow."""
    left = list(boxes)

    def answer(job: Job) -> JobResult:
        known = left.pop(0) if len(left) > 1 else left[0]
        files = {file.path: file.data or b"" for file in job.files}
        return JobResult(tuple(told(step, json.loads(files[step.argv[-1]])["wanted"], known) for step in job.steps))

    return answer


def told(step: Step, wanted: list[str], known: Known) -> StepResult:
    ended = {
        name: known[name] for name in known if any(name == want or name.startswith(f"{want}::") for want in wanted)
    }
    events: list[dict[str, object]] = [{"event": "begun"}]
    for id, (said, took) in ended.items():
        events += [{"event": "start", "id": id}, {"event": "end", "id": id, "outcome": said, "seconds": took}]
    return exited(0, results={step.results[0]: record_for(step, [*events, {"event": "done"}])})


def chosen(
    answer: Answering, snapshot: Snapshot = SHOP, settings: RegressSettings | None = None
) -> tuple[list[str], list[Job], list[Event]]:
    """Return the names of the chosen tests, the boxes that it took, and what was told."""
    place, sandbox, events = bench(answer, snapshot)
    cases, told = run(regress(place, {"shop/cart.py"}, settings or RegressSettings()))
    assert (told.run, bool(told.why)) == (len(cases), told.lost > 0 or not told.found)
    assert {case.origin for case in cases} <= {Origin.REGRESSION}
    return [case.id.rpartition("::")[2] for case in cases], sandbox.jobs, events


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def in_cart(**tests: tuple[str, float]) -> Known:
    return {f"{CART}::{name}": said for name, said in tests.items()}


def test_only_what_passes_before_any_patch_is_kept() -> None:
    known = in_cart(
        a=("pass", 0.1), b=("fail", 0.1), c=("error", 0.1), d=("skip", 0.0), e=("timeout", 1.0), f=("pass", 0)
    )
    names, jobs, events = chosen(knowing(known))
    assert names == ["a", "f"]
    assert len(jobs) == 1
    assert events[:2] == [
        PhaseStarted(Phase.REGRESSION, seconds=READING + 120),
        PhaseSaid(Phase.REGRESSION, "finding them, from file 1 of 1"),
    ]
    assert isinstance(events[2], BoxDone)
    assert notes(events) == []


def test_unrelated_tests_are_not_run() -> None:
    names, jobs, events = chosen(knowing({}), shop(text_file("tests/test_other.py", "def test_two(): ...\n")))
    assert (names, jobs) == ([], [])
    assert events == []


def why(answer: Answering, snapshot: Snapshot = SHOP) -> Regressions:
    place, _, _ = bench(answer, snapshot)
    return run(regress(place, {"shop/cart.py"}, RegressSettings(budget=10)))[1]


def test_where_nothing_is_left_it_is_said_why() -> None:
    alone = shop(text_file("tests/test_other.py", "def test_two(): ...\n"))
    assert why(knowing({}), alone).why == "no test of the repository is related to the files that the patches touch"
    none = "none of 2 related tests passes before any patch"
    assert why(knowing(in_cart(a=("fail", 0.1), b=("error", 0.1)))) == Regressions(0, 0, none)
    assert why(knowing(in_cart(a=("pass", 11.0), b=("fail", 0.1)))) == Regressions(1, 0, "1 over the limits")
    assert why(knowing(in_cart(a=("pass", 8.0), b=("pass", 3.0)))) == Regressions(2, 1, "1 over the limits")
    assert why(knowing({})).why == "no test was reached in 1 related test file"


@pytest.mark.parametrize(("took", "boxes", "kept"), [(10.0, 10, 80), (60.0, 5, 40), (400.0, 1, 8)])
def test_finding_them_has_a_limit_by_the_clock_as_recorded(took: float, boxes: int, kept: int) -> None:
    """Files that take long to read, and tests that wait for what their process does not see."""
    quick, seconds = knowing(each_file(200, 0.0)), iter([took] * 200)

    def answer(job: Job) -> JobResult:
        done = quick(job)
        assert isinstance(done, JobResult)
        return replace(done, steps=(replace(done.steps[0], seconds=next(seconds)),))

    names, jobs, events = chosen(answer, many_files(200), RegressSettings(budget=60))
    assert (len(jobs), len(names)) == (boxes, kept)
    assert [job.limits.seconds for job in jobs] == [READING + 60 - took * number for number in range(boxes)]
    assert notes(events)[0].startswith(f"{200 - kept} of 200 related test files were left out")


def test_what_there_was_no_time_for_is_found_and_lost() -> None:
    def answer(job: Job) -> JobResult:
        step = job.steps[0]
        ends: list[dict[str, object]] = []
        if passing:
            ends += [{"event": "start", "id": f"{CART}::a"}]
            ends += [{"event": "end", "id": f"{CART}::a", "outcome": "pass", "seconds": 1.0}]
        ends += [
            {"event": "end", "id": f"{CART}::{n}", "outcome": "skip", "seconds": 0.0, "fault": {"message": LEFT}}
            for n in range(3)
        ]
        record = record_for(step, [{"event": "begun"}, *ends, {"event": "done"}])
        return JobResult((exited(0, results={step.results[0]: record}),))

    passing = 1
    assert why(answer) == Regressions(4, 1, "3 not reached within the budget")
    passing = 0
    assert why(answer) == Regressions(3, 0, "3 not reached within the budget")
    assert why(knowing(in_cart(a=("pass", 0.1), b=("timeout", 2.5)))) == Regressions(2, 1, "1 over 2.5 s")


def test_one_test_that_waits_for_ever_leaves_time_for_the_others() -> None:
    _, (job,), _ = chosen(knowing(in_cart(a=("pass", 0.1))), settings=RegressSettings(budget=60))
    (plan,) = [json.loads(file.data or b"") for file in job.files if "plan-0" in file.path]
    assert (plan["seconds"], plan["budget"]) == (15.0, 60.0)


def many_files(count: int) -> Snapshot:
    return shop(*(text_file(f"tests/test_{number:03}.py", CODE) for number in range(count)))


def each_file(count: int, seconds: float) -> Known:
    return {f"tests/test_{number:03}.py::one": ("pass", seconds) for number in range(count)}


@pytest.mark.parametrize(
    ("seconds", "kept", "boxes"),
    [
        (0.0, 80, 10),  # each box is counted with a tenth of the budget
        (1.0, 60, 8),  # eight seconds for a box
        (100.0, 0, 1),
    ],
)
def test_files_are_run_some_at_a_time_until_the_budget_is_used_up(seconds: float, kept: int, boxes: int) -> None:
    settings = RegressSettings(budget=60)
    names, jobs, events = chosen(knowing(each_file(200, seconds)), many_files(200), settings)
    assert (len(names), len(jobs)) == (kept, boxes)
    left_out = 200 - boxes * FILES_AT_ONCE
    assert notes(events)[0].startswith(f"{left_out} of 200 related test files were left out")


def budgets(jobs: list[Job]) -> list[float]:
    """Return the budgets of boxes for files. What a box may take by the clock is more."""
    plans = [json.loads(file.data or b"") for job in jobs for file in job.files if "plan-0" in file.path]
    assert all(job.limits.seconds > plan["budget"] for job, plan in zip(jobs, plans, strict=True))
    return [plan["budget"] for plan in plans]


def test_a_box_has_what_is_left_of_the_budget() -> None:
    _, jobs, _ = chosen(knowing(each_file(16, 2.0)), many_files(16), RegressSettings(budget=60))
    assert budgets(jobs) == [60, 44]


def test_a_box_that_was_cut_off_is_counted_with_all_of_its_time() -> None:
    names, jobs, events = chosen(cut_off(knowing({})), many_files(24))
    assert (names, len(jobs)) == ([], 1)
    assert notes(events)[0].startswith("16 of 24 related test files")
    half_of_it = cut_off(knowing(each_file(FILES_AT_ONCE // 2, 1.0)))
    _, jobs, _ = chosen(half_of_it, many_files(24), RegressSettings(budget=64))
    assert budgets(jobs) == [64, 64 - 4 - 30]


def cut_off(answer: Answering) -> Answering:
    """Leave out what says that all was run: the box was killed."""

    def cut(job: Job) -> JobResult:
        done = answer(job)
        assert isinstance(done, JobResult)
        step = done.steps[0]
        told = b"".join(step.results[0].data.splitlines(keepends=True)[:-1])
        left = (replace(step.results[0], data=told),)
        return replace(done, steps=(replace(step, ending=Ending.TIMED_OUT, status=None, results=left),))

    return cut


def test_a_file_without_a_test_is_not_counted_as_cut_off() -> None:
    _, jobs, _ = chosen(knowing(each_file(4, 1.0)), many_files(16), RegressSettings(budget=64))
    assert budgets(jobs) == [64, 57.6]


def test_there_are_no_more_tests_than_wanted() -> None:
    known = in_cart(**{f"t{number}": ("pass", 0.0) for number in range(10)})
    names, _, _ = chosen(knowing(known), settings=RegressSettings(most=4))
    assert names == ["t0", "t1", "t2", "t3"]


def test_a_slow_test_is_left_out_and_a_quick_one_after_it_is_not() -> None:
    known = in_cart(a=("pass", 4.0), b=("pass", 9.0), c=("pass", 5.0))
    assert chosen(knowing(known), settings=RegressSettings(budget=10))[0] == ["a", "c"]


@pytest.mark.parametrize(("name", "data"), [("shop", None), ("pytest-shop", CODE.encode())])
def test_the_tests_of_a_tool_for_tests_bring_their_own_text(name: str, data: bytes | None) -> None:
    snapshot = Snapshot(name, SHOP.commit, SHOP.digest, SHOP.files)
    place, _, _ = bench(knowing(in_cart(a=("pass", 0.1))), snapshot)
    cases, _ = run(regress(place, ["shop/cart.py"], RegressSettings()))
    assert cases == (Case(f"{CART}::a", Origin.REGRESSION, CART, data),)


def test_the_files_of_the_users_tests_come_first_whatever_they_are_called() -> None:
    checks = text_file("checks/sums.py", CODE)
    place, _, _ = bench(
        knowing({"checks/sums.py::a": ("pass", 0.1), f"{CART}::b": ("pass", 0.1)}),
        shop(checks, text_file(CART, CODE), text_file("tests/test_other.py", "def test_two(): ...\n")),
    )
    cases, _ = run(regress(place, ["shop/cart.py"], RegressSettings(), own=["checks/sums.py", CART]))
    assert cases == (
        Case("checks/sums.py::a", Origin.REGRESSION, "checks/sums.py", checks.data),  # a patch could change it
        Case(f"{CART}::b", Origin.REGRESSION, CART),
    )


TREE = {
    "shop/__init__.py": "from shop.cart import total\n",
    "shop/cart.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_cart.py": (
        "import pytest, shop\n"
        "def test_passes(): assert shop.total([1, 2]) == 3\n"
        "def test_fails(): assert shop.total([1, 2]) == 4\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_each(n): assert shop.total([n]) == n\n"
    ),
    "tests/test_broken.py": "import shop.nothing\ndef test_one(): ...\n",
    "tests/test_other.py": "def test_two(): assert False\n",
}


@pytest.mark.slow
def test_in_real_boxes_what_passes_is_kept(tmp_path: Path) -> None:
    boxes = RealBoxes(tmp_path)
    try:
        place = boxes.bench(TREE)
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    cases, _ = run(regress(place, ["shop/cart.py"], RegressSettings()))
    assert [case.id for case in cases] == [
        f"{CART}::{name}" for name in ("test_passes", "test_each[1]", "test_each[2]")
    ]
    assert notes(boxes.events) == []


def test_tests_of_django_that_want_another_database_are_left_out() -> None:
    files = (text_file("tests/gis_tests/tests.py", CODE), text_file("tests/shop/tests.py", CODE))
    place, sandbox, _ = bench(knowing({"tests/shop/tests.py::a": ("pass", 0.1)}), shop(*files), DJANGO)
    cases, _ = run(regress(place, {"shop/cart.py"}, RegressSettings()))
    assert [case.path for case in cases] == ["tests/shop/tests.py"]
    assert not [job for job in sandbox.jobs if b"gis_tests" in b"".join(file.data or b"" for file in job.files)]


def test_what_is_related_is_kept_for_one_history() -> None:
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}

    async def derive(rule: str, given: tuple[str, ...], find: Find) -> tuple[str, ...]:
        return kept.setdefault((rule, *given), find())

    for history in ((), (PastCommit("One", ("shop/cart.py", CART)),)):
        place, _, _ = bench(knowing({}), replace(SHOP, history=history))
        run(regress(replace(place, derive=derive), {"shop/cart.py"}, RegressSettings()))
    assert len(kept) == 2


def test_a_report_that_cannot_be_read_is_why_no_test_is_left() -> None:
    ran: dict[str, object] = {
        "event": "ran",
        "files": [CART],
        "names": {},
        "canaries": [],
        "changed": [],
        "left": 0,
        "status": 0,
    }
    events: list[dict[str, object]] = [{"event": "begun"}, {**ran, "hung": False, "cut": False}, {"event": "closed"}]

    def answer(job: Job) -> JobResult:
        return JobResult(tuple(exited(0, results={one.results[0]: record_for(one, events)}) for one in job.steps))

    place, _, told = bench(answer, SHOP, Harness(Runner.REPORT, ("make", "{tests}"), report="out/*.xml"))
    cases, regressions = run(regress(place, {"shop/cart.py"}, RegressSettings()))
    assert (cases, regressions.why) == ((), "no report of tests could be read (--test-report)")
    assert [note.startswith("--test-report out/*.xml tells of no test: ") for note in notes(told)] == [True]
