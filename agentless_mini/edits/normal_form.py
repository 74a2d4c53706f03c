"""A digest of what a file says, equal for files that differ in comments, blank lines and formatting alone.

Python is compared by its syntax tree (`statements`), docstrings included: a docstring is a value of the program. A file
that its grammar reads is compared by the lines that count in it (`languages`). Other text, and Python that this
interpreter cannot parse, is compared line by line without the blanks at the end of lines and without blank lines;
comments count there, and blanks at the beginning may carry meaning. In markup a blank line parts paragraphs: it counts,
and several are as one.

A changed file is compared as the file that it was: text, where that did not parse.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby

from agentless_mini.edits.languages import UNSURE, Parsed, Unread, language_of, parsed
from agentless_mini.edits.names import STAR, bound, undefined
from agentless_mini.edits.sources import is_python
from agentless_mini.edits.statements import Broken, Module, Version, module_of, statements_at, version_of

MOST_CHECKED = 256 * 1024
"""Bytes of a file of which all names are looked up, where a part does not tell."""

_MARKUP = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".asciidoc", ".tex", ".textile", ".org")
_HARD_BREAKS = (".md", ".markdown", ".mdx")  # two blanks end a line in these
_STUB = ".pyi"


@dataclass(frozen=True, slots=True)
class Form:
    """The digest of a file, and what speaks against it as a version of another.

    `problem` is why it does not parse though the other did, or though it is new and Python: one line with a line's
    number, else "". `undefined` are the names that it uses undefined, and the other did not.
    """

    digest: str
    problem: str = ""
    undefined: tuple[str, ...] = ()


class Forms:
    """The forms of files, each worked out once: samples of one prompt share what they start from and often agree.

    For one thread at a time: what it remembers is not guarded.
    """

    def __init__(self) -> None:
        """Begin with no form known."""
        self._forms: dict[tuple[str, bytes, bytes | None], Form] = {}
        self._modules: dict[bytes, Module | Broken] = {}
        self._parsed: dict[tuple[str, bytes], Parsed | Unread] = {}
        self._undefined: dict[bytes, dict[int, set[str]]] = {}

    def of(self, path: str, data: bytes, before: bytes | None = None) -> Form:
        """Return the form of a file with these bytes at that path, as a version of what stood there before.

        A new file is a version of an empty one.
        """
        key = (
            path.rpartition("/")[2].rpartition(".")[2].lower(),
            _key(data),
            before,
        )
        if key not in self._forms:
            made = self._of_python if is_python(path) else self._of_other
            self._forms[key] = made(path, data, before)
        return self._forms[key]

    def _of_python(self, path: str, data: bytes, before: bytes | None) -> Form:
        module = self._module(data if before is None else before)
        if isinstance(module, Broken):
            return self._of_other(path, data, before)
        if before is None:
            return Form(module.digest)
        version = version_of(module, data)
        if isinstance(version, Broken):
            return Form(_text(path, data), version.problem)
        names = set() if path.endswith(_STUB) else self._newly_undefined(module, version, data)
        return Form(version.digest, undefined=tuple(sorted(names)))

    def _of_other(self, path: str, data: bytes, before: bytes | None) -> Form:
        language = language_of(path)
        base = self._read(language, before) if language and before else None
        if not language or isinstance(base, Unread):
            return Form(_text(path, data))
        found = parsed(language, data, base) if base else self._read(language, data)
        if isinstance(found, Unread):
            is_fault = found.line and language not in UNSURE
            return Form(_text(path, data), f"near line {found.line}" if is_fault else "")
        return Form(_digest(language, found.lines))

    def _module(self, data: bytes) -> Module | Broken:
        if data not in self._modules:
            self._modules[data] = module_of(data)
        return self._modules[data]

    def _read(self, language: str, data: bytes) -> Parsed | Unread:
        key = language, _key(data)
        if key not in self._parsed:
            self._parsed[key] = parsed(language, data)
        return self._parsed[key]

    # --- names -------------------------------------------------------------------------------------------------------

    def _newly_undefined(self, module: Module, version: Version, data: bytes) -> set[str]:
        """Return the names that a version uses undefined and the module does not."""
        spans = module.spans
        changed = {place for part in version.parts for place in range(part.begin, part.end)}
        if len(data) > MOST_CHECKED and len(changed) == len(spans):
            return set()
        top = [statement for part in version.parts if not part.member for statement in part.statements]
        heads = [place for place, span in enumerate(spans) if place == span.header]
        known = {name for place in heads if place not in changed for name in spans[place].names}
        members = []
        for header in {spans[part.begin].header for part in version.parts if part.member}:
            same = [part for part in version.parts if part.member and spans[part.begin].header == header]
            statements = [statement for part in same for statement in part.statements]
            members.append((_siblings(module, header, changed), statements))
        found = undefined(top, known, members)
        known |= bound(top)
        gone = {name for place in heads if place in changed for name in spans[place].names} - known
        gone -= bound(statement for part in version.parts for statement in part.statements)
        if gone:
            kept = [place for place in _mentions(module, gone) if place not in changed]
            told = {name for place in kept for name in _undefined_at(module, place, known)}
            found |= told if STAR in gone else told & gone
        return found - self._undefined_before(module, found) if found else found

    def _undefined_before(self, module: Module, names: Collection[str]) -> set[str]:
        """Return the names that a module uses undefined, where it mentions any of these."""
        known = {name for place, span in enumerate(module.spans) if place == span.header for name in span.names}
        told = self._undefined.setdefault(module.data, {})
        found: set[str] = set()
        for place in _mentions(module, names):
            if place not in told:
                told[place] = _undefined_at(module, place, known)
            found |= told[place]
        return found


def _mentions(module: Module, names: Collection[str]) -> list[int]:
    """Return the spans that may mention any of the names; all where a name can be written in other ways."""
    if not all(name.isidentifier() and name.isascii() for name in names):
        return list(range(len(module.spans) or 1))
    stops = [span.stop for span in module.spans]
    words = re.compile(rb"\b(?:%b)\b" % "|".join(names).encode())
    return sorted({bisect_right(stops, found.start()) for found in words.finditer(module.data)})


def _undefined_at(module: Module, place: int, known: Collection[str]) -> set[str]:
    """Return the names that a span uses undefined."""
    header = module.spans[place].header if module.spans else place
    statements = statements_at(module, place)
    if place > header:
        return undefined((), known, [(_siblings(module, header), statements)])
    return undefined(statements, known)


def _siblings(module: Module, header: int, changed: Collection[int] = ()) -> set[str]:
    """Return the names that the members of a class bind which did not change."""
    places = range(header + 1, module.spans[header].last + 1)
    return {name for place in places if place not in changed for name in module.spans[place].names}


def _key(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _text(path: str, data: bytes) -> str:
    lines = [line.rstrip() for line in data.split(b"\n")]
    if not path.lower().endswith(_MARKUP):
        return _digest("text", (line for line in lines if line))
    if path.lower().endswith(_HARD_BREAKS):
        lines = [
            line + b"  " if line and whole.rstrip(b"\r").endswith(b"  ") else line
            for line, whole in zip(lines, data.split(b"\n"), strict=True)
        ]
    blocks = (block for is_blank, block in groupby(lines, lambda line: not line) if not is_blank)
    return _digest("markup", (b"\n".join(block) + b"\n\n" for block in blocks))


def _digest(kind: str, lines: Iterable[bytes | None]) -> str:
    return hashlib.sha256(kind.encode() + b"\n" + b"\n".join(line for line in lines if line is not None)).hexdigest()
