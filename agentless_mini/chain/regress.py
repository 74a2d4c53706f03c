"""Choose the repository's own tests that no patch may break: they pass before any patch, twice.

After "Agentless Mini" of SWE-RL (arXiv 2502.18449).

The most related test files are run first, some at a time, until the budget is used up. What a test may take is counted
as its process says, not by a clock, so that a rerun over recorded boxes asks for the same boxes again.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from agentless_mini.chain.bench import Bench
from agentless_mini.chain.execute import Refused, run_cases, run_files
from agentless_mini.chain.lexical import is_test_path, is_test_tool, runs_here
from agentless_mini.chain.regression import related_tests
from agentless_mini.domain import BoxDone, Case, CaseResult, Note, Origin, Outcome, Phase, PhaseStarted, Snapshot
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.settings.run import RegressSettings

# A runner imports all files that it is given before the first test runs: with many, nothing would be left of the time.
FILES_AT_ONCE = 8
# What a box costs at least, as a share of the budget: the start of the runner and the imports are in no test's time.
LEAST_SHARE = 0.1


async def regress(
    bench: Bench, touched: Collection[str], settings: RegressSettings, own: Iterable[str] = ()
) -> tuple[Case, ...]:
    """Return the repository's tests that matter for the touched paths and pass on the tree as it is, each by itself.

    The files of the user's tests (`own`) come first, then the most related. Their contents are the tree's: what a patch
    does to test files is undone in every box. Raises what the sandbox raises.
    """
    if settings.budget == 0:
        return ()
    of = frozenset(touched)
    given = (bench.snapshot.digest, *sorted(of))
    found = await bench.derive("related tests", given, lambda: related_tests(bench.snapshot, of))
    related = [path for path in dict.fromkeys((*own, *found)) if runs_here(path, bench.harness.runner)]
    if not related:
        bench.watch(Note("No test of the repository is related to the files that the patches touch."))
        return ()
    bench.watch(PhaseStarted(Phase.REGRESSION))
    return await _passing_again(await _passing(bench, related, settings), bench)


async def _passing(bench: Bench, paths: Sequence[str], settings: RegressSettings) -> tuple[Case, ...]:
    """Run test files until the budget is used up; return the tests that pass."""
    left, ran, late, passed = settings.budget, 0, False, dict[str, CaseResult]()
    for some in _portions(paths):
        results = await run_files(bench, some, left)
        bench.watch(BoxDone(Phase.REGRESSION, tuple(result.outcome for result in results)))
        late = late or not results
        passed |= {result.id: result for result in results if result.outcome is Outcome.PASS}
        ran += len(some)
        left -= _cost(some, results, left, settings.budget)
        if left <= 0 or len(passed) >= settings.most:
            break
    if ran < len(paths):
        bench.watch(
            Note(
                f"{len(paths) - ran} of {len(paths)} related test files were left out to keep within "
                f"{settings.budget:g} seconds (--regression-budget)."
            )
        )
    if late:
        bench.watch(
            Note(
                "In some related test files no test came to its end: they have none, or too little time "
                "(--regression-budget)."
            )
        )
    kept = _affordable(tuple(passed.values()), settings)
    return tuple(_as_cases((result.id for result in kept), bench.snapshot))


def _portions(paths: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for begin in range(0, len(paths), FILES_AT_ONCE):
        yield tuple(paths[begin : begin + FILES_AT_ONCE])


def _cost(paths: Sequence[str], results: Sequence[CaseResult], left: float, budget: float) -> float:
    """Return what a box used of the budget. A file of which there is no result was cut off: its share is used up."""
    spent = min(left, sum(result.seconds for result in results))
    silent = len(set(paths) - {result.id.partition("::")[0] for result in results})
    return max(budget * LEAST_SHARE, spent + (left - spent) * silent / len(paths))


def _affordable(results: Sequence[CaseResult], settings: RegressSettings) -> Iterator[CaseResult]:
    left = settings.budget
    for result in results[: settings.most]:
        if result.seconds <= left:
            left -= result.seconds
            yield result


def _as_cases(tests: Iterable[str], snapshot: Snapshot) -> Iterator[Case]:
    """Make cases of tests. Where a patch of their file would not be undone (`guards`), it is put there again."""
    held, is_tool = snapshot.by_path(), is_test_tool(snapshot)
    for test in tests:
        path = test.partition("::")[0]
        again = path in held and (is_tool or not is_test_path(path))
        yield Case(test, Origin.REGRESSION, path, held[path].data if again else None)


async def _passing_again(cases: tuple[Case, ...], bench: Bench) -> tuple[Case, ...]:
    """Return the cases that pass a second time, in another box: one that does not says nothing of a patch."""
    if not cases:
        bench.watch(
            Note("None of the related tests passes before any patch, so that none can tell what a patch breaks.")
        )
        return ()
    results = await run_cases(bench, None, cases, attempt=1)
    if isinstance(results, Refused):
        raise EnvironmentFailed(f"The tests cannot be run on the tree ({results.detail}): use --sandbox none.")
    bench.watch(BoxDone(Phase.REGRESSION, tuple(result.outcome for result in results)))
    steady = tuple(case for case, result in zip(cases, results, strict=True) if result.outcome is Outcome.PASS)
    if len(steady) < len(cases):
        flaky = len(cases) - len(steady)
        bench.watch(Note(f"{flaky} of {len(cases)} regression tests were dropped: they do not pass every time."))
    return steady
