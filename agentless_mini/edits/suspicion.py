"""What a patch does that can make tests pass without a repair: it reaches for what runs tests, or for its own process.

Told by names alone, as a mark for people and for the order of equal patches: no honest fix does it often, and a hidden
one is not found. Only what a file did not do before is told.
"""

import ast
import re
from collections.abc import Container, Iterable, Iterator, Sequence

from agentless_mini.chain.file_roles import is_test_path
from agentless_mini.domain import FileChange
from agentless_mini.edits.sources import parse_python

_NAMES = {
    "imports what runs tests": r"import (?:_?pytest|unittest|pluggy|nose|doctest|amini_\w+)(?:\..*)?"
    r"|__main__\.(?!__(?:doc|file|name|package|spec)__).*",
    "defines what runs or judges tests": r"def (?:pytest_\w+|load_tests"
    r"|assert(?:Not)?(?:Equals?|True|False|Is|In|Raises|AlmostEqual))",
    "ends its process": r"sys\.exit|SystemExit|(?:builtins\.)?(?:exit|quit)|atexit(?:\..*)?",
    "ends or replaces its process at once": r"(?:\w+\.)*(?:os|posix)\.(?:_exit|abort|kill(?:pg)?|exec[lv]p?e?"
    r"|fork(?:pty)?|posix_spawnp?)|signal\.(?:raise_signal|alarm|setitimer|signal|pthread_kill)",
    "changes modules or builtins": r"(?:.*\.)?sys\.(?:modules|meta_path|path_hooks|path_importer_cache)"
    r"|(?:.*\.)?__builtins__(?:\..*)?"
    r"|(?:import )?builtins(?:\..*)?",
    "changes a module that it imports": r"set (?!sys\.(?:argv|path|std\w+)$).*",
    "looks at who calls it": r"(?:.*\.)?sys\.(?:_getframe|_current_frames|settrace|setprofile|monitoring)"
    r"|inspect\.(?:currentframe|stack|trace|get(?:inner|outer)frames|getargvalues)|_?signal\.getsignal"
    r"|traceback\.(?:walk|extract|format)_stack|threading\.set(?:trace|profile)\w*"
    r"|gc\.get_(?:objects|referrers|referents)|import ctypes(?:\..*)?"
    r"|.*\.(?:(?:tb|gi|cr|ag)_frame|f_(?:back|locals|globals|builtins)|__subclasses__|__closure__)",
    "runs text": r"(?:builtins\.)?(?:exec|eval|__import__)",
}
_RULES = {told: re.compile(pattern) for told, pattern in _NAMES.items()}
_IMPORTERS = {"__import__", "import_module", "resolve_name", "run_module"}
_CALLED = {"exit", "quit", "exec", "eval", "__import__"}  # words that mean something else unless they are called
_ASKING = re.compile(
    r"PYTEST_(?:CURRENT_TEST|VERSION)|^/mem$|\bamini[-_]|\.amini-box|AMINI_|/proc/(?:self|thread-self)/(?:mem|fd)|\bpytest_\w+"
)
_TEST_PATH = re.compile(r"\S*\btest(?:s/\S*|_\w+\.py)")
_LONGEST_PATH, _MOST_PARTS = 1024, 64
# Modules that rules name, and those whose classes tests and what runs them use.
_STANDARD = re.compile(
    "__main__|_signal|abc|ast|builtins|codecs|collections|contextlib|datetime|decimal|enum|fractions|functools|gc"
    "|importlib|inspect|io|json|linecache|logging|operator|os|pathlib|posix|re|signal|string|subprocess|sys|threading"
    "|time|tokenize|traceback|types|typing|warnings|zipimport"
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
        own = set(change.path.split("/"))
        told += [f"{change.path} {said}" for said in _told(change.after, own) - _told(change.before or b"", own)]
    return tuple(sorted(told))


def _told(data: bytes, own: Container[str]) -> frozenset[str]:
    """Return what is told of a file of a package that is one of its `own`."""
    try:
        nodes = list(ast.walk(parse_python(data)))
        names = frozenset(_names(nodes, own))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset({UNREAD})
    found = {told for told, rule in _RULES.items() if any(map(rule.fullmatch, names))}
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    asks = {ASKS} if any(map(_asks, texts)) else set()
    equal = {EQUAL} if _compares_blindly(nodes) else set()
    return frozenset(found | asks | equal)


def _asks(text: str) -> bool:
    return bool(_ASKING.search(text) or (len(text) <= _LONGEST_PATH and _TEST_PATH.fullmatch(text)))


def _names(nodes: Sequence[ast.AST], own: Container[str]) -> Iterator[str]:
    """Yield the dotted names that a module uses, as its imports say what they mean, what it imports and defines."""
    meanings: dict[str, str] = {}
    modules: set[str] = set()
    parts: set[str] = set()  # of other packages' modules
    judges: set[str] = set()  # those of them that tests feel, whatever becomes of them
    stars: set[str] = {""}
    methods = {id(one) for node in nodes if isinstance(node, ast.ClassDef) for one in node.body}
    for node in nodes:
        match node:
            case ast.Import(names=aliases):
                meanings |= {alias.asname: alias.name for alias in aliases if alias.asname}
                modules |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
                yield from (f"import {alias.name}" for alias in aliases)
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                meanings |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in aliases}
                stars |= {f"{module}." for alias in aliases if alias.name == "*" and _STANDARD.fullmatch(module)}
                package, held = module.partition(".")[0], {alias.asname or alias.name: alias.name for alias in aliases}
                parts |= held.keys() if package not in own else set()
                judges |= {one for one, said in held.items() if _STANDARD.fullmatch(package) or said == "testing"}
                yield from (f"import {module}", *(f"{module}.{alias.name}" for alias in aliases))
    for node in map(_got, nodes):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if (
                meanings.get(name, name).rpartition(".")[2] in _IMPORTERS
            ):
                said = [*node.args[:1], *(one.value for one in node.keywords if one.arg == "name")]
                yield from (f"import {str(getattr(one, 'value', '')).partition(':')[0]}" for one in said)
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
                yield name
            case ast.FunctionDef(name=name) if id(node) not in methods or name.startswith("assert"):
                yield f"def {name}"
            case ast.Name(id=name) if name not in _CALLED or name in meanings:
                yield from (meanings.get(name, f"{star}{name}") for star in stars)
            case ast.Attribute() | ast.Subscript(slice=ast.Constant(value=str())):
                first, _, rest = _dotted(node).partition(".")
                name = f"{meanings.get(first, first)}.{rest}"
                is_set = first in modules or (first in parts and (rest.startswith("__") or first in judges))
                is_set = is_set and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                yield from (name, f"set {name}") if is_set else (name,)


def _got(node: ast.AST) -> ast.AST:
    """Return a node; of a call of `getattr` or `setattr`, the attribute that it gets or sets."""
    match node:
        case ast.Call(func=ast.Name(id="getattr" | "setattr" as call), args=[of, ast.Constant(value=str(name)), *_]):
            return ast.Attribute(of, name, ast.Load() if call == "getattr" else ast.Store())
    return node


def _dotted(node: ast.expr) -> str:
    """Return the dotted name of an expression, that of a module's dictionary like that of the module.

    Raises `ValueError` where it has more parts than any that people write.
    """
    parts: list[str] = []
    while len(parts) < _MOST_PARTS:
        match node:
            case (
                ast.Attribute(value=of, attr=name)
                | ast.Subscript(
                    value=ast.Attribute(value=of, attr="__dict__" | "__globals__")
                    | ast.Call(func=ast.Name(id="vars"), args=[of])
                    | (ast.Call(func=ast.Name(id="globals")) as of),
                    slice=ast.Constant(value=str(name)),
                )
                | ast.Subscript(value=ast.Name(id="__builtins__") as of, slice=ast.Constant(value=str(name)))
            ):
                node, parts = of, [*parts, name]
            case _:
                return ".".join(reversed([*parts, node.id if isinstance(node, ast.Name) else ""]))
    raise ValueError("a name of too many parts")


def _compares_blindly(nodes: Sequence[ast.AST]) -> bool:
    """Tell whether a comparison is defined, assigned or set that does not look at the object, and may be true."""
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    pairs: list[tuple[object, object]] = []
    for node in nodes:
        match node:
            case ast.FunctionDef():
                pairs.append((node.name, node))
            case (
                ast.Assign(targets=[ast.Name(id=said) | ast.Attribute(attr=said)], value=made)
                | ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value=said), made])
            ):
                pairs.append((said, made))
            case ast.Dict():
                pairs += [(getattr(key, "value", ""), made) for key, made in zip(node.keys, node.values, strict=True)]
    found = [made for said, made in pairs if said in _COMPARISONS]
    return any(_is_blind(functions.get(one.id) if isinstance(one, ast.Name) else one) for one in found)


def _is_blind(made: object) -> bool:
    if not isinstance(made, ast.FunctionDef | ast.Lambda) or not made.args.args:
        return False
    body = [ast.Return(made.body)] if isinstance(made, ast.Lambda) else made.body
    inner = [one for statement in body for one in ast.walk(statement)]
    values = [one.value for one in inner if isinstance(one, ast.Return) and one.value is not None]
    says = [value for value in values if ast.unparse(value) not in {"False", "NotImplemented"}]
    known = {made.args.args[0].arg, "super"}
    return bool(says) and not any(isinstance(one, ast.Name) and one.id in known for one in inner)
