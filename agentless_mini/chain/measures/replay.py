"""Best@N after reranking, replayed: which patch a smaller run would have chosen, told from the record of a larger one.

A sub-run has the first n samples and the first t test samples of the run. Sample i of n is sample i of a larger run,
because samples are dealt over prompts, so the first n are what `-n n` draws with this localization. What differs from
a true smaller run:

* Regression tests are all of the run's: which ones matter was decided by what all patches touch.
* Of more than `most` reproducing tests the run left some out as surplus; a smaller one might have kept those.
* Tests that say something else in company were left out in the company of all.

One prefix, in the order of the samples, and no mean over random subsets: the subsets would choose patches that no
other way chooses, each of which had to be graded. So a point has the noise of its draw.

Of an evolution only whole rounds are a smaller run: the first t are what `--rounds t` draws with as
many samples a round. Their samples are not exchangeable, since the later ones were shown earlier ones; only those of
the first round are samples as any run without evolution draws them.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from agentless_mini.chain.measures.estimates import points_of_samples, points_of_tests
from agentless_mini.chain.measures.rounds import round_ends
from agentless_mini.chain.ranking import Likeness, Standing, Totals, ordered, poll, standings, totals, valid_patches
from agentless_mini.domain import Candidate, Case, Execution, GeneratedCase, Method, Origin, Patch, Prediction


class Replay:
    """A run that is over, to be ranked again in part. `samples` and `tests` are how many of each it drew.

    `ends` are the samples up to the end of each round of an evolution, and empty without one.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        generated: Sequence[GeneratedCase] = (),
        execution: Execution | None = None,
    ) -> None:
        """Take what `Prediction` has, the candidates in any order."""
        by_order = sorted(candidates, key=lambda candidate: candidate.order)
        self.samples = by_order[-1].order + 1 if by_order else 0
        ends = round_ends(by_order)
        self.ends = ends if len(ends) > 1 else ()
        self.tests = max((case.order + 1 for case in generated), default=0)
        self._valid = [one for one in by_order if isinstance(one.outcome, Patch)]
        self._orders = [one.order for one in self._valid]
        self._patches = valid_patches(self._valid)
        self._likeness = Likeness()
        known = standings(poll(self._valid, self._likeness), execution) if execution else ()
        self._tested = {one.normal: one for one in known}
        self._totals = totals(execution) if execution else Totals()
        self._drawn = _drawn(generated, execution.cases if execution else ())

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        """Return the replay of a run as the pipeline ended it."""
        return cls(prediction.candidates, prediction.generated, prediction.execution)

    def choice(self, samples: int, tests: int, method: Method) -> Patch | None:
        """Return what `ranking.rank` chooses with the first samples and test samples, or None where none is valid."""
        valid = bisect_left(self._orders, samples)
        if not valid:
            return None
        polled = poll(self._valid[:valid], self._likeness)
        kept = frozenset(place for place, order in self._drawn if order < tests)
        count = Totals(self._totals.given, len(kept), self._totals.regressions)
        known = [self._standing(one, kept) for one in polled if one.normal in self._tested]
        if not known or not count.reproducing + count.regressions:
            alone = method if method is Method.CONSISTENCY else Method.VOTE
            return self._patches[ordered(polled, Totals(), alone)[0].first]
        return self._patches[ordered(known, count, method)[0].first]

    def _standing(self, voted: Standing, kept: frozenset[int]) -> Standing:
        """Return a patch with its votes so far and what the tests say of it. Places of tests stay those of the run."""
        told = self._tested[voted.normal]
        return replace(voted, given=told.given, generated=told.generated & kept, kept=told.kept, refused=told.refused)


def _drawn(generated: Iterable[GeneratedCase], cases: Sequence[Case]) -> tuple[tuple[int, int], ...]:
    """Return the place of each generated case in the execution, and the earliest sample that wrote it."""
    earliest: dict[str, int] = {}
    for one in generated:
        if isinstance(one.outcome, Case):
            earliest[one.outcome.id] = min(one.order, earliest.get(one.outcome.id, one.order))
    places = (place for place, case in enumerate(cases) if case.origin is Origin.GENERATED)
    return tuple((place, earliest.get(cases[place].id, 0)) for place in places)


Curve = tuple[tuple[int, Patch | None], ...]
"""What was chosen with how many, ascending; the last is the whole run."""


@dataclass(frozen=True, slots=True)
class Curves:
    """What one run chose: by its method over samples (all tests) and over tests (all samples), and by vote alone.

    Of an evolution `samples` and `votes` have a point for the end of each round, and `plain` is the curve over the
    samples of its first round by its method; else `plain` is empty. What an evolution was shown stays what it was
    where `tests` takes tests away.
    """

    samples: Curve
    tests: Curve
    votes: Curve
    plain: Curve = ()


def curves(replay: Replay, method: Method, more: Collection[int] = ()) -> Curves:
    """Rank the run again at each point of the curves of SWE-RL's analysis of more samples, or at the end of each round.

    `more` are further numbers of samples to do so at, where the run has no rounds and drew more.
    """
    over_samples = replay.ends or _with(points_of_samples(replay.samples), more)
    over_plain = points_of_samples(replay.ends[0]) if replay.ends else ()
    return Curves(
        tuple((n, replay.choice(n, replay.tests, method)) for n in over_samples),
        tuple((t, replay.choice(replay.samples, t, method)) for t in points_of_tests(replay.tests)),
        tuple((n, replay.choice(n, replay.tests, Method.VOTE)) for n in over_samples),
        tuple((n, replay.choice(n, replay.tests, method)) for n in over_plain),
    )


def _with(points: tuple[int, ...], more: Collection[int]) -> tuple[int, ...]:
    return tuple(sorted({*points, *(point for point in more if 0 < point < points[-1])}))


def choices(drawn: Curves) -> tuple[Patch, ...]:
    """Return each patch that is chosen anywhere on the curves once, the whole run's choice first.

    A patch stands for its normal form: it is that of the earliest sample.
    """
    points = [*reversed(drawn.samples), *drawn.tests, *drawn.votes, *drawn.plain]
    return tuple({patch.normal: patch for _, patch in points if patch is not None}.values())
