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
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from agentless_mini.edits.languages import UNSURE, Parsed, Unread, language_of, parsed
from agentless_mini.edits.names import STAR, bound, undefined
from agentless_mini.edits.statements import Broken, Module, Version, module_of, statements_of, version_of
from agentless_mini.sources import is_python

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

    Not for two threads at once: warnings are silenced for the whole process while a file is parsed.
    """

    def __init__(self) -> None:
        """Begin with no form known."""
        self._forms: dict[tuple[str, bytes, bytes], Form] = {}
        self._modules: dict[bytes, Module | Broken] = {}
        self._parsed: dict[tuple[str, bytes], Parsed | Unread] = {}
        self._undefined: dict[bytes, set[str]] = {}

    def of(self, path: str, data: bytes, before: bytes | None = None) -> Form:
        """Return the form of a file with these bytes at that path, as a version of what stood there before.

        A new file is a version of an empty one.
        """
        key = (
            path.rpartition("/")[2].rpartition(".")[2].lower(),
            _key(data),
            _key(before) if before is not None else b"",
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
        key = _key(data)
        if key not in self._modules:
            self._modules[key] = module_of(data)
        return self._modules[key]

    def _read(self, language: str, data: bytes) -> Parsed | Unread:
        key = language, _key(data)
        if key not in self._parsed:
            self._parsed[key] = parsed(language, data)
        return self._parsed[key]

    # --- names -------------------------------------------------------------------------------------------------------

    def _newly_undefined(self, module: Module, version: Version, data: bytes) -> set[str]:
        """Return the names that a version uses undefined and the module does not."""
        begin, end = version.begin, version.end
        known, siblings, gone = set[str](), set[str](), set[str]()
        for place, span in enumerate(module.spans):
            if begin <= place < end:
                gone |= span.names if place == span.header else set()
            elif place == span.header:
                known |= span.names
            elif version.member and span.header == module.spans[begin].header:
                siblings |= span.names
        if len(data) > MOST_CHECKED and end - begin == len(module.spans):
            return set()
        found = undefined(version.statements, known, siblings if version.member else None)
        gone -= known | bound(version.statements)
        if STAR not in known and any(re.search(rb"\b%b\b" % name.encode(), data) for name in gone):
            found |= self._all_undefined(data)
        return found - self._all_undefined(module.data) if found else found

    def _all_undefined(self, data: bytes) -> set[str]:
        """Return the names that a whole file uses undefined, none of a file that is too large to say."""
        key = _key(data)
        if key not in self._undefined:
            body = statements_of(data) if len(data) <= MOST_CHECKED else []
            self._undefined[key] = set() if isinstance(body, Broken) else undefined(body)
        return self._undefined[key]


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
