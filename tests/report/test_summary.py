"""The summary of a run: what it says of files, tests, votes, confidence, cuts and cost."""

from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import UNTOLD, Case, Choice, Origin, Patch, Reason, Regressions, Rejected, Usage
from agentless_mini.report.summary import summary
from tests.record.building import patch
from tests.report.building import Outcome, shown, trace

BAD = Rejected(Reason.NO_EDIT, "nothing")


def lines(folder: Path, outcome: Outcome, seconds: float = 1.0) -> list[str]:
    return [line.rstrip() for line in shown(summary(trace(folder, outcome), seconds)).splitlines()]


def confidence(folder: Path, choice: Choice, *repairs: Patch) -> str:
    (line,) = [line for line in lines(folder, Outcome(repairs or (patch(),), choice)) if line.startswith("confidence")]
    return line


def test_a_run_with_a_winner_by_vote(tmp_path: Path) -> None:
    one, other = patch(), patch(b"diff --git a/b.py b/b.py\n", "m" * 64)
    outcome = Outcome((one, one, other, BAD), Choice(one, 2, 3, "so it is"), ("Cut.",))
    assert lines(tmp_path, outcome, 1.25) == [
        "files      a.py, b?[31m.py (3 votes)",
        "files      c.py",
        "samples    4: 3 valid (2 distinct), 1 rejected",
        "rejected   no-edit 1",
        "patch      a.py: so it is",
        "confidence 71%: 2 of 3 votes; no test was run",
        "spent      100 prompt tokens (160 cached), 28 generated, 1.2 s; run 1",
    ]


def test_what_became_of_the_regression_tests_is_said(tmp_path: Path) -> None:
    found = Regressions(126, 120)
    assert "regression 126 found, 120 run, 6 lost" in lines(tmp_path, Outcome((patch(),), None, regressions=found))
    assert str(replace(found, why="6 over the limits")) == "126 found, 120 run, 6 lost (6 over the limits)"
    assert str(Regressions(why="why")) == "none run; WARNING: none tells what a patch breaks: why"


def test_a_run_without_a_valid_sample(tmp_path: Path) -> None:
    told = lines(tmp_path, Outcome((BAD,), None))
    assert "patch      none: no sample became a valid patch (amini show 1 --all has the reasons)" in told
    assert not [line for line in told if "confidence" in line]


def test_a_sample_that_was_never_judged_is_not_called_rejected(tmp_path: Path) -> None:
    told = lines(tmp_path, Outcome((patch(), None, None), Choice(patch(), 1, 1, "x")))
    assert "samples    3: 1 valid (1 distinct), 0 rejected, 2 not judged" in told


def test_written_tests_are_counted_with_their_fate(tmp_path: Path) -> None:
    kept = Case("tests/test_issue.py", Origin.GENERATED, "tests/test_issue.py", b"", votes=2)
    passing, odd = Rejected(Reason.NOT_REPRODUCED, "it passes"), Rejected(Reason.OTHER_FAULT, "ImportError")
    outcome = Outcome((patch(),), Choice(patch(), 1, 1, "x"), tests=(kept, passing, passing, kept, odd))
    told = lines(tmp_path, outcome)
    assert "new tests  5: 2 reproduce the issue (1 distinct), 3 rejected" in told
    assert "rejected   not-reproduced 2, other-fault 1" in told
    flaky = Rejected(Reason.FLAKY, "run again: it passes while the issue exists")
    told = lines(tmp_path, replace(outcome, tests=(kept, flaky, flaky)))
    assert "new tests  3: 1 reproduce the issue (1 distinct), dropped 2 flaky, 2 rejected" in told


def test_the_confidence_is_a_probability_by_the_recorded_samples_and_the_votes_stand_beside_it(tmp_path: Path) -> None:
    one, other = patch(b"+a\n"), patch(b"+b / c\n", "m" * 64)
    divided, agreed = (
        confidence(tmp_path, Choice(one, votes, 3, "x"), *samples)
        for votes, samples in ((1, (one, other, other)), (3, (one,) * 3))
    )
    assert divided == "confidence 43%: 1 of 3 votes; no test was run"
    assert agreed == "confidence 79%: 3 of 3 votes; no test was run"


def test_how_far_tests_back_the_patch_is_said(tmp_path: Path) -> None:
    backed = Choice(patch(), 2, 2, "x", passed=1, reproducing=2, broken=0, regressions=3)
    told = "confidence 55%: it passes 1 of 2 tests that failed before"
    assert confidence(tmp_path, backed) == told
    assert confidence(tmp_path, replace(backed, broken=1)) == f"{told}; but it breaks 1 that passed"


def test_a_patch_that_passes_no_reproduction_is_said_to(tmp_path: Path) -> None:
    told = confidence(tmp_path, Choice(patch(), 2, 2, "x", reproducing=2))
    assert told.endswith("; but no test that reproduces the issue passes with it")


def test_regression_tests_alone_are_said_to_prove_no_repair(tmp_path: Path) -> None:
    told = confidence(tmp_path, Choice(patch(), 2, 2, "x", regressions=9))
    assert told.endswith("; no test shows that it repairs the issue")


@pytest.mark.parametrize(
    ("usages", "spent"),
    [
        ((UNTOLD, UNTOLD), "tokens are unknown: the server does not report them, 1.0 s; run 1"),
        ((Usage(9, None, 4), Usage(0, 0, 5)), "9 prompt tokens (unknown cached), 9 generated, 1.0 s; run 1"),
        ((Usage(9, 3, 4), UNTOLD), "at least 9 prompt tokens (at least 3 cached), at least 4 generated, 1.0 s; run 1"),
        ((UNTOLD, Usage(0, 0, 0)), "tokens are unknown: the server does not report them, 1.0 s; run 1"),
    ],
)
def test_tokens_that_are_not_told_are_never_none(tmp_path: Path, usages: tuple[Usage, ...], spent: str) -> None:
    told = trace(tmp_path, Outcome((patch(), patch()), None))
    samples = tuple(replace(one, usage=usage) for one, usage in zip(told.samples, usages, strict=True))
    said = shown(summary(replace(told, samples=samples), 1.0)).splitlines()[-1]
    assert said == f"spent      {spent}"
