"""The rounds of an evolution as numbers, and the shares of tests that patches pass."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.measures import Replay, Round, choices, curves, round_ends, rounds, shares_passed
from agentless_mini.chain.rank import rank
from agentless_mini.domain import Candidate, Case, CaseResult, Execution, Method, Origin, Outcome, Patch, Verdict
from tests.chain.measures.test_replay import ended, generated
from tests.chain.voting import BAD, samples

KINDS = {"r": Origin.REGRESSION, "g": Origin.GENERATED, "u": Origin.GIVEN}


def drawn(*letters: str) -> tuple[Candidate, ...]:
    """Return the candidates of rounds, each given by the normal forms of its samples, a dot for a rejected one."""
    found: list[Candidate] = []
    for number, part in enumerate(letters):
        for letter in part:
            outcome = BAD if letter == "." else Patch(f"{letter}{len(found)}".encode(), letter, ())
            found.append(Candidate("key", len(found), len(found), outcome, number))
    return tuple(found)


def execution(kinds: str, passing: dict[str, str | None]) -> Execution:
    """Return cases of these kinds and whether each passes (1) or not (0) by patch; None for one that was refused."""
    cases = tuple(Case(f"t{at}", KINDS[kind]) for at, kind in enumerate(kinds))
    verdicts = [
        Verdict(normal, () if told is None else _results(cases, told), "no" if told is None else "")
        for normal, told in passing.items()
    ]
    return Execution(cases, (), tuple(verdicts))


def _results(cases: Sequence[Case], told: str) -> tuple[CaseResult, ...]:
    outcomes = (Outcome.PASS if one == "1" else Outcome.FAIL for one in told)
    return tuple(CaseResult(case.id, outcome) for case, outcome in zip(cases, outcomes, strict=True))


def test_rounds_count_what_is_valid_distinct_and_new() -> None:
    scores = {"a": 0.5, "b": -1.0, "c": 2.0}
    assert rounds(drawn("aab.", "bcc", "..."), scores) == (
        Round(0, 4, 3, 2, 2, 0.5, 0.0),
        Round(1, 3, 3, 2, 1, 2.0, 1.0),
        Round(2, 3, 0, 0, 0, None, None),
    )


def test_a_round_with_a_patch_that_has_no_score_has_no_best_and_no_mean() -> None:
    first, second = rounds(drawn("ab", "a"), {"a": 1.0})
    assert (first.best, first.mean) == (None, None)
    assert (second.best, second.mean) == (1.0, 1.0)


@given(st.lists(st.text("abcd.", min_size=1, max_size=6), max_size=5), st.randoms())
def test_the_new_patches_of_all_rounds_are_the_distinct_ones_in_any_order_of_candidates(
    letters: list[str], dice: Random
) -> None:
    whole = list(drawn(*letters))
    told = rounds(whole, {})
    assert sum(one.new for one in told) == len(set("".join(letters)) - {"."})
    assert [one.samples for one in told] == [len(part) for part in letters]
    assert all(one.new <= one.distinct <= one.valid <= one.samples for one in told)
    dice.shuffle(whole)
    assert rounds(whole, {}) == told


def test_the_ends_of_rounds_are_numbers_of_samples() -> None:
    assert round_ends(drawn("ab.", "c..", "d")) == (3, 6, 7)
    assert round_ends(samples("ab")) == (2,)
    assert round_ends(()) == ()


@pytest.mark.parametrize(
    ("kinds", "passing", "share"),
    [
        ("gg", "10", 0.5),
        ("rrrr", "1110", 0.75),
        ("ggrrrr", "101110", (0.5 + 0.75) / 2),
        ("ug", "01", 0.5),
        ("gr", None, 0.0),
    ],
)
def test_the_share_of_tests_passed_is_the_mean_of_both_kinds(kinds: str, passing: str | None, share: float) -> None:
    assert shares_passed(execution(kinds, {"a": passing})) == {"a": share}


def test_without_a_test_there_is_no_share() -> None:
    assert shares_passed(execution("", {"a": ""})) == {}


# --- curves over rounds ----------------------------------------------------------------------------------------------


@given(st.lists(st.text("abc.", min_size=3, max_size=3), min_size=2, max_size=5), st.sampled_from(Method))
def test_each_point_over_rounds_is_the_choice_among_the_first_ones(letters: list[str], method: Method) -> None:
    whole = drawn(*letters)
    normals = sorted({one.outcome.normal for one in whole if isinstance(one.outcome, Patch)})
    ran = execution("gr", {normal: {"a": "10", "b": "01"}.get(normal, "11") for normal in normals})
    replay = Replay(ended(whole, generated(0), ran))
    told = curves(replay, method, more=(1, 4))
    assert [n for n, _ in told.samples] == [n for n, _ in told.votes] == [3 * (at + 1) for at in range(len(letters))]
    for n, patch in told.samples:
        chosen = rank(whole[:n], ran, method)
        assert patch == (chosen.patch if chosen else None)


def test_the_samples_of_the_first_round_are_the_plain_ones() -> None:
    told = curves(Replay(ended(drawn("abb.b", "ccccc"))), Method.AGREEMENT)
    assert [(n, patch.normal) for n, patch in told.plain if patch] == [(1, "a"), (2, "a"), (5, "b")]
    assert [patch.normal for patch in choices(told)] == ["c", "b", "a"]


def test_a_run_without_rounds_has_no_plain_curve_and_further_points_where_they_are_wanted() -> None:
    replay = Replay(ended(samples("abbbcc")))
    assert curves(replay, Method.VOTE).plain == ()
    usual, more = (curves(replay, Method.VOTE, wanted) for wanted in ((), (0, 3, 5, 6, 9)))
    assert [n for n, _ in usual.samples] == [1, 2, 5, 6]
    assert [n for n, _ in more.samples] == [n for n, _ in more.votes] == [1, 2, 3, 5, 6]
    assert dict(more.samples).items() >= dict(usual.samples).items()
