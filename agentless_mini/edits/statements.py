"""A Python file as a run of pieces, each with a digest of what it says and the names that it binds.

An answer changes a few lines of a file that a thousand others change too. So a file is cut into pieces, and of another
version of it only the lines are parsed that lie between pieces that the two share: whole lines that parse by themselves
leave no string and no bracket open, so what follows them says what it says alone. The digest of a file is that of the
digests of its statements, so it does not depend on the way. Members of a class are statements of their own, for classes
are long. Undefined names are those that pyflakes tells.
"""

import ast
import hashlib
import re
from bisect import bisect_right
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from tokenize import detect_encoding

from agentless_mini.edits.sources import Difference, differing, parse_python, silence_compiler

MOST_CHECKED = 256 * 1024
"""Bytes of a file of which all names are looked up, where a part does not tell."""
STAR = "*"
"""Stands for the names that `from ... import *` binds, which nobody knows."""
_INJECTED = {"_"}  # gettext installs it into the builtins
_LONE_RETURN = re.compile(rb"\r(?!\n)")


@dataclass(frozen=True, slots=True)
class CodePiece:
    """Whole lines of a file, and the statements that end in them.

    `indent` is that of the members of a class, b"" for what stands at the top; there a class begins, with its first
    member. `names` are those that members bind in their class, `global_names` those that all bind in the module.
    """

    text: bytes
    indent: bytes
    digests: bytes
    names: frozenset[str]
    global_names: frozenset[str]

    @classmethod
    def of(cls, text: bytes, statements: Sequence[ast.stmt], indent: bytes = b"") -> "CodePiece":
        """Return a piece of these statements."""
        if indent:
            members, digests = [*statements], [_said(statement, b"1") for statement in statements]
        else:
            members = [one for statement in statements if isinstance(statement, ast.ClassDef) for one in statement.body]
            digests = [_digests(statement) for statement in statements]
        return cls(text, indent, b"".join(digests), bound(members), bound(statements, own=not indent))


@dataclass(frozen=True)
class Module:
    """A Python file that parses, as one piece or more.

    Of a version of another one `parsed` are the statements of the pieces that the other has not, by their places.
    """

    data: bytes
    pieces: Sequence[CodePiece]
    parsed: Mapping[int, Sequence[ast.stmt]] = field(default_factory=dict)
    _undefined: dict[int, set[str]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Return the digest of all that it says."""
        return hashlib.sha256(b"python\n" + b"".join([piece.digests for piece in self.pieces])).hexdigest()

    @cached_property
    def lines(self) -> list[bytes]:
        """Return its lines."""
        return [line for piece in self.pieces for line in piece.text.splitlines(keepends=True)]

    @cached_property
    def starts(self) -> list[int]:
        """Return the lines in which its pieces begin, and how many it has."""
        return list(accumulate((len(piece.text.splitlines()) for piece in self.pieces), initial=0))

    def members(self, place: int) -> range:
        """Return the places of the pieces of a class, given that of one."""
        first, stop = place, place + 1
        while self.pieces[first].indent:
            first -= 1
        while stop < len(self.pieces) and self.pieces[stop].indent:
            stop += 1
        return range(first, stop)

    def undefined_at(self, place: int, known: Collection[str]) -> set[str]:
        """Return the names that a piece uses undefined where the module binds the known ones."""
        piece, siblings = self.pieces[place], {name for at in self.members(place) for name in self.pieces[at].names}
        if piece.indent:
            found = _parsed_members(piece.text, piece.indent)
        else:
            found = _parsed(self.data if len(self.pieces) == 1 else piece.text.decode())
        statements = [] if isinstance(found, Broken) else found
        if piece.indent:
            return undefined((), known, [(siblings, statements)])
        match statements:
            case [ast.ClassDef(body=members) as head] if len(self.members(place)) > 1:
                head.body = [ast.Pass()]
                return undefined([head], known, [(siblings, members)])
        return undefined(statements, known)

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
        return [place for place, piece in enumerate(self.pieces) if words.search(piece.text)]


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a file does not parse: one line with the line's number."""

    problem: str


def module_of(data: bytes, base: Module | None = None) -> Module | Broken:
    """Return a file. As a version of `base` it has pieces of that, and only what lies between them is parsed.

    It says the same as if all of it were parsed.
    """
    is_plain = _is_plain(data)
    if is_plain and base and len(base.pieces) > 1:
        lines = data.removeprefix(BOM_UTF8).splitlines(keepends=True)
        regions = differing(base.lines, lines)
        ways = (_version(data, lines, base, regions, whole) for whole in (False, True))
        if found := next(filter(None, ways), None):
            return found
    body = _parsed(data)
    if isinstance(body, Broken):
        return body
    if base:
        return Module(data, [CodePiece.of(data, body)], {0: body})
    return Module(data, _cut(data.removeprefix(BOM_UTF8), body) if is_plain and body else [CodePiece.of(data, body)])


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


def _cut(text: bytes, body: Sequence[ast.stmt]) -> list[CodePiece]:
    """Return the pieces of a plain file."""
    lines = text.splitlines(keepends=True)
    runs: list[tuple[Sequence[ast.stmt], int, bytes]] = []
    for run, stop in _runs(body, lines):
        match run:
            case [ast.ClassDef(body=members) as whole] if (
                len(inner := [*_runs(members, lines)]) > 1 and len(indents := _indents(inner, lines)) == 1
            ):
                head, (first, end), *rest = copy(whole), *inner
                head.body, (indent,) = first, indents
                runs += [([head], end, b""), *((some, end, indent) for some, end in rest)]
            case _:
                runs.append((run, stop, b""))
    stops = [*(stop for _, stop, _ in runs[:-1]), len(lines)]
    places = zip(runs, [0, *stops], stops, strict=False)
    return [CodePiece.of(b"".join(lines[start:stop]), run, indent) for (run, _, indent), start, stop in places]


def _runs(body: Sequence[ast.stmt], lines: Sequence[bytes]) -> Iterator[tuple[list[ast.stmt], int]]:
    """Yield the statements that share their lines, and how many lines there are up to their end."""
    run: list[ast.stmt] = []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        run.append(statement)
        stop = statement.end_lineno or 0
        goes_on = lines[stop - 1].rstrip(b"\r\n").endswith(b"\\")
        if following is None or (following.lineno > stop and not goes_on):
            yield run, stop
            run = []


def _indents(inner: Iterable[tuple[list[ast.stmt], int]], lines: Sequence[bytes]) -> set[bytes]:
    """Return what stands before the members of a class but for its first; nothing where it is not blank."""
    before = {lines[run[0].lineno - 1][: run[0].col_offset] for run, _ in [*inner][1:]}
    return before if all(map(bytes.isspace, before)) else set()


def _touched(base: Module, regions: Iterable[Difference], whole: bool) -> list[tuple[int, int]]:
    """Return the runs of pieces, [first, stop), in which another version differs, with what stands before a change.

    They are members of one class, or else whatever stands at the top; `whole` takes classes as a whole, too.
    """
    found: list[tuple[int, int]] = []
    for region in regions:
        first = bisect_right(base.starts, max(region.a_start - 1, 0)) - 1
        stop = bisect_right(base.starts, max(region.a_start - 1, region.a_stop - 1, 0))
        if whole or not all(piece.indent for piece in base.pieces[first:stop]):
            first, stop = base.members(first).start, base.members(stop - 1).stop
        while found and first < found[-1][1]:
            before, end = found.pop()
            first, stop = min(first, before), max(stop, end)
        found.append((first, stop))
    return found


def _version(
    data: bytes, lines: Sequence[bytes], base: Module, regions: Sequence[Difference], whole: bool
) -> Module | None:
    """Return a version with what is touched parsed, None where a part of it does not parse by itself."""
    stops = [region.a_stop for region in regions]

    def place(line: int) -> int:
        """Return where in the version a line of the base stands."""
        passed = bisect_right(stops, line)
        return line + regions[passed - 1].b_stop - regions[passed - 1].a_stop if passed and line else line

    pieces: list[CodePiece] = []
    parsed: dict[int, Sequence[ast.stmt]] = {}
    kept = 0
    for first, stop in _touched(base, regions, whole):
        begin, end, indent = place(base.starts[first]), place(base.starts[stop]), base.pieces[first].indent
        text = b"".join(lines[begin:end])
        found = _parsed_members(text, indent) if indent else _parsed(text.decode())
        if isinstance(found, Broken) or text.rstrip().endswith(b"\\"):  # CPython takes it before a carriage return
            return None
        pieces += base.pieces[kept:first]
        parsed[len(pieces)] = found
        pieces.append(CodePiece.of(text, found, indent))
        kept = stop
    return Module(data, [*pieces, *base.pieces[kept:]], parsed)


def _parsed_members(source: bytes, indent: bytes) -> list[ast.stmt] | Broken:
    """Return the statements of lines that are indented; a fault without words where they are not all."""
    body = _parsed(f"class _:\n{indent.decode()}0\n{source.decode()}")
    match body:
        case [ast.ClassDef(body=[_, *members])]:
            return members
    return body if isinstance(body, Broken) else Broken("")


def _parsed(source: bytes | str) -> list[ast.stmt] | Broken:
    try:
        return parse_python(source).body
    except SyntaxError as error:
        return Broken(f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Broken(f"line 1: the parser refuses the file ({type(error).__name__})")


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
