"""What the code of one function can speak of: the names in scope, and attributes and texts that the region uses."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

# Bounds on what each expression is combined with, or long functions would have mutants by the hundred thousand.
MOST_NAMES = 16
MOST_ATTRIBUTES = 48
_LONGEST_TEXT = 20

_Used = TypeVar("_Used", str, tuple[str, str])
_Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Scope:
    """The nodes of one function, or of the module and its classes but for their functions, and what it can speak of.

    `names` are variables, `functions` callables of the region, `attributes` pairs of an expression and an attribute
    of it, and `texts` short strings as they are written: of each those that are used most.
    """

    nodes: tuple[ast.AST, ...]
    names: tuple[str, ...]
    functions: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    texts: tuple[str, ...]


def scopes(tree: ast.Module) -> Iterator[Scope]:
    """Yield the module and every function."""
    every = tuple(ast.walk(tree))
    functions = _most_used(node.name for node in every if isinstance(node, _Defined))
    shared = tuple(_assigned(tree))
    attributes = _most_used(_attributes(every), MOST_ATTRIBUTES)
    texts = _most_used(_texts(every))
    for nodes in _bodies(tree):
        yield Scope(nodes, _most_used([*_local(nodes), *shared]), functions, attributes, texts)


def _most_used(names: Iterable[_Used], most: int = MOST_NAMES) -> tuple[_Used, ...]:
    counts = Counter(names)
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:most])


def _attributes(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield the attributes of names: what is before the dot is short then."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr


def _assigned(tree: ast.Module) -> Iterator[str]:
    """Yield the module's own variables."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def _local(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


def _texts(nodes: Sequence[ast.AST]) -> Iterator[str]:
    documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    said = (node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in documents)
    yield from (repr(text) for text in said if isinstance(text, str) and len(text) <= _LONGEST_TEXT)
    yield from ("''", "' '")


def _bodies(tree: ast.Module) -> Iterator[tuple[ast.AST, ...]]:
    """Yield the nodes of each scope. Python 3.11 does not say where those inside an f-string stand."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        inner: list[ast.AST] = list(ast.iter_child_nodes(waiting.pop()))
        nodes: list[ast.AST] = []
        while inner:
            node = inner.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append(node)
            elif not isinstance(node, ast.JoinedStr):
                nodes.append(node)
                inner.extend(ast.iter_child_nodes(node))
        yield tuple(nodes)
