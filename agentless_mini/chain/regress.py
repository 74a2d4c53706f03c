"""Choose the repository's own tests that no patch may break: they pass before any patch.

After "Agentless Mini" of SWE-RL (arXiv 2502.18449).

The most related test files are run first, some at a time, until the budget is used up. What a test takes is counted as
its process says (see `CaseResult`): neither the start of a runner nor the reading of files counts, nor how busy the
machine is. These have a limit by the clock, as recorded, so that a rerun asks for the same boxes again. Whoever runs
the tests beside others sees whether they pass twice.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from agentless_mini.chain.lexical import is_test_path, is_test_tool, runs_here
from agentless_mini.chain.related_tests import related_tests
from agentless_mini.chain.session import Boxes, known_by, run_files
from agentless_mini.domain import (
    BoxDone,
    Case,
    CaseResult,
    Note,
    Origin,
    Outcome,
    Phase,
    PhaseSaid,
    PhaseStarted,
    Regressions,
)
from agentless_mini.errors import counted
from agentless_mini.settings.run import RegressSettings
from agentless_mini.testing.records import LEFT

# A runner imports all files that it is given before the first test runs: with many, nothing would be left of the time.
FILES_AT_ONCE = 8
# What a box costs at least, as a share of the budget and of the time for reading: there are only so many.
LEAST_SHARE = 0.1
# Seconds of the clock that starting runners and reading files may take in all.
READING = 240.0
# A test may take this part of the budget, as all of its file may: one that waits for ever costs no more.
SHARES = 4


async def regress(
    boxes: Boxes, touched: Collection[str], settings: RegressSettings, own: Iterable[str] = ()
) -> tuple[tuple[Case, ...], Regressions]:
    """Return the repository's tests that matter for the touched paths and pass on the tree, and how many there are.

    The files of the user's tests (`own`) come first, then the most related. Their contents are the tree's: what a patch
    does to test files is undone in every box. Raises what the sandbox raises.
    """
    issue, snapshot = boxes.issue, boxes.snapshot
    runner = boxes.harness.runner
    of = (*known_by(issue, snapshot), runner.value, *sorted(touched))
    found = await boxes.derive("related tests", of, lambda: related_tests(snapshot, touched, issue, runner))
    related = [path for path in dict.fromkeys((*own, *found)) if runs_here(path, runner)]
    if not related:
        return (), Regressions(why="no test of the repository is related to the files that the patches touch")
    boxes.watch(PhaseStarted(Phase.REGRESSION, seconds=READING + 2 * settings.budget))
    held, is_tool = snapshot.by_path(), is_test_tool(snapshot)

    def case(test: str) -> Case:
        """Make a case of a test. Where a patch of its file would not be undone (`guards`), it is put there again."""
        path = test.partition("::")[0]
        again = path in held and (is_tool or not is_test_path(path))
        return Case(test, Origin.REGRESSION, path, held[path].data if again else None)

    passing, told = await _passing(boxes, related, settings)
    return tuple(case(result.id) for result in passing), told


async def _passing(
    boxes: Boxes, paths: Sequence[str], settings: RegressSettings
) -> tuple[list[CaseResult], Regressions]:
    """Run test files until a limit is reached; return the tests that pass, as many as one patch may be asked.

    What is told beside them has how many there are, and why the others are lost.
    """
    left, clock, ran, late, found = settings.budget, READING + settings.budget, 0, False, list[CaseResult]()
    most, passed, unread = min(boxes.case_seconds, settings.budget / SHARES), dict[str, CaseResult](), False
    timed = replace(boxes, case_seconds=most)
    while ran < len(paths) and left > 0 and clock > READING * LEAST_SHARE and len(passed) < settings.most:
        some = tuple(paths[ran : ran + FILES_AT_ONCE])
        boxes.watch(PhaseSaid(Phase.REGRESSION, f"finding them, from file {ran + 1} of {len(paths)}"))
        run = await run_files(timed, some, left, clock)
        boxes.watch(BoxDone(Phase.REGRESSION, tuple(result.outcome for result in run.results)))
        found, unread = found + list(run.results), unread or run.unread
        passed |= {result.id: result for result in run.results if result.outcome is Outcome.PASS}
        ran, clock, late = ran + len(some), clock - run.seconds, late or not run.results
        # A file of which there is no result was cut off: its share of the budget is used up.
        spent = min(left, sum(result.seconds for result in run.results))
        silent = len(set(some) - {result.id.partition("::")[0] for result in run.results})
        left -= max(settings.budget * LEAST_SHARE, spent + (left - spent) * silent / len(some))
    if ran < len(paths):
        left_out = f"{len(paths) - ran} of {len(paths)} related test files were left out to keep within"
        boxes.watch(Note(f"{left_out} {settings.budget:g} seconds of their own (--regression-budget)."))
    if late:
        boxes.watch(Note("Some related test files were not run: reading them took too long, or ended their box."))
    kept, left = [], settings.budget
    for result in list(passed.values())[: settings.most]:
        if result.seconds <= left:
            left -= result.seconds
            kept.append(result)
    lost = {
        "not reached within the budget": sum(one.fault is not None and one.fault.message == LEFT for one in found),
        f"over {most:g} s": sum(one.outcome is Outcome.TIMEOUT for one in found),
        "over the limits": len(passed) - len(kept),
    }
    why = ", ".join(f"{number} {said}" for said, number in lost.items() if number)
    if not passed and not why:
        tried = sum(one.outcome is not Outcome.NOT_COLLECTED for one in found)
        none = f"none of {counted(tried, 'related test')} passes before any patch"
        why = none if tried else f"no test was reached in {counted(ran, 'related test file')}"
        why = "no report of tests could be read (--test-report)" if unread else why
    return kept, Regressions(len(kept) + sum(lost.values()), len(kept), why)
