"""The one place of an edit in a file, or why there is none: tries its readings and, where allowed, looser matching."""

from collections.abc import Callable, Iterator, Sequence

from agentless_mini.domain import Edit, Reading, Reason, Rejected
from agentless_mini.edits.loose import MOST_FOUND, loose_levels
from agentless_mini.edits.matching import MOST_PLACES, Match, strict_matches
from agentless_mini.edits.parsing import Matching
from agentless_mini.sources import contents, split_lines

_Level = Callable[[Reading, Sequence[str]], list[Match]]


def place(edit: Edit, lines: Sequence[str], matching: Matching) -> Match | Rejected:
    """Return where the edit replaces lines of a file that has some.

    Of several readings the one with the longest SEARCH that matches is taken. `Rejected` as EXISTS where SEARCH is
    empty, AMBIGUOUS where it matches in several places, NOT_FOUND with a hint where it matches in none.
    """
    readings = sorted((reading for reading in edit.readings if reading.search), key=_search_length, reverse=True)
    if not readings:
        return Rejected(Reason.EXISTS, f"SEARCH is empty, but {edit.path} exists and has lines")
    for found, most in _found(readings, lines, matching):
        if len(found) == 1:
            return found[0]
        count = f"{most} or more" if len(found) >= most else str(len(found))
        return Rejected(Reason.AMBIGUOUS, f"SEARCH stands at {count} places in {edit.path}")
    hint = _hint(split_lines(readings[-1].search), lines)
    return Rejected(Reason.NOT_FOUND, f"SEARCH is not found in {edit.path}: {hint}")


def _found(readings: Sequence[Reading], lines: Sequence[str], matching: Matching) -> Iterator[tuple[list[Match], int]]:
    """Yield what is found, the most exact first, and the number up to which it is counted."""
    levels: list[tuple[_Level, int]] = [(strict_matches, MOST_PLACES)]
    if matching is Matching.LOOSE:
        levels += [(level, MOST_FOUND) for level in loose_levels()]
    for level, most in levels:
        for reading in readings:
            if found := level(reading, lines):
                yield found, most


def _search_length(reading: Reading) -> int:
    return len(reading.search)


# --- hints for people ----------------------------------------------------------------------------------------------


def _hint(search: Sequence[str], lines: Sequence[str]) -> str:
    """Say in a clause what keeps the SEARCH from matching."""
    said, existing = contents(search), contents(lines)
    known = set(existing)
    for number, line in enumerate(said, 1):
        if line not in known:
            return _missing_line(number, line, existing)
    return "each of its lines is in the file, but not all of them together and in this order"


def _missing_line(number: int, line: str, existing: Sequence[str]) -> str:
    squeezed = "".join(line.split())
    for at, other in enumerate(existing, 1):
        if squeezed and "".join(other.split()) == squeezed:
            return f"line {number} of SEARCH differs from line {at} in blanks only"
    for at, other in enumerate(existing, 1):
        if squeezed and line.strip() in other:
            return f"line {number} of SEARCH is only a part of line {at}"
    return f"line {number} of SEARCH is nowhere in the file: {line.strip()[:80]!r}"
