"""How an answer is read, through the real command: drafts, paths as models write them, and what would break a file."""

from pathlib import Path

import pytest

from tests.chain.workbench import FIX, WRONG, edit
from tests.commands.running import Home, server
from tests.gitrepo import git

HEAD = "def total(prices):\n"
LOOP = "    for price in prices[1:]:\n"
BODY = f"    result = 0\n{LOOP}        result += price\n"
FIXED = "-    for price in prices[1:]:\n+    for price in prices:\n"
NEW_FILE = "<<<<<<< SEARCH\n=======\nfixed = True\n>>>>>>> REPLACE\n"


def repaired(home: Home, answer: str, *more: str) -> tuple[int, str, str]:
    with server(answer) as endpoint:
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "1", *more)
    return done.returncode, done.stdout, " ".join(done.stderr.split())


def changed_lines(patch: str) -> str:
    """Return the removed and added lines of a patch of `shop/cart.py` alone."""
    lines = patch.splitlines(keepends=True)
    assert [line for line in lines if line.startswith("diff ")] == ["diff --git a/shop/cart.py b/shop/cart.py\n"]
    return "".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))


def test_a_draft_in_kimis_thinking_is_no_edit(home: Home) -> None:
    code, patch, told = repaired(home, f"I could start at one.\n{WRONG}No, the slice is wrong.◁/think▷{FIX}")
    assert (code, changed_lines(patch)) == (0, FIXED), told


def test_a_block_that_is_repeated_word_for_word_is_applied_once(home: Home) -> None:
    insertion = edit("    result = 0\n", "    result = 0\n    prices = list(prices)\n")
    code, patch, told = repaired(home, f"{insertion}In full:\n{insertion}")
    assert (code, changed_lines(patch)) == (0, "+    prices = list(prices)\n"), told


@pytest.mark.parametrize("path", ["shop\\cart.py", "/testbed/shop/cart.py"])
def test_a_path_as_windows_or_a_container_has_it_is_the_file(home: Home, path: str) -> None:
    code, patch, told = repaired(home, edit(LOOP, LOOP.replace("[1:]", ""), path))
    assert (code, changed_lines(patch)) == (0, FIXED), told


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (f"### Step 1: fix the loop\n{NEW_FILE}", "bad-path"),
        (edit(LOOP, f"    for price in prices:\n=======\n{LOOP}"), "malformed"),
        (edit(f"{HEAD}{BODY}", f"{HEAD}    # ... existing code ...\n"), "placeholder"),
    ],
    ids=["a heading as a path", "a stray divider", "an elision"],
)
def test_what_would_break_a_file_is_no_patch_and_told_with_its_reason(home: Home, answer: str, reason: str) -> None:
    code, patch, told = repaired(home, answer, "--apply")
    assert (code, patch) == (1, ""), told
    assert f"{reason} 1" in told
    assert reason in home.amini("show", "1").stdout
    assert git(home.repository, "status", "--porcelain") == b""


def test_marks_of_ones_own_tell_a_draft_from_the_answer(home: Home, tmp_path: Path) -> None:
    answer = f"{WRONG}%% that was a draft %%\n{FIX}"
    _, patch, _ = repaired(home, answer)
    assert changed_lines(patch) != FIXED
    code, patch, told = repaired(home, answer, "--think-end", "%% that was a draft %%")
    assert (code, changed_lines(patch)) == (0, FIXED), told
    code, patch, told = repaired(home, answer, "--answer-start", "%% that was a draft %%")
    assert (code, changed_lines(patch)) == (0, FIXED), told
