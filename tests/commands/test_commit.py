"""`amini repair --commit BRANCH`: the patch is on a new branch, and nothing else of the repository has changed."""

from tests.chain.workbench import edit
from tests.commands.running import Home, one_sentence, server
from tests.commands.test_bad_input import NOBODY
from tests.gitrepo import git, write_files

FIXED = b"    for price in prices:\n"


def state(home: Home) -> list[bytes]:
    return [git(home.repository, *words) for words in (("status", "--porcelain=v2", "--branch"), ("stash", "list"))]


def test_the_patch_is_a_commit_on_a_new_branch(home: Home) -> None:
    write_files(home.repository, {"shop/cart.py": b"mine = 1\n", "untracked": b"x\n"})
    git(home.repository, "config", "commit.gpgSign", "true")
    before = state(home)
    with server() as endpoint:
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "5", "--commit", "fix/1")
    assert done.returncode == 0, done.stderr
    assert state(home) == before
    assert FIXED in git(home.repository, "show", "fix/1:shop/cart.py")
    shown = git(home.repository, "diff", "HEAD", "fix/1").decode().splitlines()
    assert [line for line in shown if not line.startswith("index ")] == done.stdout.splitlines()
    said = git(home.repository, "log", "-1", "--format=%B", "fix/1").decode()
    assert said == "The total of a cart leaves out its first price.\n\nAmini-Run: 1 (scripted)\n\n"
    assert "Uncommitted changes are left out" in done.stderr
    commit = git(home.repository, "rev-parse", "fix/1").decode()[:12]
    assert done.stderr.endswith(f"The patch is commit {commit} on the branch fix/1.\n")


def test_another_commit_is_where_the_branch_starts(home: Home) -> None:
    git(home.repository, "tag", "v1")
    write_files(home.repository, {"shop/cart.py": b"mine = 1\n"})
    git(home.repository, "commit", "--quiet", "--all", "--message", "later")
    with server() as endpoint:
        words = ("repair", "shop", "../issue.md", "--base-url", endpoint.url, "-n", "5", "--quiet")
        done = home.amini(*words, "--rev", "v1", "--commit", "fix")
    assert (done.returncode, done.stderr) == (0, "")
    assert git(home.repository, "rev-parse", "fix^") == git(home.repository, "rev-parse", "v1")
    assert FIXED in git(home.repository, "show", "fix:shop/cart.py")


def test_without_a_patch_there_is_no_branch(home: Home) -> None:
    with server(edit("nothing like it\n", "x\n")) as endpoint:
        done = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "2", "--commit", "fix")
    assert (done.returncode, done.stdout) == (1, "")
    assert git(home.repository, "branch", "--list", "fix") == b""


def test_a_branch_below_another_is_refused_before_anything_is_paid(home: Home) -> None:
    done = home.amini("repair", ".", "--commit", "main/fix", "--text", "x", "--base-url", NOBODY)
    assert (done.returncode, done.stdout) == (4, "")
    assert "cannot be made" in one_sentence(done.stderr)
