"""The mathematics of the simulated policies, against themselves and against what the policies draw."""

from collections import Counter
from random import Random

import pytest

from tests.evolution.policy import Policy, falling, mean_level, plain_samples

BASE = falling(0.45, 4)


@pytest.mark.parametrize("gain", [1.0, 2.0, 8.0])
@pytest.mark.parametrize("step", [0.3, 1.0])
def test_the_kernel_leaves_its_weights_in_place(gain: float, step: float) -> None:
    policy = Policy(BASE, step, gain)
    weights = [chance * gain**level for level, chance in enumerate(BASE)]
    kernels = [policy.kernel(level) for level in range(len(BASE))]
    for kernel in kernels:
        assert sum(kernel) == pytest.approx(1)
        assert min(kernel) >= 0
    after = [sum(weights[one] * kernels[one][other] for one in range(len(BASE))) for other in range(len(BASE))]
    assert after == pytest.approx(weights)


def test_without_gain_every_round_is_the_first_and_with_it_each_is_better() -> None:
    assert all(levels == pytest.approx(BASE) for levels in Policy(BASE, 1.0).rounds(6))
    means = [mean_level(levels) for levels in Policy(BASE, 1.0, gain=4.0).rounds(6)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 1


def test_who_pays_no_heed_draws_plainly() -> None:
    assert Policy(BASE).kernel(4) == BASE
    assert all(levels == pytest.approx(BASE) for levels in Policy(BASE).rounds(3))


def test_draws_are_distributed_as_the_kernel_says() -> None:
    policy, dice = Policy(BASE, 1.0, 4.0, invalid=0.25), Random(0)  # noqa: S311 - drawn again alike, not for secrets
    drawn = [policy.draw([0, 2], dice) for _ in range(20_000)]
    levels = Counter(one[0] for one in drawn if one)
    assert drawn.count(None) / 20_000 == pytest.approx(0.25, abs=0.02)
    both = [(low + high) / 2 for low, high in zip(policy.kernel(0), policy.kernel(2), strict=True)]
    assert [levels[level] / levels.total() for level in range(5)] == pytest.approx(both, abs=0.02)


def test_few_forms_are_common_and_most_are_rare() -> None:
    policy, dice = Policy(BASE), Random(0)  # noqa: S311 - drawn again alike, not for secrets
    forms = Counter(one[1] for one in (policy.draw([], dice) for _ in range(2_000)) if one)
    assert forms[0] > 0.1 * forms.total()
    assert len(forms) > 100
    lone = Policy(BASE, forms=0)
    assert len({lone.draw([], dice) for _ in range(100)} - {None}) > 60


def test_the_climb_of_a_single_sample_a_round_is_known_by_hand() -> None:
    policy = Policy((0.5, 0.5), step=1.0, invalid=0.5)  # right at once with 1/4, later from below with 1/4 too
    assert policy.climb(3, 1) == pytest.approx([1 / 4, 7 / 16, 37 / 64])


def test_plain_samples_are_the_least_that_reach_the_rate() -> None:
    policy = Policy(BASE, invalid=0.0)
    needed = plain_samples(policy, 0.8)
    assert 1 - (1 - policy.right) ** needed >= 0.8 > 1 - (1 - policy.right) ** (needed - 1)
