"""A patch as a commit on a new branch: exact bytes, and nothing else of the repository changes."""

import stat
from pathlib import Path

import pytest

from agentless_mini.domain import Issue
from agentless_mini.errors import AminiError, EnvironmentFailed, RepositoryError, UsageError
from agentless_mini.repository.branches import commit_message, has_changes, plan_branch
from tests.gitrepo import commit_all, git, make_repository, write_files
from tests.repository.reading import changing, everything_below

FILES = {"src/a.py": b"a = 1\r\nb = 2  \r\n", "tool": b"#!/bin/sh\n"}
HEADER = b"diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n"
FIX = HEADER + b"@@ -1,2 +1,2 @@\n-a = 1\r\n+a = 3 \r\n b = 2  \r\n"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = make_repository(tmp_path / "r", FILES)
    (top / "tool").chmod(0o755)
    commit_all(top)
    return top


def head(top: Path) -> str:
    return git(top, "rev-parse", "HEAD").decode().strip()


def commit(top: Path, name: str = "fix", diff: bytes = FIX, message: str = "m\n", where: str = ".") -> str:
    return plan_branch(str(top / where), name, "HEAD").commit(head(top), diff, message)


def trap(top: Path, tmp_path: Path) -> Path:
    """Have the repository run a program, which leaves a mark, wherever git lets it name one."""
    mark, program = tmp_path / "mark", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    (top / ".git" / "info" / "attributes").write_text("*.py text eol=lf filter=x\n")
    for key in ("filter.x.clean", "filter.x.smudge", "gpg.program", "core.fsmonitor", "core.editor"):
        git(top, "config", key, str(program))
    for hook in ("pre-commit", "commit-msg", "post-commit", "reference-transaction", "post-index-change"):
        (top / ".git" / "hooks").mkdir(exist_ok=True)
        (top / ".git" / "hooks" / hook).symlink_to(program)
    return mark


def test_the_commit_has_the_exact_bytes_and_nothing_of_the_repository_is_touched_or_run(
    top: Path, tmp_path: Path
) -> None:
    mark = trap(top, tmp_path)
    for key, value in {
        "core.autocrlf": "true",
        "apply.whitespace": "fix",
        "commit.gpgSign": "true",
        "core.splitIndex": "true",
        "core.whitespace": "cr-at-eol,trailing-space",
        "i18n.commitEncoding": "latin-1",
    }.items():
        git(top, "config", key, value)
    write_files(top, {"src/a.py": b"mine = 1\n", "staged": b"staged\n"})
    git(top, "-c", "filter.x.clean=cat", "-c", "core.hooksPath=/dev/null", "add", "staged")
    before = everything_below(top)
    mark.unlink(missing_ok=True)  # the test's own git may have run it
    made = commit(top, message="Grüße\n")
    after = everything_below(top)
    assert not mark.exists()
    assert git(top, "show", "--no-textconv", "fix:src/a.py") == b"a = 3 \r\nb = 2  \r\n"
    assert git(top, "ls-tree", "fix", "tool").startswith(b"100755 ")
    assert git(top, "diff", "--name-only", "HEAD", "fix") == b"src/a.py\n"
    assert git(top, "rev-parse", "fix^", "fix").decode().split() == [head(top), made]
    assert "Grüße".encode() in git(top, "cat-file", "commit", "fix")
    assert b"gpgsig" not in git(top, "cat-file", "commit", "fix")
    new = {str(name) for name in after.keys() - before.keys()}
    assert {name for name in new if ".git/objects/" not in name and not name.endswith("refs/heads/fix")} == set()
    assert {name: after[name] for name, found in before.items() if not stat.S_ISDIR(found[0])} == {
        name: found for name, found in before.items() if not stat.S_ISDIR(found[0])
    }


@pytest.mark.parametrize("where", [".", "src", ".git"])
def test_the_whole_tree_counts_even_where_a_folder_inside_it_is_named(top: Path, where: str) -> None:
    commit(top, where=where)
    assert git(top, "diff", "--name-only", "HEAD", "fix") == b"src/a.py\n"


def test_a_bare_repository_and_a_linked_working_tree_get_a_branch_too(top: Path, tmp_path: Path) -> None:
    git(top, "clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    git(top, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    for folder in (tmp_path / "bare.git", tmp_path / "linked"):
        commit(folder)
        assert git(folder, "diff", "--name-only", "HEAD", "fix") == b"src/a.py\n"
    assert git(top, "log", "--format=%s", "-1", "fix") == b"m\n"


def test_a_detached_head_is_a_commit_to_start_from(top: Path) -> None:
    git(top, "checkout", "--quiet", "--detach")
    commit(top)
    assert git(top, "rev-parse", "fix^").decode().strip() == head(top)


@pytest.mark.parametrize("name", ["", "-f", "a..b", "a b", "@{-1}", "HEAD", "x.lock", "a\nb"])
def test_what_names_no_branch_is_refused(top: Path, name: str) -> None:
    git(top, "checkout", "--quiet", "-b", "other")
    git(top, "checkout", "--quiet", "main")
    with pytest.raises(UsageError, match="is no name for a branch"):
        plan_branch(str(top), name, "HEAD")


def test_a_branch_that_is_there_is_refused(top: Path) -> None:
    with pytest.raises(UsageError, match="There is a branch main already"):
        plan_branch(str(top), "main", "HEAD")
    git(top, "symbolic-ref", "HEAD", "refs/heads/unborn")
    with pytest.raises(UsageError, match="is checked out"):
        plan_branch(str(top), "unborn", "main")


def test_what_git_could_not_write_is_refused_before_and_nothing_is_left(top: Path) -> None:
    before = everything_below(top)
    with pytest.raises(EnvironmentFailed, match="main/fix cannot be made"):
        plan_branch(str(top), "main/fix", "HEAD")
    assert everything_below(top) == before


def test_a_branch_that_comes_to_be_meanwhile_is_left_as_it_is(top: Path) -> None:
    planned = plan_branch(str(top), "fix", "HEAD")
    git(top, "branch", "fix")
    with pytest.raises(RepositoryError, match="cannot be committed to the branch fix"):
        planned.commit(head(top), FIX, "m\n")
    assert git(top, "rev-parse", "fix").decode().strip() == head(top)


def test_a_patch_of_another_tree_is_refused_and_makes_no_branch(top: Path) -> None:
    with pytest.raises(AminiError, match="cannot be committed"):
        commit(top, diff=changing("src/a.py", b"z = 1\n", b"z = 2\n"))
    assert git(top, "branch", "--list", "fix") == b""


def test_a_missing_object_that_a_patch_leaves_alone_is_not_asked_for(top: Path) -> None:
    blob = git(top, "rev-parse", "HEAD:tool").decode().strip()
    (top / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    commit(top)
    assert git(top, "diff-tree", "-r", "--name-only", "HEAD", "fix") == b"src/a.py\n"


def test_the_author_is_the_users_else_amini(top: Path) -> None:
    commit(top, "unknown")
    git(top, "config", "user.name", "Ada")
    git(top, "config", "user.email", "ada@example.org")
    commit(top, "known")
    for name, said in {"unknown": "amini <amini@localhost>", "known": "Ada <ada@example.org>"}.items():
        shown = git(top, "log", "-1", "--format=%an <%ae>%n%cn <%ce>", name).decode()
        assert shown == f"{said}\n" * 2


def test_changes_are_told_from_untracked_files(top: Path) -> None:
    write_files(top, {"new": b"new\n"})
    assert not has_changes(str(top))
    write_files(top, {"tool": b"other\n"})
    assert has_changes(str(top))
    assert not has_changes(str(top / ".git"))


def test_a_message_is_the_issue_with_its_first_line_as_the_subject() -> None:
    issue = Issue("## total() leaves out the first price\n\nSteps:\n\n    total([1])\n")
    assert commit_message(issue, "7 (m)") == (
        "total() leaves out the first price\n\n> Steps:\n>\n>     total([1])\n\nAmini-Run: 7 (m)\n"
    )
    assert commit_message(Issue("one line\n"), "7") == "one line\n\nAmini-Run: 7\n"
    assert commit_message(Issue("w" * 80 + "\n" + "x" * 20_000), "7").startswith("w" * 69 + "...\n\n> xxx")
    assert len(commit_message(Issue("w\n" + "x\n" * 20_000), "7")) < 40_000


def test_a_hostile_issue_is_a_quotation_to_every_tool(top: Path, tmp_path: Path) -> None:
    text = (
        "fix $(touch mark) `touch mark` \x1b]0;x\x07\0 \udcff\n\nFrom: root <root@example.org>\n---\n"
        "diff --git a/evil b/evil\nnew file mode 100644\n--- /dev/null\n+++ b/evil\n@@ -0,0 +1 @@\n+evil\n\n"
        "Signed-off-by: Ada <ada@example.org>\nAmini-Run: 1\n"
    )
    commit(top, message=commit_message(Issue(text), "7 (m\nX-Y: z)"))
    raw = git(top, "cat-file", "commit", "fix")
    assert not {b"\x1b", b"\0", b"\x07"} & {bytes([byte]) for byte in raw}
    trailers = git(top, "log", "-1", "--format=%(trailers)", "fix").decode().strip()
    assert trailers == "Amini-Run: 7 (m?X-Y: z)"
    mail = git(top, "format-patch", "--stdout", "HEAD..fix")
    git(top, "checkout", "--quiet", "-b", "other")
    git(top, "am", "--quiet", "--keep-cr", stdin=mail)
    assert git(top, "diff", "--name-only", "main", "other") == b"src/a.py\n"
    assert not (top / "evil").exists()
