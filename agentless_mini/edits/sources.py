"""The bytes of a file <-> its text and its lines, without a loss.

A patch may change what an edit says and not one byte more, so a text here remembers how it was written: its byte order
mark, its encoding and the terminator of every line. Nothing is repaired, guessed by statistics or normalised.

Lines end at `\\n` alone. Form feeds, `\\x85`, U+2028 and a lone `\\r` are content; the `\\r` of `\\r\\n` belongs to the
terminator.
"""

import ast
import codecs
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from agentless_mini.domain import SourceFile

UTF_8 = "utf-8"
LATIN_1 = "iso8859-1"
PYTHON_SUFFIXES = (".py", ".pyi")

_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_NO_CODE = re.compile(rb"[ \t\f]*(?:#[^\n]*)?\r?\n?")
# What stands for the file in warnings of the compiler, and the filter of these as `warnings` keeps it. pyflakes parses
# annotations that are strings, and names no file.
_FILE = "<repository>"
_SILENT = ("ignore", None, Warning, re.compile(rf"(?:{_FILE}|<unknown>)\Z"), 0)
# Codecs that escape, rewrite or refuse characters instead of encoding them.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7", "utf-8-sig"}


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text of a file and how it is written. `text` is without the byte order mark that `bom` tells of.

    `encoding` is the name of a Python codec.
    """

    text: str
    encoding: str = UTF_8
    bom: bool = False

    def data(self) -> bytes:
        """Return the file's bytes. Raises `UnicodeError` where the encoding cannot hold the text."""
        data = self.text.encode(self.encoding)
        if data.decode(self.encoding) != self.text:
            raise UnicodeError(f"{self.encoding} does not give the text back")
        return codecs.BOM_UTF8 + data if self.bom else data


def decode(file: SourceFile) -> SourceText:
    """Return the text of a TEXT file such that its `data()` is the file's bytes again.

    UTF-8 where the bytes are valid UTF-8, with or without a byte order mark; else the encoding that a Python file
    declares (PEP 263) where it gives every byte back; else Latin-1, which can hold any bytes. A Python file of ASCII
    bytes alone has the encoding that it declares, so that a character added to it is written in that.
    """
    if file.data.startswith(codecs.BOM_UTF8) and (marked := _decoded(file.data[len(codecs.BOM_UTF8) :], UTF_8)):
        return SourceText(marked.text, UTF_8, bom=True)
    declared = _declared(file.path, file.data)
    candidates = (declared, UTF_8) if file.data.isascii() else (UTF_8, declared)
    found = (source for encoding in candidates if encoding and (source := _decoded(file.data, encoding)))
    return next(found, None) or SourceText(file.data.decode(LATIN_1), LATIN_1)


def new_text(path: str, text: str) -> SourceText:
    """Return the text of a file to be created: UTF-8, or what a Python file declares."""
    return SourceText(text, _declared(path, text[:2000].encode(UTF_8, "replace")) or UTF_8)


def is_python(path: str) -> bool:
    """Tell whether the file at the path must parse as Python."""
    return path.endswith(PYTHON_SUFFIXES)


def parse_python(code: str | bytes, tries: int = 100) -> ast.Module:
    """Return the syntax tree of a repository's code; what the compiler warns of in it is not our user's concern.

    It may be called in several threads: the filter of warnings is set once and stays, and what CPython 3.11 raises
    where two of them build syntax trees at once says nothing of the code, which is then parsed again, so many times.
    Raises `SyntaxError`, `ValueError`, `RecursionError` or `MemoryError` where the code does not parse.
    """
    silence_compiler()
    for _ in range(tries):
        with suppress(SystemError):
            return ast.parse(code, _FILE)
    return ast.parse(code, _FILE)


def silence_compiler() -> None:
    """Have no warning of the compiler shown for code that `parse_python` reads, or pyflakes by itself."""
    if _SILENT not in warnings.filters:  # `filterwarnings` would take it out for a moment, from under another thread
        cast("list[object]", warnings.filters).insert(0, _SILENT)


def _decoded(data: bytes, encoding: str) -> SourceText | None:
    """Return the text if the encoding reads the bytes and gives each of them back, else None."""
    try:
        source = SourceText(data.decode(encoding), encoding)
        return source if source.data() == data else None
    except UnicodeError:
        return None


def _declared(path: str, data: bytes) -> str:
    """Return the codec that a Python file names in its first two lines, or "" where there is none to be used."""
    if not is_python(path):
        return ""
    first, _, rest = data.partition(b"\n")
    found = _COOKIE.match(first) or (_COOKIE.match(rest.partition(b"\n")[0]) if _NO_CODE.fullmatch(first) else None)
    return _charset(found[1].decode("ascii", "replace")) if found else ""


def _charset(name: str) -> str:
    """Return the codec of that name if it is a charset in which ASCII is ASCII, else ""."""
    try:
        codec = codecs.lookup(name).name
        usable = codec not in _NO_CHARSETS and "# coding: x".encode(codec) == b"# coding: x"
    except (LookupError, UnicodeError):
        return ""
    return codec if usable else ""


# --- lines ---------------------------------------------------------------------------------------------------------


def split_lines(text: str) -> list[str]:
    """Return the lines, each with its terminator; only the last may have none. Joined they are the text."""
    *whole, rest = text.split("\n")
    lines = [line + "\n" for line in whole]
    return [*lines, rest] if rest else lines


def terminator(line: str) -> str:
    """Return what ends the line: `\\n`, `\\r\\n` or nothing."""
    return "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""


def content(line: str) -> str:
    """Return the line without its terminator."""
    return line[: len(line) - len(terminator(line))]


def contents(lines: Sequence[str]) -> list[str]:
    """Return the lines without their terminators. No line but the last may lack one."""
    if not lines:
        return []
    return "".join(lines).replace("\r\n", "\n").removesuffix("\n").split("\n")


def dominant_terminator(lines: Iterable[str]) -> str:
    """Return the terminator that most of the lines have, `\\n` in a draw."""
    kinds = [terminator(line) for line in lines]
    return "\r\n" if kinds.count("\r\n") > kinds.count("\n") else "\n"
