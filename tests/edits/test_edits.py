"""From an answer to changed files: what counts as an edit, where it fits, and what its bytes are afterwards."""

import codecs
import time
from dataclasses import replace

import pytest

from agentless_mini.domain import (
    Completion,
    Edit,
    FileKind,
    Finish,
    Matching,
    Patch,
    Reading,
    Reason,
    Rejected,
    SourceFile,
)
from agentless_mini.edits import Tree, answer_text, changed_files, parse_edits, read_answer
from agentless_mini.edits.applying import MOST_LOOSE
from agentless_mini.edits.paths import Lead, Paths
from tests.edits.edit_cases import after, edit, fenced, read, rejected, snapshot

FILES = {"a.py": b"x = 1\ny = 2\nz = 3\n", "docs/b.txt": b"one\ntwo\nthree\n"}
GOOD = edit("a.py", "y = 2\n", "y = 5\n")
CHANGED = b"x = 1\ny = 5\nz = 3\n"
OTHER = edit("docs/b.txt", "two\n", "TWO\n")
NO_NEWLINE = "\\ No newline at end of file\n"


def reasons(*answers: str) -> list[Reason]:
    return [rejected(answer, FILES).reason for answer in answers]


# --- which part of what a model said is its answer -------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        fenced(GOOD, fence="~~~~", info=" diff ~~~ `x`"),
        fenced(GOOD, fence="`````"),
        "Some words.\n   " + fenced(GOOD).replace("\n```", "\n  ```"),
        "~~~\n```\n" + GOOD + "```\n~~~\n",
        fenced(GOOD).removesuffix("\n"),
        "```python\nprint('an example')\n```\n\n" + fenced(GOOD) + "\n```\n### a title\n=======\n```\n",
        fenced(GOOD).replace("\n", "\r\n"),
        fenced(GOOD).replace("SEARCH\n", "SEARCH \t\n").replace("=\n", "=  \r\n").replace("LACE\n", "LACE\r\n"),
        fenced(GOOD).replace("### a.py", "  ###  \t`./a.py` "),
        fenced(GOOD).replace("a.py", '"a.py"'),
        fenced(GOOD).replace("a.py", "'././a.py'"),
        f"<think>\n<<<<<<< SEARCH\nhalf a draft\n</think>\n{fenced(GOOD)}",
        f"<think>it is said mid-line</think> {chr(10)}{fenced(GOOD)}",
        f"<think>a</think><think>b</think>\n{fenced(GOOD)}",
        f"{fenced(OTHER)}\nSo that is it. </think> <solution>\n{fenced(GOOD)}</solution>",
        f"<solution>{fenced(OTHER)}</solution> No: <solution>\n{fenced(GOOD)}</solution>",
        f"<solution>\n{fenced(GOOD)}is all</solution> of it",
        f"The `<think>` tag and `</think>` and `<solution>` are mentioned in prose.\n{fenced(GOOD)}",
        f"{fenced(GOOD)}</solution>",
        f"<think>a\n<think>b\n</think>{fenced(OTHER)}</think>\n{fenced(GOOD)}",
        f"<solution>\n{fenced(GOOD)}\n<solution>\n</solution>",
        f"<solution>{fenced(OTHER)}</solution>\n<solution>\n{fenced(GOOD)}",
        "```a`b\n" + GOOD,
        "```\n````\n" + GOOD,
    ],
)  # fmt: skip
def test_an_edit_counts_in_the_answer_and_nowhere_else(answer: str) -> None:
    assert after(answer, FILES) == {"a.py": CHANGED}


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\n{fenced(GOOD)}",
        f"{fenced(GOOD)}<think> and now",
        f"<think>\n<solution>\n{fenced(GOOD)}</solution>",
        f"<think>\nnot '</think>' yet\n{fenced(GOOD)}",
    ],
)
def test_an_answer_with_an_open_end_was_cut_off(answer: str) -> None:
    assert rejected(answer, FILES).reason is Reason.TRUNCATED


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<solution>", "</solution>"])
def test_tags_within_an_edit_are_text(tag: str) -> None:
    files = {"tags.txt": f"a\n{tag}\nb\n".encode()}
    plain = fenced(edit("tags.txt", f"{tag}\n", f"{tag} x\n"))
    for answer in (plain, f"<think>\nhm\n</think>\n<solution>\n{plain}</solution>"):
        assert after(answer, files) == {"tags.txt": f"a\n{tag} x\nb\n".encode()}


def test_an_answer_without_tags_is_all_answer() -> None:
    assert answer_text("a\nb") == "a\nb"
    assert answer_text("a\r\nb\r\n") == "a\nb\n"
    assert answer_text("a\r\nb\n") == "a\r\nb\n"


def test_a_completion_that_was_cut_off_or_withheld_is_no_answer() -> None:
    tree = Tree.of(snapshot(FILES))
    whole = Completion(0, fenced(GOOD), Finish.STOP)
    assert isinstance(read_answer(whole, tree), Patch)
    cut, withheld = (read_answer(replace(whole, finish=finish), tree) for finish in (Finish.LENGTH, Finish.FILTER))
    assert cut == Rejected(Reason.TRUNCATED, "the answer was cut off by the token limit")
    assert withheld == Rejected(Reason.WITHHELD, "the server withheld the answer")
    thought = read_answer(Completion(0, " \n", Finish.STOP, reasoning=whole.text), tree)
    assert isinstance(thought, Rejected)
    assert (thought.reason, "reasoning field" in thought.detail) == (Reason.NO_EDIT, True)


# --- the format ------------------------------------------------------------------------------------------------------


def test_the_five_answers_on_which_the_reference_parsers_disagree() -> None:
    mid_line = fenced(edit("a.py", "= 2\n", "= 5\n"))
    two_in_one_fence = fenced(GOOD, OTHER)
    no_language = fenced(GOOD)
    empty_replace = fenced(edit("a.py", "y = 2\n", ""))
    good_and_bad = fenced(GOOD, edit("a.py", "not there\n", "x\n"))
    assert rejected("", FILES) == Rejected(Reason.NO_EDIT, "the answer holds no edit")
    assert rejected(mid_line, FILES) == Rejected(
        Reason.NOT_FOUND, "SEARCH is not found in a.py: line 1 of SEARCH is only a part of line 2"
    )
    assert after(two_in_one_fence, FILES) == {"a.py": CHANGED, "docs/b.txt": b"one\nTWO\nthree\n"}
    assert after(no_language, FILES) == {"a.py": CHANGED}
    assert after(empty_replace, FILES) == {"a.py": b"x = 1\nz = 3\n"}
    assert rejected(good_and_bad, FILES).reason is Reason.NOT_FOUND


def test_an_incomplete_edit_makes_the_whole_answer_malformed() -> None:
    assert (
        reasons(
            fenced(GOOD, GOOD.replace("=======\n", "")),
            fenced(GOOD, GOOD.replace(">>>>>>> REPLACE\n", "")),
            fenced(GOOD.replace(">>>>>>> REPLACE\n", ""), GOOD),
            fenced(GOOD.replace("<<<<<<< SEARCH\n", "")),
            fenced(GOOD.replace("### a.py\n", "")),
            fenced(GOOD.replace("### a.py\n", "###  \n")),
            fenced(GOOD.replace("=======\n", "=======\n" * 65)),
            fenced(GOOD.replace("=======", "====") + ">>>>> REPLACE\n"),
            fenced(GOOD.replace("=======\n", "========\n======\n")),
        )
        == [Reason.MALFORMED] * 9
    )


def test_the_path_may_follow_search_with_back_slashes_too_and_other_words_are_refused_by_their_line() -> None:
    said = edit("src/app.py", "y = 2\n", "y = 5\n")
    for words in ("src\\app.py", "from src\\app.py"):
        assert after(fenced(said.replace("SEARCH", f"SEARCH {words}")), {"src/app.py": b"y = 2\n"})
    assert rejected(fenced(GOOD.replace("SEARCH", "SEARCH well then")), FILES).detail.startswith("line 3 has text")


def test_an_answer_may_repeat_the_byte_order_mark_of_a_file() -> None:
    said = fenced(edit("a.py", "\ufeffx = 1\n", "\ufeffx = 2\n"))
    assert after(said, {"a.py": codecs.BOM_UTF8 + b"x = 1\ny = 2\n"}) == {"a.py": codecs.BOM_UTF8 + b"x = 2\ny = 2\n"}


def test_only_so_many_edits_of_an_answer_are_looked_for_loosely() -> None:
    method = "def m_{0}(self):\n    return {1}_{0}(self)\n"
    edits = [edit("a.py", method.format(n, "old"), method.format(n, "new")) for n in range(MOST_LOOSE + 1)]
    lines = "".join(method.format(n, "old") for n in range(MOST_LOOSE + 1)).splitlines(keepends=True)
    files = {"a.py": ("class C:\n" + "".join(f"    {line}" for line in lines)).encode()}
    (made,) = after(fenced(*edits[:-1]), files, Matching.LOOSE).values()
    assert made is not None
    assert made.count(b"new") == MOST_LOOSE
    assert rejected(fenced(*edits), files, Matching.LOOSE).reason is Reason.NOT_FOUND


@pytest.mark.parametrize(
    ("line", "creates", "meant"),
    [
        ("### a/new.py", True, "a/new.py"),
        ("### repo/new.py", True, "new.py"),
        ("### /home/me/repo/src/new.py", True, "src/new.py"),
        ("### /src/new.py", True, Reason.BAD_PATH),
        ("### missing.py", False, Reason.NOT_FOUND),
        ("Create thing.py in src/pkg:", True, "src/pkg/thing.py"),
        ("Create other/thing.py in src/pkg:", True, Reason.MALFORMED),
    ],
)
def test_a_line_names_a_file_of_the_repository_or_none(line: str, creates: bool, meant: str | Reason) -> None:
    found = Paths(["src/pkg/a.py"], "repo").of([Lead(line)], creates, (), "")
    assert (found.reason if isinstance(found, Rejected) else found) == meant


def test_a_word_that_could_be_no_path_names_nothing() -> None:
    assert Paths(["a.py"]).of([Lead("odd\x01word")], False, (), "a.py") == "a.py"


@pytest.mark.parametrize(
    ("path", "search", "new", "stands_for_code"),
    [
        ("a.py", "y = 2\n", "...\ny = 2\nz = 4\n", True),
        ("a.py", "y = 2\n", "y = 2\ndef f():\n    ...\n    return 1\n", True),
        ("a.py", "y = 2\n", "y = 2\n\n\ndef f():\n    ...\n\n\ndef g():\n    return 1\n", False),
        ("b.py", "class A:\n    ...\n", "class A:\n    x = 1\n...\n", True),
        ("c.yaml", "a: 1\n", "a: 1\n...\n", False),
    ],
)
def test_three_dots_stand_for_code_unless_they_are_all_of_a_body(
    path: str, search: str, new: str, stands_for_code: bool
) -> None:
    outcome = read(fenced(edit(path, search, new)), {path: f"w = 0\n{search}".encode()})
    assert (outcome.reason if isinstance(outcome, Rejected) else None) == (
        Reason.PLACEHOLDER if stands_for_code else None
    )


def test_an_edit_without_a_path_has_that_of_the_edit_before_it() -> None:
    second = edit("a.py", "z = 3\n", "z = 4\n").removeprefix("### a.py\n")
    assert after(fenced(GOOD, second), FILES) == {"a.py": b"x = 1\ny = 5\nz = 4\n"}
    assert after(fenced(GOOD) + "and\n" + fenced(second), FILES) == {"a.py": b"x = 1\ny = 5\nz = 4\n"}
    assert reasons(fenced(GOOD) + fenced(OTHER.replace("### docs/b.txt\n", ""))) == [Reason.NOT_FOUND]


def test_fences_titles_and_markers_of_another_width_are_text_within_an_edit() -> None:
    text = "### title\n```\n======\n========\n<<<<<<<< SEARCH\n>>>>>>>\n <<<<<<< SEARCH\n"
    files = {"a.md": text.encode()}
    assert after(fenced(edit("a.md", text, "### other\n"), fence="````"), files) == {"a.md": b"### other\n"}


def test_wider_markers_hold_an_edit_of_markers() -> None:
    text = GOOD + "=======\n"
    wide = "### a.md\n<<<<<<<<< SEARCH\n" + text + "=========\ngone\n>>>>>>>>> REPLACE\n"
    assert after(fenced(wide), {"a.md": b"first\n" + text.encode()}) == {"a.md": b"first\ngone\n"}
    assert after(f"<think>\nx</think>\n{fenced(wide)}", {"a.md": text.encode()}) == {"a.md": b"gone\n"}


def test_of_several_dividers_the_one_with_the_longest_search_that_matches_divides() -> None:
    heading = "Title\n=======\ntext\n"
    files = {"a.rst": b"Intro\n\nTitle\n=======\ntext\n"}
    answer = fenced(edit("a.rst", heading, "Name\n=======\ntext\n"))
    assert after(answer, files) == {"a.rst": b"Intro\n\nName\n=======\ntext\n"}
    added = fenced(edit("a.rst", "Intro\n", "Intro\n=======\n"))
    assert after(added, files) == {"a.rst": b"Intro\n=======\n\nTitle\n=======\ntext\n"}
    twice = {"a.rst": b"Title\n=======\ntext\nTitle\n=======\n"}
    assert after(answer, twice) == {"a.rst": b"Name\n=======\ntext\nTitle\n=======\n"}
    assert rejected(fenced(edit("a.rst", "Title\n=======\n", "x\n")), twice).reason is Reason.AMBIGUOUS
    assert after(fenced(edit("new.rst", "", heading)), files) == {"new.rst": heading.encode()}


def test_parse_gives_the_edits_with_their_readings() -> None:
    paths = Paths(["a.c"])
    noted = parse_edits(fenced(edit("a.c", "1\n", "2\n" + NO_NEWLINE)), paths)
    assert noted == (Edit("a.c", (Reading("1\n", "2"),), 1, "```"),)
    both = parse_edits(edit("a.c", "1\n" + NO_NEWLINE, "2\n" + NO_NEWLINE), paths)
    assert both == (Edit("a.c", (Reading("1\n" + NO_NEWLINE, "2\n" + NO_NEWLINE), Reading("1", "2")), 0, "```"),)


@pytest.mark.parametrize(
    "hostile",
    [
        "<think>\n</think> x" * 60_000,
        "a <think>b" * 100_000,
        "<think>x</think>" * 60_000,
        "<solution>" * 100_000,
        "```\n" * 250_000,
        "`" * 1_000_000,
        "```\n### a.py\n" + "<<<<<<< SEARCH\n" * 70_000,
        "```\n### a.py\n<<<<<<< SEARCH\n" + "=======\n" * 120_000 + ">>>>>>> REPLACE\n",
        "".join("<" * width + " SEARCH\n" + "=" * width + "\n" for width in range(7, 900)),
        fenced(*[edit("a.py", "y = 2\n", "y = 2\n")] * 20_000),
        " " * 1_000_000 + "\n### a",
        "\r\n" * 500_000,
        "### " + " a" * 500_000,
    ],
    ids=range(13),
)
def test_a_hostile_answer_of_a_megabyte_is_read_in_seconds(hostile: str) -> None:
    begun = time.process_time()
    read(hostile, FILES)
    assert time.process_time() - begun < 5


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../x", "a/../x", "a/..", "..", ".", "./", "a/./x", "a//x", "a/", "docs\\..\\x", "C:/x", "a\0b",
        ".git/config", "a/.GIT/x", ".git", ".git./x", ".git /x", "git~1/x", ".git::$INDEX_ALLOCATION/x", ".g\u200cit/x",
        "a\x1bb", "a\ud800", "x" * 256, "/".join(["abcdefgh"] * 120), "``", "' /x '/../..",
    ],
)  # fmt: skip
def test_no_path_leaves_the_repository(path: str) -> None:
    assert rejected(fenced(edit(path, "", "x\n")), FILES).reason is Reason.BAD_PATH


def test_blanks_in_a_name_are_kept_within_back_ticks() -> None:
    files = {" a b ": b"x\n", "`": b"x\n", "it's": b"x\n"}
    assert after(fenced(edit("` a b `", "x\n", "y\n")), files) == {" a b ": b"y\n"}
    assert after(fenced(edit("`", "x\n", "y\n"), edit("it's", "x\n", "y\n")), files) == {"`": b"y\n", "it's": b"y\n"}


def test_only_text_can_be_edited_and_keeps_its_mode() -> None:
    script = SourceFile("a.py", "100755", FileKind.TEXT, FILES["a.py"])
    outcome = read(fenced(GOOD), {"a.py": script})
    assert isinstance(outcome, Patch)
    assert changed_files(outcome, {"a.py": script})[0].mode == "100755"
    kinds = [FileKind.BINARY, FileKind.LARGE, FileKind.SYMLINK, FileKind.SUBMODULE]
    files = {kind.value: SourceFile(kind.value, "100644", kind) for kind in kinds}
    outcomes = [rejected(fenced(edit(kind.value, "", "x\n")), files) for kind in kinds]
    assert [outcome.reason for outcome in outcomes] == [Reason.NOT_EDITABLE] * 4
    assert outcomes[2].detail == "symlink cannot be edited: it is a symbolic link"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("link/x", Reason.BAD_PATH),
        ("sub/deep/x", Reason.BAD_PATH),
        ("src/a.py/x", Reason.BAD_PATH),
        ("SRC/new.py", Reason.BAD_PATH),
        ("src/A.py", Reason.BAD_PATH),
        ("src/cafe\u0301.py", Reason.BAD_PATH),
        ("src", Reason.EXISTS),
        ("build", Reason.EXISTS),
        ("build/x", Reason.BAD_PATH),
        ("out/secret.env", Reason.EXISTS),
        ("out/secret.env/x", Reason.BAD_PATH),
        ("out", Reason.EXISTS),
        ("src/a.py", Reason.EXISTS),
    ],
)
def test_a_file_is_created_only_where_nothing_is(path: str, reason: Reason) -> None:
    entries: dict[str, bytes | SourceFile] = {
        "link": SourceFile("link", "120000", FileKind.SYMLINK),
        "sub": SourceFile("sub", "160000", FileKind.SUBMODULE),
        "src/a.py": b"x = 1\n",
        "src/caf\u00e9.py": b"",
    }
    tree = Tree.of(snapshot(entries, "build/", "out/secret.env"))
    assert rejected(fenced(edit(f"File: {path}", "", "x = 1\n")), tree).reason is reason
    assert isinstance(read(fenced(edit("out/new.py", "", "x = 1\n"), edit("File: src/deep/er/n", "", "")), tree), Patch)


def test_two_new_files_of_one_answer_do_not_collide_either() -> None:
    assert reasons(
        fenced(edit("File: n/a", "", "x\n"), edit("File: n/a/b", "", "x\n")),
        fenced(edit("File: n/a/b", "", "x\n"), edit("File: n/a", "", "x\n")),
        fenced(edit("File: n/a", "", "x\n"), edit("File: N/b", "", "x\n")),
    ) == [Reason.BAD_PATH, Reason.EXISTS, Reason.BAD_PATH]
    again = fenced(edit("File: n", "", "x\n"), edit("File: n", "x\n", ""), edit("File: n", "", "y\n"))
    assert after(again, FILES) == {"n": b"y\n"}


# --- where an edit fits ----------------------------------------------------------------------------------------------


def test_a_search_must_stand_in_the_file_once() -> None:
    files = {"a.txt": b"x\n" * 3, "b.txt": b"x\n" * 2000, "c.txt": b"a\n\nb\n"}
    assert rejected(fenced(edit("a.txt", "x\nx\n", "y\n")), files) == Rejected(
        Reason.AMBIGUOUS, "SEARCH stands at 2 places in a.txt"
    )
    assert "at 1000 or more places" in rejected(fenced(edit("b.txt", "x\n", "y\n")), files).detail
    assert after(fenced(edit("a.txt", "x\nx\nx\n", "y\n")), files) == {"a.txt": b"y\n"}
    assert after(fenced(edit("c.txt", "\n", "-\n")), files) == {"c.txt": b"a\n-\nb\n"}


@pytest.mark.parametrize(
    ("search", "hint"),
    [
        ("x = 1\ny  = 2\n", "line 2 of SEARCH differs from line 2 in blanks only"),
        ("x = 1\nw = 2\n", "line 2 of SEARCH is nowhere in the file: 'w = 2'"),
        ("x = 1\n\n", "line 2 of SEARCH is nowhere in the file: ''"),
        ("x = 1\nz = 3\n", "each of its lines is in the file, but not all of them together and in this order"),
        ("x = 1\r\n", "each of its lines is in the file, but not all of them together and in this order"),
    ],
)
def test_a_search_that_is_not_found_comes_with_a_hint(search: str, hint: str) -> None:
    outcome = rejected(fenced(edit("a.py", search, "q\n")), FILES)
    assert outcome == Rejected(Reason.NOT_FOUND, f"SEARCH is not found in a.py: {hint}")


def test_a_path_that_is_not_in_the_tree_has_nothing_to_find() -> None:
    assert "A.py is not in the tree" in rejected(fenced(edit("A.py", "y = 2\n", "")), FILES).detail
    assert rejected(fenced(edit("e", "y\n", "")), {"e": b""}).detail == "SEARCH is not found: e is empty"


def test_edits_apply_in_order_each_on_the_result_of_the_ones_before() -> None:
    twice = fenced(GOOD, edit("a.py", "y = 5\nz = 3\n", "y = 6\n"))
    assert after(twice, FILES) == {"a.py": b"x = 1\ny = 6\n"}
    assert reasons(fenced(GOOD, edit("a.py", "y = 2\n", "y = 6\n"))) == [Reason.NOT_FOUND]


def test_an_edit_of_the_file_as_it_was_is_merged_with_those_before_it() -> None:
    files = {"a.py": b"x = 1\ny = 2\nz = 3\n"}
    first = edit("a.py", "y = 2\n", "y = 5\n")
    added = edit("a.py", "x = 1\ny = 2\n", "x = 1\nn = 0\ny = 2\n")
    assert after(fenced(first, added), files) == {"a.py": b"x = 1\nn = 0\ny = 5\nz = 3\n"}
    lazy = edit("a.py", "x = 1\ny = 2\n", "x = 1\n# ... rest of the code\n")
    assert rejected(fenced(first, lazy), files).reason is Reason.PLACEHOLDER
    other = edit("a.py", "x = 1\ny = 2\n", "x = 1\ny = 6\n")
    assert "an edit before it changed these lines" in rejected(fenced(first, other), files).detail


# --- creation, deletion, nothing -------------------------------------------------------------------------------------


def test_files_are_created_filled_emptied_and_deleted() -> None:
    files = {**FILES, "empty": b"", "marked": codecs.BOM_UTF8}
    gone = edit("docs/b.txt", "one\ntwo\nthree\n", "")
    assert after(fenced(edit("new/c.txt", "", "hé\n")), files) == {"new/c.txt": "hé\n".encode()}
    assert after(fenced(edit("File: new", "", "")), files) == {"new": b""}
    assert after(fenced(edit("empty", "", "")), files) == {"empty": None}
    assert after(fenced(edit("empty", "", "x\n")), files) == {"empty": b"x\n"}
    assert after(fenced(edit("marked", "", "x\n")), files) == {"marked": codecs.BOM_UTF8 + b"x\n"}
    assert after(fenced(edit("marked", "", "")), files) == {"marked": None}
    assert after(fenced(gone), files) == {"docs/b.txt": None}
    assert after(fenced(gone, edit("docs/b.txt", "", "new\n")), files) == {"docs/b.txt": b"new\n"}
    assert after(fenced(gone, edit("docs/b.txt", "", "")), files) == {"docs/b.txt": b""}
    assert rejected(fenced(edit("a.py", "", "x\n")), files).reason is Reason.EXISTS
    assert after(fenced(gone, gone), files) == {"docs/b.txt": None}


def test_a_new_file_holds_exactly_what_the_answer_says() -> None:
    assert after(fenced(edit("n.c", "", "a\r\nb\n")), FILES) == {"n.c": b"a\r\nb\n"}
    assert after(fenced(edit("n.c", "", "a\n" + NO_NEWLINE)), FILES) == {"n.c": b"a"}
    assert after(fenced(edit("n.c", "", NO_NEWLINE)), FILES) == {"n.c": NO_NEWLINE.encode()}
    assert after(fenced(edit("n.c", "", "\ufeffa\n")), FILES) == {"n.c": codecs.BOM_UTF8 + b"a\n"}
    assert after(fenced(edit("n.py", "", "# coding: latin-1\nx = 'é'\n")), FILES) == {
        "n.py": b"# coding: latin-1\nx = '\xe9'\n"
    }


def test_edits_that_change_nothing_are_no_patch() -> None:
    back = edit("a.py", "y = 5\n", "y = 2\n")
    assert reasons(fenced(GOOD, back), fenced(edit("n.c", "", "x\n"), edit("n.c", "x\n", ""))) == [Reason.NO_CHANGE] * 2
    assert after(fenced(GOOD, back, OTHER), FILES) == {"docs/b.txt": b"one\nTWO\nthree\n"}


# --- not one byte more -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "search", "new", "expected"),
    [
        (b"a\r\nb\r\nc\r\n", "b\n", "B\nD\n", b"a\r\nB\r\nD\r\nc\r\n"),
        (b"a\r\nb\nc\r\n", "b\n", "B\n", b"a\r\nB\nc\r\n"),
        (b"a\r\nb\nc\r\n", "a\nb\nc\n", "a\nc\n", b"a\r\nc\r\n"),
        (b"a\r\nb\nc\r\n", "a\nb\nc\n", "a\nb\nX\nc\n", b"a\r\nb\nX\nc\r\n"),
        (b"a\r\nb\nc\r\n", "a\nb\nc\n", "X\na\nY\nZ\nc\n", b"X\r\na\r\nY\nZ\nc\r\n"),
        (b"a\nb\r\n", "a\nb\n", "a\nb\nX\n", b"a\nb\r\nX\r\n"),
        (b"a\r\nb\n", "a\nb\n", "1\n2\n3\n", b"1\r\n2\n3\n"),
        (b"a\r\nb\n", "a\n", "a\r\nX\n", b"a\r\nX\r\nb\n"),
        (b"a\nb\n", "a\n", "a\r\n", b"a\r\nb\n"),
        (b"a\r\nb\na\n", "a\r\n", "A\n", b"A\r\nb\na\n"),
        (b"a\nb", "b\n", "B\n", b"a\nB"),
        (b"a\nb", "b\n", "b\nc\n", b"a\nb\nc"),
        (b"a\r\nb", "b\n", "b\nc\n", b"a\r\nb\r\nc"),
        (b"a\r\nb\nc", "a\nb\nc\n", "a\nb\nc\nd\n", b"a\r\nb\nc\nd"),
        (b"b", "b\n", "b\nc\n", b"b\nc"),
        (b"a\nb", "b\n", "", b"a\n"),
        (b"a\nb", "a\nb\n", "a\n", b"a"),
        (b"a\nb", "b\n" + NO_NEWLINE, "b\n", b"a\nb\n"),
        (b"a\r\nb", "a\nb\n" + NO_NEWLINE, "a\nb\n", b"a\r\nb\r\n"),
        (b"b\na\nb", "b\n" + NO_NEWLINE, "c\n" + NO_NEWLINE, b"b\na\nc"),
        (b"a\nb\n", "b\n", "b\n" + NO_NEWLINE, b"a\nb"),
        (b"a\nb", "b\n", "c\n" + NO_NEWLINE, b"a\nc"),
        (b"a\r", "a\r\n" + NO_NEWLINE, "b\r\n" + NO_NEWLINE, b"b\r"),
        (b"a\r\r\nb\n", "a\r\r\n", "c\r\r\n", b"c\r\r\nb\n"),
        (b"-\n" + NO_NEWLINE.encode(), "-\n" + NO_NEWLINE, "+\n" + NO_NEWLINE, b"+\n" + NO_NEWLINE.encode()),
        (b"\\ No newline at end of file", NO_NEWLINE * 2, "x\n", b"x\n"),
        (b"a\x0cb\n\xe2\x80\xa8c\nd\n", "a\x0cb\n", "e\n", b"e\n\xe2\x80\xa8c\nd\n"),
        (codecs.BOM_UTF8 + b"a\nb\n", "a\n", "c\n", codecs.BOM_UTF8 + b"c\nb\n"),
        (b"\xe9\nb\n", "b\n", "\u00fc\n", b"\xe9\n\xfc\n"),
        (b"\tx\n  y \n", "\tx\n", "\tz \n", b"\tz \n  y \n"),
    ],
)  # fmt: skip
def test_what_an_edit_does_not_say_stays_as_it_was(before: bytes, search: str, new: str, expected: bytes) -> None:
    assert after(fenced(edit("f.txt", search, new)), {"f.txt": before}) == {"f.txt": expected}


def test_a_file_cannot_end_before_its_last_line() -> None:
    assert reasons(fenced(edit("a.py", "x = 1\n", "x = 1\n" + NO_NEWLINE))) == [Reason.MALFORMED]
    assert reasons(fenced(edit("a.py", "z = 3\n" + NO_NEWLINE, "z\n"))) == [Reason.NOT_FOUND]
    assert rejected(fenced(edit("f", "b\nc\n" + NO_NEWLINE, "z\n")), {"f": b"c"}).reason is Reason.NOT_FOUND


def test_what_the_files_encoding_cannot_hold_is_refused() -> None:
    files = {"l.txt": b"\xe9\nb\n", "a.txt": b"b\n"}
    assert rejected(fenced(edit("l.txt", "b\n", "€\n")), files).reason is Reason.ENCODING
    assert rejected(fenced(edit("a.txt", "b\n", "\ud800\n")), files).reason is Reason.ENCODING
    assert rejected(fenced(edit("n.py", "", "# coding: ascii\n'é'\n")), files) == Rejected(
        Reason.ENCODING, "n.py is written in ascii, which cannot hold the edit"
    )


# --- Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a.py", "a.pyi"])
def test_python_that_parsed_must_parse(path: str) -> None:
    files = {path: b"x = 1\ny = 2\n"}
    broken = rejected(fenced(edit(path, "y = 2\n", "y = (\n")), files)
    assert (broken.reason, broken.detail) == (
        Reason.SYNTAX,
        f"{path} would no longer parse, line 2: '(' was never closed",
    )
    assert rejected(fenced(edit("new.py", "", "def\n")), files).reason is Reason.SYNTAX
    assert after(fenced(edit(path, "x = 1\ny = 2\n", "")), files) == {path: None}


def test_python_of_another_version_may_stay_as_it_is() -> None:
    files = {"old.py": b"print 'x'\ny = 2\n"}
    assert after(fenced(edit("old.py", "y = 2\n", "y = 3\n")), files) == {"old.py": b"print 'x'\ny = 3\n"}


@pytest.mark.parametrize(
    "code",
    ["x = '\0'\n", "x = " + "(" * 5000 + ")" * 5000 + "\n", "x = " + "-" * 100_000 + "1\n", "x" + ".x" * 50_000 + "\n"],
    ids=["NUL", "parentheses", "signs", "attributes"],
)
def test_python_that_the_parser_cannot_take_is_refused(code: str) -> None:
    assert rejected(fenced(edit("n.py", "", code)), FILES).reason is Reason.SYNTAX


def test_the_coding_line_of_a_file_must_fit_its_bytes() -> None:
    files = {"l.py": b"# coding: latin-1\nx = '\xe9'\n"}
    assert after(fenced(edit("l.py", "x = 'é'\n", "x = 'ü'\n")), files) == {"l.py": b"# coding: latin-1\nx = '\xfc'\n"}
    assert rejected(fenced(edit("l.py", "# coding: latin-1\n", "# coding: utf-8\n")), files).reason is Reason.SYNTAX
