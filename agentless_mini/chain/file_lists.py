"""What a model answers to localization -> a list of files.

A list is read as a person reads it: one path on each line or several, as JSON, in a table, in tags, with bullets,
numbers, labels, links, quotes and remarks around them, as written in another checkout. Only files of the tree come of
it. What a sentence merely mentions counts only where there is no list.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agentless_mini.chain.lexical import PathIndex
from agentless_mini.domain import Completion, Finish, Reason, Rejected
from agentless_mini.edits import KNOWN, Marks, answer_text
from agentless_mini.edits.paths import TYPOGRAPHY

MOST_LETTERS = 20_000  # that are read of a line
MOST_OF_PATH = 4096
MOST_OF_LEAD = 200  # letters before the first path of an item
MOST_DEPTH = 3  # of brackets that are looked into where what they hold is no JSON

_BLANKS = re.compile(r"[^\S\n]{80,}")  # no name has so many, and patterns take their square
_FENCE = re.compile(r"\s*(?:`{3,}[^`]*|~{3,}.*)")
_FINAL = re.compile(r"[^.:]{0,60}\b(?:final|answer)\b[^.:]{0,60}:", re.IGNORECASE)

_BRACKET = re.compile(r"[\[\]{}]|\\.|\"(?:[^\"\\\n]|\\.)*\"")
_LAST_COMMA = re.compile(r",\s*(?=[\]}])")
_FILES_KEY = re.compile(r"file|path", re.IGNORECASE)

# An item of a list may go on as a sentence; other lines are items only where nothing but a remark follows.
_BULLET = re.compile(
    r"\A\s*(?:[^\w\s./\\@`'\"(\[{<|*]{1,6}\s|\*\s|\W{0,3}(?:\d{1,3}|[a-z](?=\)))\W|\W{0,4}\[[ xX]?\]\s)"
)
_LEAD = re.compile(r"\W*(?:(?:\d{1,3}|[a-zA-Z](?=[)\]]))\W+)?(?:\*\*[^*]{1,80}\*\*\W{1,5})?\W*|.*[:=]\W*")
_BETWEEN = re.compile(r"[\])}]?\s*+(?:\([^()]{0,300}\)\s*+)?(?:[\s,;&+/*_`'\")\]}({\[]|and\b|or\b)*+")
_PROSE = re.compile(r"[*_`\"\])}]*+\s*+[,;.]?\s*+\w|'\w")

_TAGGED = re.compile(r"<\w{0,20}(?:file|path)\w{0,20}\b[^<>]{0,300}>([^<>]{1,4096})</", re.IGNORECASE)
_TAG = re.compile(r"</?([A-Za-z]\w{0,30})(?:\s[^<>]{0,300})?/?>")
_TAG_VALUE = re.compile(r"(?:file|path|name|href|src)\w{0,9}\s?=\s?[\"']([^\"'<>]+)", re.IGNORECASE)
_INLINE_TAGS = {"a", "b", "code", "em", "i", "kbd", "span", "strong", "tt"}
_NAME = re.compile(
    r"\[(?P<link>[^\[\]]{1,1000})\]\((?P<url>[^()\s]{0,1000})[^()]{0,100}\)"
    r"|(?P<marks>`{1,3})(?P<quoted>[^`]{1,1000})(?P=marks)|(?P<word>[^\s,;|`\"'<>*=]+)"
)
_AFTER_PATH = re.compile(r"[:#(?]")
_SHAPED = re.compile(r"[/\\]|\.\w|[A-Z]")
_SIGN = re.compile(r"[/\\.`\[]|[A-Z]")  # of a name in a line
_AROUND = "()[]{}.:!?"
_MARKS = _AROUND + " `\"'*,;"


def read_paths(completion: Completion, tree: PathIndex, most: int, marks: Marks = KNOWN) -> tuple[str, ...] | Rejected:
    """Return the distinct paths of the tree that the answer lists, in its order, at most `most` of them.

    The last fenced list counts, else the last fenced block that names any file, else what follows "final answer:",
    else all of the answer. In each the last JSON counts before lines; sentences count where nothing else does. An
    answer that names no file of the tree, or was cut off, is `Rejected`. The time grows linearly with the answer.
    """
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the list of files was cut off by the token limit")
    text = answer_text(completion.text, marks)
    if isinstance(text, Rejected):
        return text
    found = (tuple(dict.fromkeys(paths)) for paths in _lists(_BLANKS.sub(" ", text).split("\n"), _Finder(tree)))
    paths = next((paths for paths in found if paths), ())
    return paths[:most] or Rejected(Reason.BAD_PATH, "the answer names no file of the tree")


def _lists(lines: list[str], finder: "_Finder") -> Iterator[Iterable[str]]:
    """Yield what may be the list, the likeliest first."""
    blocks, is_inside = list[list[str]](), False  # within fences; the last may lack its end
    for line in lines:
        if _FENCE.fullmatch(line):
            is_inside = not is_inside
            blocks += [[]] if is_inside else []
        elif is_inside:
            blocks[-1].append(line)
    blocks.reverse()
    last = max((index for index, line in enumerate(lines) if _FINAL.match(line)), default=len(lines))
    final = [_FINAL.sub("", line, count=1) for line in lines[last : last + 1]] + lines[last + 1 :]
    yield from (finder.in_part(block) for block in blocks if finder.is_list(block))
    yield from (finder.in_part(part) for part in (*blocks, final, lines))
    distinct = dict.fromkeys(lines)
    yield (path for line in distinct if _BULLET.match(line) for path in finder.mentions(line)[:1])
    yield (path for line in distinct for path in finder.enumerations(line))
    yield finder.in_last_paragraph(lines)


def _json_values(text: str, start: int, stop: int, depth: int = 0) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, end, value) of each JSON list and object in a part of a text, of the outermost that are valid."""
    for begin, end in _bracketed(text, start, stop):
        if text.find('"', begin, end) < 0:
            continue
        try:
            yield begin, end, json.loads(text[begin:end])
        except (ValueError, RecursionError):  # a number of many digits is one, brackets in brackets the other
            if depth < MOST_DEPTH:
                yield from _json_values(text, begin + 1, end - 1, depth + 1)


def _bracketed(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """Return the outermost parts between brackets that match, those in strings left alone."""
    opened, found = list[int](), list[tuple[int, int]]()
    for match in _BRACKET.finditer(text, start, stop):
        if match[0] in {"[", "{"}:
            opened.append(match.start())
        elif opened and text[opened[-1]] + match[0] in {"[]", "{}"}:
            begin = opened.pop()
            while found and found[-1][0] > begin:
                found.pop()
            found.append((begin, match.end()))
    return found


@dataclass(frozen=True, slots=True)
class _Named:
    """A word [start, stop) of a line that names a file, or ("" for the path) looks as if it did."""

    start: int
    stop: int
    path: str


class _Finder:
    """Finds the files of a tree that parts of an answer name, in the order in which they stand there."""

    def __init__(self, tree: PathIndex) -> None:
        self._tree = tree
        self._items: dict[str, list[str]] = {}

    def in_part(self, lines: list[str]) -> list[str]:
        """Return the files of the last JSON (or like it) in the lines, else of those that are items of a list."""
        text = _LAST_COMMA.sub("", "\n".join(lines))
        found = self._in_json(text) or self._in_json(text.replace("'", '"'))
        return found or [path for line in dict.fromkeys(lines) for path in self.item(line)]

    def is_list(self, lines: list[str]) -> bool:
        """Tell whether half of the lines name files: others are code with a comment on where it stands, say."""
        said = [line for line in lines if line.strip()]
        return 2 * sum(bool(self.item(line)) for line in said) >= len(said)

    def _in_json(self, text: str) -> list[str]:
        """Return the files that the last JSON names which names any; values with only commas between are one."""
        last, end = list[str](), 0
        for start, stop, value in _json_values(text, 0, len(text)):
            if found := list(self._in_value(value)):
                last = found if text[end:start].strip(" \t\r\n,") else last + found
            end = stop
        return last

    def _in_value(self, value: Any) -> Iterator[str]:  # noqa: ANN401 - whatever JSON holds
        waiting = [value]
        while waiting:
            match waiting.pop():
                case str(said):
                    yield from self.item(said)
                case list(parts):
                    waiting += reversed(parts)
                case dict(parts):
                    keys = [key for key in parts if self._path(key)]
                    named = [part for key, part in parts.items() if _FILES_KEY.search(key)]
                    nested = [part for part in parts.values() if isinstance(part, list | dict)]
                    waiting += reversed(keys or named or nested or list(parts.values()))

    def item(self, line: str) -> list[str]:
        """Return the files that a line of a list names, none for a sentence."""
        if line not in self._items:
            self._items[line] = self._item(line)
        return self._items[line]

    def _item(self, line: str) -> list[str]:
        text = line[:MOST_LETTERS].strip()
        names = (text, _BULLET.sub("", text, count=1).strip(_MARKS))
        if whole := next((path for name in names if (path := self._whole(name))), ""):
            return [whole]
        if tagged := [path for said in _TAGGED.findall(text) if (path := self._path(said))]:
            return tagged
        if text.startswith("|"):
            return next((found for cell in text.split("|") if cell.strip() and (found := self._item(cell))), [])
        if not _SIGN.search(text):
            return []
        text = _plain(text)
        run = next(self._runs(text), [])
        known = [name for name in run if name.path]
        is_led = bool(known) and run[0].start <= MOST_OF_LEAD and bool(_LEAD.fullmatch(text, 0, run[0].start))
        if is_led and (_BULLET.match(text) or not _PROSE.match(text, known[-1].stop)):
            return [name.path for name in known]
        return [path] if " " in (path := self._path(text)) else []  # a name with blanks, and a remark

    def enumerations(self, line: str) -> Iterator[str]:
        """Yield the files that a sentence enumerates: two at least, with only commas and the like between."""
        for run in self._runs(_plain(line)):
            known = [name.path for name in run if name.path]
            yield from known if len(known) > 1 else ()

    def mentions(self, line: str) -> list[str]:
        """Return all files that a line names."""
        return [name.path for name in self._names(_plain(line)) if name.path]

    def in_last_paragraph(self, lines: list[str]) -> list[str]:
        """Return the files of the last paragraph that names any."""
        found: list[list[str]] = []
        for line in reversed(lines):
            if named := self.mentions(line):
                found.append(named)
            elif found and not line.strip():
                break
        return [path for named in reversed(found) for path in named]

    def _runs(self, text: str) -> Iterator[list[_Named]]:
        """Yield the names of a line, those with only commas and the like between them together."""
        run: list[_Named] = []
        for name in self._names(text):
            if run and not _BETWEEN.fullmatch(text, run[-1].stop, name.start):
                yield run
                run = []
            run.append(name)
        if run:
            yield run

    def _names(self, text: str) -> Iterator[_Named]:
        """Yield the words that name a file, and those that look as if they did."""
        for match in _NAME.finditer(text):
            said = match["word"]
            if said is None:
                path = self._path(match["quoted"] or match["link"]) or self._path(match["url"] or "")
                yield _Named(match.start(), match.end(), path)
            elif _SHAPED.search(said):
                bare = said if self._find(said) else said.strip(_AROUND)
                start, path = match.start() + said.index(bare), self._path(bare)
                if path or not bare.isalnum():
                    yield _Named(start, start + len(bare), path)

    def _path(self, said: str) -> str:
        """Return the file that a word means, as it is or without what may stand around a path, "" for none."""
        if len(said) > MOST_OF_PATH:
            return ""
        word = said.rpartition("://")[2]
        drive = 2 if word[1:3] in {":\\", ":/"} else 0
        after = _AFTER_PATH.search(word, drive)
        bare = word[drive : after.start() if after else len(word)].strip(_MARKS)
        found = (self._find(name) for name in dict.fromkeys((said, bare, bare.strip("_"))))
        return next((path for path in found if path), "")

    def _whole(self, said: str) -> str:
        """Return the file that all of a text means; with marks of Chinese text in it, the one that is called so."""
        path = self._find(said)
        return path if path == said or said == said.translate(TYPOGRAPHY) else ""

    def _find(self, said: str) -> str:
        """Return the file of the tree; a text that only ends in one has more blanks. `\\_` is Markdown's `_`."""
        path = self._tree.find(said) or self._tree.find(said.replace("\\_", "_")) or ""
        return path if path.count(" ") == said.count(" ") else ""


def _plain(line: str) -> str:
    """Return what is read of a line, with the quotes of a keyboard. The file that a tag may hold stands for it."""

    def untagged(tag: re.Match[str]) -> str:
        value = _TAG_VALUE.search(tag[0])
        return f", {value[1]}, " if value else "" if tag[1].lower() in _INLINE_TAGS else ", "

    return _TAG.sub(untagged, line[:MOST_LETTERS]).translate(TYPOGRAPHY)
