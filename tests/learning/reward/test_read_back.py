"""A patch is read back from the diff that it was kept as, and only on its own tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import FileChange, Patch, Reason, Rejected
from agentless_mini.edits import Forms, Tree, changed_files, make_patch
from agentless_mini.learning.reward import read_patch
from tests.edits.edit_cases import snapshot

LINES = st.lists(st.sampled_from(["a", "b", "c", " x", "-", "+y", "\\ z", "--- q", "@@ r"]), max_size=12)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_a_patch_of_inference_is_read_back(old: list[str], new: list[str], is_open: bool, was_open: bool) -> None:
    before, after = (
        "\n".join(lines) + ("" if is_bare else "\n") for lines, is_bare in ((old, was_open), (new, is_open))
    )
    change = FileChange("t.txt", before.encode(), after.encode(), "100644")
    if before != after:
        tree = Tree.of(snapshot({"t.txt": before.encode()}))
        outcome = read_patch(make_patch([change], Forms()).diff.decode(), tree)
        if isinstance(outcome, Rejected):
            assert outcome.reason is Reason.NO_EFFECT
            assert [line for line in old if line.strip()] == [line for line in new if line.strip()]
        else:
            assert changed_files(outcome, tree.entries) == (change,)


@pytest.mark.parametrize("path", ["caf\u00e9 \u8336.txt", 'a"b.txt', "a c/d e.txt"])
@pytest.mark.parametrize(("before", "after"), [(b"x\n", b"y\n"), (None, b"y\n"), (b"x\n", None), (None, b"")])
def test_a_path_that_git_quotes_is_read_back(path: str, before: bytes | None, after: bytes | None) -> None:
    patch = make_patch([FileChange(path, before, after, "100644")], Forms())
    outcome = read_patch(patch.diff.decode(), Tree.of(snapshot({} if before is None else {path: before})))
    assert isinstance(outcome, Patch), outcome
    assert outcome == patch


@pytest.mark.parametrize(
    ("diff", "reason"),
    [
        ("", Reason.NO_EFFECT),
        ("I would change a.py.", Reason.NO_EFFECT),
        ("diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-y\n+z\n", Reason.NOT_FOUND),
        ("diff --git a/b.py b/b.py\n--- a/b.py\n+++ b/b.py\n@@ -1 +1 @@\n-y\n+z\n", Reason.NOT_FOUND),
        ('diff --git "a/\\q b/\\q\n', Reason.NOT_FOUND),
        ('diff --git "a" "x\n', Reason.NOT_FOUND),
        ('diff --git "a/\\377" "b/\\377"\n', Reason.NOT_FOUND),
        ("diff --git a/a.py b/a.py\n\udc80", Reason.NOT_FOUND),
    ],
)
def test_what_is_no_diff_of_the_tree_is_no_patch(diff: str, reason: Reason) -> None:
    outcome = read_patch(diff, Tree.of(snapshot({"a.py": b"x = 1\n"})))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert "\n" not in outcome.detail


def test_what_is_no_diff_of_the_tree_says_why() -> None:
    diff = "diff --git a/b.py b/b.py\n--- a/b.py\n+++ b/b.py\n@@ -1 +1 @@\n-y\n+z\n"
    outcome = read_patch(diff, Tree.of(snapshot({"a.py": b"x = 1\n"})))
    assert outcome == Rejected(Reason.NOT_FOUND, "the patch is of another tree: b.py is not there")
