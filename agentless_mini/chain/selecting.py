"""Selectors of EvoScale (Satori-SWE, arXiv 2505.23604): which patches of all rounds so far are the best."""

from collections.abc import Awaitable, Callable, Sequence

from agentless_mini.chain.evolve import BestFirst
from agentless_mini.chain.ranking import ordered, poll, standings, totals, valid_patches
from agentless_mini.chain.session import Session
from agentless_mini.chain.trials import Trials
from agentless_mini.domain import Candidate, Issue, Method, Patch
from agentless_mini.errors import UsageError


def by_execution(trials: Callable[[], Awaitable[Trials | None]], method: Method) -> BestFirst:
    """Return the selector that runs the tests on the patches that are new, and ranks all as the choice does.

    It knows no order where `trials` has none, or no test tells anything.
    """

    async def best_first(candidates: Sequence[Candidate]) -> Sequence[str]:
        held = await trials()
        execution = await held.over(candidates) if held else None
        if execution is None or not execution.cases:
            return ()
        known = standings(poll(candidates), execution)
        return tuple(standing.normal for standing in ordered(known, totals(execution), method))

    return best_first


def by_reward(issue: Issue, session: Session) -> BestFirst:
    """Return the selector that has a reward model score the patches that are new; the earliest of equals comes first.

    Raises `UsageError` where there is no reward model.
    """
    scoring = session.scoring
    if scoring is None:
        raise UsageError("No reward model is named: name one in [scorer], or choose another --select.")
    scores: dict[str, float] = {}

    async def best_first(candidates: Sequence[Candidate]) -> Sequence[str]:
        distinct: dict[str, Patch] = {}
        for patch in valid_patches(candidates):
            distinct.setdefault(patch.normal, patch)
        new = [patch for normal, patch in distinct.items() if normal not in scores]
        if new:
            scores.update(await scoring(issue, new))
        return sorted(distinct, key=lambda normal: -scores[normal])

    return best_first
