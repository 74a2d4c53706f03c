"""The choice among the candidates, and its reason in one sentence for people."""

from collections.abc import Sequence
from dataclasses import replace

from agentless_mini.chain.ranking.order import agreeing, group, ordered, score
from agentless_mini.chain.ranking.standing import Standing, Totals, poll, standings, totals, valid_patches
from agentless_mini.domain import Candidate, Choice, Execution, Method, Patch

MOST_NAMES = 5
"""Undefined names of a patch that are told."""


def vote(candidates: Sequence[Candidate]) -> Choice | None:
    """Return the patch whose normal form most samples share, or None where no candidate is valid.

    A patch that uses undefined names comes after those that do not. Where no two samples agree the one most like the
    others is taken; otherwise the earliest sample (smallest `order`) breaks ties, and it stands for its form.
    """
    return _voted(poll(candidates), valid_patches(candidates), Method.VOTE)


def rank(
    candidates: Sequence[Candidate], execution: Execution | None, method: Method = Method.AGREEMENT
) -> Choice | None:
    """Return the best candidate, or None where none is valid.

    A patch without a verdict is left out, unless there is none at all, or no test: then the vote over all valid
    candidates decides. Where the tests do not tell the patches apart every method comes to the vote, and the reason
    says so. `Choice.votes` and `valid` count votes in any case.
    """
    polled, patches = poll(candidates), valid_patches(candidates)
    voted = _voted(polled, patches, method if method is Method.CONSISTENCY else Method.VOTE)
    if voted is None or execution is None:
        return voted
    known, count = standings(polled, execution), totals(execution)
    if not known or not execution.cases:
        return replace(voted, reason=f"no test tells the patches apart; {voted.reason}")
    best = ordered(known, count, method)[0]
    valid = _votes(polled)
    return Choice(
        patches[best.first],
        best.votes,
        valid,
        f"{_tested(best, known, count, method)}; {_backed(best, known, valid, method)}{_unsound(best)}",
        passed=len(best.reproducing),
        reproducing=count.reproducing,
        broken=count.regressions - len(best.kept),
        regressions=count.regressions,
    )


def _voted(polled: Sequence[Standing], patches: Sequence[Patch], method: Method) -> Choice | None:
    if not polled:
        return None
    best = ordered(polled, Totals(), method)[0]
    return Choice(patches[best.first], best.votes, _votes(polled), _vote_reason(best, polled, method))


def _votes(polled: Sequence[Standing]) -> int:
    return sum(standing.votes for standing in polled)


# --- the reason ------------------------------------------------------------------------------------------------------


def _tested(best: Standing, known: Sequence[Standing], count: Totals, method: Method) -> str:
    """Say what the tests say of the best patch, and how far that decided."""
    if len(known) > 1 and len({standing.passed for standing in known}) == 1:
        return f"the tests do not tell the patches apart: each {_facts(best, count)}"
    if method is Method.VOTE:
        return f"chosen by vote alone, {_facts(best, count)}"
    if method is Method.SCORES:
        return f"{_facts(best, count)}, a score of {float(score(best, count)):.2f}"
    others = agreeing(known)[group(best)] - 1
    return _facts(best, count, f" with {counted(others, 'other sample')}" if others else "")


def _facts(best: Standing, count: Totals, company: str = "") -> str:
    if best.refused:
        return "cannot be put over the tree that the tests run on"
    said = []
    if count.reproducing:
        given = f" ({len(best.given)} of {count.given} given)" if count.given and count.generated else ""
        kind = "reproduction test" if count.generated else "given test"
        said.append(f"passes {len(best.reproducing)} of {counted(count.reproducing, kind)}{given}{company}")
    if count.regressions:
        broken = count.regressions - len(best.kept)
        said.append(f"breaks {broken} of {counted(count.regressions, 'regression test')}")
    return ", ".join(said)


def _backed(best: Standing, known: Sequence[Standing], valid: int, method: Method) -> str:
    """Say how many samples agree on the best patch, and on how many others that nothing tells from it."""
    tied = [one for one in known if one.passed == best.passed and one.rank[:2] == best.rank[:2]]
    if valid == 1:
        return "it is the only valid sample"
    agree = (
        f"{best.votes} of {valid} valid samples agree on it" if best.votes > 1 else f"1 of {valid} valid samples has it"
    )
    others = len(tied) - 1
    return f"{agree}, as many as on {counted(others, 'other')}; {_taken(best, tied, method)}" if others else agree


def _taken(best: Standing, tied: Sequence[Standing], method: Method) -> str:
    """Say how the best was chosen among those with as many votes."""
    if method is Method.VOTE and best.votes > 1:
        return "the earliest was taken"
    alike = [one for one in tied if one.likeness == best.likeness]
    if len(alike) == 1:
        return "the one most like the others was taken"
    return (
        "the earliest was taken" if len(alike) == len(tied) else "the earliest of those most like the others was taken"
    )


def _unsound(best: Standing) -> str:
    if not best.undefined:
        return ""
    names = f"{len(best.undefined)} undefined names" if len(best.undefined) > 1 else "an undefined name"
    return f"; it uses {names}: {', '.join(best.undefined[:MOST_NAMES])}"


def counted(number: int, noun: str) -> str:
    """Return the number with the noun: '1 test', '2 tests'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _vote_reason(best: Standing, polled: Sequence[Standing], method: Method) -> str:
    valid = _votes(polled)
    tied = [one for one in polled if one.rank[:2] == best.rank[:2]]
    others = len(tied) - 1
    if others and all(one.votes == 1 for one in polled):
        return f"no two of {valid} valid samples agree; {_taken(best, tied, method)}{_unsound(best)}"
    share = f"{best.votes} of {valid} valid samples"
    agree = f"{share} has this change" if best.votes == 1 < valid else f"{share} agree on this change"
    told = f"{agree}, as many as on each of {others} other; {_taken(best, tied, method)}" if others else agree
    more = [one for one in polled if one.undefined and one.votes >= best.votes] if not best.undefined else []
    below = f"; {', '.join(more[0].undefined[:MOST_NAMES])} is undefined in a change with as many votes" if more else ""
    return f"{told}{below}{_unsound(best)}"
