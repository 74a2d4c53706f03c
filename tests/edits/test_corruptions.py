"""The judge of loose matching, by cases worked out by hand, and that each way to corrupt an edit does so."""

import random

import pytest

from tests.edits.corruptions import CORRUPTIONS, Copy, Verdict, copy_of, corrupted, is_true, judge, verdict
from tests.learning.reward.answers import sources

LINES = ["import os", "import sys", "", "", "def first(a, b):", "    total = a + b  # both", "    return total", "",
         "def second(name, value, other):", "    print('name', value)", "    return name"]  # fmt: skip
COPY = copy_of("a.py", LINES, (5, 6, ["    total = a - b", "", "    log(total)"]), (1, 1))
HEAD, TAIL = LINES[:5], LINES[6:]


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        ([*HEAD, "    total = a - b", "", "    log(total)", *TAIL], Verdict.RIGHT),
        ([*HEAD, "    total = a - b ", "", "    log(total)\t", *TAIL], Verdict.RIGHT),
        ([*HEAD, "total = a - b", "", "log(total)", *TAIL], Verdict.MORE_BLANKS),
        ([*HEAD, "    total = a - b", "    log(total)", *TAIL], Verdict.MORE_BLANKS),
        ([*LINES[:2], *LINES[4:5], "    total = a - b", "", "    log(total)", *TAIL], Verdict.FEWER_BLANKS),
        ([*HEAD, *LINES[5:6], "    total = a - b", "", "    log(total)", *TAIL], Verdict.PART),
        (LINES, Verdict.WRONG),
        ([*HEAD, "    total = a - b", "", "    log(total)", *TAIL[1:]], Verdict.WRONG),
        ([*HEAD, "    total = a - b", *TAIL], Verdict.WRONG),
        ([*HEAD, "    total = a - b", "", "    log(total)", "    extra()", *TAIL], Verdict.WRONG),
        (["import  os", *HEAD[1:], "    total = a - b", "", "    log(total)", *TAIL], Verdict.WRONG),
        ([*LINES[:4], "    total = a - b", "", "    log(total)", *HEAD[4:], *TAIL], Verdict.WRONG),
    ],
)
def test_the_judge(result: list[str], verdict: Verdict) -> None:
    assert judge(COPY, result) is verdict


@pytest.mark.parametrize("result", [["a", "n", "b", "c"], ["a", "b", "n", "c"]])
def test_either_side_of_a_line_that_was_left_out_is_right(result: list[str]) -> None:
    (kind,) = (kind for kind in CORRUPTIONS if kind.__name__ == "line_left_out")
    true = copy_of("a.txt", ["a", "b", "c"], (2, 2, ["n"]), (2, 1))
    copies = [kind(true, random.Random(seed)) for seed in range(30)]  # noqa: S311 - drawn again alike
    (copy,) = {copy for copy in copies if copy and copy.search == ("a", "c")}
    assert judge(copy, result) is Verdict.RIGHT
    assert judge(copy, ["n", "a", "b", "c"]) is Verdict.WRONG


def edits(dice: random.Random, count: int) -> list[Copy]:
    """Return edits of installed packages: one to three lines removed, replaced by another, or put after another."""
    files = sources()
    found: list[Copy] = []
    while len(found) < count:
        path, text = dice.choice(files)
        lines = text.splitlines()
        start = dice.randrange(len(lines) - 3)
        new = dice.choice([[], [dice.choice(lines)], [lines[start], f"{lines[start]}  # again"]])
        copy = copy_of(path, lines, (start, start + dice.randint(1, 3), new), (dice.randint(0, 4), dice.randint(0, 4)))
        found += [copy] if is_true(copy) else []
    return found


def test_no_corrupted_copy_is_applied_to_a_line_that_was_not_meant() -> None:
    dice = random.Random(20_261_129)  # noqa: S311 - drawn again alike, not for secrets
    copies = [*corrupted(edits(dice, 30), 120, dice)]
    assert len(copies) == 120
    wrong = [(kind.__name__, copy.answer) for kind, copy in copies if verdict(copy) == Verdict.WRONG]
    assert not wrong, wrong[0]
