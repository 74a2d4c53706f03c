"""Answers in unified diffs: what is read of them is what git would apply, and each fault has its reason."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from agentless_mini.edits import Forms, Tree, changed_files, make_patch
from agentless_mini.learning.reward import Oracle, apply_diff, read_diff, reward
from tests.edits.edit_cases import git_applied, snapshot
from tests.gitrepo import git

FILES: dict[str, bytes] = {
    "a.py": b"".join(b"v%d = %d\n" % (number, number) for number in range(1, 31)),
    "same.txt": b"x\ny\nz\nx\ny\nz\nx\ny\nz\n",
    "crlf.txt": b"one\r\ntwo\r\nthree\r\n",
    "open.txt": b"one\ntwo",
    "l.txt": b"caf\xe9\n",
    "empty.txt": b"",
    "doc.md": b"So:\n```\nx\n```\n",
}
LINK = SourceFile("link", "120000", FileKind.SYMLINK)
TREE = Tree.of(snapshot({**FILES, "link": LINK}))
HUNK = "@@ -2,3 +2,3 @@\n v2 = 2\n-v3 = 3\n+v3 = 33\n v4 = 4\n"
HEAD = "--- a/a.py\n+++ b/a.py\n"
FENCED = "@@ -1,4 +1,4 @@\n So:\n ```\n-x\n+y\n ```\n"
CHANGED = FILES["a.py"].replace(b"v3 = 3\n", b"v3 = 33\n")


def said(text: str, finish: Finish = Finish.STOP) -> Patch | Rejected:
    return read_diff(Completion(0, text, finish), TREE)


def headed(path: str, hunks: str) -> str:
    return f"--- a/{path}\n+++ b/{path}\n{hunks}"


READ = [
    ("a diff", HEAD + HUNK, {"a.py": CHANGED}),
    ("git's header", f"diff --git a/a.py b/a.py\nindex 1..2 100644\n{HEAD}{HUNK}", {"a.py": CHANGED}),
    ("names without prefixes", f"--- a.py\n+++ a.py\n{HUNK}", {"a.py": CHANGED}),
    ("a fence", f"So:\n```diff\n{HEAD}{HUNK}```\nDone.", {"a.py": CHANGED}),
    ("the solution after thinking", f"<think>\n{HEAD}</think>\n<solution>\n{HEAD}{HUNK}</solution>",
     {"a.py": CHANGED}),
    ("prose around it", f"I change:\n\n{HEAD}{HUNK}\nThat is all.\n", {"a.py": CHANGED}),
    ("lines that stand further down", HEAD + HUNK.replace("-2,3 +2,3", "-9,3 +9,3"), {"a.py": CHANGED}),
    ("two hunks", HEAD + HUNK + "@@ -30 +30,2 @@\n v30 = 30\n+v31 = 31\n", {"a.py": CHANGED + b"v31 = 31\n"}),
    ("an insertion without context", HEAD + "@@ -0,0 +1 @@\n+v0 = 0\n", {"a.py": b"v0 = 0\n" + FILES["a.py"]}),
    ("one at the end", HEAD + "@@ -30,0 +31 @@\n+v31 = 31\n", {"a.py": FILES["a.py"] + b"v31 = 31\n"}),
    ("the place that it states", headed("same.txt", "@@ -4,2 +4,2 @@\n x\n-y\n+Y\n"),
     {"same.txt": b"x\ny\nz\nx\nY\nz\nx\ny\nz\n"}),
    ("CRLF", headed("crlf.txt", "@@ -1,2 +1,3 @@\n one\n-two\n+2\n+2b\n"),
     {"crlf.txt": b"one\r\n2\r\n2b\r\nthree\r\n"}),
    ("no newline, kept", headed("open.txt", "@@ -1,2 +1,2 @@\n-one\n+1\n two\n\\ No newline at end of file\n"),
     {"open.txt": b"1\ntwo"}),
    ("no newline, added", headed("open.txt", "@@ -2 +2 @@\n-two\n\\ No newline at end of file\n+2\n"),
     {"open.txt": b"one\n2\n"}),
    ("no newline, taken away",
     headed("crlf.txt", "@@ -3 +3 @@\n-three\n+3\n\\ No newline at end of file\n"),
     {"crlf.txt": b"one\r\ntwo\r\n3"}),
    ("Latin-1", headed("l.txt", "@@ -1 +1 @@\n-caf\u00e9\n+th\u00e9\n"), {"l.txt": b"th\xe9\n"}),
    ("a new file", "--- /dev/null\n+++ b/n.py\n@@ -0,0 +1 @@\n+n = 1\n", {"n.py": b"n = 1\n"}),
    ("a new empty file", "diff --git a/n.txt b/n.txt\nnew file mode 100644\n", {"n.txt": b""}),
    ("an empty file filled", headed("empty.txt", "@@ -0,0 +1 @@\n+full\n"), {"empty.txt": b"full\n"}),
    ("an empty file deleted", "diff --git a/empty.txt b/empty.txt\ndeleted file mode 100644\n", {"empty.txt": None}),
    ("a deletion", "--- a/l.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-caf\u00e9\n", {"l.txt": None}),
    ("two blocks", f"```diff\n{HEAD}{HUNK}```\nand\n```\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+n\n```\n",
     {"a.py": CHANGED, "n": b"n\n"}),
    ("a fence in the file", f"```diff\n{headed('doc.md', FENCED)}```\n", {"doc.md": b"So:\n```\ny\n```\n"}),
    ("a fence of tildes in a list", f"* so\n  ~~~ diff\n{HEAD}{HUNK}  ~~~\n", {"a.py": CHANGED}),
    ("a fence that is not closed", f"```diff\n{HEAD}{HUNK}", {"a.py": CHANGED}),
]  # fmt: skip

REJECTED = [
    ("nothing", "", Reason.NO_EDIT),
    ("prose", "I would change --- well, a.py.", Reason.NO_EDIT),
    ("a header alone", HEAD, Reason.MALFORMED),
    ("a hunk alone", HUNK, Reason.NO_EDIT),
    ("thinking that does not end", f"<think>\n{HEAD}{HUNK}", Reason.TRUNCATED),
    ("wrong counts", HEAD + HUNK.replace("-2,3", "-2,4"), Reason.MALFORMED),
    ("numbers without end", HEAD + f"@@ -{'1' * 5000} +1 @@\n-x\n+y\n", Reason.MALFORMED),
    ("lines that are not there", HEAD + HUNK.replace("v2 = 2", "v2 = 0"), Reason.NOT_FOUND),
    ("an insertion after the end", HEAD + "@@ -40,0 +41 @@\n+v = 1\n", Reason.NOT_FOUND),
    ("hunks in the wrong order", HEAD + "@@ -30 +30 @@\n-v30 = 30\n+v30 = 0\n" + HUNK, Reason.NOT_FOUND),
    ("three places, none stated", headed("same.txt", "@@ -2,2 +2,2 @@\n x\n-y\n+Y\n"), Reason.AMBIGUOUS),
    ("a file that is not there", headed("c.py", HUNK), Reason.NOT_FOUND),
    ("one good and one bad file", HEAD + HUNK + headed("l.txt", "@@ -1 +1 @@\n-tea\n+x\n"), Reason.NOT_FOUND),
    ("a file twice", HEAD + HUNK + HEAD + "@@ -30 +30 @@\n-v30 = 30\n+v30 = 0\n", Reason.MALFORMED),
    ("a rename", "diff --git a/a.py b/b.py\nrename from a.py\nrename to b.py\n", Reason.MALFORMED),
    ("a mode", "diff --git a/a.py b/a.py\nold mode 100644\nnew mode 100755\n", Reason.MALFORMED),
    ("binary", "diff --git a/a.py b/a.py\nBinary files a/a.py and b/a.py differ\n", Reason.MALFORMED),
    ("a deletion that leaves lines", "--- a/crlf.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n", Reason.MALFORMED),
    ("an end before the end",
     headed("crlf.txt", "@@ -1,2 +1,2 @@\n-one\n+1\n\\ No newline at end of file\n two\n"), Reason.MALFORMED),
    ("a newline that is there", headed("l.txt", "@@ -1 +1 @@\n-caf\u00e9\n\\ No newline at end of file\n+x\n"),
     Reason.NOT_FOUND),
    ("a new file where there is one", "--- /dev/null\n+++ b/l.txt\n@@ -0,0 +1 @@\n+n\n", Reason.EXISTS),
    ("a path outside", headed("../x", "@@ -1 +1 @@\n-x\n+y\n"), Reason.BAD_PATH),
    ("a link", headed("link", "@@ -1 +1 @@\n-x\n+y\n"), Reason.NOT_EDITABLE),
    ("no Latin-1", headed("l.txt", "@@ -1 +1 @@\n-caf\u00e9\n+\u8336\n"), Reason.ENCODING),
    ("Python that does not parse", HEAD + HUNK.replace("= 33", "= ("), Reason.SYNTAX),
    ("no change", HEAD + HUNK.replace("33", "3"), Reason.NO_CHANGE),
    ("a blank", headed("crlf.txt", "@@ -3 +3 @@\n-three\n+three \n"), Reason.NO_EFFECT),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_a_diff_becomes_a_patch(answer: str, expected: dict[str, bytes | None]) -> None:
    outcome = said(answer)
    assert isinstance(outcome, Patch), outcome
    changes = changed_files(outcome, TREE.entries)
    assert {change.path: change.after for change in changes} == expected
    assert reward(outcome, Oracle(changes), TREE, RewardKind.DIFF) == 1.0


@pytest.mark.parametrize(("answer", "reason"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
def test_what_is_no_diff_of_the_tree_is_worth_minus_one(answer: str, reason: Reason) -> None:
    outcome = said(answer)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert "\n" not in outcome.detail
    assert (
        reward(outcome, Oracle([FileChange("a.py", FILES["a.py"], CHANGED, "100644")]), TREE, RewardKind.DIFF) == -1.0
    )


LONG = "".join(f"{number}\n" for number in range(20_000))


@pytest.mark.parametrize(
    "answer",
    [
        "```a\n" * 200_000,
        "~~~\n~~~~\n" * 100_000,
        headed("long.txt", "@@ -5,0 +6 @@\n+x\n" * 20_000),
        headed("long.txt", "".join(f"@@ -{at},1 +{at},1 @@\n-{at - 1}\n+x\n" for at in range(1, 20_000, 2))),
        headed("long.txt", "".join(f"@@ -1,1 +1,1 @@\n-{at}\n+x\n" for at in range(1, 20_000, 3))),
    ],
    ids=["fences", "fences of two lengths", "insertions at one place", "hunks", "hunks elsewhere"],
)
def test_a_large_answer_is_read_in_seconds(answer: str) -> None:
    tree = Tree.of(snapshot({"long.txt": LONG.encode()}))
    start = time.process_time()
    read_diff(Completion(0, answer, Finish.STOP), tree)
    assert time.process_time() - start < 8


@pytest.mark.parametrize(
    ("finish", "reason"), [(Finish.LENGTH, Reason.TRUNCATED), (Finish.FILTER, Reason.WITHHELD)]
)  # fmt: skip
def test_an_answer_that_did_not_end_is_none(finish: Finish, reason: Reason) -> None:
    outcome = said(HEAD + HUNK, finish)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


LINES = st.lists(st.sampled_from(["a", "b", "c", " x", "-", "+y", "\\ z", "--- q", "@@ r"]), max_size=12)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_a_patch_of_inference_is_read_back(old: list[str], new: list[str], is_open: bool, was_open: bool) -> None:
    before, after = (
        "\n".join(lines) + ("" if is_bare else "\n") for lines, is_bare in ((old, was_open), (new, is_open))
    )
    change = FileChange("t.txt", before.encode(), after.encode(), "100644")
    if before != after and before and after:
        diff = make_patch([change], Forms()).diff.decode()
        tree = Tree.of(snapshot({"t.txt": before.encode()}))
        outcome = apply_diff(diff, tree)
        if isinstance(outcome, Rejected):
            assert outcome.reason is Reason.NO_EFFECT
            assert [line for line in old if line.strip()] == [line for line in new if line.strip()]
        else:
            assert changed_files(outcome, tree.entries) == (change,)


@pytest.mark.parametrize("path", ["caf\u00e9 \u8336.txt", 'a"b.txt', "a c/d e.txt"])
@pytest.mark.parametrize(("before", "after"), [(b"x\n", b"y\n"), (None, b"y\n"), (b"x\n", None), (None, b"")])
def test_a_path_that_git_quotes_is_read_back(path: str, before: bytes | None, after: bytes | None) -> None:
    patch = make_patch([FileChange(path, before, after, "100644")], Forms())
    outcome = apply_diff(patch.diff.decode(), Tree.of(snapshot({} if before is None else {path: before})))
    assert isinstance(outcome, Patch), outcome
    assert outcome == patch


@pytest.mark.parametrize("path", [r"a\b.txt", r"\377.txt", r"\303.txt"])
def test_a_path_that_nobody_quotes_so_is_refused(path: str) -> None:
    outcome = said(headed(path, "@@ -1 +1 @@\n-x\n+y\n"))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.BAD_PATH


@pytest.fixture(name="repository", scope="module")
def make_empty_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    git(folder, "init", "--quiet")
    return folder


PIECES = [
    "--- a/same.txt\n", "+++ b/same.txt\n", "diff --git a/same.txt b/same.txt\n", "@@ -1,3 +1,3 @@\n",
    "@@ -1,2 +1,1 @@\n",
    "@@ -4 +4 @@\n", " x\n", "-y\n", "+Y\n", " z\n", "\\ No newline at end of file\n", "\n", "```\n", "--- /dev/null\n",
    "+++ /dev/null\n", "+++ b/n.txt\n", "@@ -0,0 +1 @@\n", "new file mode 100644\n", "deleted file mode 100644\n",
    "\ud800",
    "rename from a\n", "GIT binary patch\n", '--- "a/\\303"\n', "\r\n", "\x00",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@settings(max_examples=300)
def test_any_text_of_a_diffs_pieces_is_read(repository: Path, text: str) -> None:
    for answer in (text, f"--- a/same.txt\n+++ b/same.txt\n@@ -1,2 +1,2 @@\n x\n-y\n+Y\n{text}"):
        outcome = said(answer)
        if isinstance(outcome, Patch):
            expected = FILES | {change.path: change.after for change in changed_files(outcome, TREE.entries)}
            applied = git_applied(repository, FILES, outcome.diff)
            assert applied == {path: data for path, data in expected.items() if data is not None}
