"""Faults in expressions: operators, bounds, conditions, arguments, names and calls."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace

from agentless_mini.learning.bugs.faults import Fault, Kind, Page, is_in_one_row, neighbours

_OPERATORS = {
    "+": ("-",), "-": ("+",), "*": ("+", "//"), "/": ("//", "*"), "//": ("/", "%"), "%": ("//",), "**": ("*",),
    "<<": (">>",), ">>": ("<<",), "&": ("|",), "|": ("&",), "^": ("|",),
    "==": ("!=",), "!=": ("==",), "in": ("not in",), "not in": ("in",), "is": ("is not",), "is not": ("is",),
}  # fmt: skip
_BOUNDS = {"<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<=")}
_SYMBOL = re.compile(r"\*\*|//|<<|>>|[<>=!]=|\bnot\s+in\b|\bis\s+not\b|\bin\b|\bis\b|[-+*/%&|^<>]")
# Functions and methods that are taken for one another; the first is what stands there.
_TWINS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "append": "extend", "extend": "append", "strip": "rstrip",
    "lstrip": "strip", "rstrip": "strip", "find": "rfind", "rfind": "find", "index": "rindex", "rindex": "index",
    "split": "rsplit", "rsplit": "split", "startswith": "endswith", "endswith": "startswith", "lower": "upper",
    "upper": "lower", "keys": "values", "values": "keys", "items": "keys", "get": "pop", "isdigit": "isalnum",
    "isalpha": "isalnum", "isalnum": "isalpha", "floor": "ceil", "ceil": "floor", "match": "search", "search": "match",
    "fullmatch": "match", "ljust": "rjust", "rjust": "ljust", "removeprefix": "removesuffix", "update": "setdefault",
    "removesuffix": "removeprefix", "union": "intersection", "intersection": "union", "difference": "intersection",
    "partition": "rpartition", "rpartition": "partition", "sorted": "list", "popleft": "pop",
    "setdefault": "get", "add": "discard", "insert": "append", "finditer": "findall", "sub": "subn", "group": "groups",
    "int": "float", "float": "int", "reversed": "list", "abs": "int", "title": "capitalize", "capitalize": "title",
    "isspace": "isdigit", "round": "int", "sum": "max", "zip": "enumerate", "remove": "append", "bool": "str",
}  # fmt: skip
_MOST_NAMES = 3


def expression_faults(page: Page) -> Iterator[Fault]:
    """Yield the faults in the expressions of a function."""
    names = page.names()
    for node in page.body():
        if is_in_one_row(node):
            yield from _of_row(page, node, names)
        match node:
            case ast.Call():
                yield from (*_calls(page, node), *_arguments(page, node))
            case ast.Subscript():
                yield from _bounds(page, node)
            case ast.comprehension():
                yield from (fault for test in node.ifs for fault in negated(page, test))
            case ast.IfExp():
                yield from negated(page, node.test)


def _of_row(page: Page, node: ast.AST, names: tuple[str, ...]) -> Iterator[Fault]:
    match node:
        case ast.Compare():
            yield from _joined(page, [node.left, *node.comparators])
        case ast.BinOp():
            yield from _joined(page, [node.left, node.right])
        case ast.BoolOp():
            yield from _junctions(page, node)
        case ast.Name(ctx=ast.Load()) if node.id in names:
            yield from _names(page, node, names)
        case ast.UnaryOp(op=ast.Not()):
            yield from page.instead(Kind.CONDITION, node, page.of(node.operand))


def negated(page: Page, test: ast.expr) -> Iterator[Fault]:
    """Yield the negation of a condition, if it is in one row and no operator stands for it."""
    if is_in_one_row(test) and not isinstance(test, ast.Compare | ast.UnaryOp):
        words = page.of(test)
        yield from page.instead(
            Kind.CONDITION, test, f"not ({words})" if isinstance(test, ast.BoolOp) else f"not {words}"
        )


def _joined(page: Page, parts: list[ast.expr]) -> Iterator[Fault]:
    """Yield other operators between the parts, and another number beside a comparison or a sum."""
    for left, right in neighbours(parts):
        found = _SYMBOL.search(gap := page.gap(left, right))
        if found is None:
            continue
        symbol = re.sub(r"\s+", " ", found[0])
        kind, others = (
            (Kind.BOUND, _BOUNDS[symbol]) if symbol in _BOUNDS else (Kind.OPERATOR, _OPERATORS.get(symbol, ()))
        )
        columns = (left.end_col_offset or 0, right.col_offset)
        for other in others:
            text = gap[: found.start()] + other + gap[found.end() :]
            yield page.between(kind, left.lineno - 1, columns, text)
        if symbol in {*_BOUNDS, "+", "-", "==", "!="}:
            yield from (fault for part in (left, right) for fault in _off_by_one(page, part))


def _off_by_one(page: Page, node: ast.expr) -> Iterator[Fault]:
    if isinstance(node, ast.Constant) and type(node.value) is int and is_in_one_row(node):
        for other in (node.value + 1, node.value - 1):
            if other >= 0:
                yield from page.instead(Kind.BOUND, node, str(other))


def _junctions(page: Page, node: ast.BoolOp) -> Iterator[Fault]:
    """Yield a condition with `and` for `or`, and with a part of it dropped; of `x or default` a guard is gone."""
    for left, right in neighbours(node.values):
        gap = page.gap(left, right)
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        columns = (left.end_col_offset or 0, right.col_offset)
        if gap.strip() == old:
            yield page.between(Kind.CONDITION, node.lineno - 1, columns, gap.replace(old, new))
            is_default = isinstance(node.op, ast.Or) and isinstance(
                right, ast.Constant | ast.List | ast.Dict | ast.Tuple
            )
            kind = Kind.GUARD if is_default or isinstance(left, ast.Name) else Kind.CONDITION
            yield page.between(kind, node.lineno - 1, (left.col_offset, right.col_offset), "")
            yield page.between(
                kind if is_default else Kind.CONDITION, node.lineno - 1, (columns[0], right.end_col_offset or 0), ""
            )


def _names(page: Page, node: ast.Name, names: tuple[str, ...]) -> Iterator[Fault]:
    """Yield other variables of the function: those that are named next to this one."""
    at = names.index(node.id)
    near = sorted((name for name in names if name != node.id), key=lambda name: (abs(names.index(name) - at), name))
    for name in near[:_MOST_NAMES]:
        yield from page.instead(Kind.NAME, node, name)


def _calls(page: Page, node: ast.Call) -> Iterator[Fault]:
    """Yield the call of a twin, and what a method without arguments is called on."""
    called = node.func
    if isinstance(called, ast.Name) and called.id in _TWINS:
        yield from page.instead(Kind.CALL, called, _TWINS[called.id])
    if isinstance(called, ast.Attribute) and is_in_one_row(called):
        base = page.of(called.value)
        if called.attr in _TWINS:
            yield from page.instead(Kind.CALL, called, f"{base}.{_TWINS[called.attr]}")
        if not node.args and not node.keywords and is_in_one_row(node):
            yield from page.instead(Kind.CALL, node, base)
    if isinstance(called, ast.Name) and len(node.args) == 1 and not node.keywords and is_in_one_row(node):
        yield from page.instead(Kind.CALL, node, page.of(node.args[0]))


def _arguments(page: Page, node: ast.Call) -> Iterator[Fault]:
    """Yield two arguments exchanged, the last one dropped, and one that is off by one or the opposite."""
    for left, right in neighbours(node.args):
        columns = (left.col_offset, right.end_col_offset or 0)
        said = page.of(right) + page.gap(left, right) + page.of(left)
        yield page.between(Kind.ARGUMENT, left.lineno - 1, columns, said)
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    for left, right in list(neighbours(values))[-1:]:
        columns = (left.end_col_offset or 0, right.end_col_offset or 0)
        yield page.between(Kind.ARGUMENT, left.lineno - 1, columns, "")
    for value in values:
        yield from (replace(fault, kind=Kind.ARGUMENT) for fault in _off_by_one(page, value))
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            yield from page.instead(Kind.ARGUMENT, value, str(not value.value))


def _bounds(page: Page, node: ast.Subscript) -> Iterator[Fault]:
    """Yield indices and slices that are off by one, or lack a side."""
    if not isinstance(node.slice, ast.Slice):
        inner = node.slice.operand if isinstance(node.slice, ast.UnaryOp) else node.slice
        yield from _off_by_one(page, inner)
        return
    for side in filter(None, (node.slice.lower, node.slice.upper)):
        inner = side.operand if isinstance(side, ast.UnaryOp) else side
        yield from _off_by_one(page, inner)
        if is_in_one_row(side) and not isinstance(inner, ast.Constant):
            yield from page.instead(Kind.BOUND, side, f"{page.of(side)} + 1")
            yield from page.instead(Kind.BOUND, side, f"{page.of(side)} - 1")
        if is_in_one_row(side):
            yield from page.instead(Kind.BOUND, side, "")
