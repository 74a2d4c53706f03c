"""What the tests say of the patches, as tables for people. It ranks nothing: the order is that of `ranking`."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agentless_mini.domain import Case, CaseResult, Execution, Origin, Outcome
from agentless_mini.errors import printable
from agentless_mini.ranking import (
    Chosen,
    Level,
    Method,
    Standing,
    Totals,
    Trust,
    ordered,
    poll,
    standings,
    totals,
    trust,
)
from agentless_mini.report.cells import row, table
from agentless_mini.store import ChoiceRecord, PatchRecord, RunTrace, recorded_candidates

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

FILES_WIDTH = 34
FAULT_LETTERS = 160
NORMAL_LETTERS = 10


def repairs(trace: RunTrace) -> tuple[PatchRecord, ...]:
    """Return the valid patches, one for each sample, the earliest first."""
    patches = (sample.outcome for sample in trace.samples if sample.stage.repairs)
    return tuple(patch for patch in patches if isinstance(patch, PatchRecord))


def trust_of(trace: RunTrace) -> tuple[Level, Trust] | None:
    """Return what a run required of its patch, and what that has shown; None where it chose none."""
    if trace.prediction is None or (choice := trace.prediction.choice) is None:
        return None
    settings = json.loads(trace.run.start.settings)
    chosen = Chosen(choice.patch.normal, choice.votes, choice.valid)
    shown = trust(chosen, trace.prediction.execution, settings.get("given", ()), trace.prediction.notes)
    return Level(settings.get("require") or Level.ANY), shown


def patches_table(trace: RunTrace, execution: Execution, most: int | None = None) -> "tuple[Table, int]":
    """Return the table patches x tests, the best patch first, and how many of its rows were left out.

    Columns are there for the kinds of tests that there are: how many of them pass, or break. The chosen patch is
    marked and stands first, by whatever method it was chosen.
    """
    patches, count = repairs(trace), totals(execution)
    choice = trace.prediction.choice if trace.prediction else None
    polled = poll(recorded_candidates(trace))
    found = _best_first(polled, execution, choice)
    valid = sum(standing.votes for standing in polled)
    result = _headed(count)
    for standing in found[:most]:
        chosen = choice is not None and choice.patch.normal == standing.normal
        files = printable(", ".join(patches[standing.first].paths))
        votes = f"{standing.votes}/{valid}"
        row(result, "*" if chosen else "", votes, files, *_numbers(standing, count))
    return result, len(found) - len(found[:most])


def tests_table(execution: Execution) -> "RenderableType":
    """Return one row for each case: where it is from, what came of it before any patch, and with how many it passes."""
    passing = Counter(id for verdict in execution.verdicts for id in verdict.passed())
    before = {result.id: result.outcome for result in execution.before}
    result = table("test", "from", "votes", "before", "passes with")
    for case in execution.cases:
        told = before.get(case.id)
        votes = str(case.votes) if case.origin is Origin.GENERATED else ""
        passes = f"{passing[case.id]} of {len(execution.verdicts)}"
        row(result, printable(case.id), case.origin, votes, told or "", passes)
    return result


def faults_table(execution: Execution, normal: str) -> "RenderableType | None":
    """Return what does not pass with the patch of this normal form and why, or None where all passes."""
    results = [result for verdict in execution.verdicts if verdict.normal == normal for result in verdict.results]
    failing = [result for result in results if result.outcome is not Outcome.PASS]
    if not failing:
        return None
    shown = table("test", "outcome", "what it ended with")
    for result in failing:
        row(shown, printable(result.id), result.outcome, _fault(result))
    return shown


def refusals(execution: Execution) -> Iterator[str]:
    """Yield why each patch that was refused could not be put over the tree of its box."""
    for verdict in execution.verdicts:
        if verdict.refusal:
            yield printable(f"refused {verdict.normal[:NORMAL_LETTERS]}: {verdict.refusal}")


def counts(cases: Iterable[Case]) -> str:
    """Return how many cases there are of each origin, those that there are: '1 given, 41 regression'."""
    number = Counter(case.origin for case in cases)
    return ", ".join(f"{number[origin]} {origin}" for origin in Origin if number[origin])


def _best_first(polled: Iterable[Standing], execution: Execution, choice: ChoiceRecord | None) -> list[Standing]:
    found = ordered(standings(polled, execution), totals(execution), Method.AGREEMENT)
    return sorted(found, key=lambda standing: choice is None or standing.normal != choice.patch.normal)


def _headed(count: Totals) -> "Table":
    result = table("", "votes")
    result.show_edge = False
    result.add_column("files", max_width=FILES_WIDTH, no_wrap=True, overflow="ellipsis")
    for heading, there in (("given", count.given), ("generated", count.generated), ("broken", count.regressions)):
        if there:
            result.add_column(heading, justify="right", no_wrap=True)
    return result


def _numbers(standing: Standing, count: Totals) -> Iterator[str]:
    parts = (
        (len(standing.given), count.given, False),
        (len(standing.generated), count.generated, standing.untried),
        (count.regressions - len(standing.kept), count.regressions, standing.untried),
    )
    for number, of, is_untried in parts:
        if of:
            yield "refused" if standing.refused else "not run" if is_untried else f"{number}/{of}"


def _fault(result: CaseResult) -> str:
    if result.fault is None:
        return ""
    said = ": ".join(part for part in (result.fault.kind, result.fault.message) if part)
    place = f" ({result.fault.path}:{result.fault.line})" if result.fault.path else ""
    return printable(" ".join(said.split())[:FAULT_LETTERS] + place)
