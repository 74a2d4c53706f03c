"""A model's answer -> edits (mission section 2). Knows the format and nothing of any repository.

Inside a fenced block: a line `### path`, `<<<<<<< SEARCH`, the lines to find, `=======`, the lines to put there,
`>>>>>>> REPLACE`; several edits may follow each other, and one without a path of its own has that of the one before.
What stands between the markers is text, fences and `###` lines included; what stands outside of them is not looked at.
One incomplete edit makes the whole answer malformed: half a change is worse than none.

Two things that look alike are told apart by what the file holds, so an edit may have several readings: which of
several divider lines divides, and whether a last line `\\ No newline at end of file` is text or says, as in a unified
diff, that the line before it has no terminator.
"""

import enum
import re
from collections.abc import Iterator, Sequence

from agentless_mini.domain import Edit, Reading, Reason, Rejected
from agentless_mini.edits.answer import answer_text
from agentless_mini.edits.markers import NO_NEWLINE, divider_width, replace_width, search_width
from agentless_mini.edits.paths import clean_path

MOST_DIVIDERS = 64

_FENCE = re.compile(r" {0,3}(?:(`{3,})[^`]*|(~{3,}).*)")
_PATH = re.compile(r" {0,3}###[ \t]+(.*)")


class Matching(enum.StrEnum):
    """How closely an answer must keep to the format and to the file's lines."""

    STRICT = "strict"  # edits in fences, SEARCH equal to whole lines
    LOOSE = "loose"  # edits anywhere; SEARCH may differ in blanks, blank lines, indentation, or slightly


def parse_edits(text: str, matching: Matching = Matching.STRICT) -> tuple[Edit, ...] | Rejected:
    """Return the edits of an answer in its order, at least one.

    `Rejected` as TRUNCATED, NO_EDIT, MALFORMED or BAD_PATH. The time that it takes grows linearly with the answer.
    """
    answer = answer_text(text)
    if isinstance(answer, Rejected):
        return answer
    lines = answer.split("\n")
    edits = _edits(lines, _Place(matching))
    if isinstance(edits, Rejected):
        return edits
    return tuple(edits) or Rejected(Reason.NO_EDIT, _why_none(lines))


def _edits(lines: Sequence[str], place: "_Place") -> list[Edit] | Rejected:
    edits: list[Edit] = []
    index = 0
    while index < len(lines):
        if place.in_block and (width := search_width(lines[index])):
            found = _edit_at(lines, index, width, place.path)
            if isinstance(found, Rejected):
                return found
            edit, index = found
            edits.append(edit)
        elif place.in_block and replace_width(lines[index]):
            return _malformed(f"line {index + 1} closes an edit that nothing opened")
        else:
            place.pass_line(lines[index])
        index += 1
    return edits


class _Place:
    """Where in the answer's structure a line outside of edits stands: in which fence, under which path."""

    def __init__(self, matching: Matching) -> None:
        self.path = ""
        self._fence = ""
        self._anywhere = matching is Matching.LOOSE

    @property
    def in_block(self) -> bool:
        """Tell whether edits count here."""
        return self._anywhere or bool(self._fence)

    def pass_line(self, line: str) -> None:
        """Take note of a fence or a path."""
        if self.in_block and (path := _PATH.fullmatch(line)):
            self.path = path[1]
        elif fence := _FENCE.fullmatch(line):
            self._pass_fence(line, fence[1] or fence[2])

    def _pass_fence(self, line: str, fence: str) -> None:
        if not self._fence:
            self._fence = fence
            self.path = self.path if self._anywhere else ""
        elif fence.startswith(self._fence) and line.strip() == fence:
            self._fence = ""


def _edit_at(lines: Sequence[str], first: int, width: int, said_path: str) -> tuple[Edit, int] | Rejected:
    """Return the edit that the marker at `first` opens, and the index of the one that closes it."""
    for index in range(first + 1, len(lines)):
        if search_width(lines[index]) == width:
            return _malformed(f"the edit in line {first + 1} is not closed before the next begins in line {index + 1}")
        if replace_width(lines[index]) == width:
            edit = _edit(said_path, lines[first + 1 : index], width)
            return edit if isinstance(edit, Rejected) else (edit, index)
    return _malformed(f"the edit in line {first + 1} is not closed by {'>' * width} REPLACE")


def _edit(said_path: str, body: Sequence[str], width: int) -> Edit | Rejected:
    if not said_path:
        return _malformed("an edit has no line ### path before it in its block")
    dividers = [index for index, line in enumerate(body) if divider_width(line) == width]
    if not 0 < len(dividers) <= MOST_DIVIDERS:
        return _malformed(f"an edit has {len(dividers)} lines {'=' * width}")
    path = clean_path(said_path)
    if isinstance(path, Rejected):
        return path
    return Edit(path, tuple(reading for at in dividers for reading in _readings(body[:at], body[at + 1 :])))


def _readings(search: Sequence[str], replace: Sequence[str]) -> Iterator[Reading]:
    """Yield the ways to read the two sides: the note on the missing newline as text, if that may be, and as a note."""
    if not _has_note(search):
        yield Reading(_text(search), _noted(replace))
        return
    yield Reading(_text(search), _text(replace))
    yield Reading(_noted(search), _noted(replace))


def _has_note(side: Sequence[str]) -> bool:
    """Tell whether the last line may be the note: alone, it has no line to speak of."""
    return len(side) > 1 and side[-1] == NO_NEWLINE


def _noted(side: Sequence[str]) -> str:
    return "\n".join(side[:-1]) if _has_note(side) else _text(side)


def _text(side: Sequence[str]) -> str:
    return "".join(line + "\n" for line in side)


def _malformed(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED, detail)


def _why_none(lines: Sequence[str]) -> str:
    if any(map(search_width, lines)):
        return "the edits of the answer stand outside of a fenced block"
    return "the answer holds no edit"
