"""Whether evolution needs fewer samples than sampling, and whether the stop keeps the decision, on simulated policies.

Run with `python -m tests.benchmarks.evolution [--trials N]`. The policies, with their mathematics, are those of
`tests.evolution`: test doubles, which say what the stages make of a model that behaves so, and nothing of any model.
All else is the product: prompts, rounds, choice of parents, the answers' edits, and the vote. Budgets are equal in
samples; a prompt of evolution is longer than a plain one by the patches that it shows.

Shares have 95 % Wilson intervals, their differences Newcombe's, samples needed a bootstrap's over the trials. Exit code
1 if a claim does not hold: where a claim is only printed, the line says so.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

from tests.benchmarks import say
from tests.evolution.intervals import Estimate, bootstrap_needed, difference, share, standard_error
from tests.evolution.policy import Policy, falling, mean_level, plain_samples
from tests.evolution.simulated import Plan, Trial, run_trials
from tests.evolution.votes import Draw, Look, any_issue, mixed, odds, plainly, stop_trial, urn, zipf

RATE = 0.8
ROUNDS, PER_ROUND = 20, 5
BUDGET = ROUNDS * PER_ROUND
BASE = falling(0.45, 5)
HEEDLESS = Policy(BASE)
STILL = Policy(BASE, step=1.0)
IMPROVING = Policy(BASE, step=1.0, gain=4.0)
TOP = HEEDLESS.top
NEEDED = plain_samples(HEEDLESS, RATE)
CERTAIN = 4.0
"""So many standard errors are no chance, in some dozens of comparisons."""
STOP_TRIALS = 1000
KEPT = 0.97


@dataclass(frozen=True, slots=True)
class Way:
    """A way to spend the budget, and what is claimed of it against plain sampling: better, no better, or nothing."""

    name: str
    plan: Plan
    claim: str = ""


WAYS = (
    Way("no improvement, selector without noise", Plan(STILL, ROUNDS, PER_ROUND, 0.0), "better"),
    Way("no improvement, selector with noise 0.5", Plan(STILL, ROUNDS, PER_ROUND, 0.5), "better"),
    Way("no improvement, selector with noise 2", Plan(STILL, ROUNDS, PER_ROUND, 2.0)),
    Way("pays no heed, selector without noise", Plan(HEEDLESS, ROUNDS, PER_ROUND, 0.0), "no better"),
    Way("pays no heed, self-evolution", Plan(HEEDLESS, ROUNDS, PER_ROUND), "no better"),
    Way("no improvement, self-evolution", Plan(STILL, ROUNDS, PER_ROUND), "no better"),
    Way("improving, self-evolution", Plan(IMPROVING, ROUNDS, PER_ROUND), "better"),
)
STOPS: tuple[tuple[str, Draw, bool], ...] = (
    ("issues of all kinds", mixed, True),
    ("the rule's own model", urn, False),
    ("the policy above, plain", plainly(HEEDLESS), True),
    ("a clear winner, 60 %", odds(0.6, tail=40), True),
    ("heavy tail, 1/k^2", zipf(2.0, 500), True),
    ("heavy tail, 1/k", zipf(1.0, 500), True),
    ("all distinct", odds(tail=1000), True),
    ("90 % invalid, else clear", odds(0.6, tail=40, invalid=0.9), True),
    ("90 % invalid, else 30 : 25", odds(0.3, 0.25, tail=50, invalid=0.9), True),
    ("near tie, 30 : 25 + tail", odds(0.3, 0.25, tail=50), False),
    ("near tie, 55 : 45", odds(0.55, 0.45), False),
    ("tie, 20 : 20 + tail", odds(0.2, 0.2, tail=200), False),
    ("tie, 50 : 50", odds(0.5, 0.5), False),
)
"""Name, policy, and whether it is claimed that the stop keeps the decision."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Evolution and the adaptive stop on simulated policies.")
    parser.add_argument("--trials", type=int, default=200, help="runs of the chain for each way (default: 200)")
    trials = parser.parse_args().trials
    began = time.monotonic()
    failures = [*check_double(trials), *compare(trials), *stops()]
    for failure in failures:
        say(f"DOES NOT HOLD: {failure}")
    say(f"{'failed' if failures else 'all claims hold'}, in {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


# --- the double against its own mathematics --------------------------------------------------------------------------


def check_double(trials: int) -> Iterator[str]:
    """Compare what the stages make of a policy with what its mathematics say."""
    for name, gain in (("no improvement", 1.0), ("improving", 4.0)):
        policy = Policy(BASE, 1.0, gain, invalid=0.0, forms=0)
        expected = [mean_level(levels) for levels in policy.rounds(10)]
        levels = round_means(run_trials(Plan(policy, 10, PER_ROUND), range(trials)))
        found = [sum(means) / trials for means in levels]
        far = max(
            abs(one - other) / standard_error(means) for one, other, means in zip(found, expected, levels, strict=True)
        )
        say(f"mean level of 10 rounds, {name}: {_row(found)}")
        say(f"    by its kernel {'':13}{'':{len(name) - 6}}{_row(expected)}   at most {far:.1f} standard errors apart")
        if far > CERTAIN:
            yield f"the mean levels of the policy with {name} are those of its kernel"
    yield from check_climb(trials)


def round_means(trials: Sequence[Trial]) -> list[list[float]]:
    """Return the mean level of each round, in each trial; all samples are valid."""
    return [
        [sum(level or 0 for level in islice(one.levels, start, start + PER_ROUND)) / PER_ROUND for one in trials]
        for start in range(0, len(trials[0].levels), PER_ROUND)
    ]


def check_climb(trials: int) -> Iterator[str]:
    """Compare the rounds that are shown the best patch alone with the Markov chain of the best level."""
    policy = Policy(BASE, 1.0, forms=0)
    expected = policy.climb(10, PER_ROUND)
    done = run_trials(Plan(policy, 10, PER_ROUND, 0.0, parents=1), range(trials))
    found = [share(found_by(done, PER_ROUND * (turn + 1)), trials) for turn in range(10)]
    say(f"a right patch by round, 1 parent, perfect selector: {_row([one.value for one in found])}")
    say(f"    by its Markov chain {'':28}{_row(expected)}")
    if any(
        abs(one.value - chance) > CERTAIN * deviation(chance, trials)
        for one, chance in zip(found, expected, strict=True)
    ):
        yield "evolution from the best patch climbs as its Markov chain does"


# --- evolution against sampling --------------------------------------------------------------------------------------


def compare(trials: int) -> Iterator[str]:
    """Run plain sampling and each way; say what each needs."""
    chance = HEEDLESS.right
    say(f"\n{trials} runs each, {PER_ROUND} samples and parents a round; a plain sample is right with {chance:.4f}.")
    say("right: a right patch is among so many samples. voted: the vote over all of them chose one.")
    say(f"judged: the selector's best of {BUDGET} is right, and its best of {BUDGET} plain samples.")
    say(f"{'':38} right @20  @50  {'@100 [95 %]':19}{'less plain':22} judged      voted  {RATE:.0%} need, times fewer")
    expected = [1 - (1 - chance) ** samples for samples in (20, 50, BUDGET)]
    say(f"{'plain sampling, by mathematics':40} {_row(expected, '  ')} {'':55} {NEEDED:4}")
    plain = run_trials(Plan(HEEDLESS, 1, 2 * NEEDED), range(trials))
    base = tell(Way("plain sampling", Plan(HEEDLESS, BUDGET, 1)), plain, plain)
    if abs(base.value - expected[-1]) > CERTAIN * deviation(expected[-1], trials):
        yield "plain sampling finds a right patch as often as its mathematics say"
    for way in WAYS:
        yield from compare_way(way, plain)


def compare_way(way: Way, plain: Sequence[Trial]) -> Iterator[str]:
    """Run a way as often as plain sampling was run, with other seeds; say what it needs."""
    done = run_trials(way.plan, range(len(plain), 2 * len(plain)))
    more = difference(tell(way, done, plain), share(found_by(plain, BUDGET), len(plain)))
    fewest = needed_by(done, way.plan.per_round)
    if way.claim == "better" and not (more.low > 0 and fewest.high < NEEDED):
        yield f"{way.name}: needs fewer samples than plain sampling"
    if way.claim == "no better" and more.low > 0:
        yield f"{way.name}: is no better than plain sampling"


def tell(way: Way, done: Sequence[Trial], plain: Sequence[Trial]) -> Estimate:
    """Print a line on the trials of one way; return the share with a right patch within the budget."""
    found = share(found_by(done, BUDGET), len(done))
    needed = needed_by(done, way.plan.per_round)
    least = [found_by(done, samples) / len(done) for samples in (20, 50)]
    less = "" if done is plain else _interval(difference(found, share(found_by(plain, BUDGET), len(plain))))
    noise = way.plan.noise
    judged = "" if noise is None else f"{judged_right(noise, done):.2f} {judged_right(noise, plain):.2f}"
    voted = "" if done is plain else f"{sum(one.voted == TOP for one in done) / len(done):.2f}"
    times = f"{NEEDED / needed.value:.1f} [{NEEDED / needed.high:.1f}, {NEEDED / needed.low:.1f}]"
    many = "never" if math.isinf(needed.value) else f"{needed.value:4.0f} [{needed.low:.0f}, {needed.high:.0f}] {times}"
    say(f"{way.name:40} {_row(least, '  ')}  {_interval(found)}  {less:21} {judged:9}   {voted:4}   {many}")
    return found


def judged_right(noise: float, done: Sequence[Trial]) -> float:
    """Return how often the best patch of a budget is right, as a selector of that noise sees it."""
    return sum(one.judged(noise, BUDGET) == TOP for one in done) / len(done)


def needed_by(done: Sequence[Trial], per_round: int) -> Estimate:
    """Return the samples that a share `RATE` of trials needs for a right patch."""
    return bootstrap_needed([one.first(TOP) for one in done], RATE, per_round)


def found_by(trials: Sequence[Trial], samples: int) -> int:
    """Return how many trials have a right patch among so many samples."""
    return sum(TOP in one.levels[:samples] for one in trials)


def deviation(chance: float, trials: int) -> float:
    """Return the standard deviation of the share of trials in which something of that chance happens."""
    return math.sqrt(chance * (1 - chance) / trials)


def _row(values: Sequence[float], between: str = " ") -> str:
    return between.join(f"{value:.2f}" for value in values)


def _interval(one: Estimate) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


# --- the stop --------------------------------------------------------------------------------------------------------


def stops() -> Iterator[str]:
    """Say for each policy how often the stop keeps the decision, and what it saves."""
    looks = (Look(40, 5, 0.95), Look(40, 1, 0.95))
    say(f"\n{STOP_TRIALS} trials each, 40 samples, bound 0.95; a look after every 5 samples, and after every one")
    say(f"{'':28} kept [95 %]           samples saved    kept [95 %]           samples saved")
    for name, draw, claimed in STOPS:
        told = []
        for look in looks:
            dice = Random(7)  # noqa: S311 - drawn again alike, not for secrets
            done = [stop_trial(draw, look, dice) for _ in range(STOP_TRIALS)]
            kept = share(sum(one.kept for one in done), STOP_TRIALS)
            saved = 1 - sum(one.samples for one in done) / STOP_TRIALS / look.budget
            told.append(f"{_percent(kept)} {saved:13.0%}    ")
            if claimed and kept.value < KEPT:
                yield f"the stop keeps the decision of {KEPT:.0%} on {name!r}, looking after every {look.batch}"
        say(f"{name:28} {' '.join(told)}{'' if claimed else '  (nothing claimed)'}")
    yield from stop_in_chain()


def stop_in_chain() -> Iterator[str]:
    """Run the chain to its end and with the bound, on the same samples, an issue of its own for each seed."""
    kept = saved = 0
    for seed in range(STOP_TRIALS):
        policy = any_issue(Random(seed))  # noqa: S311 - drawn again alike, not for secrets
        (whole,) = run_trials(Plan(policy, 1, 40), range(seed, seed + 1))
        (ended,) = run_trials(Plan(policy, 1, 40, stop_when=0.95), range(seed, seed + 1))
        kept += normal_of(ended) == normal_of(whole)
        saved += len(whole.patches) - len(ended.patches)
    told = share(kept, STOP_TRIALS)
    say(f"{'the same, by the chain':28} {_percent(told)} {saved / STOP_TRIALS / 40:13.0%}")
    if told.value < KEPT:
        yield f"the chain keeps the decision of {KEPT:.0%} with --stop-when 0.95"


def normal_of(trial: Trial) -> str:
    return trial.choice.normal if trial.choice else ""


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]"


if __name__ == "__main__":
    sys.exit(main())
