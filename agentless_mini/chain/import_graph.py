"""Which file of a tree uses which: a static import graph, where a name is traced to the file that defines it.

`from package import thing` leads through the package's `__init__`, and through any module that only hands on, to where
`thing` is; so does `package.thing` after `import package`. What is imported from a computed name is not seen.
Statements are read by regular expressions, since a syntax tree of every file of a large repository takes many seconds:
so an import in a docstring counts too, and a file that does not parse is read like any other.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from agentless_mini.chain.other_imports import READ, used_by
from agentless_mini.domain import FileKind, SourceFile

# Of files that hand a name on to each other; a circle ends there.
MOST_HANDS = 6
STAR = "*"

# Possessive and bounded, so that no text takes more than linear time: a list of names that is never closed is cut.
_STATEMENT = re.compile(
    r"""^[ \t]*+(?:
        from[ \t]++(\.*+)([\w.]*+)[ \t]++import[ \t]*+
            (\((?:[^)#]|\#[^\n]*+){0,8000}+|(?:[^\n\\#;]|\\\n){0,8000}+)
        |import[ \t]++((?:[^\n\\#;]|\\\n){0,8000}+)
    )""",
    re.MULTILINE | re.VERBOSE,
)
_COMMENT = re.compile(r"#[^\n]*+")
_BOUND = re.compile(r"([\w.*]+)(?:\s+as\s+(\w+))?")
# The dotted names that stand in quotes, as for `import_module`, `mock.patch` and settings.
_QUOTED = re.compile(r"""['"]([A-Za-z_]\w{0,63}+(?:\.\w{1,64}+){1,12}+)['"]""")
_ATTRIBUTES = re.compile(r"(?:\.\w{1,64}){1,3}")
_INSIDE_A_NAME = re.compile(r"[\w.]")
_DEFINED = re.compile(r"^(?:(?:async[ \t]+def|def|class)[ \t]+(\w+)|(\w+)[ \t]*(?::[^=\n]*)?=(?!=))", re.MULTILINE)
# What no line begins with that defines a name.
_INNER = frozenset(" \t#\"'()[]{}@")

_SOURCE_FOLDERS = ("src", "lib", "python")
_INIT = "/__init__"


@dataclass(frozen=True, slots=True)
class Import:
    """One name that an import statement binds.

    `from ..a import b as c` is Import(2, "a", "b", "c"); of `import a.b` the `name` is empty, and `bound` is "a.b",
    which is how the file calls the module.
    """

    level: int
    module: str
    name: str
    bound: str


def imports_of(text: str) -> list[Import]:
    """Return what a file imports, wherever in it, in order. Only lines that have the word are looked at."""
    found: list[Import] = []
    end = 0
    for place in _places(text, "import"):
        line = text.rfind("\n", 0, place) + 1
        if line < end or not (statement := _STATEMENT.match(text, line)):
            continue
        end = statement.end()
        dots, module, names, modules = statement.groups("")
        if modules:
            found += [Import(0, name, "", alias or name) for name, alias in _BOUND.findall(modules)]
        else:
            listed = _BOUND.findall(_COMMENT.sub("", names))
            found += [Import(len(dots), module, name, alias or name) for name, alias in listed]
    return found


def attributes_of(text: str, bound: frozenset[str]) -> list[str]:
    """Return the dotted names in a file that start with one of some bound names and go on."""
    found: dict[int, str] = {}
    for head in sorted(bound, key=len, reverse=True):  # of two that begin at one place, the longer is meant
        for place in _places(text, f"{head}."):
            used = _ATTRIBUTES.match(text, place + len(head))
            if used and not (place and _INSIDE_A_NAME.match(text, place - 1)):
                found.setdefault(place, head + used[0])
    return list(dict.fromkeys(found[place] for place in sorted(found)))


def _places(text: str, words: str) -> Iterator[int]:
    """Yield where the words stand in the text."""
    place = text.find(words)
    while place >= 0:
        yield place
        place = text.find(words, place + 1)


class _Modules:
    """The Python files of a tree by the names of their modules, looked up from several folders."""

    def __init__(self, paths: Iterable[str]) -> None:
        # A package hides a module of its name, as it does for Python: it comes later in this order.
        order = sorted(paths, key=lambda path: (path.endswith(f"{_INIT}.py"), path))
        self._by_stem = {path.removesuffix(".py").removesuffix(_INIT): path for path in order}
        self._packages = frozenset(stem for stem, path in self._by_stem.items() if path.endswith(f"{_INIT}.py"))
        self._by_name: dict[str, list[tuple[str, str]]] = {}
        for stem, path in self._by_stem.items():
            for root in sorted(set(self._roots(stem))):
                name = stem.removeprefix(root).replace("/", ".")
                self._by_name.setdefault(name, []).append((root, path))

    def _roots(self, stem: str) -> Iterator[str]:
        """Yield the folders from which a module can be looked up, each "" or with a slash at its end."""
        folders = stem.split("/")[:-1]
        yield ""
        for depth, folder in enumerate(folders, start=1):
            if folder in _SOURCE_FOLDERS:
                yield "/".join(folders[:depth]) + "/"
        while folders and "/".join(folders) in self._packages:
            folders.pop()
        yield "".join(f"{folder}/" for folder in folders)

    def find(self, level: int, module: str, importer: str) -> str | None:
        """Return the file that a module means in the file `importer`, None where it is not of the tree.

        `level` is the number of dots before the name.
        """
        if level:
            folders = importer.split("/")[:-1]
            if level - 1 > len(folders):
                return None
            inner = module.split(".") if module else []
            return self._by_stem.get("/".join([*folders[: len(folders) - level + 1], *inner]))
        rivals = self._by_name.get(module, [])
        if near := [(root, path) for root, path in rivals if importer.startswith(root)]:
            return max(near)[1]
        # Somebody puts that folder on the path: plausible for a package, not for the module of a script's folder,
        # which may have the name of anything.
        return next((path for root, path in rivals if "." in module or path.removesuffix(".py").endswith(_INIT)), None)

    def longest(self, dotted: str, importer: str) -> tuple[str, str] | None:
        """Return the file of the longest module at the beginning of `dotted`, and the name after it ("" if none)."""
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            path = self.find(0, ".".join(parts[:end]), importer)
            if path is not None:
                return path, parts[end] if end < len(parts) else ""
        return None


class ImportGraph:
    """The files of a tree and what each uses: of Python, and of the languages of `other_imports`."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        """Read the files; undecodable bytes do not matter here."""
        texts = (file for file in files if file.kind is FileKind.TEXT)
        read = {file.path: file.data.decode(errors="replace") for file in texts if file.path.endswith((".py", *READ))}
        self._texts = {path: text for path, text in read.items() if path.endswith(".py")}
        self._others = {path: text for path, text in read.items() if path not in self._texts}
        self._modules = _Modules(self._texts)
        self._imports = {path: imports_of(text) for path, text in self._texts.items()}
        self._homes: dict[tuple[str, str], str] = {}
        self._bound = {path: {one.bound: one for one in found} for path, found in self._imports.items()}
        self._defined: dict[str, frozenset[str]] = {}

    @cached_property
    def used(self) -> Mapping[str, frozenset[str]]:
        """What each file uses, as paths, itself left out; a file below a `conftest.py` uses that."""
        return {path: frozenset(self._targets(path) - {path}) for path in self._texts} | used_by(self._others)

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
            step = self._step(imported, path)
            found = None if step is None else self._home(*step)
            if found is not None and found.endswith("/__init__.py"):
                packages.setdefault(imported.bound, found)
            elif found is not None:
                targets.add(found)
        # Of packages that it has bound a file uses their attributes' homes, or the package itself.
        without = set(packages.values())
        for used in attributes_of(self._texts[path], frozenset(packages)):
            bound = max((name for name in packages if used.startswith(f"{name}.")), key=len)
            targets.add(self._attribute(packages[bound], used.removeprefix(f"{bound}.").split(".")))
            without.discard(packages[bound])
        for dotted in _QUOTED.findall(self._texts[path]):
            if longest := self._modules.longest(dotted, path):
                targets.add(self._home(*longest) if longest[1] else longest[0])
        folders = path.split("/")[:-1]
        conftests = {"/".join([*folders[:depth], "conftest.py"]) for depth in range(len(folders) + 1)}
        return targets | without | (conftests & self._texts.keys())

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
        if name in self._bound[module]:
            found = self._step(self._bound[module][name], module)
            return None if found == (module, name) else found
        if name in self._definitions(module):
            return None
        for imported in self._imports[module]:
            if imported.name == STAR:
                star = self._modules.find(imported.level, imported.module, module)
                if star is not None and (name in self._definitions(star) or name in self._bound[star]):
                    return star, name
        return None

    def _step(self, imported: Import, module: str) -> tuple[str, str] | None:
        """Return the file that an import in `module` names, and the name of that file that it wants ("": all)."""
        inner = f"{imported.module}.{imported.name}".strip(".")
        if imported.name and (found := self._modules.find(imported.level, inner, module)):
            return found, ""
        found = self._modules.find(imported.level, imported.module, module)
        return None if found is None else (found, imported.name)

    def _definitions(self, module: str) -> frozenset[str]:
        """Return the names that a file defines on its first level."""
        if module not in self._defined:
            lines = (line for line in self._texts[module].split("\n") if line and line[0] not in _INNER)  # soon told
            found = (_DEFINED.match(line) for line in lines)
            self._defined[module] = frozenset(match[1] or match[2] for match in found if match)
        return self._defined[module]

    def _attribute(self, module: str, names: list[str]) -> str:
        """Return the file that defines `module.names[0].names[1]...`, as far as it can be told."""
        for name in names:
            inner = self._modules.find(1, name, module) if module.endswith("/__init__.py") else None
            home = inner or self._home(module, name)
            if home == module:
                break
            module = home
        return module
