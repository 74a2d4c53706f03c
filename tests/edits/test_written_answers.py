"""Any change can be written as an answer that the one parser and the one applier turn back into it, byte for byte."""

import codecs
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentless_mini.domain import FileChange, Patch, Reason, Rejected
from agentless_mini.edits import Forms, make_patch, write_answer
from agentless_mini.edits.writing import write_edit
from tests.edits.edit_cases import applied, change, edit, fenced, git_applied

NOTE = "\\ No newline at end of file"
LINES = [
    "a", "b", "b", "", "    c", "\td ", "```", "~~~", "### a.txt", "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE",
    "<<<<<<<< SEARCH", "========", ">>>>>>>> REPLACE ", "======= ", NOTE, NOTE, "<think>", "</think>", "<solution> x",
    "</solution>", "\r", "e\r", "f\x0cg", "\x85\u2028", "\u00e9\u00ff", "\ufeff", "-- x", "\0",
]  # fmt: skip


def came_back(changes: Sequence[FileChange]) -> Patch:
    answer = write_answer(changes)
    assert isinstance(answer, str), answer
    read = applied(answer, {item.path: item.before for item in changes if item.before is not None})
    assert read == tuple(sorted(changes, key=lambda item: item.path))
    return make_patch(read, Forms())


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines = draw(st.lists(st.sampled_from(LINES), max_size=12))
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\n", "\r\n"]]))
    text = "".join(line + draw(st.sampled_from(ends)) for line in lines)
    return text.removesuffix("\n") if draw(st.booleans()) else text


@st.composite
def changes_of_a_file(draw: st.DrawFn, path: str) -> FileChange:
    """Draw a file before and after that share lines, written in one encoding, or created, or deleted."""
    before = draw(texts())
    lines = before.split("\n")
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(lines)))
        lines[start : start + draw(st.integers(0, 2))] = draw(st.lists(st.sampled_from(LINES), max_size=2))
    after = draw(st.sampled_from(["\n".join(lines), draw(texts())]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "iso8859-1"]))
    first = "\u00e9\n" if encoding == "iso8859-1" else ""  # no valid UTF-8: it tells the encoding, so it must stay
    old, new = ((first + text).encode(encoding, "replace") for text in (before, after))
    kinds = [change(path, old, new), change(path, old, None), change(path, None, after.encode())]
    return draw(st.sampled_from([kind for kind in kinds if kind.before != kind.after]))


@given(st.tuples(*(changes_of_a_file(path) for path in ("a.txt", "b c.txt", " d"))))
def test_any_changes_come_back_byte_for_byte_and_git_agrees(repository: Path, changes: tuple[FileChange, ...]) -> None:
    patch = came_back(changes)
    before = {item.path: item.before for item in changes if item.before is not None}
    assert git_applied(repository, before, patch.diff) == {
        item.path: item.after for item in changes if item.after is not None
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\nb\n", codecs.BOM_UTF8 + b"a\nb\n"),
        (codecs.BOM_UTF8 + b"a\nb\n", b"a\nb\n"),
        (codecs.BOM_UTF8 + b"a\nb\n", codecs.BOM_UTF8 + b"a\nc\n"),
        (codecs.BOM_UTF8, b"a\n"),
        (codecs.BOM_UTF8, None),
        (codecs.BOM_UTF8, b""),
        (b"", codecs.BOM_UTF8),
        (b"\xe9\n", "\u00e9\n".encode()),
        (b"\xe9\n", b"\xe9\r\n"),
        (b"\xe9\r\nx", b"\xe9\nx"),
        (f"\xe9\na\n{NOTE}\n".encode("latin-1"), b"\xe9\na"),
        (b"\xe9\r\n", f"\xe9\n{NOTE}\n".encode("latin-1")),
        (None, f"x\n1\r\n2\r\n0\n{NOTE}\n".encode()),
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\r", b"b\r"),
        (b"a\nb\r", b"a\nb"),
        (None, f"x\n{NOTE}\n".encode()),
        (f"x\n{NOTE}\n".encode(), f"{NOTE}\n".encode()),
        (f"x\n{NOTE}\n".encode(), None),
        (f"x\n{NOTE}".encode(), f"y\n{NOTE}\n".encode()),
        (b"x\n" * 500, b"x\n" * 250 + b"y\n" + b"x\n" * 249),
        (b"x\n" * 500 + b"y\n", b"z\n" + b"x\n" * 500 + b"q\n"),
        (b"a\nx\nb\nx\nc\n", b"a\nb\nx\nc\nx\n"),
    ],
)  # fmt: skip
def test_what_small_edits_cannot_say_is_said_by_a_new_file(before: bytes | None, after: bytes | None) -> None:
    came_back([change("f.txt", before, after)])


def test_a_new_python_file_is_said_in_the_encoding_that_it_declares() -> None:
    came_back([change("a.py", None, b"# coding: latin-1\nx = '\xe9'\n")])
    came_back([change("a.py", b"# coding: latin-1\nx = '\xe9'\n", "# coding: utf-8\nx = 'é'\n".encode())])


def test_an_edit_is_as_small_as_its_place_allows() -> None:
    lines = ["a", "b", "c", "b", "d", "e"]
    before = "".join(line + "\n" for line in lines)
    answer = write_answer([change("f", before.encode(), before.replace("c\nb\n", "c\nB\n").replace("e", "E").encode())])
    assert answer == fenced(edit("f", "c\nb\nd\n", "c\nB\nd\n")) + fenced(edit("f", "e\n", "E\n"))
    assert write_answer([change("f", b"a\nb\n", b"a\n+\nb\n")]) == fenced(edit("f", "a\nb\n", "a\n+\nb\n"))


# An edit as the public reward of SWE-RL describes it: a fence, a path, two sides, and the fence's end.
PUBLIC = re.compile(r"^```\n### ([^\n]+)\n<{7} SEARCH\n(.*?)\n={7}\n(.*?)\n>{7} REPLACE\n```$", re.M | re.DOTALL)


@given(st.lists(st.sampled_from(["a", "ab", "b", "x = 1", ""]), min_size=1, max_size=9), st.data())
def test_a_reader_of_one_edit_in_each_fence_that_replaces_texts_comes_to_the_same_file(
    lines: list[str], data: st.DataObject
) -> None:
    after = list(lines)
    start = data.draw(st.integers(0, len(lines) - 1))
    after[start : start + data.draw(st.integers(1, 2))] = data.draw(st.lists(st.sampled_from(["a", "new"]), max_size=2))
    before, wanted = ("".join(f"{line}\n" for line in some) for some in (lines, after))
    assume(before != wanted and wanted.strip() and before.strip())
    answer = write_answer([change("f", before.encode(), wanted.encode())])
    assert isinstance(answer, str)
    text = f"\n{before}"
    for path, search, replace in PUBLIC.findall(answer):
        assert path == "f"
        text = text.replace(f"\n{search}", f"\n{replace}")
    assert text == f"\n{wanted}"


def test_lines_that_are_only_removed_have_one_beside_them_that_stays() -> None:
    assert write_answer([change("f", b"a\nb\n", b"a\n")]) == fenced(edit("f", "a\nb\n", "a\n"))


def test_changes_whose_places_cannot_be_told_apart_are_said_together() -> None:
    apart, together = ("\n".join(text.split()) + "\n" for text in ("x a x y y", "x y x x x y x x"))
    assert write_answer([change("f", b"x\nx\n", apart.encode())]) == fenced(edit("f", "x\nx\n", apart))
    assert write_answer([change("f", b"x\n" * 6, together.encode())]) == fenced(edit("f", "x\n" * 6, together))


def test_a_name_is_quoted_only_where_it_must_be() -> None:
    assert write_answer([change(" a", None, b"x\n")]) == fenced(edit("File: ` a`", "", "x\n"))
    came_back([change("`a`", b"x\n", b"y\n")])


@pytest.mark.parametrize(
    ("path", "before", "after", "reason"),
    [
        ("new\nline", None, b"x\n", Reason.BAD_PATH),
        ("back\\slash", b"x\n", b"y\n", Reason.BAD_PATH),
        ("byte\udcff", b"x\n", b"y\n", Reason.BAD_PATH),
        ("f.txt", None, b"\xe9\n", Reason.ENCODING),
        ("f.txt", "\u20ac\n".encode(), b"\xe9\n", Reason.ENCODING),
        ("a.py", None, b"print 'x'\n", Reason.SYNTAX),
        ("f.txt", None, "".join(f"{'>' * width} REPLACE\n" for width in range(7, 33)).encode(), Reason.ENCODING),
    ],
)
def test_what_the_format_cannot_say_is_rejected(
    path: str, before: bytes | None, after: bytes | None, reason: Reason
) -> None:
    outcome = write_answer([change("good", None, b"x\n"), change(path, before, after)])
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


def test_a_large_file_is_written_in_seconds() -> None:
    dice = random.Random(3)  # noqa: S311 - not for secrets
    lines = [dice.choice(["\n", "    return x\n", f"line {number}\n"]) for number in range(20_000)]
    edited = [line.replace("line", "LINE") if number % 200 == 7 else line for number, line in enumerate(lines)]
    begun = time.process_time()
    came_back([change("f.txt", "".join(lines).encode(), "".join(edited).encode())])
    assert time.process_time() - begun < 10


def test_one_edit_stands_in_a_fence_that_none_of_its_new_lines_closes() -> None:
    new = 'TEXT = """\n````\n"""\n'
    answer = write_edit("a.py", "TEXT = ''\n", new)
    assert answer.startswith("`````\n### a.py\n")
    assert answer.endswith("\n`````\n")
    (change,) = applied(answer, {"a.py": b"TEXT = ''\n"})
    assert change.after == new.encode()
