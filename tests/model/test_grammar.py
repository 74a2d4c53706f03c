import codecs
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.domain import EditTask, Excerpt, FileKind, Reason, Rejected, ShownFile, Snapshot, SourceFile
from agentless_mini.edits import Tree, apply_edits, parse_edits
from agentless_mini.errors import UsageError
from agentless_mini.model.grammar import edit_grammar, free_width, spoken_path

_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|(\[(?:[^\]\\]|\\.)*\])|([a-z][a-z0-9]*)|(\{\d+,\d+\}|[()|?*])|( )')


def as_regex(grammar: str) -> Callable[[str], bool]:
    """Read GBNF without recursion as a regular expression: a judge that shares nothing with the code under test."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())

    def expanded(body: str) -> str:
        out = ""
        for literal, charset, name, operator, blank in _PART.findall(body):
            if name:
                out += f"(?:{expanded(rules[name])})"
            elif operator:
                out += operator.replace("(", "(?:")
            elif charset:
                out += charset
            elif not blank:
                out += f"(?:{re.escape(codecs.decode(literal, 'unicode_escape'))})"
        return out

    pattern = re.compile(expanded(rules["root"]))
    return lambda text: pattern.fullmatch(text) is not None


def whole(path: str, text: str) -> ShownFile:
    return ShownFile(path, (Excerpt(1, text),), whole=True)


def answer(path: str, search: str, replace: str, thought: str = "", width: int = 7) -> str:
    head, divider, foot = "<" * width + " SEARCH", "=" * width, ">" * width + " REPLACE"
    return f"{thought}```\n### {path}\n{head}\n{search}{divider}\n{replace}{foot}\n```\n"


CODE = "def f(a):\n    return a\n\n\ndef g(b):\n    return b\n    return b\n"
FILES = EditTask("i", (whole("a.py", CODE), whole("b.txt", "one\ntwo\n")))


@pytest.fixture(scope="module")
def accepts() -> Callable[[str], bool]:
    return as_regex(edit_grammar(FILES))


@pytest.mark.parametrize(
    "text",
    [
        answer("a.py", "    return a\n", "    return -a\n"),
        answer("a.py", "def f(a):\n    return a\n", ""),
        answer("b.txt", "one\n", "1\n\n### x\n```\n```\n", "It is the first line.\n\nYes.\n"),
        answer("b.txt", "one\ntwo\n", "<<<<<< a\n====\n>\n=\n<<<\n"),
        answer("a.py", "    return b\n    return b\n", "    return b\n"),
    ],
)
def test_an_edit_of_shown_lines_is_accepted_and_applies(text: str, accepts: Callable[[str], bool]) -> None:
    assert accepts(text)
    assert isinstance(applied(FILES, text), tuple), applied(FILES, text)


@pytest.mark.parametrize(
    "text",
    [
        answer("c.py", "one\n", "1\n"),
        answer("b.txt", "def f(a):\n", ""),
        answer("a.py", "return a\n", ""),
        answer("a.py", "    return b\n", ""),
        answer("a.py", "\n", ""),
        answer("a.py", "def f(a):\n\n", ""),
        answer("b.txt", "", "new\n"),
        answer("b.txt", "one\n", "=======\n"),
        answer("b.txt", "one\n", ">>>>>>> REPLACE\n"),
        answer("b.txt", "one\n", "1\n", "<think>\n"),
        answer("b.txt", "one\n", "1\n", "```\n"),
        answer("b.txt", "one\n", "1\n", "~~~\n"),
        answer("b.txt", "one\n", "1\n", "x\n" * 5),
        answer("b.txt", "one\n", "a\rb\n"),
        answer("b.txt", "one\n", "1\n") + "more",
        "```\n```\n",
    ],
)
def test_anything_else_is_not(text: str, accepts: Callable[[str], bool]) -> None:
    assert not accepts(text)


def test_one_to_three_edits_may_follow_each_other(accepts: Callable[[str], bool]) -> None:
    edit = answer("b.txt", "one\n", "1\n").removeprefix("```\n").removesuffix("```\n")
    assert [accepts(f"```\n{edit * count}```\n") for count in range(5)] == [False, True, True, True, False]


def test_a_search_has_at_most_six_lines_or_what_it_takes_to_be_unique() -> None:
    rows = [f"line {number}\n" for number in range(20)]
    accepts = as_regex(edit_grammar(EditTask("", (whole("a", "".join(rows)),))))
    assert [accepts(answer("a", "".join(rows[3 : 3 + count]), "")) for count in (1, 6, 7)] == [True, True, False]
    alike = "same\n" * 8 + "end\n"
    accepts = as_regex(edit_grammar(EditTask("", (whole("a", alike),))))
    assert [accepts(answer("a", "same\n" * count, "")) for count in (1, 7, 8)] == [False, False, True]
    assert accepts(answer("a", "same\nend\n", ""))


def test_runs_do_not_cross_excerpts() -> None:
    shown = ShownFile("a", (Excerpt(1, "one\n"), Excerpt(9, "two\n")), whole=False)
    accepts = as_regex(edit_grammar(EditTask("", (shown,))))
    assert accepts(answer("a", "two\n", ""))
    assert not accepts(answer("a", "one\ntwo\n", ""))


def test_lines_end_with_a_newline_whatever_the_file_has() -> None:
    accepts = as_regex(edit_grammar(EditTask("", (whole("a", "one\r\ntwo"),))))
    assert accepts(answer("a", "one\ntwo\n", ""))


def test_markers_are_wider_than_those_that_are_shown() -> None:
    task = EditTask("", (whole("a", "<<<<<<< SEARCH\n========\nend\n"),))
    accepts = as_regex(edit_grammar(task))
    text = answer("a", "<<<<<<< SEARCH\n", "new\n", width=9)
    assert accepts(text)
    assert isinstance(applied(task, text), tuple)


def test_a_width_is_found_even_where_none_is_free() -> None:
    assert free_width("=" * width for width in range(7, 40)) == 32


def test_files_and_lines_that_an_answer_cannot_name_are_left_out() -> None:
    odd = EditTask("", (whole("/etc/passwd", "x\n"), whole("bad\udcff", "x\n"), whole("a b.py", "\udcff\nfine\n")))
    accepts = as_regex(edit_grammar(odd))
    assert accepts(answer("a b.py", "fine\n", ""))
    assert spoken_path(" blank ") == "` blank `"
    assert not spoken_path("../up")


@pytest.mark.parametrize("files", [(), (whole("a", "\n\n"),), (whole("/a", "x\n"),), (whole("a", "s\n" * 60),)])
def test_where_nothing_can_be_edited_it_says_so(files: tuple[ShownFile, ...]) -> None:
    with pytest.raises(UsageError, match="free decoding"):
        edit_grammar(EditTask("", files))


def test_the_grammar_is_ascii_and_grows_linearly() -> None:
    def size(lines: int) -> int:
        return len(edit_grammar(EditTask("", (whole("a.py", "".join(f"x{n:04} = 1  # é\n" for n in range(lines))),))))

    assert edit_grammar(EditTask("", (whole("a.py", 'é😀\t\\"\n'),))).isascii()
    assert size(2000) - size(1000) < 1.1 * (size(1000) - size(0 + 100)) * 1000 / 900


LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\\\"'[]{}()|*?."), max_size=12)


def applied(task: EditTask, text: str) -> tuple[object, ...] | Rejected:
    """Parse and apply an answer as the product does; SEARCH must be found and be unique."""
    files = tuple(
        SourceFile(file.path, "100644", FileKind.TEXT, file.excerpts[0].text.encode())
        for file in sorted(task.files, key=lambda file: file.path)
    )
    tree = Tree.of(Snapshot("", "", "", files))
    edits = parse_edits(text, tree.paths)
    return edits if isinstance(edits, Rejected) else apply_edits(edits, tree)


@st.composite
def answers(draw: st.DrawFn) -> tuple[EditTask, str]:
    rows = draw(st.lists(LINE, min_size=1, max_size=9))
    text = "".join(row + "\n" for row in rows)
    start = draw(st.integers(0, len(rows) - 1))
    stop = draw(st.integers(start + 1, min(start + 6, len(rows))))
    new = draw(st.lists(LINE.filter(lambda row: not re.match("<{7}|={7}|>{7}", row)), max_size=4))
    search, replace = ("".join(row + "\n" for row in side) for side in (rows[start:stop], new))
    return EditTask("", (whole("a.txt", text),)), answer("a.txt", search, replace)


@settings(max_examples=200)
@given(answers())
def test_what_is_accepted_applies_and_what_applies_is_accepted(drawn: tuple[EditTask, str]) -> None:
    task, text = drawn
    outcome = applied(task, text)
    try:
        accepts = as_regex(edit_grammar(task))
    except UsageError:
        return
    if accepts(text):
        assert isinstance(outcome, tuple) or outcome.reason in {Reason.NO_CHANGE, Reason.NO_EFFECT}
    elif isinstance(outcome, tuple):
        assert not text.split(" SEARCH\n", 1)[1].split("\n", 1)[0].strip(), "only a blank line may not start a SEARCH"
