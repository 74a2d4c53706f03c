"""Whatever a model says: no exception, no path outside the repository, and every patch that comes of it applies.

Answers are mutations of valid ones, drawn with a fixed seed, and what hypothesis makes of the format's own pieces.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import FileKind, Matching, Patch, Rejected, SourceFile
from agentless_mini.edits import Tree, changed_files
from tests.edits.edit_cases import edit, fenced, git_applied, read, snapshot

log = logging.getLogger(__name__)

FILES = {
    "a.py": b"import os\n\n\ndef f(x):\n    return x + 1\n\n\ndef g(x):\n    return x + 2\n",
    "docs/b.txt": b"one\r\ntwo\r\nthree\nfour",
    "docs/c d.md": b"\xef\xbb\xbf# Title\n\n```\ncode\n```\n",
    "l.txt": b"caf\xe9\nth\xe9\n",
    "empty": b"",
    "h.rst": b"Title\n=======\n\nText\n=======\n",
}
TREE = Tree.of(snapshot({**FILES, "link": SourceFile("link", "120000", FileKind.SYMLINK)}, "build/", "secret.env"))
EDITS = [
    edit("a.py", "    return x + 1\n", "    return x - 1\n"),
    edit("a.py", "\n\ndef g(x):\n    return x + 2\n", ""),
    edit("docs/b.txt", "two\nthree\n", "2\nthree\n3\n"),
    edit("docs/b.txt", "four\n", "four\nfive\n"),
    edit("docs/c d.md", "```\ncode\n```\n", "~~~\ncode\n~~~\n"),
    edit("l.txt", "th\u00e9\n", "th\u00e9 vert\n"),
    edit("empty", "", "full\n"),
    edit("h.rst", "Title\n=======\n", "Name\n=======\n"),
    edit("new/file.py", "", "x = 1\n"),
    edit("new/empty.txt", "", ""),
]
PIECES = [
    "```\n", "~~~\n", "### a.py\n", "### new.txt\n", "### ../out\n", "### /etc/x\n", "### .git/hooks/x\n",
    "### link/x\n", "### build/x\n", "### secret.env\n", "<<<<<<< SEARCH\n", "=======\n", ">>>>>>> REPLACE\n",
    "<think>", "</think>", "<solution>", "</solution>\n", "\\ No newline at end of file\n", "import os\n",
    "    return x + 1\n", "\n", "\r\n", "\r", "\t", " ", "\x00", "\u2028", "\ufeff", "\ud800", "x", "<", "=",
    ">", "`", "\\", "<<<<<<<< SEARCH\n", "########\n", "{{ x }}", "${HOME}", "\x1b[31m",
]  # fmt: skip


def judge(repository: Path, answer: str, matching: Matching) -> str:
    """Read the answer; check what has come of it; return a word for the statistics."""
    outcome = read(answer, TREE, matching)
    if isinstance(outcome, Rejected):
        assert outcome.detail
        assert "\n" not in outcome.detail
        return outcome.reason.value
    check_paths(outcome)
    expected = FILES | {change.path: change.after for change in changed_files(outcome, TREE.entries)}
    applied = git_applied(repository, FILES, outcome.diff)
    assert applied == {path: data for path, data in expected.items() if data is not None}
    return "patch"


def check_paths(patch: Patch) -> None:
    for path in patch.paths:
        parts = PurePosixPath(path).parts
        assert not {"..", ".", "/"} & {*parts}
        assert parts[0].casefold() not in {".git", "link", "build", "secret.env"}


Lines = list[str]


MUTATIONS: dict[str, Callable[[Lines, int, int, str], Lines]] = {
    "removed": lambda lines, start, stop, piece: lines[:start] + lines[stop:],
    "repeated": lambda lines, start, stop, piece: lines[:stop] + lines[start:],
    "cut off": lambda lines, start, stop, piece: lines[:stop],
    "moved": lambda lines, start, stop, piece: [
        *lines[:start], *lines[start + 1 : stop], lines[start], *lines[stop:]],
    "inserted": lambda lines, start, stop, piece: [*lines[:start], piece, *lines[start:]],
    "broken up": lambda lines, start, stop, piece: [
        *lines[:start], lines[start][: len(lines[start]) // 2] + piece + lines[start][len(lines[start]) // 2 :],
        *lines[start + 1 :]],
    "indented": lambda lines, start, stop, piece: [
        *lines[:start], *("  " + line for line in lines[start:stop]), *lines[stop:]],
    "trimmed": lambda lines, start, stop, piece: [
        *lines[:start], *(line.strip() + "\n" for line in lines[start:stop]), *lines[stop:]],
    "with returns": lambda lines, start, stop, piece: [
        *lines[:start], *(line.replace("\n", "\r\n") for line in lines[start:stop]), *lines[stop:]],
    "wrapped": lambda lines, start, stop, piece: [
        *lines[:start], "<think>\n", *lines[start:stop], "</think>\n", *lines[stop:]],
}  # fmt: skip


def fuzzed(dice: random.Random) -> str:
    """Return a valid answer of some edits, mutated a few times."""
    answer = fenced(*dice.sample(EDITS, dice.randint(1, 4)), fence=dice.choice(["```", "~~~~"]))
    lines = f"It is so.\n{answer}".splitlines(keepends=True)
    for _ in range(dice.choice([0, 1, 1, 1, 2, 3, 6])):
        if lines:
            start = dice.randrange(len(lines))
            stop = min(len(lines), start + dice.randint(1, 4))
            lines = dice.choice([*MUTATIONS.values()])(lines, start, stop, dice.choice(PIECES))
    return "".join(lines)


def run(repository: Path, count: int) -> Counter[str]:
    dice = random.Random(20_250_218)  # noqa: S311 - drawn again alike, not for secrets
    return Counter(judge(repository, fuzzed(dice), dice.choice([*Matching])) for _ in range(count))


def test_200_mutated_answers_become_patches_that_apply_or_reasons(repository: Path) -> None:
    outcomes = run(repository, 200)
    assert outcomes["patch"] > 40
    assert {"search-not-found", "malformed", "syntax-error"} <= outcomes.keys()


@pytest.mark.thorough
def test_10000_mutated_answers_become_patches_that_apply_or_reasons(repository: Path) -> None:
    outcomes = run(repository, 10_000)
    log.info("10,000 answers: %s", dict(outcomes.most_common()))
    assert outcomes["patch"] > 2_000


@given(st.lists(st.sampled_from(PIECES + EDITS), max_size=25).map("".join), st.sampled_from(Matching))
def test_any_text_of_the_formats_pieces_is_read(repository: Path, text: str, matching: Matching) -> None:
    judge(repository, text, matching)
    judge(repository, f"```\n### docs/b.txt\n<<<<<<< SEARCH\n{text}=======\n{text}>>>>>>> REPLACE\n", matching)
    judge(repository, f"```\n### n.txt\n<<<<<<< SEARCH\n=======\n{text}\n>>>>>>> REPLACE\n", matching)


@given(st.text(), st.sampled_from(Matching))
def test_any_text_is_read(repository: Path, text: str, matching: Matching) -> None:
    judge(repository, text, matching)
    judge(repository, fenced(edit(text.replace("\n", " ") or "n", "", "x\n")), matching)
