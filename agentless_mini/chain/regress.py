"""Choose the repository's own tests that no patch may break: they pass before any patch, twice.

After "Agentless Mini" of SWE-RL (arXiv 2502.18449).

The most related test files are run first, some at a time, until the budget is used up. What a test takes is counted as
its process says (see `CaseResult`): neither the start of a runner nor the reading of files counts, nor how busy the
machine is, and a rerun over recorded boxes asks for the same boxes again.
"""

from collections.abc import Collection, Iterable, Sequence

from agentless_mini.chain.lexical import is_test_path, is_test_tool, runs_here
from agentless_mini.chain.related_tests import related_tests
from agentless_mini.chain.session import Boxes, Refused, known_by, run_cases, run_files
from agentless_mini.domain import BoxDone, Case, CaseResult, Note, Origin, Outcome, Phase, PhaseStarted, Regressions
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.settings.run import RegressSettings

# A runner imports all files that it is given before the first test runs: with many, nothing would be left of the time.
FILES_AT_ONCE = 8
# What a box costs at least, as a share of the budget: there are only so many.
LEAST_SHARE = 0.1


async def regress(
    boxes: Boxes, touched: Collection[str], settings: RegressSettings, own: Iterable[str] = ()
) -> tuple[tuple[Case, ...], Regressions]:
    """Return the repository's tests that matter for the touched paths and pass on the tree twice, and how many once.

    The files of the user's tests (`own`) come first, then the most related. Their contents are the tree's: what a patch
    does to test files is undone in every box. Raises what the sandbox raises.
    """
    issue, snapshot = boxes.issue, boxes.snapshot
    of = (*known_by(issue, snapshot), *sorted(touched))
    found = await boxes.derive("related tests", of, lambda: related_tests(snapshot, touched, issue))
    related = [path for path in dict.fromkeys((*own, *found)) if runs_here(path, boxes.harness.runner)]
    if not related:
        return (), Regressions(why="no test of the repository is related to the files that the patches touch")
    boxes.watch(PhaseStarted(Phase.REGRESSION))
    held, is_tool = snapshot.by_path(), is_test_tool(snapshot)

    def case(test: str) -> Case:
        """Make a case of a test. Where a patch of its file would not be undone (`guards`), it is put there again."""
        path = test.partition("::")[0]
        again = path in held and (is_tool or not is_test_path(path))
        return Case(test, Origin.REGRESSION, path, held[path].data if again else None)

    passing, told = await _passing(boxes, related, settings)
    cases = tuple(case(result.id) for result in passing)
    if not cases:
        return (), told
    results = await run_cases(boxes, None, cases, attempt=1)  # one that does not pass again says nothing of a patch
    if isinstance(results, Refused):
        raise EnvironmentFailed(f"The tests cannot be run on the tree ({results.detail}): use --sandbox none.")
    boxes.watch(BoxDone(Phase.REGRESSION, tuple(result.outcome for result in results)))
    steady = tuple(case for case, result in zip(cases, results, strict=True) if result.outcome is Outcome.PASS)
    if flaky := len(cases) - len(steady):
        boxes.watch(Note(f"{flaky} of {len(cases)} regression tests were dropped: they do not pass every time."))
    return steady, Regressions(told.found, len(steady), "" if steady else "none passes twice")


async def _passing(
    boxes: Boxes, paths: Sequence[str], settings: RegressSettings
) -> tuple[list[CaseResult], Regressions]:
    """Run test files until the budget is used up; return the tests that pass, as many as one patch may be asked.

    What is told beside them has the number of all that pass, and why there is none.
    """
    left, ran, tried, late, passed = settings.budget, 0, 0, False, dict[str, CaseResult]()
    while ran < len(paths) and left > 0 and len(passed) < settings.most:
        some = tuple(paths[ran : ran + FILES_AT_ONCE])
        results = await run_files(boxes, some, left)
        boxes.watch(BoxDone(Phase.REGRESSION, tuple(result.outcome for result in results)))
        late = late or not results
        tried += sum(result.outcome is not Outcome.NOT_COLLECTED for result in results)
        passed |= {result.id: result for result in results if result.outcome is Outcome.PASS}
        ran += len(some)
        # A file of which there is no result was cut off: its share of the budget is used up.
        spent = min(left, sum(result.seconds for result in results))
        silent = len(set(some) - {result.id.partition("::")[0] for result in results})
        left -= max(settings.budget * LEAST_SHARE, spent + (left - spent) * silent / len(some))
    if ran < len(paths):
        left_out = f"{len(paths) - ran} of {len(paths)} related test files were left out to keep within"
        boxes.watch(Note(f"{left_out} {settings.budget:g} seconds of their own (--regression-budget)."))
    if late:
        boxes.watch(
            Note("Reading some related test files ended their box or took it too long: no test in them was run.")
        )
    kept, left = [], settings.budget
    for result in list(passed.values())[: settings.most]:
        if result.seconds <= left:
            left -= result.seconds
            kept.append(result)
    why = f"none of {tried} related tests passes before any patch and keeps within the limits"
    return kept, Regressions(len(passed), why=why if tried else f"no test was reached in {ran} related test files")
