"""The lines that give an answer its structure, shared by what reads answers and what writes them.

An edit's markers are `<<<<<<< SEARCH`, `=======` and `>>>>>>> REPLACE`, at the start of their lines; blanks and a `\\r`
may follow. They are seven characters wide. Where the text of an edit itself holds such lines the markers may be wider,
all three alike, as fences may be in Markdown: markers of another width are text.
"""

import re
from collections.abc import Iterator, Sequence

WIDTH = 7
MOST_WIDTH = 32
NO_NEWLINE = "\\ No newline at end of file"

# A marker of the one width that models are asked for, or of a wider one.
_SEARCH = re.compile(r"(<{7,32}) SEARCH[ \t\r]*")
_DIVIDER = re.compile(r"(={7,32})[ \t\r]*")
_REPLACE = re.compile(r"(>{7,32}) REPLACE[ \t\r]*")


def search_width(line: str) -> int:
    """Return the width of a marker that opens an edit, 0 for any other line."""
    return _width(_SEARCH, line)


def divider_width(line: str) -> int:
    """Return the width of a marker that divides an edit, 0 for any other line."""
    return _width(_DIVIDER, line)


def replace_width(line: str) -> int:
    """Return the width of a marker that closes an edit, 0 for any other line."""
    return _width(_REPLACE, line)


def marker_width(line: str) -> int:
    """Return the width of a marker of any kind, 0 for any other line."""
    return search_width(line) or divider_width(line) or replace_width(line)


def complete_edits(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each run of lines that is an edit: all three markers, and no other opening one between.

    An edit that stands in the text of a wider one is yielded too, before it.
    """
    opened: dict[int, int] = {}
    divided: set[int] = set()
    for index, line in enumerate(lines):
        if width := search_width(line):
            opened[width] = index
            divided.discard(width)
        elif (width := divider_width(line)) in opened:
            divided.add(width)
        elif (width := replace_width(line)) in divided:
            yield opened[width], index
            opened = {wide: first for wide, first in opened.items() if first < opened[width]}
            divided &= opened.keys()


def _width(marker: re.Pattern[str], line: str) -> int:
    found = marker.fullmatch(line) if line.startswith(("<", "=", ">")) else None
    return len(found[1]) if found else 0
