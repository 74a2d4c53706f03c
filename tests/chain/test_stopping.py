"""The rule that ends sampling: exact for one rival, a lower bound for more, certain only where nothing can change."""

import math
import time
from dataclasses import replace
from fractions import Fraction
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.stopping import CONCENTRATION, DISCOUNT, INVALID, Tally, decided, stays, tally
from agentless_mini.domain import Candidate, Patch
from tests.chain.voting import samples, vote

TALLIES = st.builds(Tally, st.lists(st.integers(1, 12), max_size=8).map(tuple), st.integers(0, 10))


# --- what is counted -------------------------------------------------------------------------------------------------


def test_votes_are_told_by_the_earliest_sample_whatever_the_order_in_which_answers_came() -> None:
    assert tally(reversed(samples("b.abb."))) == Tally((3, 1), 2)


def test_what_uses_undefined_names_counts_as_invalid_beside_anything_else() -> None:
    outcome = Patch(b"a", "a", (), undefined=("x",))
    unsound = [replace(one, outcome=outcome) for one in samples("aa")]
    assert tally(unsound) == Tally((2,), 0)
    assert tally([*unsound, *(replace(one, index=9, order=9) for one in samples("b"))]) == Tally((1,), 2)


def test_answers_that_repeat_another_count_once() -> None:
    assert tally(replace(one, repeats=one.order > 0) for one in samples("aaa")) == Tally((1,), 0)


# --- what is certain -------------------------------------------------------------------------------------------------


def test_nothing_can_change_when_nothing_is_left() -> None:
    assert stays(Tally((1, 1), 5), 0) == 1.0
    assert stays(Tally((), 5), 0) == 1.0


def test_without_a_valid_answer_nothing_is_decided() -> None:
    assert stays(Tally((), 5), 1) == 0.0
    assert not decided(samples("..."), 1, 0.01)


@pytest.mark.parametrize("left", [1, 5])
def test_a_leader_that_cannot_be_overtaken_stays_for_certain(left: int) -> None:
    assert stays(Tally((left, 1), 0), left - 1) == 1.0
    assert stays(Tally((left + 1, 1), 0), left) == 1.0
    assert decided(samples("a" * left), left, 1.0)  # a new patch can come to a tie, which the earlier one wins


def test_a_tie_is_won_by_the_earlier_patch() -> None:
    assert stays(Tally((2, 1), 0), 1) == 1.0
    assert stays(Tally((1, 2), 0), 1) < 1.0
    assert stays(Tally((2, 2), 0), 1) < 1.0


# --- the model -------------------------------------------------------------------------------------------------------


@cache
def keeps(votes: tuple[int, ...], invalid: int, left: int, leader: int) -> Fraction:
    """Return the exact probability, by every way in which the urn can be drawn from."""
    if not left:
        return Fraction(votes.index(max(votes)) == leader)
    whole = sum(votes) + invalid + Fraction(CONCENTRATION) + Fraction(INVALID)
    new = Fraction(CONCENTRATION) + Fraction(DISCOUNT) * len(votes)
    chance = (invalid + Fraction(INVALID)) * keeps(votes, invalid + 1, left - 1, leader)
    chance += new * keeps((*votes, 1), invalid, left - 1, leader)
    for place, count in enumerate(votes):
        more = (*votes[:place], count + 1, *votes[place + 1 :])
        chance += (count - Fraction(DISCOUNT)) * keeps(more, invalid, left - 1, leader)
    return chance / whole


def truth(drawn: Tally, left: int) -> float:
    return float(keeps(drawn.votes, drawn.invalid, left, drawn.votes.index(max(drawn.votes))))


@pytest.mark.parametrize("votes", [(3, 2), (2, 3), (2, 2), (4, 1), (1, 1)])
@pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
def test_one_rival_is_judged_exactly_while_new_patches_cannot_matter(votes: tuple[int, int], left: int) -> None:
    drawn = Tally(votes, 1)
    if left <= max(votes):  # a patch that is new must have more votes than the leader has now
        assert stays(drawn, left) == pytest.approx(truth(drawn, left), abs=1e-12)


@pytest.mark.parametrize("votes", [(1,), (2,), (1, 1), (2, 1), (3, 2, 1), (2, 2, 2), (1, 2, 1, 1), (4, 1, 1, 1, 1)])
@pytest.mark.parametrize("left", [2, 4, 6])
def test_it_is_never_above_the_truth_of_its_model(votes: tuple[int, ...], left: int) -> None:
    drawn = Tally(votes, 2)
    assert stays(drawn, left) <= truth(drawn, left) + 1e-12


@pytest.mark.parametrize("votes", [(4, 1), (5, 1, 1), (6, 2, 1, 1)])
def test_where_it_would_stop_it_is_close_to_the_truth_of_its_model(votes: tuple[int, ...]) -> None:
    drawn = Tally(votes, 1)
    assert truth(drawn, 6) > 0.95
    assert stays(drawn, 6) == pytest.approx(truth(drawn, 6), abs=0.01)


def urn(rng: Random, size: int) -> str:
    """Return samples of a policy that is drawn from the model, a letter for each patch."""
    votes: list[int] = []
    drawn: list[int] = []
    invalid = 0.0
    for _ in range(size):
        weights = [invalid + INVALID, *(count - DISCOUNT for count in votes), CONCENTRATION + DISCOUNT * len(votes)]
        kind = rng.choices(range(len(weights)), weights)[0] - 1
        if kind < 0:
            invalid += 1
        elif kind == len(votes):
            votes.append(1)
        else:
            votes[kind] += 1
        drawn.append(kind)
    return "".join("." if kind < 0 else chr(ord("a") + kind) for kind in drawn)


def test_policies_of_the_model_keep_the_promise_at_every_look() -> None:
    rng, looks, kept = Random(0), 0, 0  # noqa: S311 - drawn again alike, not for secrets
    for _ in range(150):
        whole = samples(urn(rng, 30))
        stop = next((size for size in range(1, 30) if decided(whole[:size], 30 - size, 0.9)), None)
        if stop is not None:
            looks += 1
            kept += normal(whole[:stop]) == normal(whole)
    assert looks > 100
    assert kept / looks >= 0.9


def normal(candidates: list[Candidate]) -> str:
    chosen = vote(candidates)
    return chosen.patch.normal if chosen else ""


# --- laws ------------------------------------------------------------------------------------------------------------


@given(TALLIES, st.integers(0, 60))
def test_it_is_a_probability(drawn: Tally, left: int) -> None:
    assert 0.0 <= stays(drawn, left) <= 1.0


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 5), st.integers(1, 60))
def test_one_more_vote_for_the_leader_makes_it_no_less_sure(votes: list[int], invalid: int, left: int) -> None:
    place = votes.index(max(votes))
    more = [count + (at == place) for at, count in enumerate(votes)]
    assert stays(Tally(tuple(more), invalid), left) >= stays(Tally(tuple(votes), invalid), left) - 1e-9


def test_many_equal_patches_decide_nothing() -> None:
    assert stays(Tally((1,) * 60, 0), 440) == 0.0


def test_it_decides_about_500_samples_in_seconds_that_nobody_notices() -> None:
    drawn = Tally((60, *range(30, 0, -1), *((1,) * 69)), 10)
    begun = time.process_time()
    for _ in range(5):
        assert math.isfinite(stays(drawn, 400))
    assert time.process_time() - begun < 1.0
