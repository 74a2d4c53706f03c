"""Changes that people make to one line, as mutation testing and studies of one-line fixes name them.

Neither types nor what stands around an expression are looked at: many mutants are nonsense, and some do not parse.
"""

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

from agentless_mini.model.embedded.regions import Region, parse

# Longer lines are data, or nothing that one change of one expression would put right. In bytes.
WIDEST = 160
# Bounds on what each expression is combined with, or long functions would have mutants by the hundred thousand.
MOST_NAMES, MOST_ATTRIBUTES, LONGEST_TEXT = 16, 48, 20

_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=", "in", "not in", "is", "is not")
_COMPARISON = re.compile(r"not\s+in\b|is\s+not\b|in\b|is\b|[<>=!]=|<|>")
_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**")
_OPERATOR = re.compile(r"\*\*|//|<<|>>|[-+*/%@&|^]")
_JUNCTION = re.compile(r"\b(?:and|or)\b")
_ASSIGNMENTS = ("=", "+=", "-=", "|=")
_ASSIGNMENT = re.compile(r"[-+*/|]?=")
# Calls that go around a value, and what goes behind one.
_AROUND = (
    "len", "abs", "int", "str", "float", "sorted", "list", "set", "tuple", "reversed", "max", "min", "sum", "round",
    "bool", "dict",
)  # fmt: skip
_BEHIND = (
    ".strip()", ".lower()", ".upper()", ".copy()", ".items()", ".keys()", ".values()", ".split()", "[0]", "[-1]",
    "[1:]", "[:-1]", "[::-1]", " + 1", " - 1",
)  # fmt: skip
# Functions and methods that are taken for one another.
_TWINS = (
    ("min", "max"), ("any", "all"), ("append", "extend", "insert", "add"), ("strip", "lstrip", "rstrip"),
    ("find", "rfind", "index", "rindex"), ("split", "rsplit", "splitlines"), ("startswith", "endswith"),
    ("lower", "upper"), ("keys", "values", "items"), ("get", "pop", "setdefault"), ("remove", "discard", "pop"),
    ("isdigit", "isalpha", "isalnum"), ("floor", "ceil"), ("match", "search", "fullmatch"), ("pop", "popleft"),
    ("ljust", "rjust"), ("removeprefix", "removesuffix"), ("union", "intersection", "difference", "update"),
    ("list", "sorted", "set", "reversed"), ("int", "float", "round"),
)  # fmt: skip
_ARGUMENTS = ("0", "1", "-1", "None", '""')
_FOR_NONE = ("0", "[]", '""', "False")
# What other languages than Python say, by its looks alone.
_WORD = re.compile(r"[A-Za-z_]\w*|\d+|[-+*/%=!<>&|]+")
_LOOKALIKES = (
    ("<", "<=", ">", ">=", "==", "!=", "===", "!=="), ("&&", "||"), ("and", "or"), ("+", "-", "*", "/", "%"),
    ("=", "+=", "-="), ("++", "--"), ("true", "false"), ("True", "False"), ("break", "continue"), ("!", ""),
)  # fmt: skip

_Used = TypeVar("_Used", str, tuple[str, str])


class Mutant(NamedTuple):
    """A row of a region, 0-based, in other words."""

    row: int
    text: str


def mutants(region: Region) -> tuple[Mutant, ...]:
    """Return the distinct mutants of a region's lines, by row; none where it should be Python and does not parse.

    Each has the indentation of its line and is in one line, as the expression that it changes is.
    """
    if not region.is_python:
        return tuple(dict.fromkeys(_lookalikes(region.text.split("\n"))))
    tree = parse(region.text)
    if tree is None:
        return ()
    dedented = textwrap.dedent(region.text).split("\n")
    margins = [row.removesuffix(rest) for row, rest in zip(region.text.split("\n"), dedented, strict=True)]
    words = _Words(tuple(row.encode(errors="replace") for row in dedented))
    every = (one for scope in _scopes(tree) for node in scope.nodes for one in _changed(node, scope, words))
    found = dict.fromkeys(Mutant(one.row, margins[one.row] + one.text) for one in every)
    return tuple(sorted(found, key=lambda mutant: mutant.row))


def _lookalikes(rows: Sequence[str]) -> Iterator[Mutant]:
    """Yield the rows with one word or sign exchanged for another of its kind."""
    names = _most_used(word for row in rows for word in re.findall(r"[A-Za-z_]\w*", row))
    for number, row in enumerate(rows):
        for found in _WORD.finditer(row) if len(row) <= WIDEST else ():
            word = found[0]
            others = [*(one for group in (*_LOOKALIKES, *_TWINS) if word in group for one in group)]
            if word.isdecimal():
                others += [str(int(word) + 1), str(int(word) - 1), "0", "1", *names]
            elif word.isidentifier():
                others += [*names, f"{word} + 1", f"{word} - 1"]
            yield from (Mutant(number, row[: found.start()] + other + row[found.end() :]) for other in others)


class _Words(NamedTuple):
    """The rows that a tree was parsed from, as bytes: the tree counts columns in UTF-8. Nodes stand in one row."""

    rows: tuple[bytes, ...]

    def of(self, node: ast.expr) -> str:
        """Return the words of an expression, without parentheses around it."""
        return self.between(node, node.col_offset, _end(node))

    def between(self, node: ast.expr, start: int, end: int) -> str:
        """Return what stands between two columns of the expression's row."""
        return self.rows[node.lineno - 1][start:end].decode(errors="replace")

    def changed(self, node: ast.expr | ast.stmt, text: str, start: int | None = None, end: int | None = None) -> Mutant:
        """Return the node's row with a text in the place of the node, or of what stands between two columns."""
        row = self.rows[node.lineno - 1]
        start, end = node.col_offset if start is None else start, _end(node) if end is None else end
        new = row[:start] + text.encode(errors="replace") + row[end:]
        return Mutant(node.lineno - 1, new.decode(errors="replace"))


def _end(node: ast.expr | ast.stmt) -> int:
    return node.end_col_offset or 0


class _Scope(NamedTuple):
    """The nodes of one function, or of the module and its classes but for their functions, and what it can speak of.

    `functions` are callables of the region, `attributes` pairs of a name and an attribute of it, `texts` short strings
    as they are written: of each those that are used most.
    """

    nodes: tuple[ast.AST, ...]
    names: tuple[str, ...]
    functions: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    texts: tuple[str, ...]


def _scopes(tree: ast.Module) -> Iterator[_Scope]:
    """Yield the module and every function. Python 3.11 does not say where the nodes inside an f-string stand."""
    every = tuple(ast.walk(tree))
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    functions = _most_used(node.name for node in every if isinstance(node, defined))
    assigned = (target for one in tree.body if isinstance(one, ast.Assign) for target in one.targets)
    shared = [target.id for target in assigned if isinstance(target, ast.Name)]
    owned = ((one.value, one.attr) for one in every if isinstance(one, ast.Attribute))
    attributes = _most_used(((one.id, name) for one, name in owned if isinstance(one, ast.Name)), MOST_ATTRIBUTES)
    alone = (node.value for node in every if isinstance(node, ast.Expr))
    documents = {id(value) for value in alone if isinstance(value, ast.Constant)}
    said = (node.value for node in every if isinstance(node, ast.Constant) and id(node) not in documents)
    short = (repr(text) for text in said if isinstance(text, str) and len(text) <= LONGEST_TEXT)
    texts = _most_used([*short, "''", "' '"])
    waiting: list[ast.AST] = [tree]
    while waiting:
        inner, nodes = list(ast.iter_child_nodes(waiting.pop())), list[ast.AST]()
        while inner:
            node = inner.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append(node)
            elif not isinstance(node, ast.JoinedStr) and id(node) not in documents:
                nodes.append(node)
                inner.extend(ast.iter_child_nodes(node))
        local = [node.id for node in nodes if isinstance(node, ast.Name)]
        local += [node.arg for node in nodes if isinstance(node, ast.arg)]
        yield _Scope(tuple(nodes), _most_used([*local, *shared]), functions, attributes, texts)


def _most_used(names: Iterable[_Used], most: int = MOST_NAMES) -> tuple[_Used, ...]:
    counts = Counter(names)
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:most])


def _changed(node: ast.AST, scope: _Scope, words: _Words) -> Iterator[Mutant]:
    if isinstance(node, ast.stmt | ast.expr) and len(words.rows[node.lineno - 1]) > WIDEST:
        return
    match node:
        case ast.expr() if node.lineno == node.end_lineno:
            yield from (words.changed(node, text) for text in _others(node, scope, words))
        case ast.Break() | ast.Continue():
            yield words.changed(node, "continue" if isinstance(node, ast.Break) else "break")
        case ast.If(test=test) | ast.While(test=test) if test.lineno == test.end_lineno:
            text = words.of(test)
            held = f"({text})" if isinstance(test, ast.BoolOp) else text
            for other in (f"not {held}", f"{text} is None", f"{text} is not None"):
                yield words.changed(test, other)
        case ast.Assign(targets=[*_, target], value=value) | ast.AugAssign(target=target, value=value):
            if target.end_lineno == value.lineno:
                start, end = _end(target), value.col_offset
                texts = (_ASSIGNMENT.sub(one, words.between(value, start, end), count=1) for one in _ASSIGNMENTS)
                yield from (words.changed(value, text, start, end) for text in texts)


def _others(node: ast.expr, scope: _Scope, words: _Words) -> Iterator[str]:
    """Yield other expressions for one; the names and texts that they use are the scope's."""
    match node:
        case ast.Compare():
            yield from _rejoined(node, [node.left, *node.comparators], words, _COMPARISON, _COMPARISONS)
            yield f"not {words.of(node.left)}"
        case ast.BinOp():
            yield from _rejoined(node, [node.left, node.right], words, _OPERATOR, _ARITHMETIC)
            yield from _regrouped(node, words)
        case ast.BoolOp():
            yield from _rejoined(node, node.values, words, _JUNCTION, ("and", "or"))
        case ast.UnaryOp():
            yield words.of(node.operand)
        case ast.Constant():
            yield from _constants(node.value, scope)
        case ast.Name(ctx=ast.Load()):
            yield from (*scope.names, *_twins(node.id))
            yield from (f"self.{name}" for base, name in scope.attributes if base == "self")
        case ast.Attribute():
            base = words.of(node.value)
            same = (name for owner, name in scope.attributes if owner == base)
            yield from (f"{base}.{name}" for name in (*same, *_twins(node.attr)))
        case ast.Call():
            yield from _calls(node, scope, words)
        case ast.Subscript():
            yield from _subscripts(node, words)
    yield from _wrapped(node, scope, words)


def _wrapped(node: ast.expr, scope: _Scope, words: _Words) -> Iterator[str]:
    """Yield what is done with a value that is read."""
    read = ast.Name | ast.Attribute | ast.Subscript | ast.Call | ast.BinOp | ast.BoolOp
    if not isinstance(node, read) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        return
    text = words.of(node)
    held = f"({text})" if isinstance(node, ast.BinOp | ast.BoolOp) else text
    yield from (f"{name}({text})" for name in (*_AROUND, *scope.functions))
    yield from (held + behind for behind in _BEHIND)
    yield f"-{held}"
    for name in scope.names:
        yield from (f"{text} {sign} {other}" for sign in "+-" for other in (name, f"len({name})"))


def _rejoined(
    node: ast.expr, parts: Sequence[ast.expr], words: _Words, operator: re.Pattern[str], others: Sequence[str]
) -> Iterator[str]:
    """Yield the parts with another operator between two neighbours, the two sides exchanged, and each side alone."""
    for left, right in pairwise(parts):
        gap = words.between(node, _end(left), right.col_offset)
        for symbol in operator.findall(gap)[:1]:
            before, _, after = gap.partition(symbol)
            before = words.between(node, node.col_offset, _end(left)) + before
            after += words.between(node, right.col_offset, _end(node))
            yield from (before + other + after for other in others)
            yield f"{after.strip()} {symbol} {before.strip()}"
            yield from (before.strip(), after.strip())


def _regrouped(node: ast.BinOp, words: _Words) -> Iterator[str]:
    """Yield `(a - b) * c` for `a - b * c`, and `a - (b + c)` for `a - b + c`."""
    text, start = words.of(node), node.col_offset
    left, right = node.right, node.left
    while isinstance(left, ast.BinOp):
        left = left.left
        yield f"({text[: _end(left) - start]}){text[_end(left) - start :]}"
    while isinstance(right, ast.BinOp):
        right = right.right
        yield f"{text[: right.col_offset - start]}({text[right.col_offset - start :]})"


def _constants(value: object, scope: _Scope) -> Iterator[str]:
    match value:
        case bool():
            yield str(not value)
        case int() | float():
            yield from (str(other) for other in (value + 1, value - 1, 0, 1, -1, 2))
            yield from scope.names
        case str():
            yield from scope.texts
        case None:
            yield from (*_FOR_NONE, *scope.names)


def _calls(node: ast.Call, scope: _Scope, words: _Words) -> Iterator[str]:
    if node.keywords:
        return
    called, said = words.of(node.func), [words.of(argument) for argument in node.args]
    lists = [[*said[:at], *said[at + 1 :]] for at in range(len(said))]
    lists += [[*said[:at], *said[at + 1 : at + 2], said[at], *said[at + 2 :]] for at in range(len(said))]
    lists += [[*said, more] for more in (*_ARGUMENTS, *scope.names, *scope.texts)]
    lists += [[more, *said] for more in ("0", "1")]
    yield from (f"{called}({', '.join(one)})" for one in lists)
    yield from said
    if isinstance(node.func, ast.Attribute):
        yield words.of(node.func.value)


def _subscripts(node: ast.Subscript, words: _Words) -> Iterator[str]:
    base, index = words.of(node.value), words.of(node.slice)
    yield base
    if isinstance(node.slice, ast.Slice):
        low, colon, high = index.partition(":")
        pairs = [(low, ""), ("", high), (low, "-1"), ("1", high), ("", "")]
        pairs += [(low, f"{high} {sign} 1") for sign in "+-" if high]
        pairs += [(f"{low} {sign} 1", high) for sign in "+-" if low]
        yield from (f"{base}[{first}{colon}{last}]" for first, last in pairs)
    else:
        yield from (f"{base}.get({index})", f"{base}.get({index}, 0)")
        yield from (f"{base}[{bounds}]" for bounds in (f"{index}:", f":{index}", f"-{index}"))


def _twins(name: str) -> list[str]:
    return [other for group in _TWINS if name in group for other in group]
