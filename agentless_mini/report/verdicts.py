"""The test results of the patches, as tables for people, in the order of `ranking`."""

import json
from collections import Counter

from agentless_mini.chain.rank import Standing, Totals, ordered, poll, standings, totals
from agentless_mini.chain.trust import Chosen, Trust, trust
from agentless_mini.domain import CaseResult, Execution, Level, Method, Origin, Outcome, Patch
from agentless_mini.errors import printable
from agentless_mini.record import RunTrace
from agentless_mini.report.cells import Table, row, table

FAULT_LETTERS, FEW_LETTERS = 160, 60


def repairs(trace: RunTrace) -> tuple[Patch, ...]:
    """Return the valid patches, one for each sample, the earliest first."""
    patches = (sample.outcome for sample in trace.samples if sample.stage.repairs)
    return tuple(patch for patch in patches if isinstance(patch, Patch))


def trust_of(trace: RunTrace) -> tuple[Level, Trust] | None:
    """Return what a run required of its patch, and what that has shown; None where it chose none."""
    if trace.prediction is None or (choice := trace.prediction.choice) is None:
        return None
    settings = json.loads(trace.run.start.settings)
    chosen = Chosen(choice.patch.normal, choice.votes, choice.valid)
    shown = trust(chosen, trace.prediction.execution, settings.get("given", ()), trace.prediction.notes)
    return Level(settings.get("require") or Level.ANY), shown


def distinct(trace: RunTrace) -> tuple[Standing, ...]:
    """Return the distinct patches, the best first: number n of what is shown is at the place n - 1.

    The chosen one stands first, by whatever method, then the most probable; those that were not tested come last.
    """
    execution, choice = trace.execution, trace.choice
    polled = poll(trace.candidates())
    found = list(ordered(standings(polled, execution), totals(execution), Method.PROBABILITY)) if execution else []
    tested = {standing.normal for standing in found}
    found += ordered([standing for standing in polled if standing.normal not in tested], Totals(), Method.PROBABILITY)
    return tuple(sorted(found, key=lambda standing: choice is None or standing.normal != choice.patch.normal))


def patches_table(trace: RunTrace, most: int | None = None) -> tuple[Table, int]:
    """Return the table of `distinct` patches x kinds of tests, and how many of its rows were left out."""
    patches, found = repairs(trace), distinct(trace)
    execution, choice = trace.execution, trace.choice
    count = totals(execution) if execution else Totals()
    tested = {verdict.normal for verdict in execution.verdicts} if execution else set()
    valid = sum(standing.votes for standing in found)
    kinds = ("given", count.given), ("generated", count.generated), ("broken", count.regressions)
    names = [name for name, of in kinds if of]
    result = table("", "votes", "files", *names, right=names)
    for number, standing in enumerate(found[:most], 1):
        chosen = choice is not None and choice.patch.normal == standing.normal
        files = printable(", ".join(patches[standing.first].paths))
        cells = {
            "given": f"{len(standing.given)}/{count.given}",
            "generated": f"{len(standing.generated)}/{count.generated}",
            "broken": f"{count.regressions - len(standing.kept)}/{count.regressions}",
        }
        if standing.untried:
            cells |= {"generated": "not run", "broken": "not run"}
        if standing.refused or standing.normal not in tested:
            cells = dict.fromkeys(cells, "refused" if standing.refused else "-")
        shown = (cells[name] for name in names)
        row(result, f"{number}{' *' if chosen else ''}", f"{standing.votes}/{valid}", files, *shown)
    return result, len(found) - len(found[:most])


def tests_table(execution: Execution, normal: str) -> Table:
    """Return one row for each case, those first that do not pass with the patch of this normal form ("" for none)."""
    passing = Counter(id for verdict in execution.verdicts for id in verdict.passed())
    before = {result.id: result.outcome for result in execution.before}
    after = {result.id: result.outcome for result in _results(execution, normal)}
    result = table("test", "from", "votes", "before", "after", "passes with")
    for case in sorted(execution.cases, key=lambda case: after.get(case.id) is Outcome.PASS):
        votes = str(case.votes) if case.origin is Origin.GENERATED else ""
        passes = f"{passing[case.id]} of {len(execution.verdicts)}"
        row(result, printable(case.id), case.origin, votes, before.get(case.id, ""), after.get(case.id, ""), passes)
    return result


def groups(execution: Execution, normal: str) -> tuple[str, ...]:
    """Return how many cases of each origin pass with the patch of this normal form, groups with failures first."""
    origin = {case.id: case.origin for case in execution.cases}
    of = Counter(origin.values())
    passed = Counter(origin[one.id] for one in _results(execution, normal) if one.outcome is Outcome.PASS)
    every = sorted((one for one in Origin if of[one]), key=lambda one: passed[one] == of[one])
    return tuple(f"{group:<10} {passed[group]} of {of[group]} pass" for group in every)


def faults_table(execution: Execution, normal: str, most: int | None = None) -> tuple[Table, int]:
    """Return what does not pass with the patch of this normal form and why, and how many rows were left out."""
    failing = [result for result in _results(execution, normal) if result.outcome is not Outcome.PASS]
    shown = table("test", "outcome", "what it ended with")
    for result in failing[:most]:
        row(shown, printable(result.id), result.outcome, _fault(result, FEW_LETTERS if most else FAULT_LETTERS))
    return shown, len(failing) - len(failing[:most])


def _results(execution: Execution, normal: str) -> tuple[CaseResult, ...]:
    return next((verdict.results for verdict in execution.verdicts if verdict.normal == normal), ())


def _fault(result: CaseResult, letters: int) -> str:
    if result.fault is None:
        return ""
    text = ": ".join(filter(None, (result.fault.kind, result.fault.message)))
    place = f" ({result.fault.path}:{result.fault.line})" if result.fault.path else ""
    return printable(" ".join(text.split())[:letters] + place)
