"""The one place of an edit in a file, or why there is none: tries its readings and, where allowed, looser matching."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentless_mini.domain import Edit, Matching, Reading, Reason, Rejected
from agentless_mini.edits.loose import LOOSE_LEVELS, MOST_FOUND
from agentless_mini.edits.matching import MOST_PLACES, Lines, Match, strict_matches
from agentless_mini.edits.sources import contents, split_lines

# So many edits of an answer are looked for loosely, which takes its time.
MOST_LOOSE = 32

_Level = Callable[[Reading, Lines], list[Match]]
_STRICT: tuple[tuple[_Level, int], ...] = ((strict_matches, MOST_PLACES),)
_LEVELS = {Matching.STRICT: _STRICT, Matching.LOOSE: (*_STRICT, *((level, MOST_FOUND) for level in LOOSE_LEVELS))}


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an edit replaces lines, and the reading by which it does."""

    match: Match
    reading: Reading


def place(edit: Edit, file: Lines, matching: Matching) -> Placed | Rejected:
    """Return where the edit replaces lines of a file that has some.

    Of several readings the one with the longest SEARCH that matches is taken. `Rejected` as EXISTS where SEARCH is
    empty, AMBIGUOUS where it matches in several places, NOT_FOUND with a hint where it matches in none.
    """
    readings = sorted((reading for reading in edit.readings if reading.search), key=_search_length, reverse=True)
    if not readings:
        return Rejected(Reason.EXISTS, f"SEARCH is empty, but {edit.path} exists and has lines")
    possible = [one for one in readings if not any(file.holds(line) for line in one.unless)]
    if not possible:
        return Rejected(Reason.MALFORMED, f"an edit of {edit.path} has no marker between its two sides")
    for placed, found, most in _found(possible, file, matching):
        if found == 1 and not _fits_otherwise(placed, possible, file):
            return placed
        count = f"{most} or more" if found >= most else str(max(found, 2))
        return Rejected(Reason.AMBIGUOUS, f"SEARCH stands at {count} places in {edit.path}")
    hint = _hint(split_lines(possible[-1].search), file)
    return Rejected(Reason.NOT_FOUND, f"SEARCH is not found in {edit.path}: {hint}")


def _found(readings: Sequence[Reading], file: Lines, matching: Matching) -> Iterator[tuple[Placed, int, int]]:
    """Yield what is found, the most exact first, in how many places, and the number up to which these are counted."""
    for level, most in _LEVELS[matching]:
        for reading in readings:
            if found := level(reading, file):
                yield Placed(found[0], reading), len(found), most


def _fits_otherwise(placed: Placed, readings: Sequence[Reading], file: Lines) -> bool:
    """Tell whether the same lines, indented otherwise, stand elsewhere: nothing says which are meant."""
    said = [line.strip() for line in split_lines(placed.reading.search)]
    others = [one for one in readings if [line.strip() for line in split_lines(one.search)] == said]
    return any(match.start != placed.match.start for one in others for match in strict_matches(one, file))


def _search_length(reading: Reading) -> int:
    return len(reading.search)


# --- hints for people ----------------------------------------------------------------------------------------------


def _hint(search: Sequence[str], file: Lines) -> str:
    """Say in a clause what keeps the SEARCH from matching."""
    known = set(file.contents)
    for number, line in enumerate(contents(search), 1):
        if line not in known:
            return _missing_line(number, line, file)
    return "each of its lines is in the file, but not all of them together and in this order"


def _missing_line(number: int, line: str, file: Lines) -> str:
    said, squeezed = line.strip(), "".join(line.split())
    if said and squeezed in file.squeezed:
        return f"line {number} of SEARCH differs from line {file.squeezed[squeezed]} in blanks only"
    if said and (found := file.text.find(said)) >= 0:
        return f"line {number} of SEARCH is only a part of line {file.text.count(chr(10), 0, found)}"
    return f"line {number} of SEARCH is nowhere in the file: {line.strip()[:80]!r}"
