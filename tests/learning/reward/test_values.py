"""Rewards worked out by hand. Comments give the arithmetic: the ratio is 2 * matched / (length + length).

The diff of "x = 1" to "x = 2" is `@@ -1 +1 @@`, `-x = 1`, `+x = 2`: 11 + 6 + 6 characters and 2 newlines, 25.
"""

from fractions import Fraction
from itertools import pairwise

import pytest

from agentless_mini.domain import (
    Completion,
    FileChange,
    FileKind,
    Finish,
    Patch,
    Reason,
    Rejected,
    RewardKind,
    SourceFile,
)
from agentless_mini.edits import Tree, changed_files, read_answer
from agentless_mini.learning.reward import COSTS, Oracle, file_diff, format_penalty, reward, shaped
from tests.edits.edit_cases import edit, fenced, read, snapshot

FILES: dict[str, bytes | SourceFile] = {
    "a.py": b"x = 1\n",
    "b.py": b"y = 1\n",
    "f.py": b"def f(x):\n    if x:\n        return 1\n    return 2\n",
    "d.txt": b"same\nsame\n",
    "r.txt": b"x = 1\r\n",
    "l.txt": b"caf\xe9\n",
    "open": b"x = 1",
    "empty": b"",
    "link": SourceFile("link", "120000", FileKind.SYMLINK),
}
TREE = Tree.of(snapshot(FILES))


def change(path: str, after: bytes | None, before: bytes | None = None) -> FileChange:
    file = FILES.get(path)
    return FileChange(path, file if isinstance(file, bytes) else before, after, "100644")


A = change("a.py", b"x = 2\n")
B = change("b.py", b"y = 2\n")
RIGHT = edit("a.py", "x = 1\n", "x = 2\n")
NEAR = edit("a.py", "x = 1\n", "x = 3\n")
OTHER = edit("b.py", "y = 1\n", "y = 2\n")
F = change("f.py", b"def f(x):\n    if not x:\n        return 1\n    return 2\n")
BOTH = change("f.py", b"def f(x):\n    if not x:\n        return 1\n    return 3\n")

PATCHES = [
    ("the oracle itself", fenced(RIGHT), [A], Fraction(1)),
    ("another digit: 24 of 25 match", fenced(NEAR), [A], Fraction(24, 25)),
    # the oracle's 25 characters are the beginning of the 26
    ("a digit more", fenced(edit("a.py", "x = 1\n", "x = 22\n")), [A], Fraction(50, 51)),
    ("a second file that the oracle leaves alone", fenced(RIGHT, OTHER), [A], Fraction(1, 2)),
    ("another digit, and a second file", fenced(NEAR, OTHER), [A], Fraction(12, 25)),
    ("the wrong file: two in the union, each 0", fenced(OTHER), [A], Fraction(0)),
    ("one of the oracle's two files", fenced(RIGHT), [A, B], Fraction(1, 2)),
    ("one of two, with another digit", fenced(NEAR), [A, B], Fraction(12, 25)),
    ("both files", fenced(RIGHT, OTHER), [A, B], Fraction(1)),
    ("both files, the order of edits does not count", fenced(OTHER, RIGHT), [A, B], Fraction(1)),
    ("one of three files", fenced(RIGHT), [A, B, F], Fraction(1, 3)),
    ("one right, one wrong, one missing", fenced(RIGHT, edit("n.py", "", "n = 1\n")), [A, B], Fraction(1, 3)),
    # `@@ -1 +0,0 @@`, `-x = 1` (20): " @@\n-x = 1" and before it "@@ -1 +" match, 10 + 7
    ("the file deleted instead", fenced(edit("a.py", "x = 1\n", "")), [A], Fraction(34, 45)),
    ("a deletion", fenced(edit("a.py", "x = 1\n", "")), [change("a.py", None)], Fraction(1)),
    ("a created file", fenced(edit("n.py", "", "z = 1\n")), [change("n.py", b"z = 1\n")], Fraction(1)),
    # `@@ -0,0 +1 @@`, `+z = 1`: 13 + 1 + 6
    ("a created file, another digit", fenced(edit("n.py", "", "z = 2\n")), [change("n.py", b"z = 1\n")],
     Fraction(19, 20)),
    ("created at another path", fenced(edit("m.py", "", "z = 1\n")), [change("n.py", b"z = 1\n")], Fraction(0)),
    ("an empty file created, as in the oracle", fenced(edit("n.txt", "", "")), [change("n.txt", b"")], Fraction(1)),
    ("something where the oracle creates an empty file", fenced(edit("n.txt", "", "n\n")), [change("n.txt", b"")],
     Fraction(0)),
    # the oracle's diff has a newline and the 27 characters of the note more: 2 * 25 / (25 + 53)
    ("a newline at the end that the oracle takes away", fenced(RIGHT), [change("a.py", b"x = 2")], Fraction(25, 39)),
    ("the missing newline kept", fenced(edit("open", "x = 1\n", "x = 2\n")), [change("open", b"x = 2")], Fraction(1)),
    ("an answer in LF to lines in CRLF", fenced(edit("r.txt", "x = 1\n", "x = 2\n")), [change("r.txt", b"x = 2\r\n")],
     Fraction(1)),
    # each line of the change has a character more, the oracle's new one does not: 26 of 27 and 26
    ("CRLF where the oracle has LF", fenced(edit("r.txt", "x = 1\n", "x = 2\n")), [change("r.txt", b"x = 2\n")],
     Fraction(52, 53)),
    ("Latin-1", fenced(edit("l.txt", "caf\u00e9\n", "th\u00e9\n")), [change("l.txt", b"th\xe9\n")], Fraction(1)),
    # `@@ -1 +1 @@`, `-caf\xe9`, `+th\xe9`: 11 + 5 + 4 + 2, all but one
    ("Latin-1, another letter", fenced(edit("l.txt", "caf\u00e9\n", "rh\u00e9\n")), [change("l.txt", b"th\xe9\n")],
     Fraction(21, 22)),
    ("an oracle's file that does not change does not count", fenced(RIGHT), [A, change("b.py", b"y = 1\n")],
     Fraction(1)),
    ("a needless edit beside a good one", fenced(edit("b.py", "y = 1\n", "y = 1\n"), RIGHT), [A], Fraction(1)),
    ("edits that cancel each other beside a good one",
     fenced(OTHER, edit("b.py", "y = 2\n", "y = 1\n"), RIGHT), [A], Fraction(1)),
    ("two edits that meet in one line", fenced(NEAR, edit("a.py", "x = 3\n", "x = 2\n")), [A], Fraction(1)),
    ("drafts in the thinking", f"<think>\n{fenced(OTHER)}</think>\n<solution>\n{fenced(RIGHT)}</solution>", [A],
     Fraction(1)),
    # where the reference's reward and its inference disagree, beside the two among the rejected ones below
    ("two edits in one fence", fenced(edit("f.py", "    if x:\n", "    if not x:\n"),
                                      edit("f.py", "    return 2\n", "    return 3\n")), [BOTH], Fraction(1)),
    ("no fence", RIGHT, [A], Fraction(1)),
    ("a solution that does not end", f"<think></think>\n<solution>\n{fenced(RIGHT)}", [A], Fraction(1)),
    ("a fence without a language", fenced(RIGHT), [A], Fraction(1)),
    ("a fence with another language", fenced(RIGHT, info="diff"), [A], Fraction(1)),
    ("an empty REPLACE", fenced(edit("d.txt", "same\nsame\n", ""), RIGHT), [A, change("d.txt", None)], Fraction(1)),
]  # fmt: skip

REJECTED = [
    ("nothing", "", Reason.NO_EDIT),
    ("prose", "I would change a.py.", Reason.NO_EDIT),
    ("a whole file instead of an edit", "```python\nx = 2\n```", Reason.NO_EDIT),
    ("not closed", fenced(RIGHT.replace(">>>>>>> REPLACE\n", "")), Reason.MALFORMED),
    ("no divider", fenced(RIGHT.replace("=======\n", "")), Reason.MALFORMED),
    ("no path", fenced(RIGHT.removeprefix("### a.py\n")), Reason.MALFORMED),
    ("thinking that does not end", f"<think>\n{fenced(RIGHT)}", Reason.TRUNCATED),
    ("words for code", fenced(edit("a.py", "x = 1\n", "# ... existing code ...\nx = 2\n")), Reason.PLACEHOLDER),
    ("a path outside", fenced(edit("../a.py", "x = 1\n", "x = 2\n")), Reason.BAD_PATH),
    ("a link", fenced(edit("link", "x\n", "y\n")), Reason.NOT_EDITABLE),
    ("lines that the file does not have", fenced(edit("a.py", "x = 0\n", "x = 2\n")), Reason.NOT_FOUND),
    ("other blanks", fenced(edit("f.py", "if x:\n", "if not x:\n")), Reason.NOT_FOUND),
    ("a file that is not there", fenced(edit("c.py", "x = 1\n", "x = 2\n")), Reason.NOT_FOUND),
    ("two places", fenced(edit("d.txt", "same\n", "other\n")), Reason.AMBIGUOUS),
    ("a new file where there is one", fenced(edit("a.py", "", "x = 2\n")), Reason.EXISTS),
    ("no Latin-1", fenced(edit("l.txt", "caf\u00e9\n", "\u8336\n")), Reason.ENCODING),
    ("Python that does not parse", fenced(edit("a.py", "x = 1\n", "x = (2\n")), Reason.SYNTAX),
    ("no change", fenced(edit("a.py", "x = 1\n", "x = 1\n")), Reason.NO_CHANGE),
    ("a comment alone", fenced(edit("a.py", "x = 1\n", "x = 1  # one\n")), Reason.NO_EFFECT),
    ("a change taken back", fenced(RIGHT, edit("a.py", "x = 2\n", "x = 1\n")), Reason.NO_CHANGE),
    # where the reference's reward and its inference disagree
    ("SEARCH that begins within a line", fenced(edit("a.py", "= 1\n", "= 2\n")), Reason.NOT_FOUND),
    ("one good and one bad edit", fenced(RIGHT, edit("b.py", "y = 0\n", "y = 2\n")), Reason.NOT_FOUND),
]

OF_TESTS = {Reason.NO_TEST, Reason.NOT_REPRODUCED, Reason.OTHER_FAULT, Reason.FLAKY, Reason.SURPLUS}


@pytest.mark.parametrize(("answer", "oracle", "expected"), [case[1:] for case in PATCHES], ids=[c[0] for c in PATCHES])
def test_a_patch_has_its_similarity(answer: str, oracle: list[FileChange], expected: Fraction) -> None:
    outcome = read(answer, TREE)
    assert isinstance(outcome, Patch), outcome
    value = reward(outcome, Oracle(oracle), TREE)
    assert value == pytest.approx(float(expected), abs=1e-15)
    assert value == Oracle(oracle).similarity(changed_files(outcome, TREE.entries))
    assert reward(outcome, Oracle(oracle), TREE, RewardKind.DISCRETE) == float(expected == 1)
    assert format_penalty(outcome) == 0.0


@pytest.mark.parametrize(("answer", "reason"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
def test_a_rejected_answer_is_worth_minus_one(answer: str, reason: Reason) -> None:
    outcome = read(answer, TREE)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    kinds = (RewardKind.SIMILARITY, RewardKind.DISCRETE)
    assert {reward(outcome, Oracle([A]), TREE, kind) for kind in kinds} == {-1.0}
    assert format_penalty(outcome) == 1.0


def test_an_answer_cut_off_by_the_token_limit_is_worth_minus_one() -> None:
    outcome = read_answer(Completion(0, fenced(RIGHT), Finish.LENGTH), TREE)
    assert reward(outcome, Oracle([A]), TREE) == -1.0


def test_an_answer_that_the_server_withheld_has_no_reward() -> None:
    outcome = read_answer(Completion(0, fenced(RIGHT), Finish.FILTER), TREE)
    assert reward(outcome, Oracle([A]), TREE) is None
    assert format_penalty(outcome) == 0.0


def test_every_reason_is_an_answers_own_fault_or_has_no_reward() -> None:
    assert COSTS.keys() | OF_TESTS | {Reason.WITHHELD} == {*Reason}
    for reason in Reason:
        assert (reward(Rejected(reason, ""), Oracle([A]), TREE) == -1.0) == (reason in COSTS)


def test_without_a_change_to_compare_with_there_is_no_reward() -> None:
    unchanged = change("b.py", b"y = 1\n")
    assert not Oracle([unchanged])
    for oracle in (Oracle([]), Oracle([unchanged])):
        assert reward(read(fenced(RIGHT), TREE), oracle, TREE) is None
        assert reward(read("", TREE), oracle, TREE) is None
    assert Oracle([]).similarity([]) == 1.0
    assert Oracle([]).similarity([A]) == Oracle([A]).similarity([]) == 0.0


def test_a_deleted_file_and_an_emptied_one_are_alike_but_not_equal() -> None:
    deleted, emptied = change("a.py", None), change("a.py", b"")
    assert Oracle([deleted]).similarity([emptied]) == 1.0
    assert Oracle([deleted]).equality([emptied]) == 0.0


def test_a_diff_is_without_header_and_final_newline() -> None:
    before = b"".join(b"%d\n" % number for number in range(1, 21))
    after = before.replace(b"5\n", b"five\n", 1).replace(b"20\n", b"20")
    assert file_diff(FileChange("a", before, after, "100644")) == (
        "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
        "@@ -17,4 +17,4 @@\n 17\n 18\n 19\n-20\n+20\n\\ No newline at end of file"
    )


def test_a_comparison_is_made_once() -> None:
    asked = []

    def alike(answer: str, oracle: str) -> float:
        asked.append((answer, oracle))
        return 0.5

    oracle = Oracle([A, B], alike)
    assert [oracle.similarity([A]), oracle.similarity([A]), oracle.similarity([B, A])] == [0.25, 0.25, 0.5]
    assert asked == [(file_diff(A), file_diff(A)), (file_diff(B), file_diff(B))]


def test_a_penalty_can_cost_what_one_likes() -> None:
    costs = {Reason.SYNTAX: 0.5}
    assert format_penalty(Rejected(Reason.SYNTAX, ""), costs) == 0.5
    assert format_penalty(Rejected(Reason.NOT_FOUND, ""), costs) == 0.0


def test_shaping_takes_the_attempts_value_and_the_penalty_off() -> None:
    assert shaped(0.75, 0.5, 0.0, 1.0) == 0.25
    assert shaped(-1.0, 0.5, 1.0, 0.25) == -1.75


@pytest.mark.parametrize(("value", "parent"), [(None, 0.5), (0.5, None), (None, None)])
def test_what_has_a_potential_unknown_has_no_shaped_reward(value: float | None, parent: float | None) -> None:
    assert shaped(value, parent, 0.0, 1.0) is None


def test_the_gains_of_the_rounds_add_up_to_the_last_potential_less_the_first() -> None:
    potentials = [0.125, 0.5, 0.25, 1.0]
    gains = [shaped(value, parent, 0.0, 1.0) for parent, value in pairwise(potentials)]
    assert sum(gain for gain in gains if gain is not None) == 0.875


def test_comparisons_that_are_kept_are_those_of_one_file() -> None:
    oracle = Oracle([change("a.py", b"x = 2\n"), change("b.py", b"y = 2\n")])
    one, other = [change("a.py", b"x = 2\n")], [change("b.py", b"x = 2\n")]
    assert oracle.similarity(one) == 0.5
    assert oracle.similarity(other) < 0.5


def test_two_changes_are_as_alike_as_the_given_comparison_says_of_their_diffs() -> None:
    oracle = Oracle([change("a.py", b"x = 3\n")], lambda answer, oracle: 0.125)
    assert oracle.similarity([change("a.py", b"x = 2\n")]) == 0.125
