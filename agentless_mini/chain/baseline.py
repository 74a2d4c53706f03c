"""The last look at the tests before any patch: all of them together, as the patches will meet them.

A test may say something else in company than alone: another one leaves something behind in their process. Such a test
would tell patches apart by what it was run with, so it is left out.
"""

from collections.abc import Sequence

from agentless_mini.chain.bench import Bench
from agentless_mini.chain.execute import Refused, run_cases
from agentless_mini.domain import Case, CaseResult, Note, Outcome
from agentless_mini.errors import EnvironmentFailed


async def baseline(bench: Bench, cases: Sequence[Case]) -> tuple[tuple[Case, ...], tuple[CaseResult, ...]]:
    """Return the cases that tell something, and what they say without a patch.

    A reproducing case must not pass, a regression case must. Raises `EnvironmentFailed`.
    """
    if not cases:
        return (), ()
    results = await run_cases(bench, None, cases)
    if isinstance(results, Refused):
        raise EnvironmentFailed(f"The tests cannot be put over the tree ({results.detail}): use --sandbox none.")
    told = [
        (case, result)
        for case, result in zip(cases, results, strict=True)
        if (result.outcome is Outcome.PASS) is not case.origin.reproduces
    ]
    if len(told) < len(cases):
        bench.watch(
            Note(f"Tests whose result depends on which tests run with them were dropped: {len(cases) - len(told)}.")
        )
    return tuple(case for case, _ in told), tuple(result for _, result in told)
