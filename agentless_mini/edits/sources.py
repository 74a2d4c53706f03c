"""The bytes of a file <-> its text and its lines, without a loss.

A patch may change what an edit says and not one byte more, so a text here remembers how it was written: its byte order
mark, its encoding and the terminator of every line. Nothing is repaired, guessed by statistics or normalised.

Lines end at `\\n` alone. Form feeds, `\\x85`, U+2028 and a lone `\\r` are content; the `\\r` of `\\r\\n` belongs to the
terminator. A SEARCH stands where it is equal to whole lines, terminators aside: a line that ends in LF in an answer
matches one that ends in CR LF in the file. A line whose CR the answer spells out, and a last line that it says has no
newline, match only such lines. What happens where nothing matches so is left to `loose`.

Differences are those of patience diff: `difflib` alone takes minutes on files of twenty thousand lines, so lines that
both sides hold exactly once split the problem first, and what stays too large to align is one region. The result is
always a correct difference, not always the smallest.
"""

import ast
import codecs
import re
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import AnyStr, NamedTuple, cast

from agentless_mini.domain import Reading, Reason, Rejected, SourceFile

UTF_8 = "utf-8"
LATIN_1 = "iso8859-1"
PYTHON_SUFFIXES = (".py", ".pyi")
MOST_PAIRS = 100_000  # of lines up to which difflib is asked: some milliseconds at worst
MOST_PLACES = 1000

_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_NO_CODE = re.compile(rb"[ \t\f]*(?:#[^\n]*)?\r?\n?")
# What stands for the file in warnings of the compiler, and the filter of these as `warnings` keeps it. pyflakes parses
# annotations that are strings, and names no file.
_FILE = "<repository>"
_SILENT = ("ignore", None, Warning, re.compile(rf"(?:{_FILE}|<unknown>)\Z"), 0)
# Codecs that escape, rewrite or refuse characters instead of encoding them.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7", "utf-8-sig"}


@dataclass(frozen=True)
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

    @cached_property
    def lines(self) -> "FileLines":
        """Return the lines of the text."""
        return FileLines(split_lines(self.text))


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
    """Return the charset that a Python file names in its first two lines, "" for none in which ASCII is ASCII."""
    if not is_python(path):
        return ""
    first, _, rest = data.partition(b"\n")
    found = _COOKIE.match(first) or (_COOKIE.match(rest.partition(b"\n")[0]) if _NO_CODE.fullmatch(first) else None)
    with suppress(LookupError, UnicodeError):
        codec = codecs.lookup(found[1].decode("ascii", "replace")).name if found else ""
        return codec if codec not in _NO_CHARSETS and "# coding: x".encode(codec) == b"# coding: x" else ""
    return ""


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


class FileLines:
    """The lines of a file, each with its terminator, and the text in which runs of them are looked for."""

    def __init__(self, lines: list[str]) -> None:
        """Take over lines of which only the last may have no terminator."""
        self.lines = lines

    @cached_property
    def contents(self) -> list[str]:
        """Return the lines without their terminators."""
        return contents(self.lines)

    @cached_property
    def text(self) -> str:
        """Return the contents with a newline before, between and after them."""
        return "\n".join(("", *self.contents, ""))

    @cached_property
    def squeezed(self) -> dict[str, int]:
        """Return the number, from 1, of the first line that says this, by lines without any blanks."""
        return {"".join(line.split()): len(self.contents) - at for at, line in enumerate(reversed(self.contents))}

    @cached_property
    def _stripped(self) -> frozenset[str]:
        return frozenset(map(str.strip, self.contents))

    def holds(self, line: str) -> bool:
        """Tell whether a line is one of the file's, blanks at its ends aside."""
        return line.strip() in self._stripped


@dataclass(frozen=True, slots=True)
class Match:
    """Lines [start, stop) of a file are to be replaced by `replace`, lines as an answer spells them in this reading.

    `ends_open` tells that the answer itself says that the last of the replaced lines has no newline.
    """

    start: int
    stop: int
    replace: tuple[str, ...]
    ends_open: bool
    reading: Reading

    def changed(self, file: FileLines) -> list[tuple[int, int, tuple[str, ...]]]:
        """Return which lines [start, stop) of the file change, and what stands there then, without terminators."""
        new = contents(self.replace)
        regions = differing(file.contents[self.start : self.stop], new)
        return [(self.start + a, self.start + b, tuple(new[c:d])) for a, b, c, d in regions]


def strict_matches(reading: Reading, file: FileLines) -> list[Match]:
    """Return every place where the SEARCH of a reading stands, at most some 1,000. It must have a line."""
    search, replace = split_lines(reading.search), tuple(split_lines(reading.replace))
    ends_open = not terminator(search[-1])
    starts = occurrences(contents(search), file.text)
    if ends_open:  # it stands only at the end of a file without a final newline
        start = len(file.lines) - len(search)
        is_there = start >= 0 and not terminator(file.lines[-1]) and contents(search) == contents(file.lines[start:])
        starts = iter([start] if is_there else [])
    spelled = [index for index, line in enumerate(search) if terminator(line) == "\r\n"]
    return [
        Match(start, start + len(search), replace, ends_open, reading)
        for start in starts
        if all(terminator(file.lines[start + index]) == "\r\n" for index in spelled)
    ]


def occurrences(wanted: Sequence[str], text: str) -> Iterator[int]:
    """Yield the index of each run of lines equal to those wanted in a text such as `FileLines.text`."""
    needle = "\n".join(("", *wanted, ""))
    at, line, passed = text.find(needle), 0, 0
    for _ in range(MOST_PLACES):
        if at < 0:
            return
        line += text.count("\n", passed, at)
        yield line
        passed, at = at, text.find(needle, at + 1)


def splice(lines: Sequence[str], match: Match) -> list[str] | Rejected:
    """Return the file's lines after the replacement: the new ones get the terminators of those that they replace.

    A line equal to a replaced one keeps that one's; another has that of its neighbour. The end of the file stays as it
    is unless the answer says otherwise on either side. `Rejected` where a line without a newline would not be the last.
    """
    old = lines[match.start : match.stop]
    new = _terminated(match.replace, old, lines)
    at_end = match.stop == len(lines)
    if new and at_end and not match.ends_open and not terminator(old[-1]):
        new[-1] = content(new[-1])
    if match.replace and not terminator(match.replace[-1]):
        if not at_end:
            return Rejected(Reason.MALFORMED, "REPLACE says that the file ends within it, but more lines follow")
        new[-1] = match.replace[-1]
    return [*lines[: match.start], *new, *lines[match.stop :]]


def _terminated(new: Sequence[str], old: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return the new lines with terminators, as if none of them were the end of the file."""
    known = {terminator(line) for line in old} - {""}
    if len(known) < 2:
        chosen = dict.fromkeys(range(len(new)), known.pop() if known else dominant_terminator(lines))
    else:  # a partner's, else that of the old line in whose stead it stands, or before it
        before, after = contents(old), contents(new)
        ends = [terminator(line) or dominant_terminator(lines) for line in old]
        chosen = {index: ends[partner] for index, partner in partners(before, after).items()}
        for region in differing(before, after):
            for index in range(region.b_start, region.b_stop):
                stead = min(region.a_start + index - region.b_start, region.a_stop - 1)
                chosen[index] = ends[max(stead, 0)]
    return [line if terminator(line) == "\r\n" else content(line) + chosen[at] for at, line in enumerate(new)]


# --- differences ---------------------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """Lines [a_start, a_stop) of one side stand where the other has [b_start, b_stop)."""

    a_start: int
    a_stop: int
    b_start: int
    b_stop: int


def differing(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> list[Difference]:
    """Return the regions in which two sequences differ, ascending, with at least one equal line between any two."""
    found: list[Difference] = []
    waiting = [Difference(0, len(a), 0, len(b))]
    while waiting:
        a_start, a_stop, b_start, b_stop = waiting.pop()
        while a_start < a_stop and b_start < b_stop and a[a_start] == b[b_start]:
            a_start, b_start = a_start + 1, b_start + 1
        while a_start < a_stop and b_start < b_stop and a[a_stop - 1] == b[b_stop - 1]:
            a_stop, b_stop = a_stop - 1, b_stop - 1
        region = Difference(a_start, a_stop, b_start, b_stop)
        if a_start == a_stop or b_start == b_stop:
            if a_start < a_stop or b_start < b_stop:
                found.append(region)
            continue
        chain: list[tuple[int, int]] = _anchors(a, b, region)
        if chain:
            begins = [(a_start, b_start), *((one + 1, other + 1) for one, other in chain)]
            ends = [*chain, (a_stop, b_stop)]
            between = [Difference(i, j, k, m) for (i, k), (j, m) in zip(begins, ends, strict=True)]
            waiting.extend(reversed(between))
        elif (a_stop - a_start) * (b_stop - b_start) > MOST_PAIRS:
            found.append(region)
        else:
            codes = SequenceMatcher(None, a[a_start:a_stop], b[b_start:b_stop], autojunk=False).get_opcodes()
            unlike = [code for code in codes if code[0] != "equal"]
            found += [Difference(a_start + i, a_start + j, b_start + k, b_start + m) for _, i, j, k, m in unlike]
    return found


def _anchors(a: Sequence[AnyStr], b: Sequence[AnyStr], region: Difference) -> list[tuple[int, int]]:
    """Return the longest ascending chain of pairs of equal lines that either side holds once in the region."""
    a_start, a_stop, b_start, b_stop = region
    a_counts, b_counts = Counter(a[a_start:a_stop]), Counter(b[b_start:b_stop])
    b_places = {b[place]: place for place in range(b_start, b_stop)}
    pairs = [
        (place, b_places[a[place]])
        for place in range(a_start, a_stop)
        if a_counts[a[place]] == 1 and b_counts[a[place]] == 1
    ]
    tails: list[int] = []  # the least place at which a chain of each length ends, and the pair that is its end
    ends: list[int] = []
    before: list[int | None] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(tails, place)
        before.append(ends[length - 1] if length else None)
        tails[length : length + 1] = [place]
        ends[length : length + 1] = [index]
    chain = []
    last = ends[-1] if ends else None
    while last is not None:
        chain.append(pairs[last])
        last = before[last]
    return chain[::-1]


def partners(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> dict[int, int]:
    """Return for each line of `b` that is aligned with an equal line of `a`: index in `b` -> index in `a`."""
    pairs: dict[int, int] = {}
    a_next = b_next = 0
    for region in (*differing(a, b), Difference(len(a), len(a), len(b), len(b))):
        pairs.update(zip(range(b_next, region.b_start), range(a_next, region.a_start), strict=True))
        a_next, b_next = region.a_stop, region.b_stop
    return pairs


def shared_ends(a: AnyStr, b: AnyStr) -> tuple[int, int]:
    """Return how much two texts share at their beginning, and how much at their end; these do not overlap."""
    one, two = len(a), len(b)
    head = _shared(lambda start, stop: a[start:stop] == b[start:stop], min(one, two))
    tail = _shared(lambda start, stop: a[one - stop : one - start] == b[two - stop : two - start], min(one, two) - head)
    return head, tail


def _shared(equal: Callable[[int, int], bool], most: int) -> int:
    """Return up to where two texts are equal, by bisection: comparing is done in C."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if equal(least, middle) else (least, middle - 1)
    return least
