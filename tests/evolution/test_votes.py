"""The stop, over policies with known odds: it keeps the decision of the full budget, by the rule and by the chain."""

from random import Random

import pytest

from tests.evolution.simulated import Plan, run_trials
from tests.evolution.votes import Draw, Look, any_issue, mixed, odds, stop_trial, zipf

LOOK = Look(40, 5, 0.95)


def tried(draw: Draw, trials: int = 200) -> tuple[float, float]:
    """Return the share of decisions that are kept, and the share of samples that is saved."""
    dice = Random(1)  # noqa: S311 - drawn again alike, not for secrets
    done = [stop_trial(draw, LOOK, dice) for _ in range(trials)]
    return sum(one.kept for one in done) / trials, 1 - sum(one.samples for one in done) / trials / LOOK.budget


@pytest.mark.parametrize(
    ("draw", "least"),
    [(mixed, 0.2), (odds(0.6, tail=40), 0.5), (zipf(1.0, 500), 0.05), (odds(0.6, tail=40, invalid=0.9), 0.05)],
    ids=["all-kinds", "clear", "heavy-tail", "mostly-invalid"],
)
def test_the_decision_is_kept_and_samples_are_saved(draw: Draw, least: float) -> None:
    kept, saved = tried(draw)
    assert kept >= 0.97
    assert saved > least


def test_where_all_differ_nothing_is_saved() -> None:
    kept, saved = tried(odds(tail=1000), 50)
    assert kept == 1.0
    assert saved < 0.02


def test_the_winner_of_a_tie_is_luck_and_kept_less_often_than_the_bound_says() -> None:
    kept, _ = tried(odds(0.5, 0.5), 300)
    assert 0.85 < kept < 0.97


def test_the_chain_keeps_what_it_would_have_chosen_and_draws_a_beginning_of_it() -> None:
    kept = saved = 0
    for seed in range(30):
        policy = any_issue(Random(seed))  # noqa: S311 - drawn again alike, not for secrets
        (whole,) = run_trials(Plan(policy, 1, 40), range(seed, seed + 1))
        (ended,) = run_trials(Plan(policy, 1, 40, stop_when=0.95), range(seed, seed + 1))
        assert ended.patches == whole.patches[: len(ended.patches)]
        kept += (ended.choice and ended.choice.normal) == (whole.choice and whole.choice.normal)
        saved += 40 - len(ended.patches)
    assert kept >= 29
    assert saved > 100
