"""Evolution on simulated policies, through the whole chain: the claims of the benchmark in small, and its double."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from agentless_mini.domain import Completion, Message, Role, SampleRequest, SamplingParams, Stage
from tests.evolution.intervals import bootstrap_needed, difference, samples_needed, share
from tests.evolution.policy import Policy, falling, mean_level, plain_samples
from tests.evolution.simulated import Plan, SimulatedSampler, Trial, run_trials

BASE = falling(0.4, 4)
TOP = 4
TRIALS = 30
ROUNDS = 10


def found(done: Sequence[Trial], samples: int = ROUNDS * 5) -> int:
    return sum(TOP in one.levels[:samples] for one in done)


def run(policy: Policy, noise: float | None = None, parents: int = 5, rounds: int = ROUNDS) -> list[Trial]:
    return run_trials(Plan(policy, rounds, 5, noise, parents), range(TRIALS))


# --- the double ------------------------------------------------------------------------------------------------------


class Telling:
    """A policy that answers how many levels it was shown, and the highest."""

    def draw(self, shown: Sequence[int], dice: Random) -> tuple[int, int] | None:
        return len(shown), max(shown, default=0) + dice.randrange(1000)


def ask(seed: int, content: str, stage: Stage) -> list[str]:
    async def answers() -> list[Completion]:
        messages = (Message(Role.USER, content),)
        request = SampleRequest("simulated", messages, SamplingParams(100), (0, 1), stage, "")
        return [completion async for completion in SimulatedSampler(Telling(), seed).sample(request)]

    return [completion.text for completion in asyncio.run(answers())]


def test_the_same_request_is_answered_alike_and_another_seed_otherwise() -> None:
    assert ask(1, "code", Stage.REPAIR) == ask(1, "code", Stage.REPAIR)
    assert ask(1, "code", Stage.REPAIR) != ask(2, "code", Stage.REPAIR)
    assert len(set(ask(1, "code", Stage.REPAIR))) == 2


def test_levels_are_read_from_added_lines_of_a_prompt_of_evolution_alone() -> None:
    shown = "-LEVEL, FORM = None, None\n+LEVEL, FORM = 3, 17\nand\n+LEVEL, FORM = 2, 1\n"
    assert "\nLEVEL, FORM = 2, " in ask(1, shown, Stage.EVOLVE)[0]
    assert "\nLEVEL, FORM = 0, " in ask(1, shown, Stage.REPAIR)[0]


def test_a_round_is_shown_as_many_distinct_patches_as_it_may_be() -> None:
    (trial,) = run_trials(Plan(Telling(), 3, 6, noise=0.0, parents=4), range(1))
    assert trial.levels == (0,) * 6 + (4,) * 12


@pytest.mark.parametrize("gain", [1.0, pytest.param(4.0, marks=pytest.mark.thorough)])
def test_mean_levels_are_those_of_the_kernel_where_nothing_selects(gain: float) -> None:
    policy = Policy(BASE, 1.0, gain, invalid=0.0, forms=0)
    done = run(policy)
    for turn, levels in enumerate(policy.rounds(ROUNDS)):
        means = [sum(level or 0 for level in one.levels[turn * 5 : turn * 5 + 5]) / 5 for one in done]
        mean = mean_level(levels)
        spread = sum(chance * (level - mean) ** 2 for level, chance in enumerate(levels)) ** 0.5  # of one sample
        assert sum(means) / TRIALS == pytest.approx(mean, abs=3 * spread / TRIALS**0.5)


def test_rounds_from_the_best_patch_climb_as_their_markov_chain() -> None:
    policy = Policy(BASE, 1.0, forms=0)
    done = run(policy, noise=0.0, parents=1)
    for turn, chance in enumerate(policy.climb(ROUNDS, 5)):
        assert found(done, 5 * (turn + 1)) / TRIALS == pytest.approx(chance, abs=4 * (0.25 / TRIALS) ** 0.5)


# --- what is claimed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "noise"),
    [
        pytest.param(Policy(BASE, 1.0), 0.0, id="perfect-selector"),
        pytest.param(Policy(BASE, 1.0), 0.5, id="noisy-selector", marks=pytest.mark.thorough),
        pytest.param(Policy(BASE, 1.0, gain=4.0), None, id="self-evolving", marks=pytest.mark.thorough),
    ],
)
def test_evolution_reaches_a_rate_with_fewer_samples_than_sampling(policy: Policy, noise: float | None) -> None:
    needed = bootstrap_needed([one.first(TOP) for one in run(policy, noise, rounds=18)], 0.7, 5)
    assert needed.high < plain_samples(policy, 0.7)


@pytest.mark.parametrize(
    "step", [None, pytest.param(1.0, marks=pytest.mark.thorough)], ids=["pays-no-heed", "no-improvement"]
)
def test_self_evolution_without_improvement_does_not(step: float | None) -> None:
    plain = 1 - (1 - Policy(BASE).right) ** (ROUNDS * 5)
    assert share(found(run(Policy(BASE, step))), TRIALS).low <= plain


# --- statistics ------------------------------------------------------------------------------------------------------


def test_intervals_are_those_of_their_papers() -> None:
    wilson = share(81, 263)  # Newcombe 1998: 0.2553 to 0.3662
    assert (wilson.low, wilson.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    newcombe = difference(share(56, 70), share(48, 80))  # 0.0524 to 0.3339
    assert (newcombe.value, newcombe.low, newcombe.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_round_counts_as_a_whole_and_what_never_comes_is_infinite() -> None:
    firsts = [1, 6, 7, None, 11]
    assert samples_needed(firsts, 0.2, 5) == 5
    assert samples_needed(firsts, 0.8, 5) == 15
    assert samples_needed(firsts, 0.8, 1) == 11
    assert samples_needed(firsts, 0.81, 1) == float("inf")
