import ast
import codecs
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.domain import FileKind, SourceFile
from agentless_mini.edits.sources import (
    FileLines,
    SourceText,
    content,
    contents,
    decode,
    dominant_terminator,
    new_text,
    occurrences,
    parse_python,
    split_lines,
    terminator,
)

CHARSETS = (b"latin-1", b"shift_jis", b"utf-16", b"utf-7", b"idna", b"rot13", b"cp037", b"no-such")
HEADS = st.sampled_from([
    b"", codecs.BOM_UTF8, b"#!/bin/x\n# -*- coding: cp1252 -*-\r\n", *(b"# coding: %b\n" % name for name in CHARSETS)
])  # fmt: skip


def text_of(data: bytes, path: str = "a.py") -> SourceText:
    return decode(SourceFile(path, "100644", FileKind.TEXT, data))


@given(HEADS, st.binary(max_size=60), st.sampled_from(["a.py", "a.pyi", "a.txt"]))
def test_any_bytes_come_back_from_their_text(head: bytes, body: bytes, path: str) -> None:
    assert text_of(head + body, path).data() == head + body


@given(st.text(max_size=60))
def test_lines_joined_are_the_text_and_end_at_newlines_only(text: str) -> None:
    lines = split_lines(text)
    assert "".join(lines) == text
    assert all("\n" not in line[:-1] for line in lines)
    assert [content(line) + terminator(line) for line in lines] == lines
    assert contents(lines) == [content(line) for line in lines]


@pytest.mark.parametrize(
    ("data", "path", "expected"),
    [
        (b"", "a.py", SourceText("", "utf-8")),
        ("é".encode(), "a.txt", SourceText("é", "utf-8")),
        (codecs.BOM_UTF8 + "é".encode(), "a.py", SourceText("é", "utf-8", bom=True)),
        (codecs.BOM_UTF8, "a.txt", SourceText("", "utf-8", bom=True)),
        (codecs.BOM_UTF8 + b"\xff", "a.txt", SourceText("ï»¿ÿ", "iso8859-1")),
        (b"\xe9", "a.txt", SourceText("é", "iso8859-1")),
        (b"# coding: koi8-r\n\xc1", "a.txt", SourceText("# coding: koi8-r\nÁ", "iso8859-1")),
        (b"# coding: koi8-r\n\xc1", "a.py", SourceText("# coding: koi8-r\n\u0430", "koi8-r")),
        (b"# coding: koi8-r\nx", "a.py", SourceText("# coding: koi8-r\nx", "koi8-r")),
        (b"\n# vim: fileencoding=cp1252 :\n\x80", "a.py", SourceText("\n# vim: fileencoding=cp1252 :\n€", "cp1252")),
        (b"x = 1\n# coding: cp1252\n\x80", "a.py", SourceText("x = 1\n# coding: cp1252\n\x80", "iso8859-1")),
        (b"# coding: latin-1\n" + "é".encode(), "a.py", SourceText("# coding: latin-1\né", "utf-8")),
        (b"# coding: cp1252\n\x81", "a.py", SourceText("# coding: cp1252\n\x81", "iso8859-1")),
        (b"# coding: idna\n\x81", "a.py", SourceText("# coding: idna\n\x81", "iso8859-1")),
        (b"# coding: cp037\n\x81", "a.py", SourceText("# coding: cp037\n\x81", "iso8859-1")),
        (b"# coding: hex\n\x81", "a.py", SourceText("# coding: hex\n\x81", "iso8859-1")),
        (b"# coding: no-such\n\x81", "a.py", SourceText("# coding: no-such\n\x81", "iso8859-1")),
    ],
)  # fmt: skip
def test_the_encoding_is_the_files_own(data: bytes, path: str, expected: SourceText) -> None:
    assert text_of(data, path) == expected


def test_bytes_that_an_encoding_does_not_give_back_are_read_as_latin_1() -> None:
    shifted_twice = b'# coding: iso-2022-jp\n\x1b$B\x1b$B$"\x1b(B\xff'
    assert text_of(shifted_twice).encoding == "iso8859-1"
    assert text_of(b"# coding: iso-2022-jp\n\x1b(B\x1b(Ba").encoding == "utf-8"


def test_a_new_python_file_is_written_as_it_declares_and_any_other_as_utf_8() -> None:
    assert new_text("a.py", "# coding: latin-1\né").data() == b"# coding: latin-1\n\xe9"
    assert new_text("a.txt", "# coding: latin-1\né").data() == "# coding: latin-1\né".encode()
    assert new_text("a.py", "é\ud800").encoding == "utf-8"


def test_text_that_the_encoding_cannot_hold_is_an_error() -> None:
    with pytest.raises(UnicodeError):
        SourceText("€", "iso8859-1").data()
    with pytest.raises(UnicodeError):
        SourceText("\ud800").data()
    with pytest.raises(UnicodeError, match="does not give the text back"):
        SourceText("\u00a5\\", "shift_jis").data()


@pytest.mark.parametrize("separator", ["\f", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_what_python_takes_for_a_line_end_but_git_does_not_is_content(separator: str) -> None:
    assert split_lines(f"a{separator}b\n") == [f"a{separator}b\n"]


def test_terminators_are_newlines_with_or_without_a_carriage_return() -> None:
    assert [terminator(line) for line in ("a\n", "a\r\n", "a\r\r\n", "a\r", "a")] == ["\n", "\r\n", "\r\n", "", ""]
    assert content("a\r\r\n") == "a\r"
    assert dominant_terminator(["a\r\n", "b\n", "c\r\n", "d"]) == "\r\n"
    assert dominant_terminator(["a\r\n", "b\n"]) == "\n"
    assert dominant_terminator([]) == "\n"


NOISY = "x = '\\d' is 1\n"  # the compiler warns of the escape and of the comparison


def test_what_the_compiler_warns_of_is_no_error_in_any_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(parse_python, [NOISY, NOISY.encode()] * 200))
    assert len({ast.dump(tree) for tree in trees}) == 1
    assert ast.dump(parse_python(NOISY, tries=0)) == ast.dump(trees[0])


def test_warnings_of_other_code_stay_what_they_were() -> None:
    parse_python(NOISY)
    count = len(warnings.filters)
    parse_python(NOISY)
    assert len(warnings.filters) == count
    with pytest.raises(SyntaxError, match="with a literal"):
        compile("1 is 1\n", "ours.py", "exec")


@pytest.mark.parametrize("code", ["def (", b"\xff", "\0"])
def test_what_is_no_python_is_told(code: str | bytes) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        parse_python(code)


def test_every_place_of_a_run_of_lines_is_counted_from_the_beginning_of_the_file() -> None:
    assert [*occurrences(["x"], FileLines(["x\n", "a\n", "b\n", "x\n", "c\n", "x"]).text)] == [0, 3, 5]
