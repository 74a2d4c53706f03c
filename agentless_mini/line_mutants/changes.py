"""Other expressions for an expression that stands in one row, as text.

What is around an expression is not looked at: `a + b` in the place of `a` may regroup what stands next to it, and the
result is a change like any other.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from agentless_mini.line_mutants.scopes import Scope
from agentless_mini.line_mutants.words import Words, end_of

_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=", "in", "not in", "is", "is not")
_COMPARISON = re.compile(r"not\s+in\b|is\s+not\b|in\b|is\b|[<>=!]=|<|>")
_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**")
_OPERATOR = re.compile(r"\*\*|//|<<|>>|[-+*/%@&|^]")
_JUNCTION = re.compile(r"\b(?:and|or)\b")

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


def changes(node: ast.expr, scope: Scope, words: Words) -> Iterator[str]:
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
        case _:
            yield from _other_atoms(node, scope, words)
    if _is_read(node):
        yield from _wrapped(node, scope, words)


def _other_atoms(node: ast.expr, scope: Scope, words: Words) -> Iterator[str]:
    match node:
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


def _is_read(node: ast.expr) -> bool:
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.Call | ast.BinOp | ast.BoolOp)


def _wrapped(node: ast.expr, scope: Scope, words: Words) -> Iterator[str]:
    text = words.of(node)
    held = f"({text})" if isinstance(node, ast.BinOp | ast.BoolOp) else text
    yield from (f"{name}({text})" for name in (*_AROUND, *scope.functions))
    yield from (held + behind for behind in _BEHIND)
    yield f"-{held}"
    for name in scope.names:
        yield from (f"{text} {sign} {other}" for sign in "+-" for other in (name, f"len({name})"))


def _rejoined(
    node: ast.expr, parts: Sequence[ast.expr], words: Words, operator: re.Pattern[str], others: Sequence[str]
) -> Iterator[str]:
    """Yield the parts with another operator between two neighbours, the two sides exchanged, and each side alone."""
    for left, right in pairwise(parts):
        gap = words.between(node, end_of(left), right.col_offset)
        for symbol in operator.findall(gap)[:1]:
            before, _, after = gap.partition(symbol)
            before = words.between(node, node.col_offset, end_of(left)) + before
            after += words.between(node, right.col_offset, end_of(node))
            yield from (before + other + after for other in others)
            yield f"{after.strip()} {symbol} {before.strip()}"
            yield from (before.strip(), after.strip())


def _regrouped(node: ast.BinOp, words: Words) -> Iterator[str]:
    """Yield `(a - b) * c` for `a - b * c`, and `a - (b + c)` for `a - b + c`."""
    text, start = words.of(node), node.col_offset
    left = node.right
    while isinstance(left, ast.BinOp):
        left = left.left
        at = end_of(left) - start
        yield f"({text[:at]}){text[at:]}"
    right = node.left
    while isinstance(right, ast.BinOp):
        right = right.right
        at = right.col_offset - start
        yield f"{text[:at]}({text[at:]})"


def _constants(value: object, scope: Scope) -> Iterator[str]:
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


def _calls(node: ast.Call, scope: Scope, words: Words) -> Iterator[str]:
    """Yield the call with an argument less or more or two exchanged, an argument alone, and what the method is of."""
    if not node.keywords:
        called, said = words.of(node.func), [words.of(argument) for argument in node.args]
        yield from (f"{called}({', '.join(one)})" for one in _argument_lists(said, scope))
        yield from said
        if isinstance(node.func, ast.Attribute):
            yield words.of(node.func.value)


def _argument_lists(said: Sequence[str], scope: Scope) -> Iterator[Sequence[str]]:
    for at in range(len(said)):
        yield [*said[:at], *said[at + 1 :]]
        yield [*said[:at], *said[at + 1 : at + 2], said[at], *said[at + 2 :]]
    yield from ([*said, more] for more in (*_ARGUMENTS, *scope.names, *scope.texts))
    yield from ([more, *said] for more in ("0", "1"))


def _subscripts(node: ast.Subscript, words: Words) -> Iterator[str]:
    base, index = words.of(node.value), words.of(node.slice)
    yield base
    if isinstance(node.slice, ast.Slice):
        yield from (f"{base}[{bounds}]" for bounds in _bounds(index))
    else:
        yield from (f"{base}.get({index})", f"{base}.get({index}, 0)")
        yield from (f"{base}[{bounds}]" for bounds in (f"{index}:", f":{index}", f"-{index}"))


def _bounds(index: str) -> Iterator[str]:
    low, colon, high = index.partition(":")
    pairs = [(low, ""), ("", high), (low, "-1"), ("1", high), ("", "")]
    pairs += [(low, f"{high} {sign} 1") for sign in "+-" if high]
    pairs += [(f"{low} {sign} 1", high) for sign in "+-" if low]
    yield from (first + colon + last for first, last in pairs)


def _twins(name: str) -> Iterator[str]:
    for group in _TWINS:
        if name in group:
            yield from group
