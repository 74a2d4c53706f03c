"""Which file of a tree uses which, in JavaScript and TypeScript and in Go, told by reading as `import_graph` does.

JavaScript: relative paths with or without their extension, folders by their index, names of the packages of the tree
(workspaces), what tsconfig's `paths` and `baseUrl` and package.json's `imports` stand for, and the file behind a name
that an index hands on. Go: a file uses those files of its own or an imported package that define a name which it says.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

SCRIPTS = (".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte")
READ = (*SCRIPTS, ".go", "package.json", "config.json", "go.mod")
"""How the names of the files end that are read: `config.json` for tsconfig.json and jsconfig.json."""
MOST_HANDS, LARGEST = 64, 1_000_000
"""Files that are looked through for a name that one of them hands on; characters of a file: bundles are not read."""
_ENTRIES = ("source", "module", "main", "types")
# Where the sources of a package lie that is built before it is published, and its own folder.
_SOURCES = ("src", "", "lib", "source")
_WRITTEN = re.compile(r"\.(?:d\.)?[cm]?[jt]sx?$")
# Possessive and bounded, so that no text takes more than linear time.
_IMPORT = re.compile(
    r"""\b(?:(import|export)\b([^'"`;()]{0,4000}+)
    |(?:const|let|var)\s([^=;()]{1,2000}+)=\s*require\s*\(\s*
    |(?:require|import|mock|doMock|unmock|importActual|requireActual|resolve)\s*(?:<[^>]{1,200}+>)?\(\s*)
    (?:/\*[^*]{0,200}+\*/\s*)?['"`]([^'"`\n]{1,300}+)['"`]""",
    re.VERBOSE,
)
_FROM = re.compile(r"\bfrom\s*$")
_NAMES = re.compile(r"\{([^}]*)")
_RENAMED = re.compile(r"(?:\btype\s+)?([\w$]+)(?:\s*(?:\bas\b|:)\s*([\w$]+))?")
_EXPORTED = re.compile(
    r"\bexport\s+(?:(default)\b|(?:async\s+|abstract\s+|declare\s+)*"
    r"(?:function\b\s*\*?|class|const|let|var|type|interface|enum|namespace)\s+([\w$]+))"
)
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r",(\s*[}\]])")


def used_by(texts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return what each file of these languages uses, as paths, itself left out; `texts` are those of the whole tree."""
    found = _Scripts(texts).used | _Go(texts).used
    return {path: frozenset(used - {path}) for path, used in found.items()}


def _object(text: str) -> Mapping[str, Any]:
    """Return what a JSON file with comments says; nothing where it is no object."""
    with suppress(ValueError, RecursionError):
        told = json.loads(_LAST_COMMA.sub(r"\1", _COMMENT.sub(lambda match: match[1] or "", text)))
        return told if isinstance(told, dict) else {}
    return {}


def _texts_in(value: object) -> Iterator[str]:
    """Yield the texts in a value of JSON, however deep: the conditions of `exports` are nested."""
    waiting = [value]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one


class _Scripts:
    """The JavaScript and TypeScript files of a tree by what can be said to mean them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {path: text for path, text in texts.items() if path.endswith(SCRIPTS) and len(text) < LARGEST}
        self._exports: dict[str, frozenset[str]] = {}
        self._packages: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._aliases: list[tuple[str, str, str]] = []  # the folder where it counts, what is said, what it means
        for path in sorted(texts) if self._texts else ():
            folder, _, name = path.rpartition("/")
            if name == "package.json" and (told := _object(texts[path])):
                self._packages.setdefault(str(told.get("name", folder)), (folder, told))
                self._add(folder, folder, told.get("imports"))
            elif re.fullmatch(r"[jt]sconfig.*\.json", name):
                options = _object(texts[path]).get("compilerOptions")
                if isinstance(options, dict):
                    base = options.get("baseUrl")
                    root = posixpath.normpath(posixpath.join(folder, base)) if isinstance(base, str) else folder
                    self._add(folder, root, options.get("paths"))
                    self._add(folder, root, {"*": "*"} if isinstance(base, str) else None)
        self._by_folder = dict(self._packages.values())
        self._aliases.sort(key=lambda alias: (-len(alias[0]), -len(alias[1])))

    def _add(self, folder: str, root: str, meanings: object) -> None:
        for said, meant in meanings.items() if isinstance(meanings, dict) else ():
            self._aliases += [(folder, said, posixpath.normpath(posixpath.join(root, one))) for one in _texts_in(meant)]

    @property
    def used(self) -> dict[str, frozenset[str]]:
        """What each file uses: of what an index hands on, the files where the names are that it asks for."""
        return {path: frozenset(self._targets(path)) for path in self._texts}

    def _targets(self, path: str) -> Iterator[str]:
        for listed, said, _ in self._imports[path]:
            if target := self.find(said, path):
                yield from {self._home(target, name) for name, _ in _renamed(listed)} or {target}

    @cached_property
    def _imports(self) -> Mapping[str, list[tuple[str, str, bool]]]:
        """Of each file what it imports: the names as listed, the module, and whether it is handed on."""
        return {path: list(self._read(text)) for path, text in self._texts.items()}

    def _read(self, text: str) -> Iterator[tuple[str, str, bool]]:
        for word, listed, bound, said in (match.groups("") for match in _IMPORT.finditer(text)):
            if not word or _FROM.search(listed) or (word == "import" and not listed.strip()):
                yield listed + bound, said, word == "export"

    def find(self, said: str, importer: str) -> str | None:
        """Return the file that a module's name means in a file; None where it is none of the tree's."""
        folder = posixpath.dirname(importer)
        if said.startswith("."):
            return self._file(posixpath.normpath(posixpath.join(folder, said)))
        for where, alias, meant in self._aliases:
            head, star, tail = alias.partition("*")
            fits = said.startswith(head) and said.endswith(tail) if star else said == alias
            if fits and (not where or f"{folder}/".startswith(f"{where}/")):
                inner = said[len(head) : len(said) - len(tail)] if star else ""
                if found := self._file(posixpath.normpath(meant.replace("*", inner))):
                    return found
        name = "/".join(said.split("/")[: 2 if said.startswith("@") else 1])
        if name not in self._packages:
            return None
        home, told = self._packages[name]
        inner = said.removeprefix(name).strip("/")
        exports = told.get("exports")
        listed = exports.get(f"./{inner}" if inner else ".", ()) if isinstance(exports, dict) else exports
        return next(filter(None, self._of_package(home, inner, [*_texts_in(listed)])), None)

    def _of_package(self, home: str, inner: str, listed: Sequence[str]) -> Iterator[str | None]:
        """Yield the files that may stand for a path within a package, the likeliest first."""
        if inner:
            yield from (self._file(posixpath.join(home, folder, inner)) for folder in ("", *_SOURCES))
        yield from (self._file(posixpath.normpath(posixpath.join(home, one))) for one in listed)
        if not inner:
            yield self._file(home)
            yield from (self._file(posixpath.join(home, folder)) for folder in _SOURCES)

    def _file(self, stem: str) -> str | None:
        """Return the file at a path that may lack its extension, have that of its compiled form, or be a folder's."""
        stem = "" if stem == "." else stem
        entries = (self._by_folder.get(stem, {}).get(key) for key in _ENTRIES)
        named = (posixpath.normpath(posixpath.join(stem, entry)) for entry in entries if isinstance(entry, str))
        bases = (stem, *named, posixpath.join(stem, "index"), posixpath.join(stem, "src/index"))
        tries = (start + end for base in bases for start in (base, _WRITTEN.sub("", base)) for end in ("", *SCRIPTS))
        return next((path for path in tries if path in self._texts), None)

    @cached_property
    def _handed(self) -> Mapping[str, tuple[Mapping[str, tuple[str, str]], list[str]]]:
        """Of each file the names that it hands on, with the file and the name there, and the files handed on whole."""
        return {path: self._hands(path) for path, found in self._imports.items() if any(is_on for *_, is_on in found)}

    def _hands(self, path: str) -> tuple[Mapping[str, tuple[str, str]], list[str]]:
        on = [
            (listed, target)
            for listed, said, is_on in self._imports[path]
            if is_on and (target := self.find(said, path))
        ]
        named = {new or old: (target, old) for listed, target in on for old, new in _renamed(listed)}
        return named, [target for listed, target in on if "*" in listed]

    def _home(self, path: str, name: str) -> str:
        """Return the file behind a name of a file that may hand it on; the file itself where none is found."""
        waiting, seen = [(path, name)], set[tuple[str, str]]()
        while waiting and len(seen) < MOST_HANDS:
            step = at, called = waiting.pop(0)
            names, whole = self._handed.get(at, ({}, ()))
            if step not in seen and called in self._exported(at):
                return at
            if step not in seen:
                waiting = [names[called]] if called in names else [*waiting, *((target, called) for target in whole)]
            seen.add(step)
        return path

    def _exported(self, path: str) -> frozenset[str]:
        if path not in self._exports:
            self._exports[path] = frozenset(first or name for first, name in _EXPORTED.findall(self._texts[path]))
        return self._exports[path]


def _renamed(listed: str) -> list[tuple[str, str]]:
    """Return the names in braces, each with the name that it gets, "" where it keeps its own."""
    return [pair for names in _NAMES.findall(listed) for pair in _RENAMED.findall(names)]


# --- Go --------------------------------------------------------------------------------------------------------------

_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.MULTILINE)
_DEFINED = re.compile(r"^(?:func\s+(?:\([^)\n]*\)\s*)?|type\s+|var\s+|const\s+)(\w+)", re.MULTILINE)
_QUOTED = re.compile(r'"([\w.~\-]+(?:/[\w.~\-]+)*)"')
_WORD = re.compile(r"[A-Za-z_]\w*")


class _Go:
    """The Go files of a tree by their packages, which are folders."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {path: text for path, text in texts.items() if path.endswith(".go")}
        modules = ((path, _MODULE.search(text)) for path, text in texts.items() if posixpath.basename(path) == "go.mod")
        self._roots = {found[1]: posixpath.dirname(path) for path, found in modules if found}
        self._defined: dict[str, dict[str, set[str]]] = {}  # by folder, which of its files define a name
        for path, text in self._texts.items():
            if not path.endswith("_test.go"):
                names = self._defined.setdefault(posixpath.dirname(path), {})
                for name in _DEFINED.findall(text):
                    names.setdefault(name, set()).add(path)

    @property
    def used(self) -> dict[str, frozenset[str]]:
        """What each file uses."""
        return {path: frozenset(self._targets(path, text)) for path, text in self._texts.items()}

    def _targets(self, path: str, text: str) -> Iterator[str]:
        said = set(_WORD.findall(text))
        for folder in {posixpath.dirname(path), *self._imported(text)}:
            names = self._defined.get(folder, {})
            for name in said.intersection(names):
                yield from names[name]

    def _imported(self, text: str) -> Iterable[str]:
        for quoted in _QUOTED.findall(text):
            for module, root in self._roots.items():
                if quoted == module or quoted.startswith(f"{module}/"):
                    yield posixpath.join(root, quoted.removeprefix(module).strip("/"))
