"""The choice among the candidates, and its reason in one sentence for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from agentless_mini.domain import Candidate, Choice, Execution, Patch
from agentless_mini.ranking.order import Method, agreeing, group, ordered, score
from agentless_mini.ranking.standing import Standing, Totals, standings, totals


def vote(candidates: Sequence[Candidate]) -> Choice | None:
    """Return the patch whose normal form most candidates share, or None where no candidate is valid.

    The earliest sample (smallest `order`) breaks ties and stands for its group.
    """
    patches = _valid(candidates)
    if not patches:
        return None
    counts = Counter(patch.normal for patch in patches)
    winner = max(patches, key=lambda patch: counts[patch.normal])  # max() keeps the earliest of equals
    votes = counts[winner.normal]
    return Choice(winner, votes, len(patches), _vote_reason(votes, len(patches), counts))


def rank(
    candidates: Sequence[Candidate], execution: Execution | None, method: Method = Method.AGREEMENT
) -> Choice | None:
    """Return the best candidate after mission section 1.5, or None where none is valid.

    A patch without a verdict is left out, unless there is none at all, or no test: then the vote over all valid
    candidates decides. Where the tests do not tell the patches apart every method comes to the vote, and the reason
    says so. `Choice.votes` and `valid` count samples in any case.
    """
    patches = _valid(candidates)
    voted = vote(candidates)
    if voted is None or execution is None:
        return voted
    known, count = standings([patch.normal for patch in patches], execution), totals(execution)
    if not known or not execution.cases:
        return replace(voted, reason=f"no test tells the patches apart; {voted.reason}")
    best = ordered(known, count, method)[0]
    return Choice(
        patches[best.first],
        best.votes,
        len(patches),
        f"{_tested(best, known, count, method)}; {_backed(best, known, len(patches))}",
        passed=len(best.reproducing),
        reproducing=count.reproducing,
        broken=count.regressions - len(best.kept),
        regressions=count.regressions,
    )


def _valid(candidates: Sequence[Candidate]) -> list[Patch]:
    """Return the patches, the earliest first."""
    by_order = sorted(candidates, key=lambda candidate: candidate.order)
    return [candidate.outcome for candidate in by_order if isinstance(candidate.outcome, Patch)]


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


def _backed(best: Standing, known: Sequence[Standing], valid: int) -> str:
    """Say how many samples agree on the best patch, and on how many others that nothing tells from it."""
    tied = sum(standing.passed == best.passed and standing.votes == best.votes for standing in known) - 1
    if valid == 1:
        return "it is the only valid sample"
    agree = (
        f"{best.votes} of {valid} valid samples agree on it" if best.votes > 1 else f"1 of {valid} valid samples has it"
    )
    return f"{agree}, as many as on {counted(tied, 'other')}; the earliest was taken" if tied else agree


def counted(number: int, noun: str) -> str:
    """Return the number with the noun: '1 test', '2 tests'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _vote_reason(votes: int, valid: int, counts: Counter[str]) -> str:
    tied = sum(1 for count in counts.values() if count == votes)
    if votes == 1 and tied > 1:
        return f"no two of {valid} valid samples agree; the earliest was taken"
    told = f"{votes} of {valid} valid samples agree on this change"
    return told if tied == 1 else f"{told}, as many as on each of {tied - 1} other; the earliest was taken"
