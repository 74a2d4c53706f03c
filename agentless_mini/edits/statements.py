"""A Python file as a run of statements, each with a digest of what it says and the names that it binds.

An answer changes a few lines of a file that a thousand others change too. So a file is parsed piece by piece: whole
lines that parse by themselves leave no string and no bracket open, so what follows them says what it says alone. Of a
changed version only the pieces are parsed that the file in the tree has not; those that it has are known. The digest of
a file is that of the digests of its statements, so it does not depend on the way. Members of a class are statements of
their own, for classes are long. Undefined names are those that pyflakes tells.
"""

import ast
import hashlib
import re
from bisect import bisect_left, bisect_right
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from tokenize import detect_encoding

from agentless_mini.edits.sources import parse_python, shared_ends, silence_compiler

MOST_CHECKED = 256 * 1024
"""Bytes of a file of which all names are looked up, where a part does not tell."""
STAR = "*"
"""Stands for the names that `from ... import *` binds, which nobody knows."""
_INJECTED = {"_"}  # gettext installs it into the builtins

_LONE_RETURN = re.compile(rb"\r(?!\n)")
_LINE = re.compile(r"\bline (\d+)")
_REFUSED = "the parser refuses the file"
# What hides the beginnings of lines: comments, strings and, outside of them, a newline behind a backslash.
_STRINGS = (
    rb"#[^\n]*|\\\r?\n[^\n]?"
    + b"".join([rb"|%b{3}(?:[^\\%b]+|\\.|%b(?!%b%b))*(?:%b{3}|\\?\Z)".replace(b"%b", quote) for quote in (b"'", b'"')])
    + b"".join([rb"|%b(?:[^\\\n%b]+|\\.)*%b?".replace(b"%b", quote) for quote in (b"'", b'"')])
)
# A class up to the indentation of its first member; its decorators are before it.
_HEADER = re.compile(
    rb"((?:(?:[@# \t\f\r][^\n]*)?\n)*class\b(?s:.{0,2000}?):[ \t]*(?:#[^\n]*)?\r?\n)"
    rb"(?:[ \t\f]*(?:#[^\n]*)?\r?\n)*([ \t]+)[^\s#]"
)


@dataclass(frozen=True, slots=True)
class CodePiece:
    """Whole lines of a file: comments and blank lines, and the statements that end in it.

    `indent` is that of the members of a class, b"" for what stands at the top. The header of a class is a piece, and
    `inner` the indentation of the members that follow it. `names` are those that the statements bind in their scope,
    `global_names` those that they bind in the module.
    """

    text: bytes
    indent: bytes
    inner: bytes
    digests: bytes
    names: frozenset[str]
    global_names: frozenset[str]

    @classmethod
    def of(cls, text: bytes, statements: Sequence[ast.stmt], indent: bytes = b"", inner: bytes = b"") -> "CodePiece":
        """Return a piece of these statements; a header's is the class with a member that says nothing."""
        if inner:
            digests = _said(statements[0], b"class", {"body"})
        elif indent:
            digests = b"".join(_said(statement, b"1") for statement in statements)
        else:
            digests = b"".join(map(_digests, statements))
        names = bound(statements)
        return cls(text, indent, inner, digests, names, bound(statements, own=False) if indent else names)


@dataclass(frozen=True)
class Module:
    """A Python file that parses. One that is not plain is a single piece.

    `parsed` are the statements of the pieces that were parsed of this version, by their places.
    """

    data: bytes
    is_plain: bool
    pieces: Sequence[CodePiece]
    parsed: Mapping[int, Sequence[ast.stmt]]
    _undefined: dict[int, set[str]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Return the digest of all that it says."""
        return hashlib.sha256(b"python\n" + b"".join([piece.digests for piece in self.pieces])).hexdigest()

    @cached_property
    def text(self) -> bytes:
        """Return the text of its pieces."""
        return self.data.removeprefix(BOM_UTF8) if self.is_plain else self.data

    @cached_property
    def starts(self) -> list[int]:
        """Return where each piece begins in the text."""
        return list(accumulate((len(piece.text) for piece in self.pieces[:-1]), initial=0))[: len(self.pieces)]

    @cached_property
    def places(self) -> dict[tuple[bytes, bytes, bytes], int]:
        """Return which piece stands where, by its text and indentations."""
        return {(piece.text, piece.indent, piece.inner): place for place, piece in enumerate(self.pieces)}

    @cached_property
    def _top(self) -> list[int]:
        return [place for place, piece in enumerate(self.pieces) if not piece.indent]

    def members(self, place: int) -> range:
        """Return the places of all members of a class, given that of one."""
        at = bisect_left(self._top, place)
        return range(self._top[at - 1] + 1, [*self._top, len(self.pieces)][at])

    def undefined_at(self, place: int, known: Collection[str]) -> set[str]:
        """Return the names that a piece uses undefined where the module binds the known ones."""
        piece = self.pieces[place]
        if piece.indent:
            found = _parsed_members(piece.text, piece.indent)
        else:
            found = _parsed(piece.text + piece.inner + (b"0" if piece.inner else b""), self.is_plain)
        statements = [] if isinstance(found, Broken) else found
        if not piece.indent:
            return undefined(statements, known)
        siblings = {name for at in self.members(place) for name in self.pieces[at].names}
        return undefined((), known, [(siblings, statements)])

    def undefined_before(self, names: Collection[str]) -> set[str]:
        """Return the names that it uses undefined, where it mentions any of these."""
        known = set().union(*[piece.global_names for piece in self.pieces])
        for place in (places := self.mentions(names)):
            if place not in self._undefined:
                self._undefined[place] = self.undefined_at(place, known)
        return {name for place in places for name in self._undefined[place]}

    def mentions(self, names: Collection[str]) -> list[int]:
        """Return the pieces that may mention any of the names; all where a name can be written in other ways."""
        if not all(name.isidentifier() and name.isascii() for name in names):
            return list(range(len(self.pieces)))
        words = re.compile(rb"\b(?:%b)\b" % "|".join(names).encode())
        return sorted({bisect_right(self.starts, found.start()) - 1 for found in words.finditer(self.text)})


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a file does not parse: one line with the line's number."""

    problem: str


def module_of(data: bytes, base: Module | None = None) -> Module | Broken:
    """Return a file. As a version of `base` it has pieces of that, the rest of it parsed, and only what differs costs.

    It says the same as if all of it were parsed; only the words for a fault may be others.
    """
    if _is_plain(data):
        return _PieceReader(data, base if base and base.is_plain else Module(b"", True, (), {})).module()
    body = _parsed(data, is_plain=False)
    return body if isinstance(body, Broken) else Module(data, False, (CodePiece.of(data, body),), {0: body})


def _is_plain(data: bytes) -> bool:
    """Tell whether the text is UTF-8, and its lines end as Python and this module agree on."""
    try:
        encoding, _ = detect_encoding(iter(line + b"\n" for line in data.split(b"\n", 2)[:2]).__next__)
        data.decode()
    except (SyntaxError, UnicodeDecodeError):
        return False
    flufl = b"barry_as_FLUFL" in data  # from then on other operators are valid
    return encoding in {"utf-8", "utf8", "utf-8-sig"} and not _LONE_RETURN.search(data) and not flufl


# --- pieces ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _tokens(indent: bytes) -> re.Pattern[bytes]:
    """Return what finds the beginnings of statements that are indented so, or not at all: these are in a group."""
    start = rb"|^((?:%b)?)(?=[^\s#)\]}\\])(?!(?:else|elif|except|finally)\b)" % indent
    return re.compile(_STRINGS + start, re.MULTILINE | re.DOTALL)


class _PieceReader:
    """Takes a plain file apart into pieces, and parses those that another version of it has not."""

    def __init__(self, data: bytes, base: Module) -> None:
        self._whole_data = data
        self._data = data.removeprefix(BOM_UTF8)
        self._base = base
        self._pieces: list[CodePiece] = []
        self._parsed: dict[int, Sequence[ast.stmt]] = {}
        self._at = 0
        self._class = -1  # where a class begins that is to be parsed as a whole

    def module(self) -> Module | Broken:
        """Return all of it, or why it does not parse."""
        while self._at < len(self._data):
            indent = self._indent()
            header = None if indent or self._at == self._class else _HEADER.match(self._data, self._at)
            stop = header.end(1) if header else self._stop(indent, 1)
            known = self._base.places.get((self._data[self._at : stop], indent, header[2] if header else b""))
            if known is not None:
                self._take(known)
            elif header:
                self._open_class(header)
            elif fault := self._parse(indent, stop):
                return fault
        return Module(self._whole_data, True, self._pieces, self._parsed)

    def _add(self, statements: Sequence[ast.stmt], stop: int, indent: bytes = b"", inner: bytes = b"") -> None:
        self._parsed[len(self._pieces)] = statements
        self._pieces.append(CodePiece.of(self._data[self._at : stop], statements, indent, inner))
        self._at = stop

    def _indent(self) -> bytes:
        """Return the indentation of the next piece: a class ends where a line is not indented."""
        last = self._pieces[-1] if self._pieces else None
        if last is None or (last.indent and not self._data.startswith((b" ", b"\t"), self._at)):
            return b""
        return last.indent or last.inner

    def _stop(self, indent: bytes, count: int) -> int:
        """Return where so many pieces end, the next included, or the class or the file does."""
        belongs = True  # to what is before it: the first does, and what is decorated
        for found in _tokens(indent).finditer(self._data, self._at):
            if found[1] is None:
                continue
            count -= not belongs
            if not count or (indent and not found[1]):
                return found.start()
            belongs = self._data.startswith(b"@", found.end())
        return len(self._data)

    def _take(self, place: int) -> None:
        """Take over the piece of the base, and those behind it as long as the two files are equal."""
        before, starts = self._base.text, self._base.starts
        shared, _ = shared_ends(before[starts[place] :], self._data[self._at :])
        same = starts[place] + shared
        if same == len(before) and self._at + shared == len(self._data):
            stop = len(starts)
        else:  # only the line behind a piece tells where it ends
            stop = max(bisect_right(starts, same) - 2, place + 1)
        self._pieces += self._base.pieces[place:stop]
        self._at += (starts[stop] if stop < len(starts) else len(before)) - starts[place]

    def _open_class(self, header: re.Match[bytes]) -> None:
        found = _parsed(header[1] + header[2] + b"0")
        match found:
            case [ast.ClassDef(body=[ast.Expr()])]:
                self._add(found, header.end(1), inner=header[2])
            case _:
                self._class = self._at

    def _parse(self, indent: bytes, stop: int) -> Broken | None:
        """Parse the next piece; return why that cannot be, None where it is done, or the class is to be parsed whole.

        A piece that does not parse is tried twice as long: that takes no more than some times the whole.
        """
        count = 1
        while True:
            text = self._data[self._at : stop]
            found = _parsed_members(text, indent) if indent else _parsed(text)
            if not isinstance(found, Broken):
                self._add(found, stop, indent)
                return None
            # No statement behind it could mend a fault: only a string goes on over whole statements.
            may_end = any(words in found.problem for words in ("unterminated triple-quoted", _REFUSED))
            is_sure = found.problem and not may_end and stop >= self._sure(indent)
            if is_sure or (not indent and stop == len(self._data)):
                return _moved_fault(found, self._data.count(b"\n", 0, self._at))
            if indent and (stop == len(self._data) or not self._data.startswith((b" ", b"\t"), stop)):
                last = self._pieces.pop()
                while last.indent:
                    self._at -= len(last.text)
                    last = self._pieces.pop()
                self._class = self._at = self._at - len(last.text)
                self._parsed = {at: found for at, found in self._parsed.items() if at < len(self._pieces)}
                return None
            count *= 2
            stop = self._stop(indent, count)

    def _sure(self, indent: bytes) -> int:
        """Return where a piece like this ends that stands behind all changes: a fault before it is one of the file."""
        before, starts = self._base.text, [*self._base.starts, len(self._base.text)]
        _, tail = shared_ends(before, self._data)
        first = bisect_left(starts, len(before) - tail)
        stops = (starts[at + 1] for at in range(first, len(starts) - 1) if self._base.pieces[at].indent == indent)
        return next(stops, len(before) + 1) + len(self._data) - len(before)


def _parsed_members(source: bytes, indent: bytes) -> list[ast.stmt] | Broken:
    """Return the statements of lines that are indented; a fault without words where they are not all."""
    body = _parsed(b"class _:\n%b0\n%b" % (indent, source))
    match body:
        case Broken():
            return _moved_fault(body, -2)
        case [ast.ClassDef(body=[_, *members])] if members:
            return members
    return Broken("")


def _parsed(source: bytes, is_plain: bool = True) -> list[ast.stmt] | Broken:
    try:
        return parse_python(source.decode() if is_plain else source).body
    except SyntaxError as error:
        return Broken(f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Broken(f"line 1: {_REFUSED} ({type(error).__name__})")


def _moved_fault(broken: Broken, lines: int) -> Broken:
    """Add to the lines that a fault tells of."""
    if _REFUSED in broken.problem:
        return broken
    return Broken(_LINE.sub(lambda found: f"line {max(1, int(found[1]) + lines)}", broken.problem))


# --- digests ---------------------------------------------------------------------------------------------------------


def _digests(statement: ast.stmt) -> bytes:
    """Return the digest of a statement, of a class that of its header and those of its members."""
    if not isinstance(statement, ast.ClassDef):
        return _said(statement, b"0")
    return _said(statement, b"class", {"body"}) + b"".join(_said(member, b"1") for member in statement.body)


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


# --- names -----------------------------------------------------------------------------------------------------------


def newly_undefined(module: Module, version: Module) -> set[str]:
    """Return the names that a version uses undefined and the module does not."""
    parsed = version.parsed
    if len(version.data) > MOST_CHECKED and len(parsed) == len(version.pieces):
        return set()
    known = set().union(*[piece.global_names for at, piece in enumerate(version.pieces) if at not in parsed])
    top = [one for at, statements in parsed.items() if not version.pieces[at].indent for one in statements]
    members = []
    for places in dict.fromkeys(version.members(at) for at in parsed if version.pieces[at].indent):
        siblings = set().union(*[version.pieces[at].names for at in places if at not in parsed])
        members.append((siblings, [one for at in places if at in parsed for one in parsed[at]]))
    found = undefined(top, known, members)
    known |= bound(top)
    kept = set(map(id, version.pieces))
    gone = set().union(*[piece.global_names for piece in module.pieces if id(piece) not in kept]) - known
    gone -= bound(statement for statements in parsed.values() for statement in statements)
    if gone:
        again = [at for at in module.mentions(gone) if id(module.pieces[at]) in kept]
        told = {name for at in again for name in module.undefined_at(at, known)}
        found |= told if STAR in gone else told & gone
    return found - module.undefined_before(found) if found else found


def bound(statements: Iterable[ast.stmt], own: bool = True) -> frozenset[str]:
    """Return the names that the statements bind in their own scope, and those that functions in them bind globally.

    Where the scope is a class, `own` leaves out the first.
    """
    names: set[str] = set()
    todo: list[tuple[ast.AST, bool]] = [(statement, own) for statement in statements]
    while todo:
        node, own = todo.pop()
        if isinstance(node, ast.Global):
            names.update(node.names)
        elif own:
            names.update(_binds(node))
        inner = own and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        if inner or isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            todo.extend((child, inner) for child in ast.iter_child_nodes(node))
    return frozenset(names)


def _binds(node: ast.AST) -> Iterable[str]:
    """Return the names that a node binds by itself."""
    match node:
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case (
            ast.FunctionDef(name=str(name))
            | ast.AsyncFunctionDef(name=str(name))
            | ast.ClassDef(name=str(name))
            | ast.ExceptHandler(name=str(name))
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
            | ast.MatchMapping(rest=str(name))
            | ast.Name(id=name, ctx=ast.Store())
        ):
            return (name,)
    return ()


def undefined(
    statements: Sequence[ast.stmt],
    known: Collection[str] = (),
    members: Iterable[tuple[Collection[str], Sequence[ast.stmt]]] = (),
) -> set[str]:
    """Return the names that statements use though nothing binds them, or before a function of its own does.

    `known` are bound elsewhere in the module. `members` are statements of classes, and what others in each bind.
    Nothing is told of code that pyflakes cannot follow, or where a star import may bind whatever is used.
    """
    from pyflakes.checker import Checker
    from pyflakes.messages import UndefinedLocal, UndefinedName

    if STAR in known:
        return set()
    body = list(statements)
    for siblings, inside in members:
        (wrapper,) = parse_python(f"class _:\n    {' = '.join(sorted({'_', *siblings}))} = None").body
        wrapper.body.extend(inside)  # type: ignore[attr-defined]
        body.append(wrapper)
    try:
        silence_compiler()  # it parses annotations that are strings
        checker = Checker(ast.Module(body, []), builtins={*known, *_INJECTED})
    except RecursionError:
        return set()
    told = (one for one in checker.messages if isinstance(one, UndefinedName | UndefinedLocal))
    return {str(one.message_args[0]) for one in told}
