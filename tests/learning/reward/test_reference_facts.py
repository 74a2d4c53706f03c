"""What the tests of SWE-RL's own reward state, each fact on examples of our own.

The reference wants `<think>` and `<solution>` once each, and one edit in a fence; answers here keep to that, so the
facts hold for both. No fact of those tests is contradicted here.
"""

import pytest

from agentless_mini.domain import FileChange, Rejected
from agentless_mini.edits import Tree
from agentless_mini.learning.reward import Oracle, reward
from tests.edits.edit_cases import after, edit, fenced, read, snapshot

SHAPES = b"def area(w, h):\n    return w * h\n\ndef edge(w, h):\n    return 2 * (w + h)"
WORDS = b"def longest(words):\n    return max(words, key=len)"
FILES = {"shapes.py": SHAPES, "words.py": WORDS}
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
