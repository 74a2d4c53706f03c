"""The vote."""

from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import Candidate, Patch, Reason, Rejected
from agentless_mini.ranking import vote


def patch(normal: str, diff: str) -> Patch:
    return Patch((), diff.encode(), normal)


def candidates(*outcomes: Patch | Rejected) -> list[Candidate]:
    return [Candidate("key", number, number, outcome) for number, outcome in enumerate(outcomes)]


BAD = Rejected(Reason.NO_EDIT, "nothing")


def test_the_most_common_normal_form_wins_and_its_earliest_sample_stands_for_it() -> None:
    choice = vote(candidates(patch("a", "a0"), BAD, patch("b", "b0"), patch("b", "b1")))
    assert choice is not None
    assert (choice.patch.diff, choice.votes, choice.valid) == (b"b0", 2, 3)
    assert choice.share == 2 / 3
    assert choice.reason == "2 of 3 valid samples agree on this change"


def test_the_earliest_sample_breaks_a_tie_whatever_the_order_of_the_candidates() -> None:
    tied = candidates(patch("a", "a0"), patch("b", "b0"), patch("b", "b1"), patch("a", "a1"))
    for choice in (vote(tied), vote(tied[::-1])):
        assert choice is not None
        assert choice.patch.diff == b"a0"
        assert "the earliest was taken" in choice.reason


def test_samples_that_all_differ_are_said_to() -> None:
    choice = vote(candidates(patch("a", "a0"), patch("b", "b0")))
    assert choice is not None
    assert (choice.patch.diff, choice.votes, choice.reason) == (
        b"a0", 1, "no two of 2 valid samples agree; the earliest was taken",
    )  # fmt: skip


def test_without_a_valid_candidate_there_is_no_choice() -> None:
    assert vote([]) is None
    assert vote(candidates(BAD, BAD)) is None


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=30))
def test_no_other_form_has_more_votes_than_the_winner(normals: list[str]) -> None:
    choice = vote(candidates(*(patch(normal, normal) if normal else BAD for normal in normals)))
    if choice is None:
        assert not any(normals)
    else:
        assert choice.votes == normals.count(choice.patch.normal) == max(normals.count(form) for form in "abc")
        assert choice.valid == len([normal for normal in normals if normal])
