"""Which file of a tree uses which: a static import graph, where a name is traced to the file that defines it.

`from package import thing` leads through the package's `__init__`, and through any module that only hands on, to where
`thing` is; so does `package.thing` after `import package`. What is imported at run time from a computed name, or by a
plugin system, is not seen.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

from agentless_mini.chain.regression.modules import Modules
from agentless_mini.chain.regression.statements import (
    STAR,
    Import,
    attributes_of,
    definitions_of,
    imports_of,
    quoted_names,
)
from agentless_mini.domain import FileKind, SourceFile

# Of files that hand a name on to each other; a circle ends there.
MOST_HANDS = 6


class ImportGraph:
    """The Python files of a tree and what each uses."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        """Read the Python files among `files`; undecodable bytes do not matter here."""
        self._texts = {
            file.path: file.data.decode(errors="replace")
            for file in files
            if file.kind is FileKind.TEXT and file.path.endswith(".py")
        }
        self._modules = Modules(self._texts)
        self._imports = {path: imports_of(text) for path, text in self._texts.items()}
        self._homes: dict[tuple[str, str], str] = {}
        self._bound: dict[str, dict[str, Import]] = {}
        self._defined: dict[str, frozenset[str]] = {}

    @cached_property
    def used(self) -> Mapping[str, frozenset[str]]:
        """What each file uses, as paths, itself left out; a file below a `conftest.py` uses that."""
        return {path: frozenset(self._targets(path) - {path}) for path in self._texts}

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """Which files use a file, in order of path."""
        inverted: dict[str, list[str]] = {}
        for path in sorted(self.used):
            for target in self.used[path]:
                inverted.setdefault(target, []).append(path)
        return {target: tuple(users) for target, users in inverted.items()}

    def _targets(self, path: str) -> set[str]:
        targets: set[str] = set()
        packages: dict[str, str] = {}
        for imported in self._imports[path]:
            found = self._target(imported, path)
            if found is not None and found.endswith("/__init__.py"):
                packages.setdefault(imported.bound, found)
            elif found is not None:
                targets.add(found)
        targets |= self._through_packages(path, packages)
        for dotted in quoted_names(self._texts[path]):
            targets |= self._dotted(dotted, path)
        return targets | self._conftests(path)

    def _target(self, imported: Import, path: str) -> str | None:
        """Return the file that defines what an import binds, the module that it names at least."""
        found = self._step(imported, path)
        return None if found is None else self._home(*found)

    def _home(self, module: str, name: str) -> str:
        """Return the file that defines `name` of a module, following those that hand it on; for "" the module."""
        asked = module, name
        if asked not in self._homes:
            for _ in range(MOST_HANDS):
                further = self._handed_on(module, name)
                if further is None:
                    break
                module, name = further
            self._homes[asked] = module
        return self._homes[asked]

    def _handed_on(self, module: str, name: str) -> tuple[str, str] | None:
        """Return the module and name that a module's `name` comes from, or None where it is its own."""
        bound = self._bindings(module)
        if name in bound:
            found = self._step(bound[name], module)
            return None if found is None or found == (module, name) else found
        if name in self._definitions(module):
            return None
        for imported in self._imports[module]:
            if imported.name == STAR:
                star = self._modules.find(imported.level, imported.module, module)
                if star is not None and (name in self._definitions(star) or name in self._bindings(star)):
                    return star, name
        return None

    def _step(self, imported: Import, module: str) -> tuple[str, str] | None:
        """Return the file that an import in `module` names, and the name of that file that it wants ("": all)."""
        if imported.name:
            inner = f"{imported.module}.{imported.name}" if imported.module else imported.name
            found = self._modules.find(imported.level, inner, module)
            if found is not None:
                return found, ""
        found = self._modules.find(imported.level, imported.module, module)
        return None if found is None else (found, imported.name)

    def _bindings(self, module: str) -> dict[str, Import]:
        if module not in self._bound:
            self._bound[module] = {imported.bound: imported for imported in self._imports[module]}
        return self._bound[module]

    def _definitions(self, module: str) -> frozenset[str]:
        if module not in self._defined:
            self._defined[module] = definitions_of(self._texts[module])
        return self._defined[module]

    def _through_packages(self, path: str, packages: Mapping[str, str]) -> set[str]:
        """Return what a file uses of packages that it has bound: their attributes' homes, or the package itself."""
        targets: set[str] = set()
        without = set(packages.values())
        for used in attributes_of(self._texts[path], frozenset(packages)):
            bound = max((name for name in packages if used.startswith(f"{name}.")), key=len)
            home = self._attribute(packages[bound], used.removeprefix(f"{bound}.").split("."))
            targets.add(home)
            without.discard(packages[bound])
        return targets | without

    def _attribute(self, module: str, names: list[str]) -> str:
        """Return the file that defines `module.names[0].names[1]...`, as far as it can be told."""
        for name in names:
            inner = self._modules.relative(1, name, module) if module.endswith("/__init__.py") else None
            home = inner or self._home(module, name)
            if home == module:
                break
            module = home
        return module

    def _dotted(self, dotted: str, path: str) -> set[str]:
        found = self._modules.longest(dotted, path)
        # One word is anybody's name.
        if found is None or (not found[1] and "." not in dotted):
            return set()
        return {self._home(*found) if found[1] else found[0]}

    def _conftests(self, path: str) -> set[str]:
        folders = path.split("/")[:-1]
        places = ("/".join([*folders[:depth], "conftest.py"]) for depth in range(len(folders) + 1))
        return {place for place in places if place in self._texts}
