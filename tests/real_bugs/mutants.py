"""Small changes of some lines of a Python file, in a fixed order: what is left to be wrong where releases run out.

The file keeps its own text, so that the patch is as small as a model's.
"""

import ast
import copy
from collections.abc import Collection, Iterator

_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In
}  # fmt: skip
_PLAIN = ast.Assign | ast.AugAssign | ast.Expr | ast.Raise | ast.Return | ast.Continue | ast.Break


def mutants(data: bytes, lines: Collection[int]) -> list[bytes]:
    """Return the file in every version that has one change in something that begins on one of the lines, from 1.

    A condition negated, a comparison or `and`/`or` turned round, a number one larger, an argument left out, a plain
    statement replaced by `pass`. Text in f-strings stays as it is: its place is not known before Python 3.12.
    """
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[bytes] = []
    for node in _nodes(ast.parse(data)):
        if node.lineno in lines and node.end_lineno is not None and node.end_col_offset is not None:
            begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            found += [data[:begin] + text.encode() + data[end:] for text in _changed(node)]
    return found


def _nodes(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.expr | ast.stmt):
            yield child
        if not isinstance(child, ast.JoinedStr):
            yield from _nodes(child)


def _changed(node: ast.expr | ast.stmt) -> Iterator[str]:
    if isinstance(node, _PLAIN):
        yield "pass"
    elif isinstance(node, ast.If | ast.While):
        yield from _negated(node)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield str(node.value + 1)
    else:
        yield from (f"({ast.unparse(change)})" for change in _expressions(node))


def _negated(node: ast.If | ast.While) -> Iterator[str]:
    change = copy.copy(node)
    change.test = ast.UnaryOp(ast.Not(), node.test)
    yield ast.unparse(change).replace("\n", "\n" + " " * node.col_offset)


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        yield ast.Compare(node.left, [_OPPOSITES[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        yield from node.values
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    for place in range(len(node.args)):
        yield ast.Call(node.func, [*node.args[:place], *node.args[place + 1 :]], node.keywords)
    for place in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, [*node.keywords[:place], *node.keywords[place + 1 :]])
