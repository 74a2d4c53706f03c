"""Cuts a module down to what one of its functions or classes needs, as a file that runs alone.

Statements are copied word for word, in their order; imports are reduced to what is used. What a package imports from
its own modules is copied too. What needs anything outside of the standard library, or reaches the system, is not cut.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentless_mini.learning.bugs.modules import BUILTINS, Module, Needs, free_names, local_names

FUTURE = "from __future__ import annotations"
# Modules that touch nothing outside of the process, and give the same on every machine.
PURE = frozenset(
    {
        "abc", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "codecs", "collections", "colorsys",
        "contextlib", "copy", "copyreg", "dataclasses", "datetime", "decimal", "difflib", "email", "encodings", "enum",
        "errno", "fnmatch", "fractions", "functools", "graphlib", "hashlib", "heapq", "html", "http", "io", "inspect",
        "ipaddress", "itertools", "json", "keyword", "math", "ntpath", "numbers", "operator",
        "posixpath", "pprint", "quopri", "re", "reprlib", "shlex", "stat", "statistics", "string", "struct",
        "textwrap", "token", "tokenize", "types", "typing", "unicodedata", "urllib", "warnings", "weakref",
        "zlib", "__future__",
    }
)  # fmt: skip
_OF_SYSTEM = {
    "os": {"path", "sep", "altsep", "linesep", "pathsep", "fspath", "extsep", "curdir", "pardir"},
    "sys": {"maxsize", "version_info", "byteorder", "maxunicode", "float_info", "platform"},
    "random": {"Random"},
    "uuid": {"UUID", "uuid3", "uuid5", "NAMESPACE_DNS", "NAMESPACE_URL", "NAMESPACE_OID", "NAMESPACE_X500"},
}
_PATHS = {"path", "posixpath", "ntpath"}
_OF_DISK = frozenset(
    {
        "exists", "lexists", "isfile", "isdir", "islink", "ismount", "getsize", "getmtime", "getatime", "getctime",
        "samefile", "expanduser", "expandvars", "abspath", "realpath", "relpath",
    }
)  # fmt: skip
# What tells the time or draws by chance, of whatever it is called: a check must be right tomorrow, too.
_OF_CLOCK = frozenset({"now", "utcnow", "today", "localtime", "formatdate", "make_msgid"})
FORBIDDEN = frozenset(
    {
        "open", "input", "exec", "eval", "__import__", "globals", "locals", "vars", "exit", "quit", "breakpoint",
        "print", "compile", "id", "hash", "help", "memoryview",
    }
)  # fmt: skip


class NotCut(Exception):
    """The function needs what a file alone does not have. The words name it."""


@dataclass(slots=True)
class _Cut:
    """The statements chosen so far, by module, and the imports by the name that they bind."""

    modules: Mapping[str, Module]
    room: int
    chosen: dict[str, set[int]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def need(self, module: Module, name: str) -> None:
        """Choose what binds a name in a module, and what that needs. Raises NotCut."""
        numbers = module.bound.get(name, ())
        if not numbers:
            raise NotCut(f"name {name}")
        statements = [module.statements[number] for number in numbers]
        if len(statements) == 1 and isinstance(statements[0], ast.Import | ast.ImportFrom):
            self._import(module, statements[0], name)
            return
        self._own(name, module.path)
        for number in numbers:
            self._choose(module, number)

    def _own(self, name: str, owner: str) -> None:
        if self.owners.setdefault(name, owner) != owner:
            raise NotCut(f"two things named {name}")

    def _choose(self, module: Module, number: int) -> None:
        chosen = self.chosen.setdefault(module.path, set())
        if number in chosen:
            return
        chosen.add(number)
        words = module.words(number)
        if not words:
            raise NotCut("shared lines")
        self.room -= len(words.encode())
        if self.room < 0:
            raise NotCut("bytes")
        needs = _needs(module, number)
        if needs.reached:
            raise NotCut(needs.reached)
        for name in needs.names:
            if name in module.bound:
                self.need(module, name)
            elif name not in needs.local and name not in BUILTINS:
                raise NotCut(f"name {name}")

    def _import(self, module: Module, statement: ast.Import | ast.ImportFrom, name: str) -> None:
        alias = next(one for one in statement.names if (one.asname or one.name.partition(".")[0]) == name)
        own = _own_module(module, statement, self.modules) if isinstance(statement, ast.ImportFrom) else None
        if own is not None:
            if alias.asname not in {None, alias.name}:
                raise NotCut(f"renamed {alias.name}")
            self.need(own, alias.name)
            return
        reached = reaches_out(statement)
        if reached:
            raise NotCut(reached)
        self._own(name, "import")
        shown = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
        source = f"from {statement.module} " if isinstance(statement, ast.ImportFrom) else ""
        if self.imports.setdefault(name, f"{source}import {shown}") != f"{source}import {shown}":
            raise NotCut(f"two imports named {name}")


def _needs(module: Module, number: int) -> Needs:
    """Return what a statement needs. It is worked out once: many functions of a module hang on the same few."""
    if number not in module.needs:
        statement = module.statements[number]
        module.needs[number] = Needs(free_names(statement), local_names(statement), reaches_out(statement))
    return module.needs[number]


def _own_module(module: Module, statement: ast.ImportFrom, modules: Mapping[str, Module]) -> Module | None:
    """Return the module of the same package that a statement imports from. Raises NotCut where it is not there."""
    parts = module.path.split("/")
    top = parts[0].removesuffix(".py")
    if statement.level:
        parts = [*parts[: len(parts) - statement.level], *filter(None, (statement.module or "").split("."))]
    elif (statement.module or "").partition(".")[0] == top:
        parts = (statement.module or "").split(".")
    else:
        return None
    base = "/".join(parts)
    for path in (f"{base}.py", f"{base}/__init__.py"):
        if path in modules:
            return modules[path]
    raise NotCut(f"module {base}")


def reaches_out(statement: ast.AST) -> str:
    """Return what of a statement imports or names something outside of the process, "" where nothing does."""
    return next(filter(None, map(_reached, ast.walk(statement))), "")


def _reached(node: ast.AST) -> str:
    """Return what a node reaches out to, "" where it is nothing."""
    match node:
        case ast.Import(names=names):
            foreign = [alias.name for alias in names if alias.name.partition(".")[0] not in PURE | _OF_SYSTEM.keys()]
            return f"import of {foreign[0]}" if foreign else ""
        case ast.ImportFrom(module=str(name), names=names, level=0):
            return _reached_from(name, [alias.name for alias in names])
        case ast.ImportFrom():
            return "import of its package inside a statement"
        case ast.Global():
            return "global"
        case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN:
            return f"call of {name}"
        case ast.Attribute():
            return _reached_at(node)
        case _:
            return ""


def _reached_at(node: ast.Attribute) -> str:
    """Return what an attribute reaches out to, told by names alone, "" where it is nothing."""
    match node.value:
        case ast.Name(id=base) if base in _OF_SYSTEM:
            return "" if node.attr in _OF_SYSTEM[base] else f"{base}.{node.attr}"
        case ast.Attribute(attr=base) | ast.Name(id=base) if base in _PATHS and node.attr in _OF_DISK:
            return f"path {node.attr}"
        case _:
            return f"clock {node.attr}" if node.attr in _OF_CLOCK else ""


def _reached_from(module: str, names: Sequence[str]) -> str:
    """Return what an import of names from a module reaches out to, "" where it is nothing."""
    top = module.partition(".")[0]
    if module in {"random", "uuid"}:
        foreign = [name for name in names if name not in _OF_SYSTEM[module]]
    else:
        held = _OF_CLOCK | (_OF_DISK if module in _PATHS else frozenset())
        foreign = [name for name in names if name in held]
    if foreign:
        return f"{module}.{foreign[0]}"
    return "" if top in PURE or module in {"random", "uuid"} else f"import of {top}"


def cut(modules: Mapping[str, Module], module: Module, name: str, most: int) -> str:
    """Return the file with what `name` of a module needs, of `most` bytes. Raises NotCut.

    `modules` are those of the package, by path.
    """
    work = _Cut(modules, most)
    work.need(module, name)
    order = [*[path for path in work.chosen if path != module.path][::-1], module.path]
    pieces = [(path, number) for path in order for number in sorted(work.chosen.get(path, ()))]
    statements = [modules[path].statements[number] for path, number in pieces]
    head = [FUTURE] if any(_is_annotated(statement) for statement in statements) else []
    groups = ["\n".join(head), "\n".join(_import_lines(work.imports))]
    text = "\n\n".join(group for group in groups if group)
    before: ast.stmt | None = None
    for (path, number), statement in zip(pieces, statements, strict=True):
        is_plain = not isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        near = before is not None and is_plain and not isinstance(before, ast.FunctionDef | ast.ClassDef)
        gap = ("\n" if near else "\n\n" if is_plain else "\n\n\n") if text else ""
        text += gap + modules[path].words(number)
        before = statement
    return text + "\n"


def _is_annotated(statement: ast.stmt) -> bool:
    names = ("annotation", "returns")
    return any(getattr(node, name, None) is not None for node in ast.walk(statement) for name in names)


def _import_lines(imports: Mapping[str, str]) -> list[str]:
    """Return one line for each module that is imported, or imported from."""
    plain = sorted({line for line in imports.values() if line.startswith("import ")})
    sources: dict[str, list[str]] = {}
    for line in sorted(set(imports.values()) - set(plain)):
        source, _, name = line.partition(" import ")
        sources.setdefault(source, []).append(name)
    return [*plain, *(f"{source} import {', '.join(names)}" for source, names in sorted(sources.items()))]


def stands_alone(module: Module) -> bool:
    """Tell whether a module runs as a file of its own, as it is."""
    return not any(reaches_out(statement) for statement in module.statements)
