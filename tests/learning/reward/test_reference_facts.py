"""What the tests of SWE-RL's own reward state, each fact on examples of our own.

The reference wants `<think>` and `<solution>` once each, and one edit in a fence; answers here keep to that, so the
facts hold for both. No fact of those tests is contradicted here.
"""

import pytest

from agentless_mini.domain import Completion, FileChange, Finish, Patch, Rejected, RewardKind
from agentless_mini.edits import Tree
from agentless_mini.learning.reward import Oracle, read_diff, reward
from tests.edits.edit_cases import after, edit, fenced, read, snapshot

SHAPES = b"def area(w, h):\n    return w * h\n\ndef edge(w, h):\n    return 2 * (w + h)"
WORDS = b"def longest(words):\n    return max(words, key=len)"
POEM = b"Roses are red\nviolets are blue\nsugar is sweet\n"
SONG = b"Row your boat\nviolets are blue\nsugar is sweet\n"
FILES = {"shapes.py": SHAPES, "words.py": WORDS, "poem.txt": POEM, "song.txt": SONG}
TREE = Tree.of(snapshot(FILES))

AREA = edit("shapes.py", "def area(w, h):\n", "def area(w: int, h: int) -> int:\n")
EDGE = edit("shapes.py", "def edge(w, h):\n", "def edge(w: float, h: float) -> float:\n")
LONGEST = edit("words.py", "def longest(words):\n", "def longest(words: list[str]) -> str:\n")
CREATED = edit("notes.py", "\n", "# to do\n")
CREATED_AGAIN = edit("notes.py", "# to do\n", "DONE = True\n")


def change(path: str, old: bytes, new: bytes) -> FileChange:
    before = FILES[path]
    return FileChange(path, before, before.replace(old, new), "100644")


TYPED_SHAPES = FileChange(
    "shapes.py",
    SHAPES,
    SHAPES.replace(b"area(w, h):", b"area(w: int, h: int) -> int:").replace(
        b"edge(w, h):", b"edge(w: float, h: float) -> float:"
    ),
    "100644",
)
TYPED_WORDS = change("words.py", b"longest(words):", b"longest(words: list[str]) -> str:")
ORACLE = Oracle([TYPED_SHAPES, TYPED_WORDS])


def answer(*blocks: str) -> str:
    return f"<think>\nTypes are missing.\n</think>\n<solution>\n{chr(10).join(blocks)}</solution>\n"


def value(text: str) -> float | None:
    return reward(read(text, TREE), ORACLE, TREE)


def test_edits_of_several_files_with_and_without_a_language_that_make_the_oracle_are_worth_one() -> None:
    assert value(answer(fenced(AREA), fenced(EDGE, info="python"), fenced(LONGEST, info="python"))) == 1.0


def test_what_is_thought_is_no_part_of_the_answer() -> None:
    assert value(f"<think>\n{fenced(LONGEST)}</think>\n<solution>\n{fenced(AREA)}\n{fenced(EDGE)}</solution>") == 0.5


def test_a_new_file_alone_that_the_oracle_lacks_is_worth_nothing_and_is_a_patch() -> None:
    assert after(answer(fenced(CREATED)), FILES) == {"notes.py": b"# to do\n"}
    assert value(answer(fenced(CREATED))) == 0.0


def test_a_new_file_that_is_edited_again_counts_once_beside_the_right_and_the_missing_one() -> None:
    said = answer(fenced(CREATED), fenced(CREATED_AGAIN), fenced(LONGEST))
    assert after(said, FILES) == {"notes.py": b"DONE = True\n", "words.py": TYPED_WORDS.after}
    assert value(said) == 1 / 3


def test_a_search_of_blank_lines_fills_an_empty_file() -> None:
    assert after(answer(fenced(edit("empty.txt", "\n", "full\n"))), {"empty.txt": b""}) == {"empty.txt": b"full\n"}


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nTypes are missing.\n</think>\n<solution>\n",
        answer(fenced(AREA.replace(">>>>>>> REPLACE\n", ""))),
    ],
    ids=["a solution that does not end", "an edit that does not end"],
)
def test_what_cannot_be_read_is_worth_minus_one(text: str) -> None:
    assert isinstance(read(text, TREE), Rejected)
    assert value(text) == -1.0


# --- unified diffs -------------------------------------------------------------------------------------------------

RIGHT = "diff --git a/poem.txt b/poem.txt\n--- a/poem.txt\n+++ b/poem.txt\n@@ -1,3 +1,3 @@\n-Roses are red\n" \
        "+Roses are Red\n violets are blue\n-sugar is sweet\n+sugar is very sweet\n"  # fmt: skip
NEAR = RIGHT.replace("very sweet", "very")
OTHER = NEAR.replace("poem", "song").replace("Roses are", "Row your").replace("red", "boat").replace("Red", "Boat")
POEMS_ORACLE = Oracle([change("poem.txt", POEM, b"Roses are Red\nviolets are blue\nsugar is very sweet\n")])


@pytest.mark.parametrize(
    ("diffs", "least", "most"),
    [
        ([RIGHT], 1.0, 1.0),
        ([NEAR], 0.9, 0.999),
        ([OTHER], 0.0, 0.0),
        ([RIGHT, OTHER], 0.5, 0.5),
    ],
    ids=["the same", "nearly the same", "of another file", "the same and one of another file"],
)
def test_a_unified_diff_is_worth_what_it_shares_with_the_oracle(diffs: list[str], least: float, most: float) -> None:
    outcome = read_diff(Completion(0, "".join(diffs), Finish.STOP), TREE)
    assert isinstance(outcome, Patch), outcome
    value = reward(outcome, POEMS_ORACLE, TREE, RewardKind.DIFF)
    assert value is not None
    assert least <= value <= most
