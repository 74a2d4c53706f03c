"""What a patch does that can make tests pass without a repair: it reaches for what runs tests, or for its own process.

Told by names alone, as a mark for people and for the order of equal patches: no honest fix does it often, and a hidden
one is not found. Only what a file did not do before is told.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from agentless_mini.chain.file_roles import is_test_path
from agentless_mini.domain import FileChange
from agentless_mini.edits.sources import parse_python

_NAMES = {
    "imports what runs tests": r"import (?:_?pytest|unittest|pluggy|nose|doctest|amini_\w+)(?:\..*)?"
    r"|__main__\.(?!__(?:doc|file|name|package|spec)__).*",
    "ends its process": r"sys\.exit|SystemExit|(?:builtins\.)?(?:exit|quit)|atexit(?:\..*)?",
    "ends or replaces its process at once": r"(?:\w+\.)*(?:os|posix)\.(?:_exit|abort|kill(?:pg)?|exec[lv]p?e?"
    r"|fork(?:pty)?|posix_spawnp?)|signal\.(?:raise_signal|alarm|setitimer|signal|pthread_kill)",
    "changes modules or builtins": r"(?:\w+\.)*sys\.(?:modules|meta_path|path_hooks)|__builtins__"
    r"|(?:import )?builtins(?:\..*)?",
    "changes a module that it imports": r"set (?!sys\.(?:argv|path|std\w+)$).*",
    "looks at who calls it": r"(?:\w+\.)*sys\.(?:_getframe|_current_frames|settrace|setprofile)"
    r"|inspect\.(?:currentframe|stack|getouterframes)|gc\.get_(?:objects|referrers|referents)|import ctypes(?:\..*)?"
    r"|.*\.(?:(?:tb|gi|cr|ag)_frame|f_(?:back|locals|globals|builtins)|__subclasses__)",
    "runs text": r"(?:builtins\.)?(?:exec|eval|__import__)",
}
_RULES = {told: re.compile(pattern) for told, pattern in _NAMES.items()}
_IMPORTERS = {"__import__", "import_module"}
_CALLED = {"exit", "quit", "exec", "eval", "__import__"}  # words that mean something else unless they are called
_ASKING = re.compile(
    r"PYTEST_CURRENT_TEST|\bamini[-_]|\.amini-box|AMINI_|/proc/(?:self|thread-self)/(?:mem|fd)|\bpytest_\w+|^\S*\btest(?:s/\S*|_\w+\.py)$"
)
ASKS = "asks for the tests"
UNREAD = "cannot be read"
EQUAL = "compares without looking at itself"
_COMPARISONS = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__", "__bool__"}


def suspicions(changes: Iterable[FileChange]) -> tuple[str, ...]:
    """Return what is suspicious in the changes, sorted, each with its file. Tests are left out: theirs are undone."""
    told: list[str] = []
    for change in changes:
        if change.after is None or not change.path.endswith(".py") or is_test_path(change.path):
            continue
        told += [f"{change.path} {said}" for said in _told(change.after) - _told(change.before or b"")]
    return tuple(sorted(told))


def _told(data: bytes) -> frozenset[str]:
    """Return what is told of a file."""
    try:
        nodes = list(ast.walk(parse_python(data)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset({UNREAD})
    names = frozenset(_names(nodes))
    found = {told for told, rule in _RULES.items() if any(map(rule.fullmatch, names))}
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    asks = {ASKS} if any(map(_ASKING.search, texts)) else set()
    equal = {EQUAL} if any(map(_is_blind, nodes)) else set()
    return frozenset(found | asks | equal)


def _names(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the dotted names that a module uses, as its imports say what they mean, and what it imports."""
    meanings: dict[str, str] = {}
    modules: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import(names=aliases):
                meanings |= {alias.asname: alias.name for alias in aliases if alias.asname}
                modules |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
                yield from (f"import {alias.name}" for alias in aliases)
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                meanings |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in aliases}
                yield from (f"import {module}", *(f"{module}.{alias.name}" for alias in aliases))
    for node in map(_got, nodes):
        match node:
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(module)), *_]
            ) if name in _IMPORTERS:
                yield f"import {module}"
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
                yield name
            case ast.Name(id=name) if name not in _CALLED or name in meanings:
                yield meanings.get(name, name)
            case ast.Attribute():
                first, _, rest = _dotted(node).partition(".")
                name = f"{meanings.get(first, first)}.{rest}"
                yield from (name, f"set {name}") if first in modules and isinstance(node.ctx, ast.Store) else (name,)


def _got(node: ast.AST) -> ast.AST:
    """Return a node; of a call of `getattr` or `setattr`, the attribute that it gets or sets."""
    match node:
        case ast.Call(func=ast.Name(id="getattr" | "setattr" as call), args=[of, ast.Constant(value=str(name)), *_]):
            return ast.Attribute(of, name, ast.Load() if call == "getattr" else ast.Store())
    return node


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id if isinstance(node, ast.Name) else ""]))


def _is_blind(node: ast.AST) -> bool:
    """Tell whether it defines a comparison that does not look at the object itself, and may be true."""
    match node:
        case ast.FunctionDef(name=name, args=ast.arguments(args=[first, *_]), body=body) if name in _COMPARISONS:
            inner = [one for statement in body for one in ast.walk(statement)]
            values = [one.value for one in inner if isinstance(one, ast.Return) and one.value is not None]
        case ast.Assign(
            targets=[ast.Name(id=name) | ast.Attribute(attr=name)],
            value=ast.Lambda(args=ast.arguments(args=[first, *_]), body=value),
        ) if name in _COMPARISONS:
            inner, values = list(ast.walk(value)), [value]
        case _:
            return False
    says = [value for value in values if ast.unparse(value) not in {"False", "NotImplemented"}]
    return bool(says) and not any(isinstance(one, ast.Name) and one.id in {first.arg, "super"} for one in inner)
