"""Rollouts -> rewards: the reader of inference, each kind of reward, and what nobody can tell."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentless_mini.domain import Patch
from agentless_mini.learning.rewarding import Answer, Rewarding, read_rollout, read_row, reasons, row_text
from agentless_mini.learning.rows import Row
from agentless_mini.reward import Kind
from tests.learning import tiny

ROW = replace(tiny.rows(1)[0], parents=(tiny.wrong_patch(tiny.rows(1)[0]),))
RIGHT = ROW.answer()
WRONG = RIGHT.replace("number * 2", "number * 20")


def read(text: str, row: Row = ROW) -> Answer:
    return read_rollout(row, text, ended=True)


def value(kind: Kind, text: str, weight: float = 1.0) -> float | None:
    return Rewarding(kind, weight=weight).values([read(text)])[0]


def test_a_row_is_carried_whole() -> None:
    assert read_row(row_text(ROW)) == ROW


def test_similarity_and_equality() -> None:
    assert value(Kind.SIMILARITY, RIGHT) == 1
    assert 0 < (value(Kind.SIMILARITY, WRONG) or 0) < 1
    assert (value(Kind.DISCRETE, RIGHT), value(Kind.DISCRETE, WRONG)) == (1, 0)
    assert value(Kind.SIMILARITY, "nothing") == value(Kind.DISCRETE, "nothing") == -1


def test_what_was_cut_off_is_malformed() -> None:
    assert Rewarding(Kind.SIMILARITY).values([read_rollout(ROW, RIGHT, ended=False)]) == [-1]


def test_a_shaped_reward_is_the_gain_over_the_earlier_patch_less_the_penalty() -> None:
    shaping = Rewarding(Kind.SHAPED, weight=0.5)
    parent = shaping.parent_value(ROW)
    assert parent is not None
    assert 0 < parent < 1
    assert shaping.values([read(RIGHT), read("nothing")]) == pytest.approx([1 - parent, -parent - 0.5])


def test_a_row_without_parents_has_no_shaped_reward() -> None:
    bare = replace(ROW, parents=())
    assert Rewarding(Kind.SHAPED).values([read(RIGHT, bare)]) == [None]


def test_checks_are_asked_once_for_equal_patches_and_may_not_tell() -> None:
    asked: list[Patch] = []

    def checking(wanted: Sequence[tuple[Row, Patch]]) -> list[float | None]:
        asked.extend(patch for _, patch in wanted)
        return [1.0, None][: len(wanted)]

    values = Rewarding(Kind.TESTS, checking).values([read(RIGHT), read("nothing"), read(WRONG), read(RIGHT)])
    assert values == [1.0, -1.0, None, 1.0]
    assert len(asked) == 2


def test_without_a_sandbox_a_patch_has_no_reward_by_tests() -> None:
    assert Rewarding(Kind.TESTS).values([read(RIGHT)]) == [None]


def test_reasons_are_counted() -> None:
    assert reasons([read(RIGHT), read("nothing"), read("")]) == {"patch": 1, "no-edit": 2}
