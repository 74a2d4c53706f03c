"""The names that Python statements bind, and those that they use undefined, as pyflakes tells them."""

import ast
from collections.abc import Collection, Iterable, Sequence

from agentless_mini.edits.sources import parse_python, silence_compiler

STAR = "*"
"""Stands for the names that `from ... import *` binds, which nobody knows."""
_INJECTED = {"_"}  # gettext installs it into the builtins


def bound(statements: Iterable[ast.stmt]) -> frozenset[str]:
    """Return the names that the statements bind in their own scope, and those that functions in them bind globally."""
    names: set[str] = set()
    todo: list[tuple[ast.AST, bool]] = [(statement, True) for statement in statements]
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
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.Import(names=aliases):
            return (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.ImportFrom(names=aliases):
            return (alias.asname or alias.name for alias in aliases)
        case ast.Name(id=name, ctx=ast.Store()):
            return (name,)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return (name,)
        case ast.MatchMapping(rest=str(name)):
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
