"""Which file of a tree a module's name means, for an importer, without an interpreter.

A name can be looked up from several folders: the top, each `src` or `lib`, the folder above a top-level package, and
the folder of a script or a test that is in no package. What is installed beside the tree is not known, and a name that
no file of the tree has is nobody's.
"""

from collections.abc import Iterable, Iterator

_SOURCE_FOLDERS = ("src", "lib", "python")
_INIT = "/__init__"


class Modules:
    """The Python files of a tree by the names of their modules."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Index `paths`, each relative, with `/`, and ending in .py."""
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

    def absolute(self, name: str, importer: str) -> str | None:
        """Return the file that `import name` means in the file `importer`, or None where it is not of the tree."""
        rivals = self._by_name.get(name)
        if rivals is None:
            return None
        near = [(root, path) for root, path in rivals if importer.startswith(root)]
        if near:
            return max(near)[1]
        # Somebody puts that folder on the path: plausible for a package, not for the module of a script's folder,
        # which may have the name of anything.
        return next((path for root, path in rivals if "." in name or path.removesuffix(".py").endswith(_INIT)), None)

    def relative(self, level: int, module: str, importer: str) -> str | None:
        """Return the file that `from ..module` means in the file `importer`; `level` is the number of dots."""
        folders = importer.split("/")[:-1]
        if level - 1 > len(folders):
            return None
        parts = folders[: len(folders) - level + 1] + (module.split(".") if module else [])
        return self._by_stem.get("/".join(parts))

    def find(self, level: int, module: str, importer: str) -> str | None:
        """Return the file of a module as `from` names it."""
        return self.relative(level, module, importer) if level else self.absolute(module, importer)

    def longest(self, dotted: str, importer: str) -> tuple[str, str] | None:
        """Return the file of the longest module at the beginning of `dotted`, and the name after it ("" if none)."""
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            path = self.absolute(".".join(parts[:end]), importer)
            if path is not None:
                return path, parts[end] if end < len(parts) else ""
        return None
