"""The summary of a run: what it says of files, votes, confidence, cuts and cost."""

from pathlib import Path

from agentless_mini.domain import (
    Candidate,
    Choice,
    Completion,
    Finish,
    Localization,
    Patch,
    Prediction,
    Reason,
    Rejected,
    Usage,
)
from agentless_mini.report.summary import summary
from agentless_mini.store import RunTrace, Store
from tests.store.building import START, patch, record, request

BAD = Rejected(Reason.NO_EDIT, "nothing")


def trace(tmp_path: Path, *outcomes: Patch | Rejected, choice: Choice | None, notes: tuple[str, ...] = ()) -> RunTrace:
    asked = request("Fix it.", *range(len(outcomes)))
    answers = [Completion(n, "x", Finish.STOP, usage=Usage(100 if n == 0 else 0, 40, 7)) for n in range(len(outcomes))]
    localization = Localization((("a.py", "b\x1b[31m.py"), ("c.py",)), (3, 0))
    with Store.open(tmp_path / "s.sqlite") as store:
        run = store.runs.begin(START)
        key = record(store, asked, *answers)
        for number in range(len(outcomes)):
            store.runs.link(run, key, number)
        candidates = tuple(Candidate(key, n, n, outcome) for n, outcome in enumerate(outcomes))
        store.runs.put_prediction(run, Prediction(localization, candidates, choice, notes))
        return store.runs.trace(run)


def test_a_run_with_a_winner(tmp_path: Path) -> None:
    one, other = patch(), patch(b"diff --git a/b.py b/b.py\n", "m" * 64)
    told = summary(trace(tmp_path, one, one, other, BAD, choice=Choice(one, 2, 3, "so it is"), notes=("Cut.",)), 1.25)
    lines = told.plain.split("\n")
    assert lines == [
        "files      a.py, b?[31m.py (3 votes)",
        "files      c.py (no vote of the model)",
        "note       Cut.",
        "samples    4: 3 valid (2 distinct), 1 rejected",
        "rejected   no-edit 1",
        "patch      a.py: so it is",
        "confidence 67% of the votes, the samples agree; it was chosen by vote alone, no test was run",
        "spent      100 prompt tokens (160 cached), 28 generated, 1.2 s; run 1",
    ]


def test_a_run_without_a_valid_sample(tmp_path: Path) -> None:
    told = summary(trace(tmp_path, BAD, choice=None), 1.0).plain
    assert "patch      none: no sample became a valid patch" in told
    assert "confidence" not in told


def test_a_divided_vote_is_said_to_be_one(tmp_path: Path) -> None:
    divided = summary(trace(tmp_path, patch(), choice=Choice(patch(), 2, 5, "x")), 1.0).plain
    assert "40% of the votes, the samples are divided" in divided


def test_a_vote_below_a_quarter_asks_for_care(tmp_path: Path) -> None:
    hardly = summary(trace(tmp_path, patch(), choice=Choice(patch(), 1, 10, "x")), 1.0).plain
    assert "10% of the votes, the samples hardly agree: read it with care" in hardly
