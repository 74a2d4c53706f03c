"""`amini choose` as a user runs it: patches of other tools, without a model and with one."""

import asyncio
import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from agentless_mini.domain import Event, Patch, Proposal, Stage, StageStarted
from agentless_mini.record import Store
from agentless_mini.repository.opening import open_repository
from agentless_mini.repository.patches import read_pool
from tests.commands.running import FILES, Home, one_sentence, server
from tests.gitrepo import commit_all, git, make_repository, write_files

CART = FILES["shop/cart.py"]
FIXED = CART.replace(b"prices[1:]", b"prices")
SAME = FIXED.replace(b"def total", b"# all of them\ndef total")
WRONG = CART.replace(b"prices[1:]", b"prices[2:]")


def diff_of(home: Home, files: dict[str, bytes], *options: str) -> bytes:
    """Return git's own diff of writing these files, and take it back."""
    write_files(home.repository, files)
    git(home.repository, "add", "--all", "--intent-to-add")
    diff = git(home.repository, "diff", "--binary", *options)
    git(home.repository, "reset", "--hard", "--quiet")
    return diff


def patch(home: Home, name: str, files: dict[str, bytes]) -> str:
    (home.root / name).write_bytes(diff_of(home, files))
    return f"../{name}"


@pytest.fixture
def three(home: Home) -> tuple[str, str, str]:
    named = {"mine.patch": FIXED, "agent.diff": WRONG, "other.patch": SAME}
    mine, agent, other = (patch(home, name, {"shop/cart.py": data}) for name, data in named.items())
    return mine, agent, other


def choose(home: Home, *more: str) -> tuple[int, str, str]:
    done = home.amini("choose", ".", "../issue.md", *more)
    return done.returncode, done.stdout, done.stderr


def test_the_patch_of_most_votes_is_printed_and_git_applies_it(home: Home, three: tuple[str, str, str]) -> None:
    mine, agent, other = three
    code, printed, told = choose(home, agent, mine, other)
    assert code == 0
    git(home.repository, "apply", stdin=printed.encode())
    assert (home.repository / "shop/cart.py").read_bytes() == FIXED
    assert "run 1: no model; 3 patches to choose among, 0 new tests; no test is run" in told
    assert f"{mine}, {other} say the same: one change of 2 votes." in told
    assert "candidates 3: 3 valid (2 distinct), 0 rejected" in told
    assert f"from       {mine}, {other}" in told


def test_what_cannot_be_used_is_told_by_name_and_the_others_go_on(home: Home, three: tuple[str, str, str]) -> None:
    bad = {
        "empty.patch": b"\n",
        "prose.patch": b"I would rather not.\n",
        "base.patch": diff_of(home, {"shop/cart.py": FIXED}).replace(b"result", b"outcome"),
        "crlf.patch": diff_of(home, {"shop/cart.py": FIXED}).replace(b"\n", b"\r\n"),
        "out.patch": b"--- /dev/null\n+++ b/../../x.py\n@@ -0,0 +1 @@\n+x\n",
        "git.patch": b"--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        "binary.patch": diff_of(home, {"logo.png": b"\x89PNG\0\0"}),
        "mode.patch": b"diff --git a/shop/cart.py b/shop/cart.py\nold mode 100644\nnew mode 100755\n",
        "syntax.patch": diff_of(home, {"shop/cart.py": FIXED.replace(b"prices:", b"prices")}),
        "comment.patch": diff_of(home, {"shop/tax.py": b"# so much\nRATE = 0.2\n"}),
        "link.patch": b"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n"
        b"\\ No newline at end of file\n",
        "again.patch": b"--- /dev/null\n+++ b/shop/cart.py\n@@ -0,0 +1 @@\n+x = 1\n",
        "sub.patch": diff_of(home, {"shop/cart.py": FIXED}) + b"diff --git a/sub b/sub\nnew file mode 160000\n"
        b"--- /dev/null\n+++ b/sub\n@@ -0,0 +1 @@\n+Subproject commit " + b"1" * 40 + b"\n",
    }
    for name, data in bad.items():
        (home.root / name).write_bytes(data)
    code, printed, told = choose(home, *(f"../{name}" for name in bad))
    assert (code, printed) == (1, "")
    assert "no candidate can be used" in told
    code, printed, told = choose(home, *(f"../{name}" for name in bad), three[0])
    assert code == 0
    assert printed.encode().startswith(b"diff --git a/shop/cart.py")
    notes = {
        line.split(" cannot be used: ")[0].split("../")[1]: line for line in told.splitlines() if "be used" in line
    }
    assert notes.keys() == bad.keys()
    reasons = {
        "empty.patch": "it is empty",
        "prose.patch": "it is no patch that git can read",
        "base.patch": "it may be of another base",
        "crlf.patch": "its lines end in CRLF",
        "out.patch": "it leads out of the tree (../../x.py)",
        "git.patch": "it leads out of the tree (.git/hooks/x)",
        "binary.patch": "it changes a binary file",
        "mode.patch": "it changes no line",
        "syntax.patch": "shop/cart.py would no longer parse, line 3",
        "comment.patch": "only comments, blank lines or formatting change in shop/tax.py",
        "link.patch": "it makes a symbolic link (l)",
        "again.patch": "shop/cart.py: already exists",
        "sub.patch": "it makes a submodule (sub)",
    }
    assert {name: reason for name, reason in reasons.items() if reason not in notes[name]} == {}
    assert "candidates 14: 1 valid (1 distinct), 13 rejected" in told
    assert not (home.root.parent / "x.py").exists()


def test_what_agents_write_is_read_as_git_reads_it(home: Home) -> None:
    whole = diff_of(home, {"shop/cart.py": FIXED})
    mail = b"From: a@b\nSubject: Fix\n\nrename from ../there\nBinary files a and b differ\n\n"
    forms = {
        "mail.patch": mail + whole,
        "cut.patch": whole.removesuffix(b"\n"),
        "bare.patch": diff_of(home, {"shop/cart.py": FIXED}, "--no-prefix"),
        "plain.patch": b"".join(line for line in whole.splitlines(True) if not line.startswith((b"diff", b"index"))),
    }
    for name, data in forms.items():
        (home.root / name).write_bytes(data)
    code, _, told = choose(home, *(f"../{name}" for name in forms))
    assert code == 0
    assert "candidates 4: 4 valid (1 distinct)" in told


def test_a_patch_may_have_lost_the_empty_lines_of_context_at_its_end(home: Home) -> None:
    after = b"\n\ndef none():\n    return 0\n"
    write_files(home.repository, {"shop/cart.py": CART + after})
    commit_all(home.repository)
    one, two = (diff_of(home, {"shop/cart.py": FIXED + after}, option) for option in ("-U3", "-U4"))
    cut = two.strip().rpartition(b"\n")[0]  # a line is lost that was not empty
    forms = {"whole": two, "one": one.strip(), "two": two.strip() + b"\n", "cut": cut}
    for name, data in forms.items():
        (home.root / f"{name}.patch").write_bytes(data)
    code, _, told = choose(home, *(f"../{name}.patch" for name in forms))
    assert code == 0
    assert "candidates 4: 3 valid (1 distinct), 1 rejected" in told
    assert "cut.patch cannot be used: it is no patch that git can read" in told


@pytest.mark.parametrize(("name", "new"), [("shop/tax.py", "shop/rates.py"), ('a"b.txt', "ab.txt")])
def test_a_rename_is_a_patch_of_this_tree_also_of_a_name_that_git_quotes(home: Home, name: str, new: str) -> None:
    write_files(home.repository, {'a"b.txt': b"text\n"})
    commit_all(home.repository)
    git(home.repository, "mv", name, new)
    (home.root / "move.patch").write_bytes(git(home.repository, "diff", "--cached", "-M"))
    git(home.repository, "reset", "--hard", "--quiet")
    code, printed, _ = choose(home, "../move.patch")
    assert code == 0
    git(home.repository, "apply", stdin=printed.encode())
    assert not (home.repository / name).exists()
    assert (home.repository / new).exists()


def predictions(home: Home, name: str, *rows: tuple[str, str, bytes]) -> str:
    keys = ("instance_id", "model_name_or_path", "model_patch")
    lines = (json.dumps(dict(zip(keys, (*row[:2], row[2].decode()), strict=True))) + "\n" for row in rows)
    (home.root / name).write_text("".join(lines))
    return f"../{name}"


def test_predictions_of_swe_bench_are_candidates_of_their_systems(home: Home) -> None:
    fix, wrong = (diff_of(home, {"shop/cart.py": data}) for data in (FIXED, WRONG))
    several = predictions(home, "a.jsonl", ("shop-1", "agent-a", fix), ("shop-2", "agent-a", wrong))
    one = predictions(home, "b.jsonl", ("shop-1", "agent-b", fix))
    (home.root / "c.json").write_text(json.dumps({"shop-1": json.loads((home.root / "b.jsonl").read_text())}))
    code, printed, told = choose(home, several, one, "../c.json", "--instance", "shop-1", "--json")
    assert code == 0
    assert "agent-a, agent-b (../b.jsonl), agent-b (../c.json) say the same: one change of 3 votes." in told
    sources = [sample["source"] for sample in json.loads(printed)["samples"]]
    assert sources == ["agent-a", "agent-b (../b.jsonl)", "agent-b (../c.json)"]
    assert "2 instances: name one with --instance" in one_sentence(choose(home, several)[2])
    assert "no prediction of shop-9" in one_sentence(choose(home, several, "--instance", "shop-9")[2])


def test_a_folder_has_its_patches_in_order_and_a_file_counts_once_however_it_is_named(
    home: Home, three: tuple[str, str, str]
) -> None:
    folder = home.root / "patches"
    folder.mkdir()
    for path in three:
        (folder / Path(path).name).write_bytes((home.repository / path).read_bytes())
    (folder / "README.md").write_text("no patch")
    again = ("../patches/mine.patch", str(folder / "mine.patch"), f"../{home.repository.name}/../patches/mine.patch")
    code, _, told = choose(home, "../patches", *again)
    assert code == 0
    assert "candidates 3: 3 valid" in told
    assert "patches/mine.patch, ../patches/other.patch" in told


def test_the_patches_of_other_runs_are_candidates_too(home: Home, three: tuple[str, str, str]) -> None:
    with server() as endpoint:
        repaired = home.amini("repair", ".", "../issue.md", "--base-url", endpoint.url, "-n", "5")
    assert repaired.returncode == 0
    code, printed, told = choose(home, three[1], "--runs", "1")
    assert code == 0
    assert printed == repaired.stdout
    assert "candidates 5: 5 valid" in told
    assert "from       run 1 (scripted)" in told
    assert "There is no run 9" in choose(home, "--runs", "9")[2]


def test_the_same_command_again_is_replayed_and_a_changed_file_is_not(home: Home, three: tuple[str, str, str]) -> None:
    first, again = choose(home, *three), choose(home, *three)
    planned = choose(home, *three, "--dry-run")[1]
    assert "not named yet; without one no test is written; a window of 32768 tokens is assumed" in planned
    assert again[:2] == first[:2]
    assert "spent      no tokens" in again[2]
    patch(home, "agent.diff", {"shop/cart.py": FIXED})
    code, _, told = choose(home, *three)
    assert code == 0
    assert "candidates 3: 3 valid (1 distinct)" in told


def page_of(home: Home) -> dict[str, Any]:
    """Return what the page of a run has of it, which lies packed in a block of its own."""
    (packed,) = re.findall(r'id="depth-0-0"[^>]*>\s*([A-Za-z0-9+/=]+)', (home.root / "run.html").read_text())
    read: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return read


def test_show_names_who_made_what_and_writes_the_page(home: Home, three: tuple[str, str, str]) -> None:
    choose(home, *three)
    opened = home.amini("show", "1", "--all").stdout
    assert all(name in opened for name in three)
    shown = home.amini("show", "1", "--patch", "2")
    assert b"prices[2:]" in shown.stdout.encode()
    home.amini("show", "1", "--html", "../run.html")
    assert [one["from"] for one in page_of(home)["patches"]] == ["../mine.patch, ../other.patch", "../agent.diff"]
    assert "no model" in home.amini("show").stdout


def test_the_issue_may_be_a_text_and_the_result_a_commit(home: Home, three: tuple[str, str, str]) -> None:
    done = home.amini("choose", ".", "--text", "The total is wrong.", *three, "--commit", "fix-total")
    assert done.returncode == 0
    assert "no model" in git(home.repository, "log", "-1", "--format=%B", "fix-total").decode()
    git(home.repository, "diff", "--quiet", "HEAD")


def test_a_run_of_a_choice_is_no_run_whose_server_is_missed(home: Home, three: tuple[str, str, str]) -> None:
    choose(home, *three)
    with Store.open_readonly(next((home.root / "state").rglob("*.sqlite"))) as store:
        assert [one.run.start.model for one in store.runs.summaries()] == ["no model"]
    done = home.amini("repair", ".", "../issue.md", "--model", "none-such")
    assert "No model 'none-such' is on this machine" in done.stderr


def test_a_system_that_votes_many_times_is_told_and_long_lists_of_names_are_cut(home: Home) -> None:
    fix = diff_of(home, {"shop/cart.py": FIXED})
    stuffed = predictions(home, "a.jsonl", *[("shop-1", "agent-a", fix)] * 7)
    assert "agent-a (7 times) says the same: one change of 7 votes." in choose(home, stuffed)[2]
    many = predictions(home, "b.jsonl", *(("shop-1", f"s{number}", fix) for number in range(8)))
    told = choose(home, many)[2]
    assert "s0, s1, s2, s3, s4 and 3 more say the same: one change of 8 votes." in told
    assert "from       s0, s1, s2, s3, s4 and 3 more" in told


def test_the_line_that_is_no_json_is_named(home: Home) -> None:
    (home.root / "a.jsonl").write_text('{"instance_id": "a", "model_patch": ""}\n{"instance_id\n')
    code, _, told = choose(home, "../a.jsonl")
    assert code == 2
    assert "line 2: Unterminated string" in one_sentence(told)


def test_reading_many_patches_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    top = make_repository(tmp_path / "r", {"a": b"1\n"})
    read: list[Patch] = []

    async def cancelled() -> None:
        def check(patch: Patch) -> Patch:
            read.append(patch)
            loop.call_soon_threadsafe(reading.cancel)
            return patch

        loop = asyncio.get_running_loop()
        pool = [Proposal("", b"--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+%d\n" % number) for number in range(2, 9)]
        tree, told = open_repository(str(top), None, tmp_path).snapshot(), list[Event]()
        reading = asyncio.ensure_future(read_pool(pool, tree, check, told.append))
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert told == [StageStarted(Stage.CHOOSE, 7)]

    asyncio.run(cancelled())
    assert len(read) < 3
