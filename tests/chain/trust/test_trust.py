"""What a chosen patch has shown: each level by example, and what holds between them for all votes and tests."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.trust import UNTESTED, Trust, trust
from agentless_mini.domain import Case, CaseResult, Choice, Execution, Level, Origin, Outcome, Patch, Verdict

NAMES = {Origin.GIVEN: "mine", Origin.GENERATED: "new", Origin.REGRESSION: "old"}


def executed(mine: str = "", new: str = "", old: str = "", refusal: str = "", normal: str = "n") -> Execution:
    """Return what tests say of the patch: for each test of a kind `+` where it passes, `-` where it does not."""
    cases, results = [], []
    for origin, said in ((Origin.GIVEN, mine), (Origin.GENERATED, new), (Origin.REGRESSION, old)):
        for number, mark in enumerate(said):
            id_ = f"{NAMES[origin]}{number}"
            cases.append(Case(id_, origin, id_))
            results.append(CaseResult(id_, Outcome.PASS if mark == "+" else Outcome.FAIL))
    return Execution(tuple(cases), (), (Verdict(normal, () if refusal else tuple(results), refusal),))


def chosen(votes: int, valid: int) -> Choice:
    return Choice(Patch(b"", "n", ()), votes, valid, "")


def shown(votes: int = 3, valid: int = 4, own: tuple[str, ...] = (), tests: Execution | None = None) -> Trust:
    return trust(chosen(votes, valid), tests, own)


def levels(found: Trust) -> list[Level]:
    return [level for level in Level if found.suffices(level)]


ANY, AGREEMENT, TESTS, GIVEN = Level


def test_over_half_of_the_votes_agree_and_one_vote_never_does() -> None:
    assert levels(shown(3, 4)) == levels(shown(2, 2)) == [ANY, AGREEMENT]
    assert levels(shown(2, 4)) == levels(shown(1, 1)) == [ANY]
    assert shown(2, 4).agreement == "2 of 4 valid samples agree on it"
    assert shown(1, 1).agreement == "1 of 1 valid sample has it"


def test_what_is_suspicious_shows_nothing_by_tests_unless_it_is_allowed() -> None:
    cheat = replace(chosen(3, 4), patch=Patch(b"", "n", (), suspicious=("a.py ends its process",)))
    run = executed(mine="+", new="++", old="++")
    own = tuple(case.id for case in run.cases if case.origin is Origin.GIVEN)
    found = trust(cheat, run, own)
    assert levels(found) == [ANY, AGREEMENT]
    assert found.tests == "its tests show nothing: a.py ends its process (--allow-suspicious takes it)"
    assert levels(trust(cheat, run, own, allows_suspicious=True)) == [ANY, AGREEMENT, TESTS, GIVEN]


@pytest.mark.parametrize(
    ("tests", "lacking"),
    [
        ({"new": "+"}, ""),
        ({"mine": "+", "new": "-+", "old": "++"}, ""),
        ({"old": "++"}, "no test that was run reproduces the issue"),
        ({"mine": "+-", "new": "+++"}, "it passes 1 of 2 given tests"),
        ({"new": "+-"}, "it passes 1 of 2 reproduction tests"),
        ({"new": "+", "old": "+-"}, "it breaks 1 of 2 regression tests"),
        ({"new": "-"}, "it passes none of 1 reproduction test"),
    ],
)
def test_tests_are_most_of_those_that_reproduce_all_given_ones_and_none_broken(
    tests: dict[str, str], lacking: str
) -> None:
    found = shown(1, 4, tests=executed(**tests))
    assert found.tests == lacking
    assert (TESTS in levels(found)) is (not lacking)


def test_given_are_all_tests_of_the_user_whatever_breaks() -> None:
    own = ("mine0", "mine1")
    assert levels(shown(1, 9, own, executed("++", old="+-"))) == [ANY, AGREEMENT, GIVEN]
    assert shown(1, 9, own, executed("+-")).given == "your test mine1 does not pass with it"
    assert shown(tests=executed("+")).given == "no failing test was given"


def test_a_test_of_the_user_that_was_not_run_is_named_with_the_reason() -> None:
    notes = ("Cut.", f"{UNTESTED} No daemon.", "Your test mine1 passes already.")
    found = trust(chosen(3, 4), executed(mine="+"), ("mine0", "mine1"), notes)
    asked = f"your test mine1 shows nothing ({UNTESTED} No daemon. Your test mine1 passes"
    assert found.given.startswith(asked)
    assert trust(chosen(3, 4), None, ("mine0",)).given == "your test mine0 shows nothing"


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (shown(1, 4), ""),
        (shown(1, 5), "no test shows that it repairs the issue, and 1 of 5 valid samples has it"),
        (
            shown(1, 5, tests=executed(old="+")),
            "no test shows that it repairs the issue, and 1 of 5 valid samples has it",
        ),
        (shown(1, 5, tests=executed(new="+-")), ""),
        (shown(4, 4, tests=executed(new="--")), "it passes none of 2 reproduction tests"),
        (shown(4, 4, tests=executed(old="--")), "it passes none of 2 regression tests"),
        (shown(4, 4, tests=executed(old="--", new="+")), ""),
        (shown(4, 4, tests=executed(new="+", refusal="no")), "the tests' boxes refuse it: no"),
    ],
)
def test_what_speaks_against_a_patch_leaves_any_alone(found: Trust, doubt: str) -> None:
    assert found.any == doubt
    assert found.suffices(ANY)
    if doubt:
        assert levels(found) == [ANY]


def test_tests_of_another_patch_say_nothing() -> None:
    found = trust(chosen(3, 4), executed(new="-", normal="m"))
    assert (found.any, found.agreement) == ("", "")


MARKS = st.text("+-", max_size=4)


@given(st.integers(1, 9), st.integers(0, 9), MARKS, MARKS, MARKS)
def test_what_holds_between_the_levels(votes: int, others: int, mine: str, new: str, old: str) -> None:
    own = tuple(f"mine{number}" for number in range(len(mine)))
    found = shown(votes, votes + others, own, executed(mine, new, old))
    reached = set(levels(found))
    assert ANY in reached
    assert AGREEMENT in reached or not reached & {TESTS, GIVEN}
    assert not shown(votes, votes + others, (), executed(mine, new, old)).any or reached == {ANY}
    assert (GIVEN in reached) is (bool(mine) and "-" not in mine)
    assert GIVEN in reached or not own or found.any
    better = shown(votes, votes + others, own, executed(mine, new + "+", old))
    assert reached <= set(levels(better))
    worse = shown(votes, votes + others, own, executed(mine, new, old + "-"))
    assert set(levels(worse)) <= reached
