"""The lines that give an answer its structure, shared by what reads answers and what writes them.

An edit's markers are `<<<<<<< SEARCH`, `=======` and `>>>>>>> REPLACE`, at the start of their lines, seven characters
wide. Where the text of an edit itself holds such lines the markers may be wider, all three alike, as fences may be in
Markdown: markers of another width are text, and so are markers that are indented otherwise than the one that opens.

Models write them carelessly: in a list, with words after them, of unequal widths. Such markers are read where the edit
has no better ones, and only if they leave one way to read it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

WIDTH = 7
MOST_WIDTH = 32
NO_NEWLINE = "\\ No newline at end of file"

OPENS, DIVIDES, CLOSES = "<", "=", ">"
_MARK = re.compile(
    r"(?P<prefix>[ \t]*+(?:(?:[-*+•]|\d{1,3}[.)])[ \t]++|(?:> )++)?[ \t]*+)"
    r"(?P<mark><{5,32}|={5,32}|>{5,32})(?P<word>[ \t]*+(?:SEARCH|REPLACE)(?![A-Za-z0-9_]))?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RUNS = ("<<<<<", "=====", ">>>>>")
_WORDS = {OPENS: "SEARCH", DIVIDES: "", CLOSES: "REPLACE"}


class Marker(NamedTuple):
    """A line that looks like a marker: where it stands, which kind and how wide, and what is before and after it."""

    at: int
    kind: str
    width: int
    prefix: str
    rest: str

    @property
    def beside(self) -> str:
        """Return the prefix that the lines below a marker have: where that is a list's bullet, as many blanks."""
        return self.prefix if ">" in self.prefix else re.sub(r"\S", " ", self.prefix)

    def matches(self, opening: "Marker") -> bool:
        """Tell whether it belongs to the marker that opens an edit by its width and its place in the line."""
        return self.width == opening.width and self.prefix in (opening.prefix, opening.beside)


def markers(lines: Sequence[str]) -> list[Marker]:
    """Return all lines that may be markers, in order."""
    return [found for at, line in enumerate(lines) if (found := marker(line, at))]


def marker(line: str, at: int = 0) -> Marker | None:
    """Return the marker in a line, None for any other line."""
    if not any(run in line for run in _RUNS):
        return None
    found = _MARK.fullmatch(line)
    if not found:
        return None
    kind, word = found["mark"][0], (found["word"] or "").strip().upper()
    rest = found["rest"].strip(" \t\r")
    fits = word == _WORDS[kind] and not (kind == DIVIDES and rest)
    return Marker(at, kind, len(found["mark"]), found["prefix"], rest) if fits else None


def marker_width(line: str) -> int:
    """Return the width of a marker as models are asked for it, or a wider one; 0 for any other line."""
    found = marker(line)
    return found.width if found and not found.prefix and found.width >= WIDTH else 0


def closing(found: Sequence[Marker], place: int) -> int:
    """Return the place among the markers of the one that closes the edit that `found[place]` opens, 0 for none.

    It is the next one like it, unless another edit like it begins before. Where there is none, but exactly one other
    before any edit begins, it is that.
    """
    opening = found[place]
    for other in range(place + 1, len(found)):
        if found[other].kind == CLOSES and found[other].matches(opening):
            return other
        if found[other].kind == OPENS and found[other].matches(opening):
            break
    unlike = 0
    for other in range(place + 1, len(found)):
        if found[other].kind == OPENS:
            break
        if found[other].kind == CLOSES:
            if unlike:
                return 0
            unlike = other
    return unlike


def dividers(found: Sequence[Marker], place: int, last: int) -> tuple[list[Marker], bool]:
    """Return what may divide the edit between two markers, and whether it is like the marker that opens it."""
    inside = [marker for marker in found[place + 1 : last] if marker.kind == DIVIDES]
    alike = [marker for marker in inside if marker.matches(found[place])]
    return (alike, True) if alike else (inside, False)


def edit_bodies(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the lines between the outer markers of each complete edit."""
    found = markers(lines)
    place = 0
    while place < len(found):
        last = closing(found, place) if found[place].kind == OPENS else 0
        if last and dividers(found, place, last)[0]:
            yield found[place].at + 1, found[last].at - 1
            place = last
        place += 1
