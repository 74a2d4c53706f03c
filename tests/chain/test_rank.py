"""The choice among candidates: by vote, by agreement with the tests, by scores; and the reason that is given."""

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.rank import rank
from agentless_mini.chain.trust import _common
from agentless_mini.domain import (
    Candidate,
    Case,
    CaseResult,
    Choice,
    Execution,
    Method,
    Origin,
    Outcome,
    Patch,
    Rejected,
    Verdict,
)
from tests.chain.voting import BAD, samples, vote

ORIGINS = {"u": Origin.GIVEN, "g": Origin.GENERATED, "r": Origin.REGRESSION}


def patch(normal: str, diff: str) -> Patch:
    return Patch(diff.encode(), normal, ())


def candidates(*outcomes: Patch | Rejected) -> list[Candidate]:
    return [Candidate("key", number, number, outcome) for number, outcome in enumerate(outcomes)]


def execution(cases: str, outcomes: Mapping[str, str]) -> Execution:
    """Return the verdicts on patches, by normal form: for each case of `cases` a + or what it is instead of a pass.

    The cases are written by origin: u (the user's), g (generated), r (regression). A patch with an empty text was
    refused.
    """
    made = tuple(Case(f"t{at}.py", ORIGINS[letter]) for at, letter in enumerate(cases))
    kinds = {"+": Outcome.PASS, "-": Outcome.FAIL, "s": Outcome.SKIP, "t": Outcome.TIMEOUT}
    verdicts = [
        Verdict(
            normal,
            tuple(CaseResult(case.id, kinds[told]) for case, told in zip(made, text, strict=True)) if text else (),
            "" if text else "its folder is a symlink",
        )
        for normal, text in outcomes.items()
    ]
    return Execution(made, (), tuple(verdicts))


def chosen(normals: str, cases: str, outcomes: Mapping[str, str], method: Method = Method.AGREEMENT) -> tuple[str, str]:
    choice = rank(samples(normals), execution(cases, outcomes), method)
    assert choice is not None
    return choice.patch.diff.decode(), choice.reason


# --- what is suspicious, and what is refused ----------------------------------------------------------------

TESTED = [method for method in Method if method is not Method.VOTE]


def suspected(normals: str, cases: str, outcomes: Mapping[str, str], method: Method) -> Choice:
    """Choose where a patch whose normal form is a capital letter is suspicious."""
    said = [
        replace(patch(normal, f"{normal}{at}"), suspicious=("a.py ends its process",) if normal.isupper() else ())
        for at, normal in enumerate(normals)
    ]
    choice = rank(candidates(*said), execution(cases, outcomes) if cases else None, method)
    assert choice is not None
    return choice


@pytest.mark.parametrize("method", TESTED)
def test_a_suspicious_patch_stands_behind_those_that_the_tests_do_not_tell_from_it(method: Method) -> None:
    assert suspected("AAAAAAAAb", "gr", {"A": "++", "b": "++"}, method).patch.normal == "b"
    taken = suspected("Ab", "ugr", {"A": "+++", "b": "--+"}, method)
    assert taken.patch.normal == "A"
    assert taken.reason.endswith("; SUSPICIOUS: a.py ends its process")


def test_where_no_test_is_run_only_the_reason_tells_of_it() -> None:
    taken = suspected("AAb", "", {}, Method.PROBABILITY)
    assert taken.patch.normal == "A"
    assert taken.reason.endswith("SUSPICIOUS: a.py ends its process")


@pytest.mark.parametrize("method", TESTED)
def test_a_refused_patch_ranks_behind_all_others(method: Method) -> None:
    assert suspected("aaaaab", "ugr", {"a": "", "b": "---"}, method).patch.normal == "b"


# --- the vote --------------------------------------------------------------------------------------------------------


def test_the_most_common_normal_form_wins_and_its_earliest_sample_stands_for_it() -> None:
    choice = vote(samples("a.bb"))
    assert choice is not None
    assert (choice.patch.diff, choice.votes, choice.valid) == (b"b2", 2, 3)
    assert choice.reason == "2 of 3 valid samples agree on it"


def test_the_earliest_sample_breaks_a_tie_whatever_the_order_of_the_candidates() -> None:
    tied = samples("abba")
    for choice in (vote(tied), vote(tied[::-1])):
        assert choice is not None
        assert choice.patch.diff == b"a0"
        assert "the earliest was taken" in choice.reason


@pytest.mark.parametrize("method", Method)
def test_without_a_valid_candidate_there_is_no_choice(method: Method) -> None:
    assert vote([]) is None
    assert rank(samples(".."), execution("g", {}), method) is None


def drawn(*diffs: str, undefined: str = "") -> list[Candidate]:
    """Return a candidate for each diff, its form; the marked places use an undefined name."""
    return candidates(
        *(
            replace(patch(diff, diff), undefined=("foo",) if at in map(int, undefined) else ())
            for at, diff in enumerate(diffs)
        )
    )


LONG = "+return one + two + three\n"
NEAR = "+return one + two + four\n"
FAR = "-raise Error(message)\n"


@pytest.mark.parametrize("method", Method)
def test_where_no_two_agree_the_one_most_like_the_others_is_taken(method: Method) -> None:
    smaller = ", or smaller," if method is Method.PROBABILITY else ""
    choice = rank(drawn(FAR, LONG, NEAR, "+x = 1\n"), None, method)
    assert choice is not None
    assert choice.patch.normal == LONG
    assert choice.reason == (
        f"1 of 4 valid samples has it, as many as on 3 others; the earliest of those most like the others{smaller} was "
        "taken"
    )
    middle = "+return one + two\n"
    choice = rank(drawn(FAR, LONG, NEAR, middle, "+x = 1\n", "+y\n"), None, method)
    assert choice is not None
    assert choice.patch.normal == middle
    assert choice.reason.endswith(f"the one most like the others{smaller} was taken")


def test_among_equals_of_more_votes_likeness_decides_where_it_is_asked_for() -> None:
    more = drawn(FAR, FAR, LONG, LONG, NEAR, NEAR.replace("four", "six"))
    voted, consistent = vote(more), rank(more, None, Method.CONSISTENCY)
    assert voted is not None
    assert consistent is not None
    assert (voted.patch.normal, consistent.patch.normal) == (FAR, LONG)
    assert voted.reason == ("2 of 6 valid samples agree on it, as many as on 1 other; the earliest was taken")
    assert consistent.reason.endswith("the one most like the others was taken")


def test_likeness_never_outweighs_a_vote() -> None:
    choice = rank(drawn(FAR, FAR, *(f"+return one + two + {name}\n" for name in "abcdefgh")), None, Method.CONSISTENCY)
    assert choice is not None
    assert choice.patch.normal == FAR


def test_consistency_votes_among_the_patches_that_break_and_repair_the_most() -> None:
    outcomes = {FAR: "+++", LONG: "+++", NEAR: "+-+", "+x\n": "-++"}
    told = drawn(FAR, LONG, NEAR, NEAR, NEAR, "+return one + two + five\n", "+x\n", "+x\n")
    choice = rank(told, execution("grr", outcomes), Method.CONSISTENCY)
    assert choice is not None
    assert choice.patch.normal == LONG
    assert choice.reason == (
        "passes 1 of 1 reproduction test with 4 other samples, breaks 0 of 2 regression tests; 1 of 8 valid samples "
        "has it, as many as on 1 other; the one most like the others was taken"
    )


def test_two_samples_of_one_prompt_and_seed_and_an_answer_that_is_repeated_are_one_vote() -> None:
    twice = [replace(one, index=0) for one in samples("bb")]
    repeated = [replace(one, repeats=one.order > 3, order=one.order, index=one.index + 1) for one in samples("..bbbaa")]
    choice = vote([*twice, *repeated[5:], replace(repeated[5], repeats=False)])
    assert choice is not None
    assert (choice.votes, choice.valid) == (1, 2)


def test_a_patch_that_uses_undefined_names_ranks_below() -> None:
    choice = vote(drawn("a", "a", "b", undefined="01"))
    assert choice is not None
    assert (choice.patch.normal, choice.votes, choice.valid) == ("b", 1, 3)
    assert choice.reason == ("1 of 3 valid samples has it; foo is undefined in a change with as many votes")
    alone = vote(drawn("a", "a", undefined="01"))
    assert alone is not None
    assert alone.reason == "2 of 2 valid samples agree on it; it uses an undefined name: foo"


def test_tests_outweigh_undefined_names_and_these_outweigh_votes() -> None:
    told = drawn("a", "a", "b", undefined="01")
    for outcomes, winner in (({"a": "+", "b": "-"}, "a"), ({"a": "+", "b": "+"}, "b")):
        choice = rank(told, execution("g", outcomes))
        assert choice is not None
        assert choice.patch.normal == winner
    choice = rank(told, execution("g", {"a": "+", "b": "-"}))
    assert choice is not None
    assert choice.reason == (
        "passes 1 of 1 reproduction test with 1 other sample; 2 of 3 valid samples agree on it; "
        "it uses an undefined name: foo"
    )


def test_likeness_of_many_distinct_patches_costs_seconds() -> None:
    dice = Random(3)  # noqa: S311 - not for secrets
    begun = time.process_time()
    assert vote(drawn(*("".join(f"+{dice.choice('abcd')} {dice.random()}\n" for _ in range(99)) for _ in range(120))))
    assert time.process_time() - begun < 5


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_the_ratio_is_that_of_the_longest_common_subsequence(a: str, b: str) -> None:
    one, other = (tuple(word.encode() for word in text) for text in (a, b))
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, j in product(range(len(one)), range(len(other))):
        table[i + 1][j + 1] = table[i][j] + 1 if one[i] == other[j] else max(table[i][j + 1], table[i + 1][j])
    assert _common(one, other) == table[-1][-1]


# --- agreement -------------------------------------------------------------------------------------------------------


def test_of_fixes_that_break_few_tests_the_larger_group_comes_first_then_those_that_break_fewer() -> None:
    assert chosen("abbb", "gggrr", {"a": "+++-+", "b": "+--++"})[0] == "a0"  # 1 x 3^2 against 3 x 1
    assert chosen("aab", "ggrr", {"a": "++-+", "b": "++++"})[0] == "b2"


def test_a_fix_may_break_the_one_old_test_that_pins_the_fault() -> None:
    diff, reason = chosen("bbba", "gggrr", {"a": "++++-", "b": "---++"})
    assert diff == "a3"
    assert reason == ("passes 3 of 3 reproduction tests, breaks 1 of 2 regression tests; 1 of 4 valid samples has it")


@pytest.mark.parametrize(("regressions", "broken", "winner"), [(19, 2, "b"), (40, 2, "a"), (40, 3, "b")])
def test_more_than_a_twentieth_is_too_much_to_break(regressions: int, broken: int, winner: str) -> None:
    outcomes = {"a": "+" + "-" * broken + "+" * (regressions - broken), "b": "-" + "+" * regressions}
    assert chosen("ab", "g" + "r" * regressions, outcomes)[0][0] == winner


def test_where_nothing_fixes_anything_the_fewest_broken_tests_decide() -> None:
    assert chosen("aab", "grr", {"a": "-+-", "b": "-++"})[0] == "b2"


@pytest.mark.parametrize("broken", "-st")
def test_a_regression_test_that_does_not_pass_is_broken(broken: str) -> None:
    assert chosen("ab", "rr", {"a": f"+{broken}", "b": "++"})[0] == "b1"


def test_the_group_with_the_most_samples_times_tests_squared_wins_and_in_it_the_vote() -> None:
    # a alone: 4 samples x 1 test; b, c and d together: 3 samples x 2^2 tests.
    diff, reason = chosen("aaaabcdc", "ggr", {"a": "+-+", "b": "+++", "c": "+++", "d": "+++"})
    assert diff == "c5"
    assert reason == (
        "passes 2 of 2 reproduction tests with 3 other samples, breaks 0 of 1 regression test; "
        "2 of 8 valid samples agree on it"
    )


def test_many_samples_outweigh_one_more_test() -> None:
    assert chosen("aaaaab", "gg", {"a": "+-", "b": "++"})[0] == "a0"  # 5 x 1 against 1 x 4


def test_of_equal_groups_the_one_with_more_tests_wins_then_the_earliest() -> None:
    assert chosen("aaaab", "gg", {"a": "+-", "b": "++"})[0] == "b4"  # 4 x 1 and 1 x 4
    assert chosen("ab", "gg", {"a": "+-", "b": "-+"})[0] == "a0"


def test_the_same_number_of_other_tests_is_another_group() -> None:
    assert chosen("abcc", "gg", {"a": "+-", "b": "+-", "c": "-+"})[0] == "a0"  # 2 and 2: the earliest group


def test_a_given_test_needs_no_vote_and_comes_before_regression_tests() -> None:
    diff, reason = chosen("aaab", "uggr", {"a": "-+++", "b": "+---"})
    assert diff == "b3"
    assert reason == (
        "passes 1 of 3 reproduction tests (1 of 1 given), breaks 1 of 1 regression test; 1 of 4 valid samples has it"
    )


def test_given_tests_alone_are_named_as_such() -> None:
    diff, reason = chosen("ab", "u", {"a": "-", "b": "+"})
    assert (diff, reason) == ("b1", "passes 1 of 1 given test; 1 of 2 valid samples has it")


def test_a_refused_patch_is_taken_only_where_nothing_else_is_there() -> None:
    assert chosen("aab", "g", {"a": "", "b": "-"})[0] == "b2"
    diff, reason = chosen("a", "g", {"a": ""})
    assert (diff, reason) == (
        "a0",
        "refused by the tests' boxes (its folder is a symlink); it is the only valid answer",
    )


def test_the_earliest_of_patches_that_nothing_tells_apart_is_said_to_be_taken() -> None:
    _, reason = chosen("abc", "g", {"a": "-", "b": "+", "c": "+"})
    assert reason.endswith("1 of 3 valid samples has it, as many as on 1 other; the earliest was taken")


def test_tests_that_do_not_tell_patches_apart_leave_it_to_the_vote_and_the_reason_says_so() -> None:
    diff, reason = chosen("abb", "gr", {"a": "+-", "b": "+-"})
    assert diff == "b1"
    assert reason == (
        "the tests do not tell the patches apart: each passes 1 of 1 reproduction test, "
        "breaks 1 of 1 regression test; 2 of 3 valid samples agree on it"
    )


def test_without_an_execution_a_test_or_a_verdict_the_vote_decides() -> None:
    voted = vote(samples("abb"))
    assert voted is not None
    assert rank(samples("abb"), None) == voted
    told = replace(voted, reason=f"no test tells the patches apart; {voted.reason}")
    assert rank(samples("abb"), execution("g", {})) == told
    assert rank(samples("abb"), execution("", {})) == told


def test_a_patch_without_a_verdict_is_left_out_where_others_have_one() -> None:
    assert chosen("aab", "g", {"b": "-"})[0] == "b2"


def test_the_choice_holds_the_numbers_of_its_reason() -> None:
    choice = rank(samples("a.ab"), execution("uggrrr", {"a": "++-++s", "b": "------"}))
    assert choice == Choice(
        patch("a", "a0"), 2, 3,
        "passes 2 of 3 reproduction tests (1 of 1 given) with 1 other sample, breaks 1 of 3 regression tests; "
        "2 of 3 valid samples agree on it",
        passed=2, reproducing=3, broken=1, regressions=3,
    )  # fmt: skip


def test_a_patch_that_met_the_given_tests_alone_comes_after_those_that_met_all() -> None:
    told = execution("ugrr", {"a": "++--", "b": "----"})
    short = replace(told.verdicts[1], results=told.verdicts[1].results[:1])
    choice = rank(samples("bbba"), replace(told, verdicts=(told.verdicts[0], short)))
    assert choice is not None
    assert choice.patch.normal == "a"
    assert (choice.passed, choice.broken) == (2, 2)


def test_a_verdict_that_lacks_a_result_is_a_bug() -> None:
    short = replace(execution("gg", {"a": "++"}), verdicts=(Verdict("a", (CaseResult("t0.py", Outcome.PASS),)),))
    with pytest.raises(ValueError, match="shorter"):
        rank(samples("a"), short)


# --- the other methods -----------------------------------------------------------------------------------------------


def test_scores_are_the_sum_of_both_shares() -> None:
    # a: 1/2 + 4/4, b: 2/2 + 3/4
    diff, reason = chosen("aab", "ggrrrr", {"a": "+-++++", "b": "+++++-"}, Method.SCORES)
    assert diff == "b2"
    assert reason == (
        "passes 2 of 2 reproduction tests, breaks 1 of 4 regression tests, a score of 1.75; 1 of 3 valid samples has it"
    )


def test_equal_scores_are_told_apart_by_votes_then_by_the_earliest() -> None:
    assert chosen("abb", "gr", {"a": "+-", "b": "-+"}, Method.SCORES)[0] == "b1"
    assert chosen("ab", "gr", {"a": "+-", "b": "-+"}, Method.SCORES)[0] == "a0"
    assert chosen("ab", "g", {"a": "", "b": "+"}, Method.SCORES)[0] == "b1"


def test_the_vote_stands_against_the_tests_where_it_is_asked_for() -> None:
    diff, reason = chosen("aab", "g", {"a": "-", "b": "+"}, Method.VOTE)
    assert diff == "a0"
    assert reason == "chosen by vote alone, passes 0 of 1 reproduction test; 2 of 3 valid samples agree on it"


# --- properties ------------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Candidate], Execution]:
    cases = draw(st.text("ugr", max_size=5))
    told = st.text("+-", min_size=len(cases), max_size=len(cases)) | st.just("")
    outcomes = draw(st.dictionaries(st.sampled_from("abcd"), told, max_size=4))
    return samples(draw(st.text("abcd.", max_size=12))), execution(cases, outcomes)


@given(worlds(), st.sampled_from(Method), st.randoms(use_true_random=False))
def test_neither_the_order_of_candidates_nor_that_of_verdicts_matters(
    world: tuple[list[Candidate], Execution], method: Method, random: Random
) -> None:
    drawn, run = world
    shuffled = random.sample(drawn, len(drawn))
    assert rank(shuffled, replace(run, verdicts=run.verdicts[::-1]), method) == rank(drawn, run, method)


@given(worlds(), st.sampled_from(Method))
def test_one_more_sample_of_the_winner_lets_it_win_again(
    world: tuple[list[Candidate], Execution], method: Method
) -> None:
    drawn, run = world
    choice = rank(drawn, run, method)
    if choice is not None:
        again = rank([*drawn, Candidate("key", 99, 99, choice.patch)], run, method)
        assert again is not None
        assert (again.patch, again.votes, again.valid) == (choice.patch, choice.votes + 1, choice.valid + 1)


@given(worlds(), st.sampled_from([Method.PROBABILITY, Method.AGREEMENT]))
def test_no_rival_of_the_choice_passes_more_given_tests(
    world: tuple[list[Candidate], Execution], method: Method
) -> None:
    drawn, run = world
    choice = rank(drawn, run, method)
    if choice is None or not choice.reproducing + choice.regressions:
        return
    given_ids = {case.id for case in run.cases if case.origin is Origin.GIVEN}
    known = {one.outcome.normal for one in drawn if isinstance(one.outcome, Patch)}
    verdicts = {verdict.normal: verdict for verdict in run.verdicts if verdict.normal in known}
    best = {name: (not one.refusal, len(one.passed() & given_ids)) for name, one in verdicts.items()}
    assert best[choice.patch.normal] == max(best.values())


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=30))
def test_no_other_form_has_more_votes_than_the_winner(normals: list[str]) -> None:
    choice = vote(candidates(*(patch(normal, normal) if normal else BAD for normal in normals)))
    if choice is None:
        assert not any(normals)
    else:
        assert choice.votes == normals.count(choice.patch.normal) == max(normals.count(form) for form in "abc")
        assert choice.valid == len([normal for normal in normals if normal])
