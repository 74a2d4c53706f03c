"""A Python file as a run of statements, each with its span and a digest of what it says.

An answer changes a few lines of a file that a thousand others change too. So the file that stands in the tree is
parsed once, and of a changed version only the statements around each change: text that parses by itself between two
whole statements parses there, and says the same. The digest of a file is that of the digests of its statements, so it
does not depend on the way. Members of a class are statements of their own, for classes are long.
"""

import ast
import hashlib
import re
from bisect import bisect_left, bisect_right
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from tokenize import detect_encoding

from agentless_mini.edits.alignment import Region, shared_ends
from agentless_mini.edits.names import bound
from agentless_mini.edits.sources import parse_python

_LONE_RETURN = re.compile(rb"\r(?!\n)")
_LINE = re.compile(r"\bline (\d+)")
_FAR = 4  # spans: changes that touch fewer are parsed as one
_MOST_REGIONS = 50
_NEXT, _SOON = 5, 50_000  # how many spans behind a change are looked for again, and within how many bytes
_REFUSED = "the parser refuses the file"
# What hides the beginnings of lines: comments, strings and, outside of them, a newline behind a backslash.
_STRINGS = (
    rb"#[^\n]*|\\\r?\n[^\n]?"
    + b"".join([rb"|%b{3}(?:[^\\%b]+|\\.|%b(?!%b%b))*(?:%b{3}|\\?\Z)".replace(b"%b", quote) for quote in (b"'", b'"')])
    + b"".join([rb"|%b(?:[^\\\n%b]+|\\.)*%b?".replace(b"%b", quote) for quote in (b"'", b'"')])
)
_FLAGS = re.MULTILINE | re.DOTALL
# A class up to the indentation of its first member; its decorators are before it.
_HEADER = re.compile(
    rb"((?:(?:[@# \t\f\r][^\n]*)?\n)*class\b(?s:.{0,2000}?):[ \t]*(?:#[^\n]*)?\r?\n)"
    rb"(?:[ \t\f]*(?:#[^\n]*)?\r?\n)*([ \t]+)[^\s#]"
)


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
class Part:
    """Statements that were parsed of another version of a module.

    They stand where its spans [begin, end) stood: in their class if `member`, else at the top.
    """

    statements: tuple[ast.stmt, ...]
    begin: int
    end: int
    member: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """Another version of a module: its digest, and in their order the parts of it that were parsed."""

    digest: str
    parts: tuple[Part, ...]


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
    return body if isinstance(body, Broken) else Version(_digest(body), (Part(tuple(body), 0, len(module.spans)),))


def statements_at(module: Module, place: int) -> list[ast.stmt]:
    """Return the statements of a span; of the header of a class the class, with no member that says anything."""
    if not module.spans:
        found = statements_of(module.data)
    else:
        span = module.spans[place]
        text = module.data[module.spans[place - 1].stop if place else 0 : span.stop].removeprefix(BOM_UTF8)
        if place == span.header < span.last:
            text += f"{span.indent}0".encode()
        found = _parsed_in_pieces(text, span.indent.encode() if place > span.header else b"")
    return [] if isinstance(found, Broken) else found


def _is_plain(data: bytes) -> bool:
    """Tell whether the text is UTF-8, and its lines end as Python and this module agree on."""
    try:
        encoding, _ = detect_encoding(iter(line + b"\n" for line in data.split(b"\n", 2)[:2]).__next__)
        data.decode()
    except (SyntaxError, UnicodeDecodeError):
        return False
    flufl = b"barry_as_FLUFL" in data  # from then on other operators are valid
    return encoding in {"utf-8", "utf8", "utf-8-sig"} and not _LONE_RETURN.search(data) and not flufl


def statements_of(data: bytes) -> list[ast.stmt] | Broken:
    """Return the statements of a file, or why it does not parse.

    A plain file is parsed piece by piece, for no other thread runs while the parser does. Only its statements, the
    members of its classes and the decorators of both tell the lines of the file then.
    """
    if not _is_plain(data):
        return _parsed(data)
    return _parsed_in_pieces(data.removeprefix(BOM_UTF8))


# --- parsing ---------------------------------------------------------------------------------------------------------


def _parsed(source: bytes | str) -> list[ast.stmt] | Broken:
    try:
        return parse_python(source).body
    except SyntaxError as error:
        return Broken(f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Broken(f"line 1: {_REFUSED} ({type(error).__name__})")


def _parsed_in_pieces(data: bytes, indent: bytes = b"") -> list[ast.stmt] | Broken:
    """Return the statements of whole lines of a plain file; those of a class if they are indented.

    Text that parses alone leaves no string and no bracket open, so what follows it says what it says alone. A piece
    that does not parse is tried twice as long: that takes no more than some times the whole.
    """
    tokens = re.compile(_STRINGS + rb"|(^%b(?=[^\s#)\]}\\])(?!(?:else|elif|except|finally)\b))" % indent, _FLAGS)
    found_starts = [found for found in tokens.finditer(data) if found[1] is not None]
    decorated = [data.startswith(b"@", found.end()) for found in found_starts]
    starts = [0, *(found.start() for found, late in zip(found_starts[1:], decorated, strict=False) if not late)]
    statements: list[ast.stmt] = []
    at = line = 0
    while at < len(starts):
        count = 1
        while True:
            piece = data[starts[at] : starts[at + count] if at + count < len(starts) else len(data)]
            found = _parsed_members(piece, indent) if indent else _parsed_class(piece) or _parsed(piece.decode())
            if not isinstance(found, Broken):
                break
            if at + count >= len(starts):
                return _moved_fault(found, line)
            count *= 2
        statements.extend(_moved(found, line))
        line += piece.count(b"\n")
        at += count
    return statements


def _parsed_class(piece: bytes) -> list[ast.stmt] | None:
    """Return the class that begins the piece, its members parsed one by one; None where that is not all."""
    header = _HEADER.match(piece)
    if not header:
        return None
    found = _parsed(f"{header[1].decode()}{header[2].decode()}0")
    members = _parsed_in_pieces(piece[header.end(1) :], header[2])
    match found, members:
        case [[ast.ClassDef(body=[ast.Expr()]) as statement], [*_, last]]:
            lines = header[1].count(b"\n")
            statement.body = _moved(members, lines)
            statement.end_lineno = last.end_lineno
            return [statement]
    return None


def _parsed_members(source: bytes, indent: bytes) -> list[ast.stmt] | Broken:
    """Return the statements of lines that are indented; a fault without words where they are not all."""
    body = _parsed(f"class _:\n{indent.decode()}0\n{source.decode()}")
    if isinstance(body, Broken):
        return _moved_fault(body, -2)
    match body:
        case [ast.ClassDef(body=[_, *members])] if members:
            return _moved(members, -2)
    return Broken("")


def _moved(statements: list[ast.stmt], lines: int) -> list[ast.stmt]:
    """Add to the lines of statements, of their decorators, and of the members of classes."""
    todo: list[ast.stmt | ast.expr] = [*statements]
    while todo:
        node = todo.pop()
        node.lineno += lines
        node.end_lineno = (node.end_lineno or 0) + lines
        todo.extend(getattr(node, "decorator_list", ()))
        todo.extend(node.body if isinstance(node, ast.ClassDef) else ())
    return statements


def _moved_fault(broken: Broken, lines: int) -> Broken:
    """Add to the lines that a fault tells of."""
    if _REFUSED in broken.problem:
        return broken
    return Broken(_LINE.sub(lambda found: f"line {int(found[1]) + lines}", broken.problem))


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
    """A module and another version of it, to be parsed around what differs. Regions are of bytes."""

    def __init__(self, module: Module, data: bytes) -> None:
        self._module = module
        self._data = data
        self._stops = [span.stop for span in module.spans]
        head, tail = shared_ends(module.data, data)
        self._region = Region(head, len(module.data) - tail, head, len(data) - tail)

    def parsed(self) -> Version | Broken | None:
        """Return the version, or why it does not parse; None where only the whole of it can tell."""
        if parts := self._apart():
            return self._version(parts)
        tries = self._tries(self._region)
        while True:  # the last of them tells: it ends with a whole line
            begin, end, member, sure = next(tries)
            found = self._part(self._region, begin, end, member)
            if isinstance(found, Part):
                return self._version([found])
            if sure and found and found.problem:
                whole = (begin, end) == (0, len(self._stops))
                return found if whole or _is_final(found) else None

    def _apart(self) -> list[Part]:
        """Return what stands around each of several changes, none where one of them does not parse by itself."""
        regions = self._regions()
        parts: list[Part] = []
        for at, region in enumerate(regions, 1):
            limit = self._spans(regions[at])[0] if at < len(regions) else len(self._stops)
            done = parts[-1].end if parts else 0
            tries = (
                self._part(region, begin, end, member)
                for begin, end, member, _ in self._tries(region)
                if done <= begin and end <= limit
            )
            part = next((found for found in tries if isinstance(found, Part)), None)
            if not part:
                return []
            parts.append(part)
        return parts

    def _regions(self) -> list[Region]:
        """Return the regions that differ, no two in one span; none where that is a single one."""
        begin, end = self._spans(self._region)
        regions = list(self._differing()) if end - begin >= _FAR else []
        return regions if len(regions) > 1 else []

    def _differing(self) -> Iterator[Region]:
        """Yield regions that differ; a span that is found again soon behind where one begins is its end."""
        old, new = self._module.data, self._data
        a, a_stop, b, b_stop = self._region
        for _ in range(_MOST_REGIONS):
            place = bisect_left(self._stops, a)
            for start, stop in pairwise(self._stops[place : place + _NEXT]):
                found = new.find(old[start:stop], b, min(b + _SOON, b_stop))
                if stop <= a_stop and found >= 0:
                    yield Region(a, start, b, found)
                    break
            else:
                break
            shared, _ = shared_ends(old[start:a_stop], new[found:b_stop])
            a, b = start + shared, found + shared
        yield Region(a, a_stop, b, b_stop)

    def _spans(self, region: Region) -> tuple[int, int]:
        """Return the spans [begin, end) that a region touches."""
        last = len(self._stops) - 1
        begin = min(bisect_right(self._stops, region.a_start), last)
        if region.a_start <= self._module.spans[begin].first:  # what stands before a statement may go on with the last
            begin = max(0, begin - 1)
        return begin, max(begin, min(bisect_left(self._stops, region.a_stop), last)) + 1

    def _tries(self, region: Region) -> Iterator[tuple[int, int, bool, bool]]:
        """Yield which spans to parse: [begin, end), whether in their class, and whether a fault there is one of all.

        It is one of all where a whole statement that did not change stands on both sides.
        """
        spans = self._module.spans
        begin, end = self._spans(region)
        header, last = spans[begin].header, spans[end - 1].last
        if header == spans[end - 1].header < begin:
            yield begin, end, True, False
            if header < begin - 1 and end <= last:
                yield begin - 1, end + 1, True, True
        yield header, last + 1, False, False
        yield spans[max(0, header - 1)].header, spans[min(last + 1, len(spans) - 1)].last + 1, False, True

    def _part(self, region: Region, begin: int, end: int, member: bool) -> Part | Broken | None:
        """Return what now stands in these spans; None where it does not end with a line."""
        start = (self._stops[begin - 1] if begin else 0) + region.b_start - region.a_start
        stop = self._stops[end - 1] + region.b_stop - region.a_stop
        text = self._data[start:stop]
        if end < len(self._stops) and text and not text.endswith(b"\n"):
            return None
        indent = self._module.spans[begin].indent.encode() if member else b""
        found = _parsed_in_pieces(text if begin else text.removeprefix(BOM_UTF8), indent)
        if isinstance(found, Broken):
            return _moved_fault(found, self._data.count(b"\n", 0, start))
        return Part(tuple(found), begin, end, member)

    def _version(self, parts: Sequence[Part]) -> Version:
        spans, done = self._module.spans, 0
        said: list[bytes] = []
        for part in parts:
            said.extend(chain.from_iterable(span.digests for span in spans[done : part.begin]))
            for one in part.statements:
                said.extend([_said(one, b"1")] if part.member else _digests(one))
            done = part.end
        said.extend(chain.from_iterable(span.digests for span in spans[done:]))
        return Version(_joined(said), tuple(parts))


def _is_final(broken: Broken) -> bool:
    """Tell whether no statement after it could mend the fault: only a string goes on over whole statements."""
    return not any(words in broken.problem for words in ("unterminated triple-quoted", _REFUSED))
