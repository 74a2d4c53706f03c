"""Reads requirement files as pip does, as far as a build needs it, and never anything outside of the tree.

What pip would do with a line is not checked: the build runs in a box, and what it cannot install is noted there.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

FILES_LIMIT, LINES_LIMIT, LINE_LIMIT, SIZE_LIMIT = 40, 600, 500, 256 * 1024

_OPTION = re.compile(r"(?P<name>--[a-z-]+|-[rceif])(?:\s*=\s*|\s+|(?<=^-[rceif])|\Z)(?P<value>.*)", re.DOTALL)
_PER_LINE = re.compile(r"\s--(?:hash|config-settings?|global-option|install-option)[=\s].*", re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LOCAL = re.compile(r"(?P<path>[^\[\];]*?)(?:\[(?P<extras>[\w.,\s-]*)\])?\s*(?:;.*)?")
_ARCHIVE = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2")
_NAMED = re.compile(r"[A-Za-z0-9]")


@dataclass(slots=True)
class Listed:
    """What requirement files come to. `extras` are those of the project itself, where a file installs it.

    `options` are arguments for pip (where to look for packages), `outside` the lines left out because they lead out
    of the tree, `paths` the files that were read.
    """

    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def read_requirements(texts: Mapping[str, str], path: str, found: Listed) -> None:
    """Add what the file at `path` lists, and the files that it refers to. A file counts once, whatever refers to it."""
    _Reader(texts, found, found.requirements).read(path)


def add_lines(texts: Mapping[str, str], text: str, found: Listed) -> None:
    """Add requirement lines that stand in another file at the top of the tree (tox.ini, say)."""
    _Reader(texts, found, found.requirements).take(text, "")


class _Reader:
    def __init__(self, texts: Mapping[str, str], found: Listed, target: list[str]) -> None:
        self._texts = texts
        self._found = found
        self._target = target

    def read(self, path: str) -> None:
        text = self._texts.get(path)
        if text is None or path in self._found.paths or len(self._found.paths) >= FILES_LIMIT:
            return
        self._found.paths.append(path)
        if len(text) <= SIZE_LIMIT:
            self.take(text, posixpath.dirname(path))

    def take(self, text: str, folder: str) -> None:
        for line in _lines(text):
            if len(self._target) >= LINES_LIMIT:
                return
            option = _OPTION.fullmatch(line)
            if option is None:
                self._take_requirement(line, folder)
            elif (handler := self._handlers().get(option["name"])) is not None:
                handler(option["value"].strip(), folder)

    def _handlers(self) -> dict[str, Callable[[str, str], None]]:
        table: dict[tuple[str, ...], Callable[[str, str], None]] = {
            ("-r", "--requirement"): self._follow,
            ("-c", "--constraint"): self._constrain,
            ("-e", "--editable"): self._take_requirement,
            ("-i", "--index-url"): lambda value, _: self._option("--index-url", value),
            ("--extra-index-url",): lambda value, _: self._option("--extra-index-url", value),
            ("-f", "--find-links"): self._find_links,
            ("--pre",): lambda *_: self._found.options.append("--pre"),
            ("--no-index",): lambda *_: self._found.options.append("--no-index"),
        }
        return {name: handler for names, handler in table.items() for name in names}

    def _follow(self, value: str, folder: str) -> None:
        path = inside(folder, value)
        if path is None:
            self._found.outside.append(value)
        else:
            self.read(path)

    def _constrain(self, value: str, folder: str) -> None:
        _Reader(self._texts, self._found, self._found.constraints)._follow(value, folder)

    def _option(self, name: str, value: str) -> None:
        if value.startswith(("https://", "http://")):
            self._found.options += [name, value]

    def _find_links(self, value: str, folder: str) -> None:
        if "://" in value:
            self._option("--find-links", value)
        elif (path := inside(folder, value)) is not None:
            self._found.options += ["--find-links", path]
        else:
            self._found.outside.append(value)

    def _take_requirement(self, line: str, folder: str) -> None:
        if _is_path(line):
            self._take_path(line, folder)
        elif _NAMED.match(line) and len(line) <= LINE_LIMIT:
            self._target.append(line)

    def _take_path(self, line: str, folder: str) -> None:
        match = _LOCAL.fullmatch(line.removeprefix("file:"))
        path = inside(folder, match["path"].strip()) if match else None
        if match is None or path is None:
            self._found.outside.append(line)
        elif path == ".":
            self._found.extras += [name.strip() for name in (match["extras"] or "").split(",") if name.strip()]
        else:
            self._target.append(f"./{path}" + (f"[{match['extras']}]" if match["extras"] else ""))


def inside(folder: str, value: str) -> str | None:
    """Return the path in the tree that a reference from a folder of it means, None where it leads out."""
    path = posixpath.normpath(posixpath.join(folder, value))
    if not value or "\0" in value or value.startswith(("~", "$")) or path.startswith(("../", "/")) or path == "..":
        return None
    return path


def _is_path(line: str) -> bool:
    if "://" in line and not line.startswith("file:"):
        return False
    bare = line.partition(";")[0].strip()
    return line.startswith((".", "/", "~", "file:")) or bare.endswith(_ARCHIVE) or ("/" in bare and "@" not in bare)


def _lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        stripped = _PER_LINE.sub("", _COMMENT.sub("", line)).strip()
        if stripped and stripped.isprintable():
            yield stripped
