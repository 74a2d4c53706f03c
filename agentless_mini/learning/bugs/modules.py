"""What a module defines at its top, statement by statement, and which names each statement needs from elsewhere.

Names are told by the syntax tree alone: a name that is both local and the module's counts as the module's.
"""

import ast
import builtins
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed module. `bound` has the numbers of the top statements that bind a name, in their order.

    `needs` is the memory of what is worked out of them.
    """

    path: str
    text: str
    statements: tuple[ast.stmt, ...]
    bound: dict[str, tuple[int, ...]] = field(hash=False)
    needs: "dict[int, Needs]" = field(default_factory=dict, hash=False, compare=False)

    def words(self, number: int) -> str:
        """Return a statement as it is written, decorators included; "" where it shares a line with another."""
        statement = self.statements[number]
        rows = self.text.split("\n")
        first, last = first_row(statement), statement.end_lineno or 0
        for other in self.statements:
            if other is not statement and first_row(other) <= last and (other.end_lineno or 0) >= first:
                return ""
        return "\n".join(rows[first - 1 : last])


@dataclass(frozen=True, slots=True)
class Needs:
    """What a statement needs: the names that it loads, those that it binds itself, and what it reaches out to."""

    names: tuple[str, ...]
    local: frozenset[str]
    reached: str


def first_row(statement: ast.stmt) -> int:
    """Return the 1-based row that a statement begins in, its decorators included."""
    decorators = statement.decorator_list if isinstance(statement, Defined) else []
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def parse_module(path: str, text: str) -> Module | None:
    """Return a module; None where this interpreter cannot parse it."""
    try:
        with warnings.catch_warnings():  # what the compiler thinks of foreign code is not our user's concern
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bound: dict[str, tuple[int, ...]] = {}
    for number, statement in enumerate(tree.body):
        for name in dict.fromkeys(binds(statement)):
            bound[name] = (*bound.get(name, ()), number)
    return Module(path, text, tuple(tree.body), bound)


def binds(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a top statement binds in its module."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
                continue
            case ast.Import():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Lambda():
                continue
        waiting.extend(ast.iter_child_nodes(node))


def free_names(node: ast.AST) -> tuple[str, ...]:
    """Return the names that a statement may need from its module or Python, those in annotations left out."""
    nodes = tuple(evaluated(node))
    loaded = {inner.id for inner in nodes if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)}
    return tuple(sorted(loaded))


def local_names(node: ast.AST) -> frozenset[str]:
    """Return the names that a statement binds anywhere in it."""
    found: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.alias(asname=str(name)):
                found.add(name)
            case ast.alias(name=name):
                found.add(name.partition(".")[0])
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.add(name)
    return frozenset(found)


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one, but for annotations: those are left unevaluated."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        yield inner
        for name, value in ast.iter_fields(inner):
            if name not in {"annotation", "returns"}:
                waiting.extend(item for item in (value if isinstance(value, list) else [value]) if _is_node(item))


def substance(function: ast.FunctionDef) -> str:
    """Return what a function does, as a text that copies of it share: its docstring and annotations are left out."""
    bare = copy.copy(function)
    if ast.get_docstring(function, clean=False) is not None:
        bare.body = function.body[1:]
    return "\n".join(f"{type(node).__name__} {_plain_fields(node)}" for node in evaluated(bare))


def _plain_fields(node: ast.AST) -> list[object]:
    """Return the values that a node holds itself, and how many nodes are in each of its lists."""
    left_out = {"annotation", "returns", "type_comment", "kind"}
    fields = [value for name, value in ast.iter_fields(node) if name not in left_out]
    return [_count(value) if isinstance(value, list) else None if _is_node(value) else repr(value) for value in fields]


def _count(values: list[object]) -> object:
    return len(values) if any(map(_is_node, values)) else repr(values)


def _is_node(value: object) -> bool:
    return isinstance(value, ast.AST)
