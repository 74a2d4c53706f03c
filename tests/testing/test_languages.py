"""Runners of other languages in real boxes: what passes and fails, a repair, and patches that forge results."""

import shutil
from collections.abc import Mapping

import pytest

from agentless_mini.domain import Note, Outcome, Runner
from agentless_mini.testing import harness_of
from tests.testing.boxes import RealBoxes, case, tree
from tests.testing.languages import GO, NODE, PROJECTS, Project

# What the continuous integration may not have, or what takes a compiler's time.
_THOROUGH = {Runner.GO, Runner.CTEST, Runner.CARGO}
PASS, ERROR, GONE = Outcome.PASS, Outcome.ERROR, Outcome.NOT_COLLECTED


def marked(runner: Runner, *values: object, name: str = "") -> object:
    mark = pytest.mark.thorough if runner in _THOROUGH else pytest.mark.slow
    return pytest.param(*values, marks=mark, id=f"{runner.name} {name}".strip())


MARKED = [marked(runner, project) for runner, project in PROJECTS.items()]
CHEATS = [
    marked(runner, project, code, name=name)
    for runner, project in PROJECTS.items()
    for name, code in project.cheats.items()
]


def available(boxes: RealBoxes, project: Project) -> None:
    boxes.case_seconds = 20.0
    if missing := [name for name in project.needs if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not here")


@pytest.mark.parametrize("project", MARKED)
def test_each_test_has_its_outcome_and_a_repair_changes_it(boxes: RealBoxes, project: Project) -> None:
    available(boxes, project)
    assert harness_of(tree(project.files)).runner is project.runner
    wanted = [*(f"{project.test}::{name}" for name in project.outcomes), f"{project.test}::nowhere", project.test]
    found = boxes.outcomes(project.files, wanted)
    assert {name: found[f"{project.test}::{name}"] for name in project.outcomes} == project.outcomes
    assert (found[f"{project.test}::nowhere"], found[project.test]) == (GONE, Outcome.FAIL)
    (verdict,) = boxes.execute(project.files, [{project.source: project.fixed}], [case(name) for name in wanted])
    came = {result.id: result.outcome for result in verdict.results}
    assert verdict.refusal == ""
    assert Outcome.FAIL not in came.values()
    assert came[next(name for name in wanted if found[name] is Outcome.FAIL)] is PASS


@pytest.mark.parametrize(("project", "code"), CHEATS)
def test_no_patch_forges_a_pass(boxes: RealBoxes, project: Project, code: str | Mapping[str, str]) -> None:
    available(boxes, project)
    failing = next(name for name, outcome in project.outcomes.items() if outcome is Outcome.FAIL)
    cases = [case(f"{project.test}::{failing}"), case(project.test)]
    change = {project.source: code} if isinstance(code, str) else code
    (verdict,) = boxes.execute(project.files, [change], cases)
    assert verdict.passed() == frozenset(), verdict


@pytest.mark.slow
def test_a_file_that_writes_the_tests_of_the_next_forges_nothing(boxes: RealBoxes) -> None:
    available(boxes, NODE)
    forged = "require('node:test').test('adds prices', () => {});\\n"
    code = f"if (!process.argv[1].includes('zoo'))\n  require('fs').writeFileSync('zoo.test.js', \"{forged}\");\n"
    files = {**NODE.files, "zoo.test.js": NODE.files[NODE.test]}
    cases = [case(f"{NODE.test}::an empty cart"), case("zoo.test.js::adds prices")]
    (verdict,) = boxes.execute(files, [{NODE.source: f"exports.total = () => 0;\n{code}"}], cases)
    assert "zoo.test.js::adds prices" not in verdict.passed(), verdict


@pytest.mark.slow
def test_a_file_that_cannot_be_run_is_an_error_and_leaves_the_others(boxes: RealBoxes) -> None:
    available(boxes, NODE)
    files = {**NODE.files, "bad.test.js": "require('./nowhere');\n"}
    results = boxes.run(files, [case("bad.test.js"), case(f"{NODE.test}::an empty cart")])
    assert [result.outcome for result in results.values()] == [ERROR, PASS]
    assert boxes.run_files(files, ["bad.test.js", NODE.test])[0].outcome is ERROR


@pytest.mark.thorough
def test_tests_of_a_package_of_several_files_are_told_apart_from_ours(boxes: RealBoxes) -> None:
    available(boxes, GO)
    more = 'package shop\n\nimport "testing"\n\nfunc TestMore(t *testing.T) {}\n'
    cases = [case(f"{GO.test}::TestTotal"), case("more_test.go::TestMore")]
    (verdict,) = boxes.execute({**GO.files, "more_test.go": more}, [{GO.source: GO.fixed}], cases)
    assert verdict.passed() == {one.id for one in cases}


@pytest.mark.thorough
def test_a_test_that_hangs_is_late_and_so_is_what_was_not_told_of(boxes: RealBoxes) -> None:
    available(boxes, NODE)
    boxes.case_seconds = 1.0
    files = {**NODE.files, "slow.test.js": "require('node:test')('waits', () => { for (;;); });\n"}
    outcomes = boxes.outcomes(files, ["slow.test.js::waits", f"{NODE.test}::an empty cart"])
    assert list(outcomes.values()) == [Outcome.TIMEOUT, PASS]


TAP = "printf 'TAP version 13\\nok 1 - adds\\nnot ok 2 - pays\\n  ---\\n  message: no money\\n  ...\\n1..%s\\n'"
XML = (
    '<testsuite name="s" tests="2"><testcase classname="Cart" name="adds" time="0.5"/><testcase classname="Cart" '
    'name="pays"><failure type="Broke" message="no money"/></testcase></testsuite>'
)


@pytest.mark.parametrize(
    ("command", "report", "name"),
    [
        (f'sh -c "{TAP} 2" {{tests}}', "-", ""),
        (f"mkdir -p out; echo '{XML}' > out/a.xml; : {{tests}}", "out/*.xml", "Cart::"),
        (f"mkdir -p out/b/c; echo '{XML}' > out/b/c/a.xml; : {{tests}}", "out/**/*.xml", "Cart::"),
    ],
)
def test_a_command_that_leaves_a_report_tells_of_each_test(
    boxes: RealBoxes, command: str, report: str, name: str
) -> None:
    boxes.harness = harness_of(tree({}), command, report)
    assert boxes.harness.runner is Runner.REPORT
    files = {"tests/cart.lua": ""}
    results = boxes.run(files, [case(f"tests/cart.lua::{name}adds"), case(f"tests/cart.lua::{name}pays")])
    assert [result.outcome for result in results.values()] == [PASS, Outcome.FAIL]
    fault = results[f"tests/cart.lua::{name}pays"].fault
    assert fault is not None
    assert fault.message == "no money"


def test_a_report_that_is_not_whole_is_never_a_pass(boxes: RealBoxes) -> None:
    boxes.harness = harness_of(tree({}), f'sh -c "{TAP} 3" {{tests}}', "-")
    assert boxes.outcomes({"tests/a.lua": ""}, ["tests/a.lua"]) == {"tests/a.lua": ERROR}


def test_a_report_that_tells_of_no_test_is_named_once_and_not_where_a_patch_may_be_why(boxes: RealBoxes) -> None:
    boxes.harness = harness_of(tree({}), "false {tests}", "out/*.xml")
    files = {"a.lua": "", "shop.lua": ""}
    boxes.run(files, [case("a.lua")])
    found = boxes.run_files(files, ["a.lua", "shop.lua"])
    boxes.run(files, [case("a.lua")], {"shop.lua": "x = 1\n"})
    assert [one.outcome for one in found] == [ERROR, ERROR]
    (text,) = {event.text for event in boxes.events if isinstance(event, Note)}
    assert text.startswith("--test-report out/*.xml tells of no test: the test command ended with status 1 and left no")
    assert len(boxes.events) == 2
