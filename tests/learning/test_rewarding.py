"""Rollouts -> rewards: the reader of inference, each kind of reward, and what nobody can tell."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agentless_mini.domain import Patch, RewardKind
from agentless_mini.learning.reward import read_patch
from agentless_mini.learning.rewarding import Answer, Rewarding, read_rollout, read_row, reasons, row_text
from agentless_mini.learning.rows import Row
from agentless_mini.settings.learning import Comparison
from tests.learning import tiny

ROW = replace(tiny.rows(1)[0], parents=(tiny.wrong_patch(tiny.rows(1)[0]),))
RIGHT = ROW.answer()
PARENT = read_patch(ROW.parents[0], ROW.tree())
WRONG = RIGHT.replace("number * 2", "number * 20")


def read(text: str, row: Row = ROW) -> Answer:
    return read_rollout(row, text, ended=True)


def value(kind: RewardKind, text: str, weight: float = 1.0) -> float | None:
    return Rewarding(kind, weight=weight).values([read(text)])[0]


def test_a_row_is_carried_whole() -> None:
    assert read_row(row_text(ROW)) == ROW


def test_similarity_and_equality() -> None:
    assert value(RewardKind.SIMILARITY, RIGHT) == 1
    assert 0 < (value(RewardKind.SIMILARITY, WRONG) or 0) < 1
    assert (value(RewardKind.DISCRETE, RIGHT), value(RewardKind.DISCRETE, WRONG)) == (1, 0)
    assert value(RewardKind.SIMILARITY, "nothing") == value(RewardKind.DISCRETE, "nothing") == -1


def test_what_was_cut_off_is_malformed() -> None:
    assert Rewarding(RewardKind.SIMILARITY).values([read_rollout(ROW, RIGHT, ended=False)]) == [-1]


def test_a_shaped_reward_is_the_gain_over_the_earlier_patch_less_the_penalty() -> None:
    (parent,) = Rewarding(RewardKind.SIMILARITY).values([replace(read(RIGHT), outcome=PARENT)])
    assert parent is not None
    assert 0 < parent < 1
    rewards = Rewarding(RewardKind.SHAPED, weight=0.5).values([read(RIGHT), read("nothing")])
    assert rewards == pytest.approx([1 - parent, -parent - 0.5])


class Measuring:
    """A potential that notes what it is asked: each patch is worth what `worth` says of its diff."""

    def __init__(self, worth: Callable[[bytes], float | None]) -> None:
        self.worth = worth
        self.asked: list[list[str]] = []

    def __call__(self, asked: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        self.asked.append([patch.normal for _, patch in asked])
        return [self.worth(patch.diff) for _, patch in asked]


def test_any_potential_is_asked_once_for_the_distinct_patches_of_a_batch_and_once_for_a_parent() -> None:
    measure = Measuring(lambda diff: 0.25 if b"70 + number" in diff else 0.75)
    shaping = Rewarding(RewardKind.SHAPED, measure, weight=0.5)
    batch = [read(RIGHT), read("nothing"), read(WRONG), read(RIGHT)]
    assert shaping.values(batch) == [0.5, -0.75, 0.5, 0.5]
    assert [len(asked) for asked in measure.asked] == [3]
    assert shaping.values(batch) == [0.5, -0.75, 0.5, 0.5]
    assert [len(asked) for asked in measure.asked] == [3, 2]
    assert isinstance(PARENT, Patch)
    assert PARENT.normal not in measure.asked[1]


def test_what_a_potential_cannot_tell_has_no_shaped_reward_and_is_asked_again() -> None:
    told: list[float | None] = [0.5, None, 0.5, 0.25, 0.5]
    measure = Measuring(lambda diff: told.pop(0))
    shaping = Rewarding(RewardKind.SHAPED, measure)
    assert shaping.values([read(RIGHT)]) == [None]  # its parent was lost
    assert shaping.values([read(RIGHT)]) == [0.25]
    assert shaping.values([read(RIGHT)]) == [0.25]
    assert [len(asked) for asked in measure.asked] == [2, 2, 1]


def test_a_lost_answer_is_no_bad_one() -> None:
    measure = Measuring(lambda diff: 0.5 if b"70 + number" in diff else None)
    assert Rewarding(RewardKind.SHAPED, measure).values([read(RIGHT), read("nothing")]) == [None, -1.5]


def test_parents_that_are_no_patch_are_worth_nothing() -> None:
    row = replace(ROW, parents=("no diff",))
    measure = Measuring(lambda diff: 0.5)
    assert Rewarding(RewardKind.SHAPED, measure).values([read(RIGHT, row), read("nothing", row)]) == [0.5, -1.0]
    assert [len(asked) for asked in measure.asked] == [1]


def test_where_no_answer_is_a_patch_and_the_parents_are_known_nothing_is_asked() -> None:
    measure = Measuring(lambda diff: 0.5)
    shaping = Rewarding(RewardKind.SHAPED, measure)
    assert shaping.values([read("nothing")]) == shaping.values([read("nothing")]) == [-1.5]
    assert [len(asked) for asked in measure.asked] == [1]


def test_each_rollout_is_compared_with_a_parent_of_its_own_where_that_is_asked() -> None:
    second = tiny.wrong_patch(tiny.rows(1)[0]).replace("70 + number", "80 + number")
    row = replace(ROW, parents=(*ROW.parents, second))
    worth = {b"70 + number": 0.25, b"80 + number": 0.5}
    for compared, gains in ((Comparison.ROW, 1), (Comparison.ROLLOUT, 2)):
        measure = Measuring(lambda diff: next((value for line, value in worth.items() if line in diff), 1.0))
        values = Rewarding(RewardKind.SHAPED, measure, compared=compared).values([read(RIGHT, row)] * 20)
        assert set(values) <= {0.75, 0.5}
        assert len(set(values)) == gains


def test_a_row_without_parents_has_no_shaped_reward() -> None:
    bare = replace(ROW, parents=())
    assert Rewarding(RewardKind.SHAPED).values([read(RIGHT, bare)]) == [None]


def test_checks_are_asked_once_for_equal_patches_and_may_not_tell() -> None:
    asked: list[Patch] = []

    def checking(wanted: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        asked.extend(patch for _, patch in wanted)
        return [1.0, None][: len(wanted)]

    values = Rewarding(RewardKind.TESTS, checking).values([read(RIGHT), read("nothing"), read(WRONG), read(RIGHT)])
    assert values == [1.0, -1.0, None, 1.0]
    assert len(asked) == 2


def test_rows_of_two_sets_may_have_one_id() -> None:
    other = replace(ROW, check="another")
    values = Rewarding(RewardKind.TESTS, lambda asked: [float(row == ROW) for row, _ in asked])
    assert values.values([read(RIGHT), read(RIGHT, other)]) == [1.0, 0.0]


def test_without_a_sandbox_a_patch_has_no_reward_by_tests() -> None:
    assert Rewarding(RewardKind.TESTS).values([read(RIGHT)]) == [None]


def test_reasons_are_counted() -> None:
    assert reasons([read(RIGHT), read("nothing"), read("")]) == {"patch": 1, "no-edit": 2}
