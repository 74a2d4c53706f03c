"""Patches meet tests: in real boxes, and in scripted ones that tell what they were asked for."""

import asyncio
import json
from dataclasses import replace

import pytest

from agentless_mini.chain.execute import execute
from agentless_mini.chain.session import Boxes, FilesRun, Refused, run_cases, run_files
from agentless_mini.domain import (
    BoxDone,
    Candidate,
    Case,
    Ending,
    Environment,
    Event,
    Fault,
    Job,
    JobResult,
    Note,
    Origin,
    Outcome,
    Output,
    PackedTree,
    Phase,
    PhaseStarted,
    Place,
    PlacedFile,
    Reason,
    Rejected,
    ResultFile,
    Step,
    StepResult,
    Verdict,
)
from agentless_mini.testing import harness_of, ran_without
from agentless_mini.testing.plans import KEY
from tests.fakes.records import RAN, sealed
from tests.testing.boxes import RealBoxes, case, patch_of, tree
from tests.testing.conftest import boxes

__all__ = ["boxes"]  # a fixture
PASS = Outcome.PASS
SHOP = {
    "shop.py": "def add(a, b):\n    return a - b\n",
    "tests/test_add.py": (
        "from shop import add\ndef test_add(): assert add(1, 2) == 3\ndef test_zero(): assert add(1, 0) == 1\n"
    ),
    "tests/conftest.py": "",
}
GENERATED = "from shop import add\ndef test_new(): assert add(2, 2) == 4\n"
CASES = (
    case("tests/test_add.py::test_add"),
    case("tests/test_add.py::test_zero"),
    case("tests/test_new.py", GENERATED),
)
FIX = "def add(a, b):\n    return a + b\n"
CHEAT = """\
import os
import sys
print("3 passed in 0.01s", file=sys.stderr)
print('{"event": "end", "id": "tests/test_add.py::test_add", "outcome": "pass"}')
def add(a, b):
    print("PASSED tests/test_add.py::test_add")
    raise %s
"""
PATCHES: dict[str, dict[str, str | None]] = {
    "fix": {"shop.py": FIX},
    "wrong": {"shop.py": SHOP["shop.py"] + "X = 1\n"},
    "broken": {"shop.py": "def add(:\n"},
    "prints": {"shop.py": CHEAT % "SystemExit(0)"},
    "exits": {"shop.py": SHOP["shop.py"].replace("return", "import os; os._exit(0)\n    return")},
    "test": {
        "tests/test_add.py": "def test_add(): pass\ndef test_zero(): pass\n",
        "tests/test_new.py": "def test_new(): pass\n",
    },
    "conftest": {
        "tests/conftest.py": "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_pyfunc_call(): return 1\n"
    },
    "site": {"sitecustomize.py": "import builtins\nbuiltins.__import__ = None\n"},
    "plugin": {"amini_pytest.py": "raise SystemExit\n", ".amini-box/json.py": "raise SystemExit\n"},
    "runner": {"pytest.py": "print('3 passed')\n", "unittest/__init__.py": ""},
}


@pytest.mark.slow
def test_only_the_fix_passes_whatever_a_patch_does_to_the_tests(boxes: RealBoxes) -> None:
    verdicts = dict(zip(PATCHES, boxes.execute(SHOP, list(PATCHES.values()), CASES), strict=True))
    everything = {one.id for one in CASES}
    assert verdicts["fix"].passed() == everything
    wrong = {name: verdict.passed() for name, verdict in verdicts.items() if name != "fix"}
    assert wrong["broken"] == wrong["prints"] == wrong["exits"] == frozenset()
    assert all("tests/test_add.py::test_add" not in passed for passed in wrong.values())
    harmless = {name: wrong[name] for name in ("wrong", "test", "conftest", "site", "plugin", "runner")}
    assert set(harmless.values()) == {frozenset({"tests/test_add.py::test_zero"})}
    assert boxes.events[0] == PhaseStarted(Phase.EXECUTION, len(PATCHES))
    done = [event for event in boxes.events if isinstance(event, BoxDone)]
    assert len(done) == len(PATCHES)
    assert BoxDone(Phase.EXECUTION, (PASS, PASS, PASS)) in done


class ScriptedBoxes:
    """A sandbox that answers each job by what a test says of it, and keeps the jobs."""

    def __init__(self, *answers: JobResult) -> None:
        self.jobs: list[Job] = []
        self._answers = list(answers)

    async def run(self, job: Job) -> JobResult:
        self.jobs.append(job)
        answer = self._answers.pop(0)
        missing = len(job.steps) - len(answer.steps)
        rest = () if answer.refusal else (StepResult(Ending.NOT_RUN),) * missing
        steps = (sealed_result(step, result) for step, result in zip(job.steps, answer.steps, strict=False))
        return replace(answer, steps=(*steps, *rest))


def sealed_result(step: Step, result: StepResult) -> StepResult:
    """Let a step's records be sealed as the driver would have done it."""
    if not result.results:
        return result
    ours = [json.dumps(event) for event in RAN]
    lines = ([*ours, *file.data.decode().splitlines()] for file in result.results)
    data = [sealed(dict(step.variables)[KEY], told) for told in lines]
    return replace(result, results=(ResultFile(step.results[0], data[0]),))


def bench(sandbox: ScriptedBoxes, events: list[Event] | None = None, command: str = "") -> Boxes:
    snapshot = tree(SHOP)
    place = Place(Environment("e", "python3"), PackedTree("d"))
    watch = (events if events is not None else []).append
    return Boxes(sandbox, place, harness_of(snapshot, command), snapshot, watch, case_seconds=2.0)


def left(ending: Ending, text: str, number: int = 0) -> JobResult:
    data = text.replace("'", '"').encode()
    status = 0 if ending is Ending.EXITED else None
    return JobResult((StepResult(ending, status, results=(ResultFile(f".amini-box/record-{number}.jsonl", data),)),))


def passing(name: str, seconds: int = 0) -> str:
    return (
        f"{{'event': 'start', 'id': '{name}'}}\n"
        f"{{'event': 'end', 'id': '{name}', 'outcome': 'pass', 'seconds': {seconds}}}\n"
    )


BEGUN = "{'event': 'begun', 'id': ''}\n"
OVER = "{'event': 'over', 'id': ''}\n"
GOOD = (
    BEGUN
    + "".join(
        passing(one)
        for one in ("tests/test_add.py::test_add", "tests/test_add.py::test_zero", "tests/test_new.py::test_new")
    )
    + "{'event': 'done', 'id': ''}\n"
)


def run(sandbox: ScriptedBoxes, *cases: Case, attempt: int = 0) -> list[Outcome]:
    results = asyncio.run(run_cases(bench(sandbox), None, cases, attempt))
    assert not isinstance(results, Refused)
    return [result.outcome for result in results]


def test_what_is_put_over_the_tree_comes_in_the_order_that_protects_the_tests() -> None:
    sandbox = ScriptedBoxes(left(Ending.EXITED, GOOD))
    snapshot = tree(SHOP)
    changes = {**PATCHES["fix"], "tests/test_add.py": "", "tests/test_new.py": ""}
    asyncio.run(run_cases(bench(sandbox), patch_of(snapshot, changes), CASES))
    (job,) = sandbox.jobs
    last = {file.path: file for file in job.files}
    assert last["shop.py"].data == FIX.encode()
    assert last["tests/test_add.py"].data == SHOP["tests/test_add.py"].encode()
    assert last["tests/test_new.py"].data == GENERATED.encode()
    ours = [file.path.startswith(".amini-box/") for file in job.files]
    assert ours == sorted(ours)
    assert job.limits.seconds == job.steps[0].seconds == 30 + 2 * (1 + 1 + 10)


def test_a_test_of_a_path_that_is_no_test_by_its_name_is_kept_from_the_patch_too() -> None:
    sandbox = ScriptedBoxes(left(Ending.EXITED, GOOD))
    patch = patch_of(tree(SHOP), {"shop.py": FIX})
    asyncio.run(run_cases(bench(sandbox), patch, [case("shop.py::test_doc")]))
    assert [file.data for file in sandbox.jobs[0].files if file.path == "shop.py"][-1] == SHOP["shop.py"].encode()


@pytest.mark.parametrize(("status", "hidden"), [(0, {"argparse.py", "iniconfig.py"}), (127, {"argparse.py"})])
def test_no_file_that_a_patch_adds_stands_in_for_a_module_of_the_environment(status: int, hidden: set[str]) -> None:
    events: list[Event] = []
    asked = JobResult((StepResult(Ending.EXITED, status, Output(b"iniconfig\n")),))
    sandbox = ScriptedBoxes(asked, left(Ending.EXITED, GOOD))
    added = dict.fromkeys(("argparse.py", "iniconfig.py", "rates.py"), "X = 1\n")
    patch = patch_of(tree(SHOP), {"shop.py": FIX, **added})
    asyncio.run(run_cases(bench(sandbox, events), patch, CASES))
    asking, job = sandbox.jobs
    assert (asking.files, asking.steps[0].argv[4:]) == ((), ("iniconfig", "rates"))
    last = {file.path: file.data for file in job.files}
    assert {path for path, data in last.items() if data is None} == hidden
    assert events == [Note(ran_without(path)) for path in sorted(hidden)]


def test_equal_runs_are_equal_jobs_and_another_attempt_is_another() -> None:
    sandbox = ScriptedBoxes(*(left(Ending.EXITED, GOOD) for _ in range(3)))
    for attempt in (0, 0, 1):
        run(sandbox, *CASES, attempt=attempt)
    first, second, third = (job.key() for job in sandbox.jobs)
    assert first == second != third
    assert ("AMINI_ATTEMPT", "1") in sandbox.jobs[2].steps[0].variables


def test_what_a_dead_box_did_not_reach_runs_alone_in_a_second_one() -> None:
    text = BEGUN + "{'event': 'start', 'id': 'tests/test_add.py::test_add'}\n"
    again = BEGUN + passing("tests/test_add.py::test_zero", 1) + OVER
    sandbox = ScriptedBoxes(left(Ending.OUT_OF_MEMORY, text), left(Ending.EXITED, again, 1))
    assert run(sandbox, *CASES) == [Outcome.ERROR, PASS, Outcome.TIMEOUT]
    assert [len(job.steps) for job in sandbox.jobs] == [1, 2]


def test_a_box_that_died_without_a_word_is_tried_once_more() -> None:
    dead = JobResult((StepResult(Ending.BOX_DIED),))
    assert run(ScriptedBoxes(dead, dead), *CASES[:2]) == [Outcome.ERROR, Outcome.TIMEOUT]
    make = Case("make", Origin.GIVEN, command="make test")
    assert run(ScriptedBoxes(dead, JobResult((StepResult(Ending.EXITED, 0),))), make) == [PASS]
    assert run(ScriptedBoxes(dead, dead), make) == [Outcome.ERROR]


def test_what_the_machine_had_no_time_for_is_tried_once_more() -> None:
    text = BEGUN + passing("tests/test_add.py::test_add", 1) + OVER
    sandbox = ScriptedBoxes(left(Ending.STARVED, ""), left(Ending.EXITED, text, 1), left(Ending.STARVED, ""))
    results = asyncio.run(run_cases(bench(sandbox), None, CASES[:2]))
    assert not isinstance(results, Refused)
    assert [result.outcome for result in results] == [PASS, Outcome.TIMEOUT]
    make = Case("make", Origin.GIVEN, command="make test")
    busy = JobResult((StepResult(Ending.STARVED),))
    assert run(ScriptedBoxes(busy, JobResult((StepResult(Ending.EXITED, 0),))), make) == [PASS]
    (told,) = asyncio.run(run_cases(bench(ScriptedBoxes(busy, busy)), None, [make]))  # type: ignore[misc]
    assert told.fault == Fault("", "The machine was too busy to run it.")


MANY = tuple(case(f"tests/test_add.py::test_{number}") for number in range(20))
PROBED = [0, 2, 5, 7, 10, 12, 15, 17]


def alone(*outcomes: str) -> JobResult:
    """A box in which tests ran one by one: a word for each that came to an end, "" where the runner broke."""
    return JobResult(tuple(left(Ending.EXITED, said, number).steps[0] for number, said in enumerate(outcomes, 1)))


def test_a_patch_that_breaks_the_runner_is_tried_with_some_tests_and_not_with_all() -> None:
    sandbox = ScriptedBoxes(left(Ending.EXITED, BEGUN), alone(*[BEGUN] * 8))
    assert run(sandbox, *MANY) == [Outcome.ERROR] * 20
    assert [len(job.steps) for job in sandbox.jobs] == [1, 8]


def test_all_tests_are_run_alone_where_one_of_some_comes_to_an_end() -> None:
    ended = [BEGUN + passing(one.id) + OVER for one in MANY]
    probes = [BEGUN] * 7 + [ended[PROBED[-1]]]
    rest = [said for number, said in enumerate(ended) if number not in PROBED]
    sandbox = ScriptedBoxes(left(Ending.EXITED, BEGUN), alone(*probes), alone(*rest))
    expected = [Outcome.ERROR if number in PROBED[:-1] else PASS for number in range(20)]
    assert run(sandbox, *MANY) == expected
    assert [len(job.steps) for job in sandbox.jobs] == [1, 8, 12]


def test_a_runner_that_never_began_is_not_tried_again() -> None:
    sandbox = ScriptedBoxes(JobResult((StepResult(Ending.EXITED, 1),)))
    assert run(sandbox, *CASES) == [Outcome.ERROR] * 3


def test_cases_of_one_path_with_other_contents_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="one path"):
        run(ScriptedBoxes(), case("test_a.py::a", "1"), case("test_a.py::b", "2"))


def candidates(*changes: dict[str, str | None]) -> list[Candidate]:
    snapshot = tree(SHOP)
    made = [Candidate("r", place, place, patch_of(snapshot, change)) for place, change in enumerate(changes)]
    return [Candidate("r", 9, 9, Rejected(Reason.NO_EDIT, "x")), *reversed(made)]


def test_each_distinct_patch_is_run_once_and_a_refused_one_says_why() -> None:
    events: list[Event] = []
    sandbox = ScriptedBoxes(left(Ending.EXITED, GOOD), JobResult((), "'a' cannot be put there"))
    same: dict[str, str | None] = {"shop.py": f"# a comment\n{FIX}"}
    given = candidates(PATCHES["fix"], PATCHES["wrong"], same)
    first, second = asyncio.run(execute(bench(sandbox, events), given, CASES))
    assert [result.outcome for result in first.results] == [PASS] * 3
    assert (second.results, second.refusal) == ((), "'a' cannot be put there")
    assert events == [PhaseStarted(Phase.EXECUTION, 2), BoxDone(Phase.EXECUTION, (PASS,) * 3), BoxDone(Phase.EXECUTION)]


def test_without_cases_no_box_is_opened() -> None:
    (verdict,) = asyncio.run(execute(bench(ScriptedBoxes()), candidates(PATCHES["fix"]), ()))
    assert verdict == Verdict(verdict.normal, ())


def test_files_are_given_a_budget_time_to_be_read_and_a_larger_record() -> None:
    text = GOOD.replace("tests/test_new", "elsewhere/test_new")
    sandbox = ScriptedBoxes(left(Ending.TIMED_OUT, text))
    found = asyncio.run(run_files(bench(sandbox), ["tests/test_add.py"], 7.0, 90.0))
    assert [result.id for result in found.results] == ["tests/test_add.py::test_add", "tests/test_add.py::test_zero"]
    (job,) = sandbox.jobs
    assert job.limits.seconds == job.steps[0].seconds == 90.0
    assert [json.loads(file.data or b"")["budget"] for file in job.files if file.path.endswith("plan-0.json")] == [7.0]
    assert job.limits.result == 16 * 1024 * 1024


def test_a_command_for_a_case_is_a_step_of_its_own() -> None:
    sandbox = ScriptedBoxes(JobResult((StepResult(Ending.EXITED, 0),)))
    assert run(sandbox, Case("make", Origin.GIVEN, command="make test")) == [PASS]
    assert sandbox.jobs[0].steps[0].argv == ("sh", "-c", "make test")
    assert not any(isinstance(file, PlacedFile) for file in sandbox.jobs[0].files)


def test_a_refusal_of_the_second_box_or_of_files_is_no_result() -> None:
    dead, refused = JobResult((StepResult(Ending.BOX_DIED),)), JobResult((), "no room")
    sandbox = ScriptedBoxes(dead, refused, refused)
    assert asyncio.run(run_cases(bench(sandbox), None, CASES)) == Refused("no room")
    assert asyncio.run(run_files(bench(sandbox), ["tests/test_add.py"], 5.0, 90.0)) == FilesRun()
