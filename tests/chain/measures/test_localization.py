"""How much of the true fix's files was found."""

from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.chain.measures import Found, found

paths = st.sampled_from("abcdef")


def test_the_first_list_and_all_lists_are_told_apart() -> None:
    assert found([["a", "x"], ["b"]], ["a", "b"]) == Found(0.5, 1.0)
    told = found([["a", "x"], ["b"]], ["a", "b"])
    assert told is not None
    assert (told.all_in_first, told.all_anywhere) == (False, True)


def test_without_a_list_nothing_is_found_and_without_gold_files_nothing_is_asked() -> None:
    assert found([], ["a"]) == Found(0.0, 0.0)
    assert found([["a"]], []) is None


@given(st.lists(st.lists(paths)), st.sets(paths, min_size=1))
def test_a_recall_is_a_share_and_more_lists_find_no_less(lists: list[list[str]], gold: set[str]) -> None:
    told = found(lists, gold)
    assert told is not None
    assert 0 <= told.first <= told.anywhere <= 1
    assert told.all_in_first <= told.all_anywhere
