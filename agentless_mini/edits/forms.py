"""A digest of what a file says, equal for files that differ in comments, blank lines and formatting alone.

Python is compared by its syntax tree (`statements`), docstrings included: a docstring is a value of the program. A file
that its grammar reads is compared by the lines that count in it. A comment does not count there, unless a tool reads it
(`//go:build`, `# frozen_string_literal: true`). Neither do blank lines, nor the blanks at both ends of a line, for none
of these languages gives indentation a meaning, unless they stand inside a token: a string over several lines is kept as
it is. Nor do blanks between tokens and, where a language says so, ends of lines: in Go those after an operator or a
comma, in JavaScript those in brackets that hold no statements, in C, C++, Java, JSON, PHP and Rust all but those of the
preprocessor; in Ruby and the rest all count, and whether a blank is there. A comma before a closing bracket is dropped
where it is optional. What a macro makes a string of is not looked at.

Other text, and Python that this interpreter cannot parse, is compared line by line without the blanks at the end of
lines and without blank lines; comments count, and blanks at the beginning may carry meaning. In markup a blank line
parts paragraphs: it counts, and several are as one. A changed file is compared as the file that it was: text, where
that did not parse.

The grammars are tree-sitter's, in C, and what they read is hostile: on some texts a parser takes minutes, gigabytes or
the process. So a text is parsed only while it has `MOST_BYTES`, no control characters and no more than `MOST_DEPTH`
open brackets; a parse ends at the first error, and after a number of steps that grows with the text, never by time:
an answer that is read again is read alike. Trees are walked, never recursed. Left out are the grammars that still
crashed on hostile text, or took it all memory (Bash, Lua, Python, Scala, Swift, YAML).
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from agentless_mini.edits.sources import is_python, shared_ends
from agentless_mini.edits.statements import Broken, module_of, newly_undefined

if TYPE_CHECKING:
    from tree_sitter import Language, Tree

_MARKUP = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".asciidoc", ".tex", ".textile", ".org")
_HARD_BREAKS = (".md", ".markdown", ".mdx")  # two blanks end a line in these

MOST_BYTES = 256 * 1024
MOST_DEPTH = 100
"""Brackets that may be open at once. `<` and `?` count up to the next `;`, `{` or `}`: often they nest nothing."""
LEAST, STEPS_PER_BYTE, READS_PER_BYTE, PIECE = 200, 0.05, 0.02, 1024
"""What a parse may take, beyond `LEAST`: reports of progress (real code: one for each 80 bytes) and pieces of text."""

_SUFFIXES = {
    "c": "c h", "cpp": "cc cpp cxx hh hpp hxx", "csharp": "cs", "css": "css", "go": "go", "java": "java",
    "javascript": "cjs js jsx mjs", "json": "json", "kotlin": "kt kts", "php": "php", "ruby": "gemspec rake rb",
    "rust": "rs", "scss": "scss", "toml": "toml", "tsx": "tsx", "typescript": "cts mts ts",
}  # fmt: skip
LANGUAGES = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
"""The grammar for files of each suffix."""
UNSURE = frozenset({"c", "cpp"})
"""Languages in which valid files do not parse, for macros that no grammar knows: 3 of 40 commits to files that did."""

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_BRACKET = re.compile(rb"[()\[\]{}<>?;]")
_NEWLINE = re.compile(rb"\n")
# Nodes whose text counts as it is, though they have parts.
_QUOTING = re.compile(r"string(?!_array)|char(?:acter)?_literal|heredoc|template_literal|regex|raw_|scalar|(?:^|_)text")
_DIRECTIVE = re.compile(
    rb"#!|[/*#;<!-]*\s*(?:[@#+!$]\w"
    rb"|(?!(?:todo|fixme|note|nb|xxx|hack|bug|warning|important|see|fix|fixed|issue|example)\b)[\w.+-]+[:=]"
    rb"|(?:eslint|tslint|jshint|jslint|prettier|istanbul|c8|v8|biome|deno|clang|rustfmt|rubocop|shellcheck|webpack\w*"
    rb"|nolint|noinspection|fall-?through|globals?|exported|phpcs|phpstan|psalm|ktlint|swiftlint)\b)",
    re.IGNORECASE,
)
_READ_ALWAYS = {"go": re.compile(rb"//\S"), "rust": re.compile(rb"//[/!]|/\*[*!]"), "php": re.compile(rb"/\*\*")}
# cgo compiles the comment before `import "C"`, and the output of an example is compared with its last comment.
_READ_WHOLLY = {"go": re.compile(rb'^import "C"|^func Example', re.MULTILINE)}


@dataclass(frozen=True, slots=True)
class Form:
    """The digest of a file, and what speaks against it as a version of another.

    `problem` is why it does not parse though the other did, or though it is new and Python: one line with a line's
    number, else "". `undefined` are the names that it uses undefined, and the other did not.
    """

    digest: str
    problem: str = ""
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file that its grammar reads without an error.

    `starts` are the offsets at which its lines begin, `lines` what counts of each: None where nothing does.
    """

    data: bytes
    tree: "Tree"
    starts: tuple[int, ...]
    lines: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """A file without a tree. `line`, from 1, is near the first error; 0: the grammar was not asked to the end."""

    line: int = 0


class Forms:
    """The forms of files, each worked out once: samples of one prompt share what they start from and often agree.

    For one thread at a time: what it remembers is not guarded.
    """

    def __init__(self) -> None:
        """Begin with no form known."""
        self._forms: dict[tuple[str, bytes, bytes | None], Form] = {}
        self._module, self._parsed = cache(module_of), cache(parsed)

    def of(self, path: str, data: bytes, before: bytes | None = None) -> Form:
        """Return the form of a file with these bytes at that path, as a version of what stood there before.

        A new file is a version of an empty one.
        """
        key = (path.rpartition("/")[2].rpartition(".")[2].lower(), hashlib.sha256(data).digest(), before)
        if key not in self._forms:
            made = self._of_python if is_python(path) else self._of_other
            self._forms[key] = made(path, data, before)
        return self._forms[key]

    def fault(self, path: str, before: bytes | None, after: bytes | None) -> str:
        """Return why a change does not parse, if the file did before or is new and Python; else ""."""
        is_read = after is not None and ((before or b"").strip() or is_python(path))
        return self.of(path, after or b"", before or b"").problem if is_read else ""

    def _of_python(self, path: str, data: bytes, before: bytes | None) -> Form:
        module = self._module(data if before is None else before)
        if isinstance(module, Broken):
            return self._of_other(path, data, before)
        if before is None:
            return Form(module.digest)
        version = module_of(data, module)
        if isinstance(version, Broken):
            return Form(_text(path, data), version.problem)
        names = set() if path.endswith(".pyi") else newly_undefined(module, version)
        return Form(version.digest, undefined=tuple(sorted(names)))

    def _of_other(self, path: str, data: bytes, before: bytes | None) -> Form:
        language = language_of(path)
        base = self._parsed(language, before) if language and before else None
        if not language or isinstance(base, Unread):
            return Form(_text(path, data))
        found = parsed(language, data, base) if base else self._parsed(language, data)
        if isinstance(found, Unread):
            is_fault = found.line and language not in UNSURE
            return Form(_text(path, data), f"near line {found.line}" if is_fault else "")
        return Form(_digest(language, [b"".join(filter(None, found.lines))]))


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


def _digest(kind: str, lines: Iterable[bytes]) -> str:
    return hashlib.sha256(kind.encode() + b"\n" + b"\n".join(lines)).hexdigest()


# --- grammars --------------------------------------------------------------------------------------------------------


def language_of(path: str) -> str:
    """Return the name of the grammar for the file at a path, "" where there is none."""
    return LANGUAGES.get(path.rpartition("/")[2].rpartition(".")[2].lower(), "")


def parsed(language: str, data: bytes, base: Parsed | None = None) -> Parsed | Unread:
    """Return the file as its grammar reads it. What it shares with `base`, another version of it, is not read again."""
    head, tail = shared_ends(base.data, data) if base else (0, 0)
    stop = len(data) - tail
    if len(data) > MOST_BYTES or not _is_harmless(data[head:stop]):
        return Unread()
    starts = (0, *(newline.end() for newline in _NEWLINE.finditer(data)))
    old = base.tree.copy() if base else None
    if base and old:  # the place that differs is marked, for the parser to begin from
        old_stop = len(base.data) - tail
        old.edit(head, old_stop, stop, _point(starts, head), _point(base.starts, old_stop), _point(starts, stop))
    tree = _tree(language, data, old)
    if isinstance(tree, int):
        return Unread(data.count(b"\n", 0, max(tree, head)) + 1 if tree >= 0 else 0)
    if base is None or old is None or _reads_wholly(language, data) != _reads_wholly(language, base.data):
        return Parsed(data, tree, starts, _lines(language, data, tree, starts, range(len(starts))))
    for changed in old.changed_ranges(tree):
        head, stop = min(head, changed.start_byte), max(stop, changed.end_byte)
    touched = range(bisect_right(starts, head) - 1, bisect_right(starts, stop))
    shift, last = len(base.lines) - len(starts), len(starts) - 1
    first, past = touched.start, touched.stop  # with the lines that say something before and after
    while first > 0 and (first == touched.start or (base.lines[first] or _WITHIN).startswith(_WITHIN)):
        first -= 1
    while past <= last and (past == touched.stop or base.lines[past + shift - 1] is None):
        past += 1
    found = _lines(language, data, tree, starts, range(first, past))[touched.start - first :]
    return Parsed(data, tree, starts, (*base.lines[: touched.start], *found, *base.lines[past + shift :]))


# --- parsing ---------------------------------------------------------------------------------------------------------


def _is_harmless(text: bytes) -> bool:
    """Tell whether a grammar may be given this: no control characters, and no deep nesting."""
    if _CONTROL.search(text):
        return False
    depth = angles = 0
    for found in _BRACKET.finditer(text):
        sign = found[0]
        if sign in b"([{":
            depth += 1
        elif sign in b")]}":
            depth = max(0, depth - 1)
        elif sign == b">":
            angles = max(0, angles - 1)
        elif sign in b"<?":
            angles += 1
        if sign in b";{}":
            angles = 0
        if max(depth, angles) > MOST_DEPTH:
            return False
    return True


def _point(starts: Sequence[int], place: int) -> tuple[int, int]:
    row = bisect_right(starts, place) - 1
    return row, place - starts[row]


@cache
def _language(name: str) -> "Language":
    from tree_sitter import Language
    from tree_sitter_language_pack import get_binding

    return Language(get_binding(name))  # type: ignore[arg-type]


def _tree(language: str, data: bytes, old: "Tree | None") -> "Tree | int":
    """Return the tree of a text without an error, else the place of one at the earliest, -1 where none was met."""
    from tree_sitter import Parser

    steps = reads = sound = 0
    failed = False
    most_steps, most_reads = (LEAST + share * len(data) for share in (STEPS_PER_BYTE, READS_PER_BYTE))

    def ends(place: int, has_error: bool) -> bool:
        nonlocal steps, sound, failed
        steps += 1
        failed = has_error
        sound = sound if has_error else place
        return has_error or steps > most_steps or reads > most_reads

    def read(place: int, _: object) -> bytes:
        nonlocal reads
        reads += 1
        return data[place : place + PIECE]

    parse = partial(Parser(_language(language)).parse, read)  # a text that is handed over at once cannot be left
    tree = None
    with suppress(ValueError):  # it was left
        tree = parse(progress_callback=ends) if old is None else parse(old, progress_callback=ends)
    if reads > most_reads or (tree is None and not failed):
        return -1
    if tree is None:
        return sound
    return _first_error(tree) if tree.root_node.has_error else tree


def _first_error(tree: "Tree") -> int:
    cursor = tree.walk()
    while cursor.goto_first_child():
        while cursor.node and not (cursor.node.has_error or cursor.node.is_missing) and cursor.goto_next_sibling():
            pass
    return cursor.node.start_byte if cursor.node else 0


# --- what counts -----------------------------------------------------------------------------------------------------

_APART, _WITHIN = b"\x1f", b"\n\n"
"""What stands between two tokens (no text with control characters is parsed), and before a line within a token."""
# Languages in which no end of a line counts, but of the preprocessor's.
_FREE = frozenset({"c", "cpp", "java", "json", "php", "rust"})
# In Go none counts after these. In the others none counts in brackets that hold no statements, unless some are inside.
_GOES_ON = re.compile(rb"(?!\+\+|--)[(\[{,;:.=+\-*/%&|^<>!~]+")
_BRACKETS = frozenset({
    "arguments", "formal_parameters", "parenthesized_expression", "array", "array_pattern", "object",
    "object_pattern", "named_imports", "export_clause", "type_arguments", "type_parameters", "enum_body",
    "jsx_opening_element", "jsx_self_closing_element"
})  # fmt: skip
_STATEMENTS = frozenset({
    "statement_block", "class_body", "switch_body", "object_type", "interface_body", "jsx_element"
})  # fmt: skip
_SCRIPTS = frozenset({"javascript", "typescript", "tsx"})
_MACROS = frozenset({"token_tree"})
"""What a macro may read blank by blank."""
# A comma before the end of these says nothing.
_LISTS = frozenset({
    "arguments", "argument_list", "formal_parameters", "parameters", "parameter_list", "object", "object_pattern",
    "named_imports", "export_clause", "enum_body", "literal_value", "field_declaration_list",
    "field_initializer_list", "enum_variant_list", "use_list", "initializer_list", "enumerator_list",
    "array_initializer"
})  # fmt: skip


class _Token(NamedTuple):
    """A token, a whole string or a comment. `wrapped`: the brackets around it and what is before it hold no statements.

    `of` is the kind of what it is a part of.
    """

    begin: int
    end: int
    is_comment: bool
    wrapped: bool
    of: str


def _lines(language: str, data: bytes, tree: "Tree", starts: Sequence[int], wanted: range) -> tuple[bytes | None, ...]:
    """Return what counts of each line in the range: its tokens, and before them whether the line's beginning counts."""
    found: dict[int, bytes] = {}
    wholly, always = _reads_wholly(language, data), _READ_ALWAYS.get(language, _DIRECTIVE)
    line_before, end_before, said, edge, held = -1, 0, b"", True, False
    for token in _tokens(tree, starts[wanted.start], [*starts, len(data)][wanted.stop]):
        text, line = data[token.begin : token.end], bisect_right(starts, token.begin) - 1
        text = text.rstrip() if token.is_comment else text.strip(b"\r")  # some grammars end a comment after its line
        if token.is_comment and not (wholly or always.match(text) or _DIRECTIVE.match(text)):
            continue
        if b"\n" in text and not text.strip():  # the end of a preprocessor's line
            edge = True
            continue
        if line != line_before:
            is_directive = language in UNSURE and text.startswith(b"#")
            counts = edge or is_directive or token.is_comment or not _goes_on(language, token, said)
            lead, edge = b"\n" if counts else _APART, is_directive
        else:
            is_spaced = edge or language not in _FREE | _SCRIPTS | {"go"} or token.of in _MACROS
            lead = b" " if is_spaced and token.begin > end_before else _APART
        edge, said = edge or token.is_comment, text
        if text == b"," and not held:  # it comes with what follows
            held = True
            continue
        if held and not (text in (b")", b"}") and token.of in _LISTS):
            lead += b"," + _APART
        held = False
        first, *rest = text.split(b"\n")
        found[line] = found.get(line, b"") + lead + first
        found |= {line + row: _WITHIN + more for row, more in enumerate(rest, 1)}
        line_before, end_before = line + len(rest), token.end
    return tuple(found.get(line) for line in wanted)


def _goes_on(language: str, token: _Token, said: bytes) -> bool:
    """Tell whether the ends of lines before a token do not count; `said` is the token before it."""
    if language == "go":
        return _GOES_ON.fullmatch(said) is not None
    return language in _FREE or (language in _SCRIPTS and token.wrapped)


def _tokens(tree: "Tree", start: int, stop: int) -> Iterator[_Token]:
    """Yield what overlaps [start, stop), in order."""
    cursor = tree.walk()
    above: list[tuple[str, bool]] = [("", False)]  # the kinds of what the cursor is in, and whether it is wrapped there
    wrapped, lowest = False, 0  # by the least that holds both this and the token before
    while node := cursor.node:  # pragma: no branch - there always is one
        begin, end, kind = node.start_byte, node.end_byte, node.type
        is_comment = "comment" in kind
        if begin < stop and end > start:
            if node.child_count and not is_comment and not _QUOTING.search(kind):
                inside = kind in _BRACKETS or (above[-1][1] and kind not in _STATEMENTS)
                above.append((kind, inside))
                cursor.goto_first_child()
                continue
            yield _Token(begin, end, is_comment, wrapped, above[-1][0])
        lowest = lowest if is_comment else len(above) + 1
        while not (begin < stop and cursor.goto_next_sibling()):
            if not cursor.goto_parent():
                return
            above.pop()
            begin = start
        if len(above) < lowest:
            wrapped, lowest = above[-1][1], len(above)


def _reads_wholly(language: str, data: bytes) -> bool:
    """Tell whether all comments of the file may be read."""
    pattern = _READ_WHOLLY.get(language)
    return bool(pattern and pattern.search(data))
