"""The peer of line rewriting: plain mutants of a module's syntax tree, each with one change, without a model.

The usual operators of mutation testing: comparisons, arithmetic, boolean operators, constants, negation, swapped
arguments, dropped arguments, slices and calls of `min`/`max`.
"""

import ast
import copy
from collections.abc import Iterator

COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Div, ast.Mod)
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any", "append": "extend", "extend": "append"}


def mutants(code: str) -> list[str]:
    """Return the distinct mutants of a module, as code."""
    tree = ast.parse(code)
    seen = {ast.dump(tree)}
    found = []
    for place, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            mutant = copy.deepcopy(tree)
            _put(mutant, place, change)
            form = ast.dump(mutant)
            if form not in seen:
                seen.add(form)
                found.append(ast.unparse(ast.fix_missing_locations(mutant)))
    return found


def _put(tree: ast.AST, place: int, change: ast.AST) -> None:
    """Make the node at a place of the walk equal to `change`."""
    node = list(ast.walk(tree))[place]
    if type(node) is type(change):
        node.__dict__.clear()
        node.__dict__.update(copy.deepcopy(change).__dict__)
        return
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, change)
            elif isinstance(value, list) and any(item is node for item in value):
                value[:] = [change if item is node else item for item in value]


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    yield from _operators(node)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield from (ast.Constant(value) for value in (node.value + 1, node.value - 1, 0, 1))
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    if isinstance(node, ast.Call):
        yield from _calls(node)
    if isinstance(node, ast.If | ast.While):
        yield type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from (ast.BinOp(node, operator, ast.Constant(1)) for operator in (ast.Add(), ast.Sub()))
    if isinstance(node, ast.expr) and isinstance(node, ast.BinOp | ast.Call):
        yield from (ast.BinOp(node, operator, ast.Constant(1)) for operator in (ast.Add(), ast.Sub()))


def _operators(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (ast.Compare(node.left, [kind()], node.comparators) for kind in COMPARISONS)
    elif isinstance(node, ast.BinOp):
        yield from (ast.BinOp(node.left, kind(), node.right) for kind in ARITHMETIC)
        yield ast.BinOp(node.right, node.op, node.left)
        yield from (node.left, node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in TWINS:
        yield ast.Call(ast.Name(TWINS[node.func.id], ast.Load()), node.args, node.keywords)
    if isinstance(node.func, ast.Attribute) and node.func.attr in TWINS:
        yield ast.Call(ast.Attribute(node.func.value, TWINS[node.func.attr], ast.Load()), node.args, node.keywords)
    for place in range(len(node.args)):
        yield ast.Call(node.func, node.args[:place] + node.args[place + 1 :], node.keywords)
    if len(node.args) == 2:
        yield ast.Call(node.func, node.args[::-1], node.keywords)
    yield from node.args
