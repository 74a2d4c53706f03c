"""Candidates -> the chosen patch, and why: a pure function of what is known. Nothing here runs a test.

The most probable patch by the model of `trust` is taken, or the best by an older rule: the vote, dual execution
agreement (CodeT, arXiv 2207.10397), or a score. A vote is a sample of its own: two samples of one prompt and one seed
are one, and so is an answer that only repeats another (`Candidate.repeats`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from agentless_mini.chain.trust import SUREST, agreement, changed_lines, log_odds, mean_likeness, probability
from agentless_mini.domain import Candidate, Choice, Execution, Method, Origin, Outcome, Patch, Verdict
from agentless_mini.errors import counted

PINNED_SHARE = 20
"""One in so many regression tests, and one at least, may pin the fault that the issue wants mended."""
MOST_NAMES = 5
"""Undefined names of a patch that are told."""


# --- how many samples each distinct patch has, and what the tests say of it -------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """One distinct patch: `votes` samples have its normal form, the first of them at the place `first` of all valid.

    `given`, `generated` and `kept` (regression tests) are the places in `Execution.cases` of what passes with it.
    Whatever is no pass counts as broken, a skip too. A patch that is `refused`, for that reason, passes nothing; one
    that is `untried` met the given tests alone. `undefined` are names that it uses, `suspicious` is what can make tests
    pass without a repair, `of` are the votes of all, `lines` those that it changes. `likeness` is its mean similarity
    to the other samples, in [0, 1].
    """

    normal: str
    votes: int
    first: int
    given: frozenset[int] = frozenset()
    generated: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()
    refused: str = ""
    untried: bool = False
    undefined: tuple[str, ...] = ()
    suspicious: tuple[str, ...] = ()
    likeness: float = 0.5
    of: int = 1
    lines: int = 1

    @property
    def reproducing(self) -> frozenset[int]:
        """The places of the reproducing cases that pass."""
        return self.given | self.generated

    @property
    def passed(self) -> tuple[bool, frozenset[int], frozenset[int]]:
        """All that the tests say of it, equal for patches that they do not tell apart."""
        return bool(self.refused), self.reproducing, self.kept

    @property
    def rank(self) -> tuple[bool, int, float]:
        """What a vote goes by, the smaller the better."""
        return bool(self.undefined), -self.votes, -self.likeness


@dataclass(frozen=True, slots=True)
class Totals:
    """How many cases of each origin there are."""

    given: int = 0
    generated: int = 0
    regressions: int = 0

    @property
    def reproducing(self) -> int:
        """How many cases a fix makes pass."""
        return self.given + self.generated


def totals(execution: Execution) -> Totals:
    """Count the cases by origin."""
    count = Counter(case.origin for case in execution.cases)
    return Totals(count[Origin.GIVEN], count[Origin.GENERATED], count[Origin.REGRESSION])


def valid_patches(candidates: Iterable[Candidate]) -> list[Patch]:
    """Return the patches, the earliest first."""
    by_order = sorted(candidates, key=lambda candidate: candidate.order)
    return [candidate.outcome for candidate in by_order if isinstance(candidate.outcome, Patch)]


def counted_votes(candidates: Sequence[Candidate]) -> tuple[Standing, ...]:
    """Return each distinct patch with its votes, by first sample, without likeness."""
    ballots = {
        (candidate.request, candidate.index, candidate.outcome.normal)
        for candidate in candidates
        if isinstance(candidate.outcome, Patch) and not candidate.repeats
    }
    votes = Counter(normal for _, _, normal in ballots)
    patches = valid_patches(candidates)
    first = {patch.normal: place for place, patch in reversed(list(enumerate(patches)))}
    return tuple(
        Standing(one.normal, max(1, votes[one.normal]), place, undefined=one.undefined, suspicious=one.suspicious)
        for place, one in enumerate(patches)
        if first[one.normal] == place
    )


def poll(candidates: Sequence[Candidate]) -> tuple[Standing, ...]:
    """Return each distinct patch with its votes, by first sample."""
    found, patches = counted_votes(candidates), valid_patches(candidates)
    diffs = [patches[standing.first].diff for standing in found]
    votes = {diff: standing.votes for diff, standing in zip(diffs, found, strict=True)}
    of = sum(standing.votes for standing in found)
    return tuple(
        replace(one, of=of, lines=len(changed_lines(diff)), likeness=mean_likeness(diff, votes))
        for one, diff in zip(found, diffs, strict=True)
    )


def standings(polled: Iterable[Standing], execution: Execution) -> tuple[Standing, ...]:
    """Return what the tests say of each distinct patch that has a verdict, in the order given.

    Raises ValueError for a verdict that is not refused and has not one result for each case, or for each that is given:
    that is a bug.
    """
    verdicts = {verdict.normal: verdict for verdict in execution.verdicts}
    given = tuple(case for case in execution.cases if case.origin is Origin.GIVEN)

    def tested(standing: Standing, verdict: Verdict) -> Standing:
        if verdict.refusal:
            return replace(standing, refused=verdict.refusal)
        tried = given if len(verdict.results) == len(given) else execution.cases
        passing = defaultdict[Origin, set[int]](set)
        for place, (case, result) in enumerate(zip(tried, verdict.results, strict=True)):
            if result.outcome is Outcome.PASS:
                passing[case.origin].add(place)
        own, new, old = (frozenset(passing[kind]) for kind in (Origin.GIVEN, Origin.GENERATED, Origin.REGRESSION))
        return replace(standing, given=own, generated=new, kept=old, untried=len(tried) < len(execution.cases))

    return tuple(tested(one, verdicts[one.normal]) for one in polled if one.normal in verdicts)


# --- which patch is better: the best is the first of a total order ----------------------------------------------------


def ordered(standings: Sequence[Standing], count: Totals, method: Method) -> tuple[Standing, ...]:
    """Return the patches, the best first, and the earliest of equals; the order of `standings` does not matter.

    The most probable is the best among those that pass the most given tests; one that uses undefined names and passes
    none comes last. Other rules go by votes at the end: those without undefined names first, then by likeness.
    """

    def group(one: Standing) -> tuple[object, ...]:
        fixes = one.normal in fixing  # what decides before the samples do; a fix may break an old test of the fault
        return bool(one.refused), -len(one.given), not fixes, 0 if fixes else -len(one.kept), one.reproducing

    def place(one: Standing) -> tuple[object, ...]:
        match method:
            case Method.VOTE:  # equals of several votes by the earliest sample, as `stopping` foresees them
                undefined, votes, likeness = one.rank
                return undefined, votes, likeness if one.votes == 1 else 0.0, one.first
            case Method.CONSISTENCY:  # the fewest broken regression tests, then the most reproducing tests that pass
                broken = -len(one.kept), -len(one.reproducing)
                return bool(one.refused), *broken, bool(one.suspicious), *one.rank, one.first
            case Method.SCORES:
                return bool(one.refused), -score(one, count), bool(one.suspicious), *one.rank, one.first
            case Method.AGREEMENT:  # the group with the most samples x tests^2, then the most tests
                *level, _ = group(one)
                tests = len(one.reproducing)
                agreed = -samples[group(one)] * tests**2, -tests, earliest[group(one)]
                return *level, *agreed, -len(one.kept), bool(one.suspicious), *one.rank, one.first
            case _:
                unsound = bool(one.undefined) and not one.reproducing
                return bool(one.refused), -len(one.given), unsound, -round(odds[one.normal], 9), one.first

    odds = log_odds(standings, count) if method is Method.PROBABILITY else {}
    samples, fixing = Counter[tuple[object, ...]](), _fixing(standings, count)
    for standing in standings:
        samples[group(standing)] += standing.votes
    earliest = {group(one): one.first for one in sorted(standings, key=lambda one: -one.first)}
    return tuple(sorted(standings, key=place))


def confidence(candidates: Sequence[Candidate], execution: Execution | None, choice: Choice | None) -> float | None:
    """Return the probability, in [0.01, 0.99], that the chosen candidate is right; None without a choice.

    Equal patches do not share it: on public pools, distinct ones were often right together.
    """
    if choice is None:
        return None
    polled = poll(candidates)
    odds = log_odds(polled, Totals())
    if execution:
        odds |= log_odds(standings(polled, execution), totals(execution))
    return max(1 - SUREST, min(SUREST, probability(odds[choice.patch.normal])))


def score(standing: Standing, count: Totals) -> Fraction:
    """Return the score of Kimi-Dev in [0, 2]: a kind of which there is no test adds nothing."""
    fixed = Fraction(len(standing.reproducing), count.reproducing or 1)
    return fixed + Fraction(len(standing.kept), count.regressions or 1)


def _fixing(standings: Sequence[Standing], count: Totals) -> frozenset[str]:
    """Return the patches that pass a reproducing test and break few more than the best: a fix may break its pin."""
    most = max((len(one.kept) for one in standings), default=0)
    few = max(1, count.regressions // PINNED_SHARE)
    return frozenset(one.normal for one in standings if one.reproducing and most - len(one.kept) <= few)


# --- the choice, and its reason in one sentence for people ------------------------------------------------------------


def rank(
    candidates: Sequence[Candidate], execution: Execution | None, method: Method = Method.PROBABILITY
) -> Choice | None:
    """Return the best candidate, or None where none is valid.

    A patch without a verdict is left out, unless there is none at all, or no test: then all valid candidates are
    compared without tests. So they are where the tests do not tell them apart, and the reason says so. `Choice.votes`
    and `valid` count votes in any case.
    """
    polled, patches = poll(candidates), valid_patches(candidates)
    if not polled:
        return None
    valid = sum(standing.votes for standing in polled)
    known, count = (standings(polled, execution), totals(execution)) if execution else ((), Totals())
    if not known or not count.reproducing + count.regressions:
        known, count, method = polled, Totals(), method.untested
        told = "no test tells the patches apart; " if execution else ""
        best = ordered(known, count, method)[0]
    else:
        best = ordered(known, count, method)[0]
        told = f"{_tested(best, known, count, method)}; "
    suspected = f"; SUSPICIOUS: {', '.join(best.suspicious)}" if best.suspicious else ""
    return Choice(
        patches[best.first],
        best.votes,
        valid,
        f"{told}{_backed(best, known, valid, method)}{suspected}",
        passed=len(best.reproducing),
        reproducing=count.reproducing,
        broken=count.regressions - len(best.kept),
        regressions=count.regressions,
    )


def _tested(best: Standing, known: Sequence[Standing], count: Totals, method: Method) -> str:
    """Say what the tests say of the best patch, and how far that decided."""
    facts = _facts(best, count)
    if len(known) > 1 and len({standing.passed for standing in known}) == 1:
        return f"the tests do not tell the patches apart: each {facts}"
    if method is Method.VOTE:
        return f"chosen by vote alone, {facts}"
    if method is Method.SCORES:
        return f"{facts}, a score of {float(score(best, count)):.2f}"
    others = sum(one.votes for one in known if not one.refused and one.reproducing == best.reproducing) - 1
    return _facts(best, count, f" with {counted(others, 'other sample')}" if others else "")


def _facts(best: Standing, count: Totals, company: str = "") -> str:
    if best.refused:
        return f"refused by the tests' boxes ({best.refused})"
    said = []
    if count.reproducing:
        given = f" ({len(best.given)} of {count.given} given)" if count.given and count.generated else ""
        kind = "reproduction test" if count.generated else "given test"
        said.append(f"passes {len(best.reproducing)} of {counted(count.reproducing, kind)}{given}{company}")
    if count.regressions:
        broken = count.regressions - len(best.kept)
        said.append(f"breaks {broken} of {counted(count.regressions, 'regression test')}")
    return ", ".join(said)


def _backed(best: Standing, among: Sequence[Standing], valid: int, method: Method) -> str:
    """Say how many samples agree on the best patch, and on others that no test tells from it."""
    if valid == 1:
        return f"it is the only valid answer{_unsound(best)}"
    alike = [one for one in among if one.passed == best.passed]
    tied = [one for one in alike if one.rank[:2] == best.rank[:2]]
    told = agreement(best.votes, valid)
    if len(tied) > 1:
        told += f", as many as on {counted(len(tied) - 1, 'other')}; {_taken(best, tied, method)}"
    if (most := max(one.votes for one in alike if bool(one.undefined) is bool(best.undefined))) > best.votes:
        told += f"; another has {most} and is less like the others, or larger"
    below = [] if best.undefined else [one for one in alike if one.undefined and one.votes >= best.votes]
    if below:
        told += f"; {', '.join(below[0].undefined[:MOST_NAMES])} is undefined in a change with as many votes"
    return f"{told}{_unsound(best)}"


def _taken(best: Standing, tied: Sequence[Standing], method: Method) -> str:
    """Say how the best was chosen among those with as many votes."""
    near = [(one.likeness, one.lines if method is Method.PROBABILITY else 0) for one in (best, *tied)]
    alike = near.count(near[0]) - 1
    if (method is Method.VOTE and best.votes > 1) or 1 < alike == len(tied):
        return "the earliest was taken"
    most = "the one" if alike == 1 else "the earliest of those"
    return f"{most} most like the others{', or smaller,' if method is Method.PROBABILITY else ''} was taken"


def _unsound(best: Standing) -> str:
    if not best.undefined:
        return ""
    names = f"{len(best.undefined)} undefined names" if len(best.undefined) > 1 else "an undefined name"
    return f"; it uses {names}: {', '.join(best.undefined[:MOST_NAMES])}"
