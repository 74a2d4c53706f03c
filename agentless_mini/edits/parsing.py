"""A model's answer -> edits.

An edit is a line `### path`, `<<<<<<< SEARCH`, the lines to find, `=======`, the lines to put there,
`>>>>>>> REPLACE`. It is read inside a fenced block, as models are asked, and outside of one; one without a path of its
own has that of the edit before. What stands between the markers is text, fences and `###` lines included. One
incomplete edit makes the whole answer malformed: half a change is worse than none.

Things that look alike are told apart by what the file holds, so an edit may have several readings: which of several
divider lines divides, whether a last line `\\ No newline at end of file` is text or says, as in a unified diff, that
the line before it has no terminator, and whether blanks before the markers stand before its text, too.
"""

import re
from collections.abc import Iterator, Sequence

from agentless_mini.domain import Edit, Reading, Reason, Rejected
from agentless_mini.edits.answer import KNOWN, Marks, solution, without_thinking
from agentless_mini.edits.markers import CLOSES, NO_NEWLINE, OPENS, WIDTH, Marker, closing, dividers, markers
from agentless_mini.edits.paths import Paths, Said

MOST_DIVIDERS = 64
MOST_EDITS = 1000
# So many lines before an edit, the nearest ones, may say its path.
MOST_NAMES = 8

_FENCE = re.compile(r"(`{3,}|~{3,})([^`]*)")
# What may follow SEARCH on its line without being code: "(lines 3-5)", ":", ">", a fence, a special token.
_REMARK = re.compile(
    r"[\s>:*`.\-]*|\((?:lines?|block|old|original|existing|current)\b[^()]*\)|<\|.*\|>|(?:lines?|block)\s+\d[\d\s,\u2013-]*",
    re.IGNORECASE,
)


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
                if not self._paths.is_example(names):  # the prompt's own, quoted
                    edit = self._edit(found, place, last, names)
                    if isinstance(edit, Rejected):
                        return edit
                    edits.append(edit)
                if len(edits) > MOST_EDITS:
                    return _malformed(f"the answer has more than {MOST_EDITS} edits")
                place, passed = last, found[last].at + 1
            elif marker.kind == CLOSES and not marker.prefix and marker.width >= WIDTH:
                return _malformed(f"line {marker.at + 1} closes an edit that nothing opened")
            place += 1
        return tuple(edits)

    def _pass(self, first: int, opening: Marker) -> list[Said]:
        """Take note of the lines before an edit; return those that may say its path, the nearest first.

        Code that is shown in a fence of its own is none of them.
        """
        names: list[Said] = []
        shown = len(names)
        has_prose = False
        for at in range(first, opening.at):
            line = self._lines[at].removeprefix(opening.beside).strip()
            fence = _FENCE.fullmatch(line)
            if fence:
                has_prose = True
                closes = bool(self._fence) and not fence[2].strip() and fence[1].startswith(self._fence)
                if closes and not (len(names) == shown + 1 and names[-1].line.startswith("#")):
                    del names[max(shown - 1, 0) :]
                elif not closes:
                    names.append(Said(fence[2], is_info=True))
                    shown = len(names)
                self._fence = "" if closes else fence[1]
            elif line:
                has_prose = has_prose or not line.startswith("#")
                names.append(Said(line))
        self._block += has_prose
        headings = [one for one in names[:-MOST_NAMES] if one.line.startswith("#")]
        rest = [Said(opening.rest)] if opening.rest else []
        return [*rest, *reversed(names[-MOST_NAMES:]), *reversed(headings)]

    def _edit(self, found: Sequence[Marker], place: int, last: int, names: list[Said]) -> Edit | Rejected:
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
        if opening.rest and not _REMARK.fullmatch(opening.rest) and not _is_path(opening.rest, path):
            return _malformed(f"line {opening.at + 1} has text after SEARCH: {opening.rest[:80]!r}")
        self._path = path
        if creates:
            self._created.add(path)
        is_wide = opening.width > WIDTH + 1 or any(marker.width == WIDTH for marker in found[place + 1 : last])
        is_literal = opening.width > WIDTH and is_wide and found[last].matches(opening)
        return Edit(path, tuple(readings), self._block, "" if is_literal else self._fence or "```")


def _sides(search: list[str], replace: list[str], opening: Marker) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the two sides of an edit as they stand, and without what stands before each line and each marker."""
    beside = opening.beside
    indented = bool(beside) and all(line.startswith(beside) for line in (*search, *replace) if line.strip())
    creates = not any(map(str.strip, search))
    if not indented or not (beside.strip() or creates):
        yield search, replace
    if indented:
        yield [line.removeprefix(beside) for line in search], [line.removeprefix(beside) for line in replace]


def _is_path(rest: str, path: str) -> bool:
    """Tell whether what follows SEARCH is the path of the edit, or ends in it after a word such as "in"."""
    words = rest.replace("\\", "/").strip("`'\"()[]:").split()
    return not words or (
        words[-1].endswith(path) and all(word.lower() in {"in", "of", "for", "from", "file"} for word in words[:-1])
    )


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
