"""The statistics of an evaluation, against brute force where that can be had."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.measures import (
    Found,
    calibration,
    found,
    gap_won,
    mean,
    pass_at_k,
    points_of_samples,
    points_of_tests,
    wilson,
)
from tests.evolution.intervals import share

paths = st.sampled_from("abcdef")


def test_the_mean_of_nothing_is_not_known() -> None:
    assert mean([]) is None
    assert mean([0.1] * 10) == 0.1


# --- the interval ----------------------------------------------------------------------------------------------------


def test_of_nothing_there_is_no_interval() -> None:
    assert wilson(0, 0) is None


@given(st.integers(1, 600), st.data())
def test_the_interval_is_that_of_the_score_and_contains_the_share(of: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, of))
    interval, same = wilson(right, of), share(right, of)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((same.low, same.high), abs=1e-9)
    assert 0 <= interval.low <= right / of <= interval.high <= 1


@pytest.mark.parametrize(("right", "low", "high"), [(4, 0.5101, 1), (0, 0, 0.4899), (3, 0.3006, 0.9544)])
def test_few_instances_are_never_sure(right: int, low: float, high: float) -> None:
    interval = wilson(right, 4)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


# --- pass@k ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_the_ways_to_draw_that_hold_a_right_sample(samples: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    ways = list(combinations(range(samples), k))
    hits = sum(any(sample < correct for sample in way) for way in ways)
    assert pass_at_k(samples, correct, k) == pytest.approx(hits / len(ways))


@given(st.integers(1, 600), st.data())
def test_pass_at_k_grows_with_k_from_the_share_to_certainty(samples: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    assert pass_at_k(samples, correct, 1) == pytest.approx(correct / samples)
    assert pass_at_k(samples, correct, k) <= pass_at_k(samples, correct, min(samples, k + 1)) <= 1
    assert pass_at_k(samples, correct, samples) == (correct > 0)


def test_pass_at_k_of_many_samples_keeps_its_digits() -> None:
    assert pass_at_k(500, 1, 250) == 0.5
    assert pass_at_k(500, 1, 500) == 1.0
    assert pass_at_k(100_000, 1, 1) == 1e-5


def test_more_than_all_samples_are_all_of_them() -> None:
    assert pass_at_k(3, 1, 10) == 1.0
    assert pass_at_k(3, 0, 10) == 0.0


@pytest.mark.parametrize(("samples", "correct", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_what_cannot_be_counted_is_refused(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(samples, correct, k)


# --- confidence ------------------------------------------------------------------------------------------------------


def test_answers_are_sorted_by_vote_share_and_the_middle_has_both_its_ends() -> None:
    told = calibration([(0.0, True), (0.19, False), (0.2, True), (0.6, False), (0.79, True), (1.0, True)])
    assert [(one.low, one.high, one.instances, one.resolved) for one in told] == [
        (0.0, 0.2, 2, 1), (0.2, 0.4, 1, 1), (0.4, 0.6, 0, 0), (0.6, 0.8, 2, 1), (0.8, 1.0, 1, 1),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans())))
def test_no_answer_is_lost(answers: list[tuple[float, bool]]) -> None:
    told = calibration(answers)
    assert sum(one.instances for one in told) == len(answers)
    assert sum(one.resolved for one in told) == sum(right for _, right in answers)


# --- where curves are drawn ------------------------------------------------------------------------------------------


def test_curves_are_drawn_where_the_papers_draw_them() -> None:
    assert points_of_samples(500) == (1, 2, 5, 10, 20, 40, 80, 160, 320, 500)
    assert points_of_tests(30) == (0, 1, 5, 10, 20, 30)
    assert points_of_tests(100) == (0, 1, 5, 10, 20, 30, 60, 100)


@given(st.integers(0, 100_000))
def test_points_ascend_to_the_whole(most: int) -> None:
    for points in (points_of_samples(most), points_of_tests(most)):
        assert list(points) == sorted(set(points))
        assert points[-1] == most
        assert len(points) < 25


# --- localization ----------------------------------------------------------------------------------------------------


def test_files_found_are_shares_of_the_first_list_and_of_all_lists() -> None:
    assert found([["a", "x"], ["b"]], ["a", "b"]) == Found(0.5, 1.0)
    assert found([], ["a"]) == Found(0.0, 0.0)
    assert found([["a"]], []) is None


@given(st.lists(st.lists(paths)), st.sets(paths, min_size=1))
def test_a_recall_is_a_share_and_more_lists_find_no_less(lists: list[list[str]], gold: set[str]) -> None:
    share = found(lists, gold)
    assert share is not None
    assert 0 <= share.first <= share.anywhere <= 1


# --- a choice among systems ------------------------------------------------------------------------------------------


def test_the_gap_is_from_the_mean_of_the_systems_to_their_oracle() -> None:
    chosen, drawn, best = [1.0, 0.0, 1.0, 0.0], [0.5, 0.5, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]
    gap = gap_won(chosen, drawn, best)
    assert gap is not None
    assert gap[0] == 0.0
    assert -1 < gap[1].low < 0 < gap[1].high < 1
    oracle = gap_won(best, drawn, best)
    assert oracle is not None
    assert (oracle[0], oracle[1].high) == (1.0, 1.0)
    assert 0.3 < oracle[1].low < 0.4, "two instances prove little"


def test_of_gaps_that_are_all_the_same_the_interval_is_wilsons() -> None:
    right = [1.0] * 7 + [0.0] * 3
    gap = gap_won(right, [0.0] * 10, [1.0] * 10)
    assert gap is not None
    told = wilson(7, 10)
    assert told is not None
    assert gap[1].low == pytest.approx(told.low)
    assert gap[1].high == pytest.approx(told.high)


def test_systems_that_are_alike_leave_no_gap() -> None:
    assert gap_won([1.0, 0.0], [1.0, 0.0], [1.0, 0.0]) is None
    assert gap_won([], [], []) is None
