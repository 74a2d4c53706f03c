"""A Python file as a run of statements, each with its span and a digest of what it says.

An answer changes a few lines of a file that a thousand others change too. So the file that stands in the tree is
parsed once, and of a changed version only the statements around the change: text that parses by itself between two
whole statements parses there, and says the same. The digest of a file is that of the digests of its statements, so it
does not depend on the way. Members of a class are statements of their own, for classes are long.
"""

import ast
import hashlib
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from tokenize import detect_encoding

from agentless_mini.edits.alignment import shared_ends
from agentless_mini.edits.names import bound

_LONE_RETURN = re.compile(rb"\r(?!\n)")
_LINE = re.compile(r"\bline (\d+)")
_REFUSED = "the parser refuses the file"
_WRAPPER = "class _:\n{}0\n"


@dataclass(frozen=True, slots=True)
class Span:
    """A run of whole lines: comments and blank lines, and the statements that end in it.

    It begins where the span before ends, and ends at byte `stop`. `first` is where its first statement begins, `names`
    are those that the statements bind. A class is the span of its header, the `header`-th of all, and those of its
    members up to the `last`, indented by `indent`; any other span is a group of its own.
    """

    first: int
    stop: int
    digests: tuple[bytes, ...]
    names: frozenset[str]
    header: int
    last: int
    indent: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file that parses. Without `spans` it cannot be taken apart."""

    data: bytes
    digest: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """Another version of a module: its digest, and the statements that were parsed of it.

    They stand where the spans [begin, end) of the module stood: in its class if `member`, else at the top.
    """

    digest: str
    statements: tuple[ast.stmt, ...]
    begin: int
    end: int
    member: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a file does not parse: one line with the line's number."""

    problem: str


def module_of(data: bytes) -> Module | Broken:
    """Return a file, all of it parsed."""
    body = statements_of(data)
    if isinstance(body, Broken):
        return body
    if not _is_plain(data):
        return Module(data, _digest(body), ())
    spans = tuple(_spans(data, body))
    return Module(data, _joined(digest for span in spans for digest in span.digests), spans)


def version_of(module: Module, data: bytes) -> Version | Broken:
    """Return another version of a module, as if all of it were parsed; only the words for a fault may be others."""
    found = _Change(module, data).parsed() if module.spans and _is_plain(data) else None
    if found is not None:
        return found
    body = statements_of(data)
    return body if isinstance(body, Broken) else Version(_digest(body), tuple(body), 0, len(module.spans))


def _is_plain(data: bytes) -> bool:
    """Tell whether lines end as Python and this module agree on, and the text is UTF-8 wherever it is cut."""
    try:
        encoding, _ = detect_encoding(iter(line + b"\n" for line in data.split(b"\n", 2)[:2]).__next__)
    except SyntaxError:
        return False
    flufl = b"barry_as_FLUFL" in data  # from then on other operators are valid
    return encoding in {"utf-8", "utf8", "utf-8-sig"} and not _LONE_RETURN.search(data) and not flufl


def statements_of(source: bytes | str) -> list[ast.stmt] | Broken:
    """Return the statements of a file, or why it does not parse."""
    try:
        with warnings.catch_warnings():  # what the compiler thinks of a repository's code is not our user's concern
            warnings.simplefilter("ignore")
            return ast.parse(source).body
    except SyntaxError as error:
        return Broken(f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Broken(f"line 1: {_REFUSED} ({type(error).__name__})")


# --- digests ---------------------------------------------------------------------------------------------------------


def _digest(body: Sequence[ast.stmt]) -> str:
    return _joined(digest for statement in body for digest in _digests(statement))


def _joined(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"python\n" + b"".join(digests)).hexdigest()


def _digests(statement: ast.stmt) -> tuple[bytes, ...]:
    """Return the digest of a statement, of a class that of its header and those of its members."""
    if not isinstance(statement, ast.ClassDef):
        return (_said(statement, b"0"),)
    return (_said(statement, b"class", {"body"}), *(_said(member, b"1") for member in statement.body))


def _said(statement: ast.stmt, kind: bytes, without: Collection[str] = ()) -> bytes:
    """Return the digest of a tree but for some fields, without recursion: an expression may have a thousand terms."""
    said = [type(statement).__name__]
    todo = [getattr(statement, name, None) for name in reversed(statement._fields) if name not in without]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.AST):
            said.append(type(item).__name__)
            todo.extend([getattr(item, name, None) for name in reversed(item._fields)])
        elif isinstance(item, list):
            said.append(f"[{len(item)}")
            todo.extend(reversed(item))
        else:
            said.append(hex(item) if type(item) is int else repr(item))  # decimals are bounded
    return hashlib.sha256(kind + "\n".join(said).encode()).digest()


# --- spans -----------------------------------------------------------------------------------------------------------


def _spans(data: bytes, body: Sequence[ast.stmt]) -> Iterator[Span]:
    """Yield the spans of a plain file. Statements that share a line, or one that is continued, are one span."""
    lines = _Lines(data)
    place = stop = 0
    for run in lines.runs(body):
        members = lines.members(run)
        last = place + len(members)
        if members:
            indent = lines.indent(members[0])
            stop = lines.start(members[0])
            yield Span(lines.start(run), stop, _digests(run[0])[:1], bound(run), place, last, indent)
            for member in members:
                stop = lines.stop(member)
                digests = tuple(_said(statement, b"1") for statement in member)
                yield Span(lines.start(member), stop, digests, bound(member), place, last, indent)
        else:
            stop = lines.stop(run)
            digests = tuple(digest for statement in run for digest in _digests(statement))
            yield Span(lines.start(run), stop, digests, bound(run), place, place)
        place = last + 1
    if stop < len(data):
        yield Span(len(data), len(data), (), frozenset(), place, place)


class _Lines:
    """Where the statements of a plain file stand."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._starts = [0, *(newline.end() for newline in re.finditer(rb"\n", data))]

    def runs(self, statements: Sequence[ast.stmt]) -> list[list[ast.stmt]]:
        """Return the statements, those together that cannot be parted between lines."""
        runs: list[list[ast.stmt]] = []
        for statement in statements:
            end = _end(runs[-1]) if runs else 0
            if runs and (_begin(statement) <= end or self._line(end).endswith(b"\\")):
                runs[-1].append(statement)
            else:
                runs.append([statement])
        return runs

    def members(self, run: Sequence[ast.stmt]) -> list[list[ast.stmt]]:
        """Return the runs in a class, none of anything else, and none where the class stands in one line."""
        (statement, *others) = run
        if others or not isinstance(statement, ast.ClassDef):
            return []
        begin = _begin(statement.body[0])
        text = self._line(begin)
        blanks = len(text) - len(text.lstrip(b" \t"))
        decorated = text.startswith(b"@", blanks) and begin < statement.body[0].lineno
        starts = decorated or (begin == statement.body[0].lineno and statement.body[0].col_offset == blanks)
        return self.runs(statement.body) if starts and not self._line(begin - 1).endswith(b"\\") else []

    def indent(self, run: Sequence[ast.stmt]) -> str:
        """Return the blanks before the first statement."""
        text = self._line(_begin(run[0]))
        return text[: len(text) - len(text.lstrip(b" \t"))].decode()

    def start(self, run: Sequence[ast.stmt]) -> int:
        """Return where the line of the first statement begins."""
        return self._starts[_begin(run[0]) - 1]

    def stop(self, run: Sequence[ast.stmt]) -> int:
        """Return where the line after the last statement begins."""
        end = _end(run)
        return self._starts[end] if end < len(self._starts) else len(self._data)

    def _line(self, number: int) -> bytes:
        """Return a line, counted from 1, without its end."""
        stop = self._starts[number] if number < len(self._starts) else len(self._data)
        return self._data[self._starts[number - 1] : stop].rstrip(b"\r\n")


def _begin(statement: ast.stmt) -> int:
    """Return the line of a statement or of its first decorator."""
    decorators = getattr(statement, "decorator_list", ())
    return min(statement.lineno, *(decorator.lineno for decorator in decorators)) if decorators else statement.lineno


def _end(run: Sequence[ast.stmt]) -> int:
    return run[-1].end_lineno or run[-1].lineno


# --- versions --------------------------------------------------------------------------------------------------------


class _Change:
    """A module and another version of it, to be parsed around what differs."""

    def __init__(self, module: Module, data: bytes) -> None:
        self._module = module
        self._data = data
        self._stops = [span.stop for span in module.spans]

    def parsed(self) -> Version | Broken | None:
        """Return the version, or why it does not parse; None where only the whole of it can tell."""
        for begin, end, member, sure in self._tries():
            start, source = self._source(begin, end)
            if source is None:
                continue
            found = self._statements(source, member, self._module.spans[begin].indent)
            if isinstance(found, list):
                return self._version(found, begin, end, member)
            if found and sure:
                whole = (begin, end) == (0, len(self._stops))
                return self._fault(found, start, member) if whole or _is_final(found) else None
        return None

    def _tries(self) -> Iterator[tuple[int, int, bool, bool]]:
        """Yield which spans to parse: [begin, end), whether in their class, and whether a fault there is one of all.

        It is one of all where a whole statement that did not change stands on both sides.
        """
        spans = self._module.spans
        head, tail = shared_ends(self._module.data, self._data)
        last = len(spans) - 1
        begin = min(bisect_right(self._stops, head), last)
        if head <= spans[begin].first:  # what stands before a statement may go on with the one before
            begin = max(0, begin - 1)
        end = max(begin, min(bisect_left(self._stops, len(self._module.data) - tail), last))
        header = spans[begin].header
        if header == spans[end].header < begin:
            yield begin, end + 1, True, False
            if header < begin - 1 and end < spans[end].last:
                yield begin - 1, end + 2, True, True
        begin, end = spans[begin].header, spans[end].last
        yield begin, end + 1, False, False
        yield spans[max(0, begin - 1)].header, spans[min(end + 1, last)].last + 1, False, True

    def _source(self, begin: int, end: int) -> tuple[int, str | None]:
        """Return where the text that now stands in these spans begins, and the text if it is one of whole lines."""
        start = self._stops[begin - 1] if begin else 0
        text = self._data[start : len(self._data) - (len(self._module.data) - self._stops[end - 1])]
        if end < len(self._stops) and text and not text.endswith(b"\n"):
            return start, None
        try:
            return start, text.decode("utf-8" if begin else "utf-8-sig")
        except UnicodeDecodeError:
            return start, None

    def _statements(self, source: str, member: bool, indent: str) -> list[ast.stmt] | Broken | None:
        """Return what a text says; None where it is not made of members alone, though it should be."""
        if not member:
            return statements_of(source)
        body = statements_of(_WRAPPER.format(indent) + source)
        if isinstance(body, Broken):
            return body
        (wrapper, *others) = body
        return wrapper.body[1:] or None if isinstance(wrapper, ast.ClassDef) and not others else None

    def _version(self, statements: list[ast.stmt], begin: int, end: int, member: bool) -> Version:
        spans = self._module.spans
        new = ([_said(one, b"1")] if member else _digests(one) for one in statements)
        said = (*(span.digests for span in spans[:begin]), *new, *(span.digests for span in spans[end:]))
        return Version(_joined(chain.from_iterable(said)), tuple(statements), begin, end, member)

    def _fault(self, broken: Broken, start: int, member: bool) -> Broken:
        """Return the fault with its lines counted in the whole file."""
        before = self._data.count(b"\n", 0, start) - (_WRAPPER.count("\n") if member else 0)
        return Broken(_LINE.sub(lambda found: f"line {int(found[1]) + before}", broken.problem))


def _is_final(broken: Broken) -> bool:
    """Tell whether no statement after it could mend the fault: only a string goes on over whole statements."""
    return not any(words in broken.problem for words in ("unterminated triple-quoted", _REFUSED))
