"""Real functions of packages, each in a file that runs alone: what tasks are made of."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentless_mini.learning.bugs.cutting import NotCut, cut, stands_alone
from agentless_mini.learning.bugs.modules import Module, parse_module
from agentless_mini.learning.bugs.packages import Package
from agentless_mini.learning.bugs.settings import BugsSettings

_DECORATORS = frozenset({"staticmethod", "classmethod", "property", "lru_cache", "cache", "cached_property"})
# Tests, and copies of other packages, which may be held out.
_NOT_OWN = frozenset(
    {
        "tests", "test", "testing", "_vendor", "vendor", "_vendored", "vendored", "extern", "_extern", "external",
        "externals", "_externals", "third_party", "thirdparty", "_thirdparty",
    }
)  # fmt: skip
_MOST_CALLS = 24
_LONGEST_CALL = 120


@dataclass(frozen=True, slots=True)
class Subject:
    """A function or method that can be called by itself.

    `path` is the file's, `text` all of it, `owner` the class of a method or "", `calls` texts of calls with it that
    the package holds, arguments in literals. `whole` tells whether the file is the package's own, uncut.
    """

    package: str
    version: str
    licence: str
    path: str
    owner: str
    name: str
    text: str
    whole: bool
    calls: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """Return the name that people know it by."""
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def id(self) -> str:
        """Return what tells it from others."""
        return f"{self.package}@{self.version}:{self.path}:{self.called}"


Function = ast.FunctionDef


def find_function(tree: ast.Module, subject: Subject) -> tuple[Function, ast.ClassDef | None]:
    """Return the subject in its parsed file, and its class."""
    body: list[ast.stmt] = tree.body
    owner = None
    if subject.owner:
        owner = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == subject.owner)
        body = owner.body
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == subject.name]
    return found[-1], owner


def harvest(package: Package, settings: BugsSettings, counts: Counter[str]) -> Iterator[Subject]:
    """Yield the subjects of a package, in order of path and place. What is left out is counted by its reason."""
    modules = _parsed(package, counts)
    field = _Field(package, modules, settings, counts, _literal_calls(modules))
    for module in modules.values():
        if not _is_left_out(module.path):
            for owner, function in _functions(module):
                counts["functions"] += 1
                yield from field.subjects(module, owner, function)


def own_functions(package: Package) -> Iterator[Function]:
    """Yield all functions of a package that are its own, harvested or not."""
    for module in _parsed(package, Counter()).values():
        if not _is_left_out(module.path):
            yield from (function for _, function in _functions(module))


def _parsed(package: Package, counts: Counter[str]) -> dict[str, Module]:
    found = {file.path: parse_module(file.path, file.text) for file in package.modules}
    counts["modules"] += len(found)
    modules = {path: module for path, module in found.items() if module is not None}
    counts["modules that cannot be read"] += package.skipped + len(found) - len(modules)
    return modules


def _is_left_out(path: str) -> bool:
    return any(part in _NOT_OWN or part.startswith(("test_", "_test")) for part in path.split("/"))


def _functions(module: Module) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    for statement in module.statements:
        if isinstance(statement, ast.FunctionDef):
            yield None, statement
        elif isinstance(statement, ast.ClassDef):
            methods = (inner for inner in statement.body if isinstance(inner, ast.FunctionDef))
            yield from ((statement, method) for method in methods if not method.name.startswith("__"))


def _literal_calls(modules: Mapping[str, Module]) -> Mapping[str, tuple[str, ...]]:
    """Return the arguments, as text, of all calls in a package whose arguments are literals, by the name called."""
    found: dict[str, dict[str, None]] = {}
    for module in modules.values():
        for node in (node for statement in module.statements for node in ast.walk(statement)):
            if isinstance(node, ast.Call):
                _note(node, found)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>> " in node.value:
                for example in _examples(node.value):
                    _note(example, found)
    return {name: tuple(calls)[:_MOST_CALLS] for name, calls in found.items()}


def _note(node: ast.Call, found: dict[str, dict[str, None]]) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    if values and all(map(is_literal, values)) and all(keyword.arg for keyword in node.keywords):
        try:
            said = [ast.unparse(value) for value in node.args]
            said += [f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in node.keywords]
        except RecursionError:
            return
        text = ", ".join(said)
        if len(text) <= _LONGEST_CALL:
            found.setdefault(name, {})[text] = None


def is_literal(node: ast.AST) -> bool:
    """Tell whether an expression is a value that is written out."""
    allowed = ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.Set | ast.UnaryOp | ast.expr_context | ast.unaryop
    return all(isinstance(inner, allowed) for inner in ast.walk(node))


def _examples(text: str) -> Iterator[ast.Call]:
    """Yield the calls in the examples of a docstring."""
    for line in text.split("\n"):
        _, mark, code = line.partition(">>> ")
        if mark:
            try:
                tree = ast.parse(code.strip(), mode="eval")
            except (SyntaxError, ValueError):
                continue
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@dataclass(frozen=True, slots=True)
class _Field:
    """One package on its way to subjects."""

    package: Package
    modules: Mapping[str, Module]
    settings: BugsSettings
    counts: Counter[str]
    calls: Mapping[str, tuple[str, ...]]

    def subjects(self, module: Module, owner: ast.ClassDef | None, function: Function) -> Iterator[Subject]:
        try:
            self._require_fitting(function)
            text, whole = self._file(module, (owner or function).name)
        except (NotCut, RecursionError) as reason:
            self.counts[f"not harvested: {_kind(str(reason))}"] += 1
            return
        self.counts["harvested"] += 1
        self.counts["harvested whole"] += whole
        package, calls = self.package, self.calls.get(function.name, ())
        about = (package.name, package.version, package.licence, module.path)
        yield Subject(*about, owner.name if owner else "", function.name, text, whole, calls)

    def _require_fitting(self, function: Function) -> None:
        rows = (function.end_lineno or 0) - function.lineno + 1
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        if not body or rows > self.settings.max_lines:
            raise NotCut("size")
        if (body[-1].end_lineno or 0) - body[0].lineno + 1 < self.settings.min_lines:
            raise NotCut("size")
        for decorator in function.decorator_list:
            named = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(named).rpartition(".")[2] not in _DECORATORS:
                raise NotCut("decorator")
        if any(isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) for node in ast.walk(function)):
            raise NotCut("coroutine")

    def _file(self, module: Module, name: str) -> tuple[str, bool]:
        """Return the whole module where it is small and runs alone, else what the name needs of it."""
        if len(module.text.encode()) <= self.settings.max_bytes and stands_alone(module):
            return module.text if module.text.endswith("\n") else module.text + "\n", True
        text = cut(self.modules, module, name, self.settings.max_bytes)
        if len(text.encode()) > self.settings.max_bytes:
            raise NotCut("bytes")
        return text, False


def _kind(reason: str) -> str:
    return reason.partition(" ")[0] if not reason.startswith(("call of", "import of")) else reason
