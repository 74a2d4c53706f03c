"""What a terminal shows of evaluations, one or several side by side."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.domain import Regressions
from agentless_mini.record import AttemptRecord, AttemptState, Store
from agentless_mini.report.evaluation_document import Prices, evaluation_document
from agentless_mini.report.evaluation_tables import PAPER, evaluation_tables
from tests.report.building import shown
from tests.report.evaluated import EVAL, Ran, evaluate, put_instance

HOSTILE = "\x1b[31m[bold]\u202eevil\ud800"
RIGHT = Ran("one__one-1", "aab.", right="a", tests="t", passing=(("a", "t"),))
EMPTY = Ran("two__two-3", "....", right="", repo="two/two", difficulty="1-4 hours")


def document(folder: Path, *ran: Ran, prices: Prices = Prices()) -> dict[str, Any]:  # noqa: B008 - frozen
    with Store.open(folder / "s.sqlite") as store:
        evaluate(store, ran)
        return evaluation_document(store, prices)


def named(told: dict[str, Any], name: str) -> dict[str, Any]:
    other = deepcopy(told)
    other["run"]["name"] = name
    return other


def cells(text: str, first: str) -> list[str]:
    """Return the cells of the first row whose first cell is this."""
    rows = (line.split("  ") for line in text.splitlines())
    stripped = ([cell.strip() for cell in row if cell.strip()] for row in rows)
    return next(row for row in stripped if row and row[0] == first)


def test_the_overview_says_what_was_resolved_and_how_sure_that_is(tmp_path: Path) -> None:
    text = shown(evaluation_tables([document(tmp_path, RIGHT, EMPTY)]), 120)
    assert cells(text, "resolved") == ["resolved", "50.0% [9.5, 90.5] (1/2)"]
    assert cells(text, "two/two") == ["two/two", "0.0% (0/1)"]
    assert cells(text, "1-4 hours") == ["1-4 hours", "0.0% (0/1)"]
    assert cells(text, "4") == ["4", "50.0%", "50.0%", "50.0%"]
    assert cells(text, "80% to 100%") == ["80% to 100%", "100.0% (1/1)"]
    assert cells(text, "search-not-found") == ["search-not-found", "5"]
    assert cells(text, "computed / distinct") == ["computed / distinct", "0.70"]
    assert "price" not in text
    assert PAPER not in text


def test_languages_are_told_where_there_are_several(tmp_path: Path) -> None:
    assert "language" not in shown(evaluation_tables([document(tmp_path, RIGHT, EMPTY)]), 120)
    (tmp_path / "more").mkdir()
    text = shown(evaluation_tables([document(tmp_path / "more", RIGHT, replace(EMPTY, gold=("a.go",)))]), 120)
    assert cells(text, "go") == ["go", "0.0% (0/1)"]


def test_an_instance_that_met_no_regression_test_is_told_with_the_reason(tmp_path: Path) -> None:
    left = replace(RIGHT, regressions=Regressions(126, 120))
    none = replace(EMPTY, regressions=Regressions(3, 0, "none passes [bold]twice[/]"))
    told = document(tmp_path, left, none)
    one, other = (instance["regressions"] for instance in told["results"]["per_instance"])
    assert one == {"found": 126, "run": 120, "lost": 6, "why": ""}
    assert (other["run"], other["lost"]) == (0, 3)
    text = shown(evaluation_tables([told]), 120)
    said = "129 found, 120 run, 9 lost; WARNING: none for 1 of 2 instances"
    assert cells(text, "regression tests") == ["regression tests", said]
    assert cells(text, "two__two-3") == ["two__two-3", "3", "none passes [bold]twice[/]"]


def test_where_files_alone_were_found_nothing_is_said_of_what_was_resolved(tmp_path: Path) -> None:
    told = document(tmp_path, RIGHT, EMPTY)
    told["run"]["settings"]["until"] = "localize"
    text = shown(evaluation_tables([told]), 120)
    assert cells(text, "files: all found, first list")
    assert cells(text, "wall time")
    assert "resolved" not in text
    assert "graded" not in text
    beside = shown(evaluation_tables([told, named(document(tmp_path, RIGHT, EMPTY), "other")]), 160)
    assert "resolved by repository" in beside


def test_evaluations_stand_side_by_side_and_what_one_does_not_have_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = document(tmp_path, RIGHT, prices=Prices(completion=1e6))
    other = named(document(tmp_path / "other", EMPTY), "other")
    text = shown(evaluation_tables([one, other]), 160)
    assert cells(text, "one/one") == ["one/one", "100.0% (1/1)", "-"]
    assert cells(text, "two/two") == ["two/two", "-", "0.0% (0/1)"]
    assert cells(text, "search-not-found") == ["search-not-found", "1", "4"]
    assert cells(text, "price") == ["price", "35.00", "-"]
    assert cells(text, "1")[1:] == ["100.0%", "100.0%", "50.0%", "0.0%", "0.0%", "0.0%"]


def test_failures_are_listed_with_their_reason_and_the_rest_is_counted(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        store.evals.begin(EVAL)
        for number in range(12):
            put_instance(store, Ran(f"i-{number:02}"))
            attempt = AttemptRecord(f"i-{number:02}", None, AttemptState.INFRASTRUCTURE, "image", "No such image.")
            store.evals.put_attempt(attempt)
        text = shown(evaluation_tables([evaluation_document(store)]), 120)
    assert "failures of small: 12 infrastructure (image)" in text
    assert cells(text, "i-09") == ["i-09", "infrastructure", "image", "No such image."]
    assert "i-10" not in text
    assert "... 2 more (--json has all)" in text
    assert cells(text, "resolved") == ["resolved", "- (0/0)"]


def test_the_papers_numbers_stand_only_beside_the_whole_benchmark_that_it_reports(tmp_path: Path) -> None:
    whole = document(tmp_path, RIGHT)
    whole["run"]["dataset"] = "SWE-bench/SWE-bench_Verified"
    assert PAPER not in shown(evaluation_tables([whole]), 160)
    whole["results"]["instances"] = 500
    whole["results"]["best_at_n"][-1]["n"] = 500
    text = shown(evaluation_tables([whole]), 160)
    assert cells(text, "500")[-1] == "41.0%"
    assert "another model" in text


def test_foreign_names_reach_no_terminal_as_control_or_markup(tmp_path: Path) -> None:
    told = document(tmp_path, RIGHT)
    told["run"] |= {"name": HOSTILE, "model": HOSTILE, "dataset": HOSTILE}
    results = told["results"]
    results["per_instance"][0] |= {"id": HOSTILE, "failure": HOSTILE, "stage": HOSTILE}
    results["by_repo"][0]["repo"] = results["by_difficulty"][0]["difficulty"] = HOSTILE
    told["results"]["failures"] = [{"stage": HOSTILE, "state": "failed", "count": 1}]
    text = shown(evaluation_tables([told]), 400).replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert not set(text) & {"\x1b", "\u202e", "\ud800"}
    assert "[bold]" in text


def test_there_is_no_table_of_nothing() -> None:
    with pytest.raises(ValueError, match="no evaluation"):
        evaluation_tables([])
