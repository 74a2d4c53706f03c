"""Tables hold texts, never markup, and nothing is broken inside a word, however narrow the terminal is."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from agentless_mini.domain import Case, CaseResult, Execution, Fault, Origin, Outcome, Patch, Verdict
from agentless_mini.record import AttemptRecord, AttemptState, RunSummary, RunTrace, Store
from agentless_mini.report.console import LABEL, row, table
from agentless_mini.report.evaluation_document import evaluation_document
from agentless_mini.report.evaluation_tables import evaluation_tables
from agentless_mini.report.show import run_view, runs_table
from agentless_mini.report.summary import summary
from tests.report.building import shown
from tests.report.evaluated import Ran, evaluate, put_instance
from tests.report.test_verdicts import decided

LONG = "packages/distribution/resources/implementation/internals"
CASES = tuple(
    Case(f"{LONG}/test_{origin}_{at}.py::TestSomething::test_number_{at}", origin, f"{LONG}/test_{at}.py", votes=3)
    for origin in Origin
    for at in range(20)
)
FAULT = Fault("AssertionError", f"expected 12345 in {LONG} but there was nothing of the kind", f"{LONG}/a.py", 7)


def run(folder: Path) -> RunTrace:
    patches = [Patch(b"+x\n" * 60, f"{at:04}", (f"{LONG}/module_{at}.py",)) for at in range(40)]
    results = tuple(
        CaseResult(case.id, Outcome.FAIL if at % 3 else Outcome.PASS, 0.1, FAULT if at % 3 else None)
        for at, case in enumerate(CASES)
    )
    before = tuple(CaseResult(case.id, Outcome.NOT_COLLECTED) for case in CASES)
    told = decided(folder, Execution(CASES, before, tuple(Verdict(one.normal, results) for one in patches)), *patches)
    start = replace(told.run.start, model="Organisation/Some-Model-With-A-Long-Name-70B-Instruct", repository=LONG)
    return replace(told, run=replace(told.run, start=start, started=1_700_000_000.0))


def evaluations(folder: Path) -> RenderableType:
    documents = []
    for number in range(5):
        name = f"verified-some-model-with-a-long-name-{number}"
        with Store.open(folder / f"{number}.sqlite") as store:
            evaluate(store, [Ran(f"{LONG}__{LONG}-1", tests="t", passing=(("a", "t"),)), Ran("two__two-3", "....", "")])
            put_instance(store, Ran("three"))
            failed = AttemptState.INFRASTRUCTURE
            store.evals.put_attempt(AttemptRecord("three", None, failed, "image", f"The image {LONG} is not here."))
            document = evaluation_document(store)
        document["run"]["name"] = name
        document["cost"]["prompt_tokens"] = 1_234_567_890_123
        documents.append(document)
    return evaluation_tables(documents)


def runs(folder: Path) -> RenderableType:
    told = run(folder).run
    other = replace(told, start=replace(told.start, repository="other"))
    return runs_table([RunSummary(told, 1234, 567, 890), RunSummary(other, 1, 0, 0)])


VIEWS: dict[str, Callable[[Path], RenderableType]] = {
    "summary": lambda folder: summary(run(folder), 1.0),
    "show": lambda folder: run_view(run(folder)),
    "show --all": lambda folder: run_view(run(folder), every=True),
    "runs": runs,
    "report": evaluations,
}


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("view", VIEWS)
def test_no_word_is_split_and_no_table_is_wider_than_its_terminal(view: str, width: int, tmp_path: Path) -> None:
    whole, narrow = (shown(VIEWS[view](tmp_path / name), at) for name, at in (("whole", 9999), ("narrow", width)))
    known = set(whole.split())
    pieces = {piece for word in known if len(word) > width - LABEL for piece in re.findall(r"[^/]*/|[^/]+", word)}
    strange = [word for word in narrow.split() if word not in known and not shortened_of_some(word, known)]
    strange = [word for word in strange if not any(word.startswith(piece) or word in piece for piece in pieces)]
    assert [word for word in strange if not set(word) <= {"\u2500"}] == []
    rules = [line for line in narrow.splitlines() if "\u2500" in line]
    assert rules
    assert all(cell_len(line) <= width for line in rules)


def shortened_of_some(word: str, known: set[str]) -> bool:
    head, mark, tail = word.partition("\u2026")
    return bool(mark) and any(one.startswith(head) and one.endswith(tail) for one in known)


def test_one_screen_shows_a_large_run(tmp_path: Path) -> None:
    assert len(shown(run_view(run(tmp_path)), 100).splitlines()) <= 70
    assert len(shown(run_view(run(tmp_path / "again"), every=True), 100).splitlines()) > 150


def test_numbers_are_never_shortened_and_columns_stand_below_each_other() -> None:
    told = table("", *(f"evaluation-{at}" for at in range(6)))
    row(told, "tokens", *["1,234,567,890,123,456"] * 6)
    text = shown(told, 40)
    assert text.count("1,234,567,890,123,456") == 6
    assert text.count("tokens") == 6
    row(told, "no number", *["1" * 500] * 6)
    assert max(map(cell_len, shown(told, 40).splitlines())) <= 40


def test_a_mark_stays_beside_its_number() -> None:
    told = table("", "votes", "files", "given", "broken")
    row(told, "1 *", "12/100", f"{LONG}/module.py", "1/1", "0/41")
    row(told, "2", "1/100", f"{LONG}/module.py", "not run", "not run")
    assert "1 *  12/100" in shown(told, 40)


def test_a_stream_that_has_only_ascii_gets_three_dots() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    told = table("path", "said")
    row(told, "a/very/long/path/of/a/file/that/does/not/fit.py", "some words that do not fit either")
    Console(file=file, width=40).print(told)
    file.seek(0)
    text = file.read()
    assert "a/very/l...t/does/not/fit.py" in text
    assert "\\u" not in text


def test_headings_and_cells_are_shown_as_they_are_written() -> None:
    told = table("[red]a[/red]", "b\x1b[31m")
    row(told, "[blue]c", "d")
    lines = [line.split() for line in shown(told, 60).splitlines()]
    assert ["[red]a[/red]", "b\\x1b[31m"] in lines
    assert ["[blue]c", "d"] in lines
