"""A model's answer -> edits (mission section 2).

An edit is a line `### path`, `<<<<<<< SEARCH`, the lines to find, `=======`, the lines to put there,
`>>>>>>> REPLACE`. It is read inside a fenced block, as models are asked, and outside of one; one without a path of its
own has that of the edit before. What stands between the markers is text, fences and `###` lines included. One
incomplete edit makes the whole answer malformed: half a change is worse than none.

Things that look alike are told apart by what the file holds, so an edit may have several readings: which of several
divider lines divides, whether a last line `\\ No newline at end of file` is text or says, as in a unified diff, that
the line before it has no terminator, and whether blanks before the markers stand before its text, too.
"""

import enum
import re
from collections.abc import Iterator, Sequence

from agentless_mini.domain import Edit, Reading, Reason, Rejected
from agentless_mini.edits.answer import KNOWN, Marks, solution, without_thinking
from agentless_mini.edits.markers import CLOSES, NO_NEWLINE, OPENS, WIDTH, Marker, closing, dividers, markers
from agentless_mini.edits.paths import Paths

MOST_DIVIDERS = 64
# So many lines before an edit, the nearest ones, may say its path.
MOST_NAMES = 8

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")
# What may follow SEARCH on its line without being code: "(lines 3-5)", ":", ">", a path, a fence, a special token.
_REMARK = re.compile(r"[\s>:*`.\-]*|\(.*\)|\[.*\]|<\|.*\|>|(?:lines?|block|for|in|from)\b.*", re.IGNORECASE)


class Matching(enum.StrEnum):
    """How closely an answer must keep to the lines of the file."""

    STRICT = "strict"  # SEARCH equal to whole lines
    LOOSE = "loose"  # SEARCH may differ in blanks, blank lines, indentation, or slightly


def parse_edits(text: str, paths: Paths, marks: Marks = KNOWN) -> tuple[Edit, ...] | Rejected:
    """Return the edits of an answer in its order, at least one.

    `Rejected` as TRUNCATED, NO_EDIT, MALFORMED or BAD_PATH. The time that it takes grows linearly with the answer.
    """
    spoken = without_thinking(text, marks)
    if isinstance(spoken, Rejected):
        return spoken
    answer = solution(spoken, marks)
    if isinstance(answer, Rejected):
        return answer
    edits = _Reader(answer, paths).edits()
    if not edits and not marks.answer_start:  # what is marked as the answer may be an example in prose
        edits = _Reader(spoken, paths).edits()
    return edits or Rejected(Reason.NO_EDIT, "the answer holds no edit")


class _Reader:
    """Reads the edits of an answer, each under the path that stands before it."""

    def __init__(self, answer: str, paths: Paths) -> None:
        self._lines = answer.split("\n")
        self._paths = paths
        self._path = ""
        self._created: set[str] = set()
        self._block = 0
        self._fence = ""

    def edits(self) -> tuple[Edit, ...] | Rejected:
        found = markers(self._lines)
        edits: list[Edit] = []
        place = passed = 0
        while place < len(found):
            marker = found[place]
            if marker.kind == OPENS:
                last = closing(found, place)
                if not last:
                    return _malformed(f"the edit in line {marker.at + 1} is not closed by {'>' * marker.width} REPLACE")
                names = self._pass(passed, marker)
                edit = self._edit(found, place, last, names)
                if isinstance(edit, Rejected):
                    return edit
                edits.append(edit)
                place, passed = last, found[last].at + 1
            elif marker.kind == CLOSES and not marker.prefix and marker.width >= WIDTH:
                return _malformed(f"line {marker.at + 1} closes an edit that nothing opened")
            place += 1
        return tuple(edits)

    def _pass(self, first: int, opening: Marker) -> list[str]:
        """Take note of the lines before an edit; return those that may say its path, the nearest first."""
        between = [line for line in self._lines[first : opening.at] if line.strip()]
        fences = [fence for line in between if (fence := _FENCE.fullmatch(line))]
        if fences or any(not line.lstrip().startswith("#") for line in between):
            self._block += 1
        if fences:
            self._fence = fences[-1][1]
        names = [opening.rest] if opening.rest else []
        for line in reversed(between[-MOST_NAMES:]):
            fence = _FENCE.fullmatch(line)
            names.append(fence[2] if fence else line)
        return names

    def _edit(self, found: Sequence[Marker], place: int, last: int, names: list[str]) -> Edit | Rejected:
        """Return the edit between two markers."""
        opening, lines = found[place], self._lines
        inside, alike = dividers(found, place, last)
        if not 0 < len(inside) <= (MOST_DIVIDERS if alike else 1):
            return _malformed(f"the edit in line {opening.at + 1} has {len(inside)} lines {'=' * opening.width}")
        at, stop = opening.at + 1, found[last].at
        readings = [
            reading
            for divider in inside
            for search, replace in _sides(lines[at : divider.at], lines[divider.at + 1 : stop], opening)
            for reading in _readings(search, replace, () if alike else (lines[divider.at],))
        ]
        creates = any(not reading.search.strip() for reading in readings)
        path = self._paths.of(names, creates, self._created, self._path)
        if isinstance(path, Rejected):
            return path
        if opening.rest and not _REMARK.fullmatch(opening.rest) and path not in opening.rest.replace("\\", "/"):
            return _malformed(f"line {opening.at + 1} has text after SEARCH: {opening.rest[:80]!r}")
        self._path = path
        if creates:
            self._created.add(path)
        is_literal = opening.width > WIDTH and found[last].matches(opening)
        return Edit(path, tuple(readings), self._block, "" if is_literal else self._fence or "```")


def _sides(search: list[str], replace: list[str], opening: Marker) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the two sides of an edit as they stand, and without what stands before each line and each marker."""
    beside = opening.beside
    indented = bool(beside) and all(line.startswith(beside) for line in (*search, *replace) if line.strip())
    if not indented or not beside.strip():
        yield search, replace
    if indented:
        yield [line.removeprefix(beside) for line in search], [line.removeprefix(beside) for line in replace]


def _readings(search: Sequence[str], replace: Sequence[str], unless: tuple[str, ...]) -> Iterator[Reading]:
    """Yield the ways to read the two sides: the note on the missing newline as text, if that may be, and as a note."""
    if not _has_note(search):
        yield Reading(_text(search), _noted(replace), unless)
        return
    yield Reading(_text(search), _text(replace), unless)
    yield Reading(_noted(search), _noted(replace), unless)


def _has_note(side: Sequence[str]) -> bool:
    """Tell whether the last line may be the note: alone, it has no line to speak of."""
    return len(side) > 1 and side[-1] == NO_NEWLINE


def _noted(side: Sequence[str]) -> str:
    return "\n".join(side[:-1]) if _has_note(side) else _text(side)


def _text(side: Sequence[str]) -> str:
    return "".join(line + "\n" for line in side)


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED, detail)
