"""Patches x tests: in the summary, in `amini show` and in `--json`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from agentless_mini.chain.rank import rank
from agentless_mini.domain import (
    Candidate,
    Case,
    CaseResult,
    Environment,
    Execution,
    Fault,
    ImageTree,
    Method,
    Origin,
    Outcome,
    Patch,
    Reason,
    Rejected,
    Verdict,
    canonical_json,
)
from agentless_mini.record import RunTrace
from agentless_mini.record.records import BoxRecord
from agentless_mini.report.document import run_document
from agentless_mini.report.show import run_view
from agentless_mini.report.summary import distinct, summary
from tests.report.building import Outcome as RunOutcome
from tests.report.building import shown, trace

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m[bold red]\u202egnp.\r\x00\ud800\n\n"
GIVEN = Case("tests/test_user.py::test_it", Origin.GIVEN, "tests/test_user.py")
WRITTEN = Case("tests/test_issue.py", Origin.GENERATED, "tests/test_issue.py", b"assert caf\xe9\n", votes=3)
OLD = Case("tests/test_old.py::test_a", Origin.REGRESSION, "tests/test_old.py")
CASES = (GIVEN, WRITTEN, OLD)
BEFORE = (
    CaseResult(GIVEN.id, Outcome.FAIL),
    CaseResult(WRITTEN.id, Outcome.ERROR, 0.5, Fault("KeyError", "'x'", "a.py", 3)),
)


def patch(normal: str, *paths: str) -> Patch:
    return Patch(f"diff {normal}\n".encode(), normal, paths or (f"{normal}.py",))


def verdict(normal: str, *outcomes: Outcome, fault: Fault | None = None) -> Verdict:
    results = zip(CASES, outcomes, strict=True)
    return Verdict(
        normal,
        tuple(
            CaseResult(case.id, outcome, 0.25, None if outcome is Outcome.PASS else fault) for case, outcome in results
        ),
    )


FAULT = Fault("AssertionError", "1 != 2\n" + "x" * 300, "pkg/a.py", 7)
EXECUTION = Execution(
    CASES,
    BEFORE,
    (
        verdict("a", Outcome.FAIL, Outcome.FAIL, Outcome.PASS, fault=FAULT),
        verdict("b", Outcome.PASS, Outcome.PASS, Outcome.FAIL, fault=FAULT),
        Verdict("c", (), "its folder is a symlink"),
    ),
)
REPAIRS = (patch("a"), Rejected(Reason.NO_EDIT, ""), patch("b"), patch("a"), patch("c"))


def decided(
    folder: Path, execution: Execution, *repairs: Patch | Rejected, method: Method = Method.AGREEMENT
) -> RunTrace:
    choice = rank([Candidate("k", at, at, one) for at, one in enumerate(repairs)], execution, method)
    tests = (WRITTEN, Rejected(Reason.OTHER_FAULT, "ImportError"))
    return trace(folder, RunOutcome(repairs, choice, tests=tests, execution=execution))


# --- the summary -----------------------------------------------------------------------------------------------------


def test_the_summary_has_a_row_for_each_distinct_patch_the_best_first(tmp_path: Path) -> None:
    text = shown(summary(decided(tmp_path, EXECUTION, *REPAIRS), 1.0))
    assert (
        "tests      1 given, 1 generated, 1 regression; on 3 of 3 distinct patches, the best first (* chosen):" in text
    )
    table = text[text.index("chosen):") :].splitlines()[1:]
    rows = [line.split() for line in table if line.strip()]
    assert rows[0] == ["votes", "files", "given", "generated", "broken"]
    assert rows[2:5] == [
        ["1", "*", "1/4", "b.py", "1/1", "1/1", "1/1"],
        ["2", "2/4", "a.py", "0/1", "0/1", "0/1"],
        ["3", "1/4", "c.py", "refused", "refused", "refused"],
    ]
    assert text.index("passes 2 of 2 reproduction tests (1 of 1 given)") > text.index("refused")


def test_what_was_not_run_on_a_patch_is_not_called_broken(tmp_path: Path) -> None:
    tried, others = EXECUTION.verdicts[0], EXECUTION.verdicts[1:]
    met = replace(EXECUTION, verdicts=(replace(tried, results=tried.results[:1]), *others))
    text = shown(summary(decided(tmp_path, met, *REPAIRS), 1.0))
    assert ["2", "2/4", "a.py", "0/1", "not", "run", "not", "run"] in [line.split() for line in text.splitlines()]


def test_the_chosen_patch_stands_first_by_whatever_method_it_was_chosen(tmp_path: Path) -> None:
    text = shown(summary(decided(tmp_path, EXECUTION, *REPAIRS, method=Method.VOTE), 1.0))
    assert text.index("* ") < text.index(" a.py  ") < text.index(" b.py  ")


@pytest.mark.parametrize("execution", [Execution((), (), ()), Execution((OLD,), (), ())])
def test_without_tests_or_verdicts_there_is_no_table(tmp_path: Path, execution: Execution) -> None:
    assert "tests   " not in shown(summary(decided(tmp_path, execution, patch("a")), 1.0))


def test_many_patches_and_long_paths_stay_within_80_columns_and_few_lines(tmp_path: Path) -> None:
    normals = [f"{number:04}" for number in range(90)]
    cases = tuple(replace(case, id=f"{case.id}{at}") for case in CASES for at in range(100))
    results = tuple(CaseResult(case.id, Outcome.FAIL) for case in cases)
    run = Execution(cases, (), tuple(Verdict(normal, results) for normal in normals))
    repairs = [patch(normal, f"package/中/{'long' * 20}/{normal}.py", "b\x1b[31m.py") for normal in normals]
    told = summary(decided(tmp_path, run, *repairs), 1.0)
    lines = shown(told, 80).splitlines()
    first, last = (next(at for at, line in enumerate(lines) if said in line) for said in ("chosen", "... 78"))
    table = lines[first + 1 : last + 1]
    assert max(cell_len(line) for line in table) <= 80
    assert len(table) < 32
    assert table[-1] == "           ... 78 more (amini show 1 --all)"
    assert "0/100" in table[4]


def test_patches_without_a_verdict_are_numbered_after_the_others(tmp_path: Path) -> None:
    only = Execution((OLD,), (), (Verdict("a", (CaseResult(OLD.id, Outcome.PASS),)),))
    told = decided(tmp_path, only, patch("b"), patch("c"), patch("c"), patch("a"))
    assert [one.normal for one in distinct(told)] == ["a", "c", "b"]
    rows = [line.split() for line in shown(run_view(told)).splitlines()]
    assert ["2", "2/4", "c.py", "-"] in rows


# --- amini show ------------------------------------------------------------------------------------------------------


def test_a_shown_run_has_its_tests_with_their_fate_and_what_the_chosen_patch_fails(tmp_path: Path) -> None:
    text = shown(run_view(decided(tmp_path, EXECUTION, *REPAIRS), every=True), 300)
    assert "test tests/test_issue.py, written by 3" in text
    assert "other-fault: ImportError" in text
    told = [line.split() for line in text[text.index("tests with the chosen patch") :].splitlines()]
    assert told[1:4] == [
        ["regression", "0", "of", "1", "pass"],
        ["given", "1", "of", "1", "pass"],
        ["generated", "1", "of", "1", "pass"],
    ]
    rows = [line.split() for line in text[text.index("every test") :].splitlines()]
    assert rows[3:6] == [
        ["tests/test_old.py::test_a", "regression", "fail", "1", "of", "3"],
        ["tests/test_user.py::test_it", "given", "fail", "pass", "1", "of", "3"],
        ["tests/test_issue.py", "generated", "3", "error", "pass", "1", "of", "3"],
    ]
    assert "AssertionError: 1 != 2 xxx" in text
    assert "xxx (pkg/a.py:7)" in text
    assert "refused c: its folder is a symlink" in text
    assert "x" * 161 not in text


def test_the_summary_says_what_was_lost_to_time(tmp_path: Path) -> None:
    busy = Fault("", "The machine was too busy to run it.", "", 0)
    late = (CaseResult(OLD.id, Outcome.TIMEOUT), CaseResult(WRITTEN.id, Outcome.TIMEOUT, fault=busy))
    well = (CaseResult(OLD.id, Outcome.PASS), CaseResult(WRITTEN.id, Outcome.PASS))
    run = Execution((OLD, WRITTEN), (), (Verdict("a", late), Verdict("b", well)))
    text = shown(summary(decided(tmp_path, run, patch("a"), patch("b")), 1.0))
    assert "lost       2 of 4 test runs on patches ran out of time, 1 as the machine was too busy: run again" in text
    assert "lost" not in shown(summary(decided(tmp_path, EXECUTION, *REPAIRS), 1.0))


def test_nothing_that_a_test_or_path_says_reaches_the_terminal(tmp_path: Path) -> None:
    case = Case(HOSTILE, Origin.GIVEN, HOSTILE, command=HOSTILE)
    fault = Fault(HOSTILE, HOSTILE, HOSTILE, 1)
    results = (CaseResult(HOSTILE, Outcome.FAIL, 0.0, fault),)
    run = decided(tmp_path, Execution((case,), results, (Verdict("a", results),)), patch("a", HOSTILE))
    for text in (shown(summary(run, 1.0)), shown(run_view(run, every=True), 3000)):
        plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "")
        assert not set(plain) & {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\x00", "\ud800"}
    assert canonical_json(run_document(run)).isascii()


# --- --json ----------------------------------------------------------------------------------------------------------


def test_the_document_has_every_case_and_every_verdict(tmp_path: Path) -> None:
    document = json.loads(canonical_json(run_document(decided(tmp_path, EXECUTION, *REPAIRS))))
    told = document["prediction"]["execution"]
    assert [(case["id"], case["origin"], case["votes"], case["before"]) for case in told["cases"]] == [
        (GIVEN.id, "given", 1, "fail"),
        (WRITTEN.id, "generated", 3, "error"),
        (OLD.id, "regression", 1, None),
    ]
    assert told["cases"][0]["data"] is None
    assert told["cases"][1]["data"]["encoding"] == "base64"
    first, second, refused = told["verdicts"]
    assert first["outcomes"] == {GIVEN.id: "fail", WRITTEN.id: "fail", OLD.id: "pass"}
    assert first["seconds"][OLD.id] == 0.25
    assert second["faults"] == {
        OLD.id: {"kind": "AssertionError", "message": FAULT.message, "path": "pkg/a.py", "line": 7}
    }
    assert (refused["normal"], refused["refusal"], refused["outcomes"]) == ("c", "its folder is a symlink", {})
    choice = document["prediction"]["choice"]
    assert (choice["passed"], choice["reproducing"], choice["broken"], choice["regressions"]) == (2, 2, 1, 1)
    written, rejected = (sample["outcome"] for sample in document["samples"] if sample["stage"] == "reproduce")
    assert (written["valid"], written["id"], written["votes"]) == (True, WRITTEN.id, 3)
    assert rejected == {"valid": False, "reason": "other-fault", "detail": "ImportError"}


def test_the_document_has_the_boxes_and_says_null_where_nothing_was_run(tmp_path: Path) -> None:
    box = BoxRecord("k", Environment("sha256:1"), ImageTree("/r"), ("a.py",), (("pytest", "-q"),), 2.0, replayed=True)
    run = trace(tmp_path, RunOutcome((patch("a"),), None))
    document = json.loads(canonical_json(run_document(replace(run, boxes=(box,)))))
    assert document["prediction"]["execution"] is None
    assert document["boxes"] == [
        {
            "key": "k", "environment": {"identity": "sha256:1", "python": "python3", "user": "nobody"},
            "tree": {"folder": "/r"}, "files": ["a.py"], "steps": [["pytest", "-q"]], "seconds": 2.0, "replayed": True,
        }
    ]  # fmt: skip
