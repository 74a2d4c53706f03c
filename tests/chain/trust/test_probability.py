"""The probability that a patch is right: what lifts and lowers it, by example and for all pools."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.rank import (
    Standing,
    Totals,
    confidence,
    counted_votes,
    ordered,
    poll,
    rank,
    standings,
    totals,
)
from agentless_mini.chain.trust import HARM, PINS, log_odds, probability
from agentless_mini.domain import Candidate, Execution, Method, Patch
from tests.chain.test_rank import candidates, drawn, execution, patch, worlds
from tests.chain.voting import samples


def chosen(normals: str, cases: str, outcomes: dict[str, str]) -> str:
    choice = rank(samples(normals), execution(cases, outcomes))
    assert choice is not None
    return choice.patch.normal


def odds(normals: str, cases: str, outcomes: dict[str, str]) -> dict[str, float]:
    run = execution(cases, outcomes)
    return dict(log_odds(standings(poll(samples(normals)), run), totals(run)))


# --- the shape of django-15851: a partial fix that breaks nothing, and the fix, which breaks the test of the fault ----


@pytest.mark.parametrize("method", [Method.PROBABILITY, Method.AGREEMENT, Method.SCORES])
@pytest.mark.parametrize("normals", ["pr", "prqs", "prqstu"])
def test_a_partial_fix_that_breaks_nothing_does_not_beat_the_fix_that_breaks_the_test_of_the_fault(
    method: Method, normals: str
) -> None:
    kept, pinned = "+" * 126, "-" + "+" * 125
    outcomes = {"p": "+--" + kept} | dict.fromkeys(normals[1:], "++-" + pinned)
    choice = rank(samples(normals), execution("ggg" + "r" * 126, outcomes), method)
    assert choice is not None
    assert (choice.patch.normal, choice.passed, choice.broken) == ("r", 2, 1)


def test_a_test_that_fixes_break_and_no_fix_keeps_pins_the_fault_and_costs_little() -> None:
    pinned = odds("ab", "ggrr", {"a": "++-+", "b": "--++"})
    broken = odds("abc", "ggrr", {"a": "++-+", "b": "--++", "c": "++++"})
    assert pinned["a"] > pinned["b"]
    assert broken["c"] - broken["a"] > 2
    nothing = odds("ab", "r", {"a": "-", "b": "+"})
    assert nothing["b"] - nothing["a"] == pytest.approx(math.log1p(HARM * (1 - probability(PINS))))


def test_of_patches_that_pass_the_given_test_one_that_breaks_nothing_beats_three_votes() -> None:
    assert chosen("bbbac", "ur", {"a": "++", "b": "+-", "c": "+-"}) == "a"


def test_many_broken_tests_cost_more_than_reproduction_tests_win() -> None:
    assert chosen("ab", "g" + "r" * 40, {"a": "+" + "-" * 40, "b": "-" + "+" * 40}) == "b"
    assert chosen("ab", "grrrr", {"a": "+-+++", "b": "-++++"}) == "a"


@pytest.mark.parametrize("variants", [1, 5, 20, 100])
def test_variants_of_one_wrong_patch_do_not_clear_each_other_of_what_they_break(variants: int) -> None:
    """They pass the reproducing tests as the fix does, and break fifty others: more of them are no proof of more."""
    broken = replace(wrong := Standing("w0", 1, 1, generated=frozenset({0, 1, 2}), of=variants + 1), likeness=0.6)
    several = [replace(broken, normal=f"w{n}", first=n + 1) for n in range(variants)]
    fix = replace(wrong, normal="fix", first=0, kept=frozenset(range(3, 53)))
    found = log_odds([fix, *several], Totals(0, 3, 50))
    assert found["fix"] > found["w0"] + 2


# --- tests -----------------------------------------------------------------------------------------------------------


def test_a_test_that_the_others_contradict_is_worth_less() -> None:
    found = odds("abcd", "gggg", {"a": "+++-", "b": "---+", "c": "+++-", "d": "---+"})
    assert found["a"] > found["b"]


def test_ten_tests_that_agree_are_worth_less_than_ten_single_ones() -> None:
    one, ten = (odds("ab", "g" * n, {"a": "+" * n, "b": "-" * n}) for n in (1, 10))
    assert 1 < (ten["a"] - ten["b"]) / (one["a"] - one["b"]) < 5


def test_a_test_that_no_patch_passes_lowers_all_alike() -> None:
    with_it, without = odds("ab", "gg", {"a": "+-", "b": "--"}), odds("ab", "g", {"a": "+", "b": "-"})
    assert with_it["a"] < without["a"]
    assert chosen("ab", "gg", {"a": "--", "b": "--"}) == "a"


def test_a_given_test_decides_whatever_the_others_say() -> None:
    assert chosen("aaab", "ugggr", {"a": "-++++", "b": "+----"}) == "b"
    found = odds("ab", "u", {"a": "+", "b": "-"})
    assert found["a"] - found["b"] > 4


def test_refused_patches_are_no_witnesses_and_come_last() -> None:
    assert chosen("aaab", "gr", {"a": "", "b": "--"}) == "b"
    assert odds("ab", "gr", {"a": "", "b": "++"})["b"] == pytest.approx(
        odds("aab", "gr", {"a": "", "b": "++"})["b"], abs=0.5
    )


# --- votes, likeness, size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("votes", "low", "high"), [(30, 0.7, 0.84), (15, 0.5, 0.65), (6, 0.33, 0.47)])
def test_the_shares_of_forty_votes_are_as_often_right_as_was_published(votes: int, low: float, high: float) -> None:
    """Three runs of a 32B model: over half of the votes 77 % right, over a quarter 56, less 40; likeness is made up."""
    like = {30: 0.8, 15: 0.6, 6: 0.45}[votes]
    found = log_odds([Standing("a", votes, 0, likeness=like, of=40, lines=6)], Totals())
    assert low < probability(found["a"]) < high


def test_a_sole_sample_is_right_as_often_as_not() -> None:
    assert confidence(samples("a"), None, rank(samples("a"), None)) == pytest.approx(0.53, abs=0.02)
    assert confidence(samples("."), None, None) is None


def test_a_smaller_change_is_a_little_more_probable_and_likeness_counts_more() -> None:
    small, large = "+a = 1\n", "".join(f"+b{n} = 1\n" for n in range(40))
    choice = rank(drawn(large, small), None)
    assert choice is not None
    assert choice.patch.normal == small
    alike = [f"+return left + right + {name}\n" for name in "abc"]
    choice = rank(drawn("+x\n", *alike), None)
    assert choice is not None
    assert choice.patch.normal == alike[0]


def test_one_vote_more_may_be_outweighed_and_the_reason_says_so() -> None:
    alike = [f"+return left + right * one_more_name + {name}\n" for name in "abcdefghijkl"]
    far = "".join(f"-zz{n} /\n" for n in range(30))
    choice = rank(drawn(far, far, *alike), None)
    assert choice is not None
    assert choice.patch.normal == alike[0]
    assert "another has 2 and is less like the others, or larger" in choice.reason


def test_a_patch_that_uses_undefined_names_and_passes_no_test_comes_last() -> None:
    choice = rank(drawn("+a\n", "+a\n", "+a\n", "+b\n", undefined="012"), None)
    assert choice is not None
    assert choice.patch.normal == "+b\n"


def test_the_confidence_is_that_of_the_chosen_patch_tested_or_not() -> None:
    run = execution("g", {"a": "+", "b": "-"})
    told = samples("abc")
    choice = rank(told, run)
    sure = confidence(told, run, choice)
    assert sure is not None
    assert sure > (confidence(told, None, choice) or 1)
    assert confidence(told, run, rank(samples("c"), None)) == confidence(told, None, rank(samples("c"), None))


def test_nothing_is_told_as_certain() -> None:
    """No bin of what was measured is right in more than 98 of 100, and many tests and votes say more than that."""
    run = execution("u" * 9 + "g" * 20, {"a": "+" * 29, "b": "-" * 29})
    told = samples("a" * 400 + "b")
    sure = [confidence(told, run, rank(told, run)), confidence(told, run, rank(samples("b"), None))]
    assert sure == pytest.approx([0.99, 0.01])


# --- properties ------------------------------------------------------------------------------------------------------

Pool = tuple[list[Standing], Totals]


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Return patches that met the same tests: places 0 and 1 given, 2 to 5 generated, 6 to 10 regression tests."""
    count = draw(st.integers(1, 6))
    votes = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    some = st.frozensets
    return [
        Standing(
            "abcdef"[n], votes[n], n,
            given=draw(some(st.integers(0, 1))), generated=draw(some(st.integers(2, 5))),
            kept=draw(some(st.integers(6, 10))), of=sum(votes), lines=draw(st.integers(1, 99)),
            likeness=draw(st.floats(0, 1)), undefined=draw(st.sampled_from([(), ("x",)])),
        )
        for n in range(count)
    ], Totals(2, 4, 5)  # fmt: skip


@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_patches_does_not_matter(pool: Pool, random: "object") -> None:
    known, count = pool
    assert dict(log_odds(known[::-1], count)) == dict(log_odds(known, count))
    assert ordered(known[::-1], count, Method.PROBABILITY) == ordered(known, count, Method.PROBABILITY)


@given(pools(), st.data())
def test_a_patch_that_gains_is_never_lowered(pool: Pool, data: st.DataObject) -> None:
    """One more test that passes, one less that breaks, one more vote of as many: by itself, whatever the others do."""
    known, count = pool
    one = known[0]
    gains = [
        replace(one, given=one.given | {data.draw(st.integers(0, 1))}),
        replace(one, generated=one.generated | {data.draw(st.integers(2, 5))}),
        replace(one, kept=one.kept | {data.draw(st.integers(6, 10))}),
        replace(one, votes=min(one.of, one.votes + 1)),
        replace(one, lines=max(1, one.lines - 1)),
        replace(one, likeness=1.0),
    ]
    before = log_odds(known, count)["a"]
    for better in gains:
        assert log_odds([better, *known[1:]], count)["a"] >= before - 1e-9


@given(pools())
def test_a_patch_that_another_surpasses_in_all_is_not_above_it(pool: Pool) -> None:
    known, count = pool
    for low in known:
        better = replace(
            low, normal="z", first=99, votes=low.votes, given=frozenset({0, 1}), generated=low.generated | {2},
            kept=low.kept | {6},
        )  # fmt: skip
        found = log_odds([*known, better], count)
        assert found["z"] >= found[low.normal] - 1e-9


@given(worlds())
def test_a_choice_has_a_probability(world: tuple[list[Candidate], Execution]) -> None:
    told, run = world
    choice = rank(told, run)
    sure = confidence(told, run, choice)
    assert (sure is None) == (choice is None)
    assert sure is None or 0 <= sure <= 1


def test_patches_that_met_the_given_tests_alone_are_no_witnesses() -> None:
    full, part = Standing("a", 1, 0, frozenset({0}), frozenset({1})), Standing("b", 1, 1, untried=True)
    found = log_odds([full, part], Totals(1, 1, 0))
    assert found["a"] == pytest.approx(log_odds([full], Totals(1, 1, 0))["a"])
    assert found["a"] > found["b"]


def test_votes_are_counted_without_likeness_where_that_is_enough() -> None:
    (one,) = counted_votes(candidates(patch("a", "+a\n"), Patch(b"+a\n", "a", ())))
    assert (one.votes, one.likeness) == (2, 0.5)
