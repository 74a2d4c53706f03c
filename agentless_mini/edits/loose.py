"""Looser matching, for models that copy carelessly: an option, off in training (mission section 2).

Four levels, each tried only where the one before finds nothing, each of use only where it finds exactly one place:
blanks at the ends of lines are ignored; the whole SEARCH is indented differently (the replacement is then shifted
likewise); blank lines are ignored; nearly the same lines. Lines that an edit finds and puts back stay as the file has
them, so a careless copy of the surroundings changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

from agentless_mini.domain import Reading
from agentless_mini.edits.alignment import partners
from agentless_mini.edits.matching import Match, occurrences
from agentless_mini.sources import content, contents, split_lines, terminator

NEAR = 0.9  # length-weighted mean of the lines' difflib ratios
CLEARLY = 0.05  # by which the best place must be nearer than any other
# What bounds the search for near matches, and with it the time that a hostile answer can take.
MOST_WINDOWS = 5
MOST_REPEATS = 50
MOST_NEAR_LINES = 200
LONGEST_NEAR_LINE = 200
MOST_FOUND = 2


@dataclass(frozen=True, slots=True)
class _Shift:
    """A change of indentation: take one prefix off each line and put another on. Blank lines are left alone."""

    take: str = ""
    put: str = ""

    def fits(self, line: str) -> bool:
        return not line.strip() or line.startswith(self.take)

    def apply(self, line: str) -> str:
        return self.put + line[len(self.take) :] if line.strip() else line


@dataclass(frozen=True, slots=True)
class _Task:
    """A reading and a file's lines, all without terminators but `raw`."""

    search: list[str]
    replace: list[str]
    lines: list[str]
    raw: Sequence[str]
    search_open: bool
    replace_open: bool

    def match(self, places: Mapping[int, int], shift: _Shift | None = None) -> Match:
        """Return the match in which the SEARCH lines stand at `places`, by index in SEARCH and in the file."""
        shift = shift or _Shift()
        found = partners(self.search, self.replace)
        new = []
        for index, line in enumerate(self.replace):
            place = places.get(found.get(index, len(self.search)))
            kept = shift.apply(line) if place is None else self.raw[place]
            new.append(kept if terminator(kept) else kept + "\n")
        if self.replace_open:
            new[-1] = content(new[-1])
        start, stop = min(places.values()), max(places.values()) + 1
        return Match(start, stop, tuple(new), self.search_open)


def loose_levels() -> tuple[Callable[[Reading, Sequence[str]], list[Match]], ...]:
    """Return the levels in their order; each gives the places that it finds for a SEARCH, two at most."""
    return tuple(_on_task(level) for level in (_trailing_blanks, _shifted, _blank_lines, _near))


def _on_task(level: Callable[[_Task], Iterator[Match]]) -> Callable[[Reading, Sequence[str]], list[Match]]:
    def matches(reading: Reading, lines: Sequence[str]) -> list[Match]:
        search, replace = split_lines(reading.search), split_lines(reading.replace)
        search_open, replace_open = (bool(side) and not terminator(side[-1]) for side in (search, replace))
        task = _Task(contents(search), contents(replace), contents(lines), lines, search_open, replace_open)
        return list(islice(level(task), MOST_FOUND)) if any(line.strip() for line in search) else []

    return matches


def _trailing_blanks(task: _Task) -> Iterator[Match]:
    wanted, lines = ([line.rstrip() for line in side] for side in (task.search, task.lines))
    for start in occurrences(wanted, lines):
        yield task.match(_run(start, len(wanted)))


def _shifted(task: _Task) -> Iterator[Match]:
    wanted, lines = ([line.strip() for line in side] for side in (task.search, task.lines))
    for start in occurrences(wanted, lines):
        shift = _shift(task.search, task.lines[start : start + len(wanted)])
        if shift and all(map(shift.fits, task.replace)):
            yield task.match(_run(start, len(wanted)), shift)


def _shift(search: Sequence[str], lines: Sequence[str]) -> _Shift | None:
    """Return the one shift that turns each line of the SEARCH into the file's, blanks at their ends aside."""
    pairs = [(said.rstrip(), line.rstrip()) for said, line in zip(search, lines, strict=True) if said.strip()]
    said, line = pairs[0]
    more = len(line) - len(said)
    shift = _Shift(put=line[:more]) if more > 0 else _Shift(take=said[:-more])
    return shift if all(shift.fits(said) and shift.apply(said) == line for said, line in pairs) else None


def _blank_lines(task: _Task) -> Iterator[Match]:
    wanted = [index for index, line in enumerate(task.search) if line.strip()]
    places = [index for index, line in enumerate(task.lines) if line.strip()]
    trimmed = _without_outer_blanks(task, wanted)
    search, lines = [task.search[at].rstrip() for at in wanted], [task.lines[at].rstrip() for at in places]
    for start in occurrences(search, lines):
        found = places[start : start + len(wanted)]
        yield trimmed.match({at - wanted[0]: place for at, place in zip(wanted, found, strict=True)})


def _without_outer_blanks(task: _Task, wanted: Sequence[int]) -> _Task:
    """Return the task without the blank lines around SEARCH: as many go from the same ends of REPLACE."""
    before, after = wanted[0], len(task.search) - 1 - wanted[-1]
    replace = task.replace
    while before and replace and not replace[0].strip():
        before, replace = before - 1, replace[1:]
    while after and replace and not replace[-1].strip():
        after, replace = after - 1, replace[:-1]
    search = task.search[wanted[0] : wanted[-1] + 1]
    return _Task(search, replace, task.lines, task.raw, task.search_open, task.replace_open and bool(replace))


def _near(task: _Task) -> Iterator[Match]:
    """Yield the place where nearly the SEARCH stands. At least one of its lines must stand there as it is."""
    windows = _windows(task) if len(task.search) <= MOST_NEAR_LINES else []
    rated = sorted(((_similarity(task, start), -start) for start in windows), reverse=True)
    if rated and rated[0][0] >= NEAR and (len(rated) == 1 or rated[0][0] - rated[1][0] >= CLEARLY):
        yield task.match(_run(-rated[0][1], len(task.search)))


def _windows(task: _Task) -> list[int]:
    """Return the starts of the windows that share most lines with the SEARCH, lines that stand everywhere aside."""
    places: dict[str, list[int]] = {}
    for index, line in enumerate(task.lines):
        places.setdefault(line.rstrip(), []).append(index)
    votes: Counter[int] = Counter()
    for index, line in enumerate(task.search):
        found = places.get(line.rstrip(), [])
        if line.strip() and len(found) <= MOST_REPEATS:
            votes.update(place - index for place in found)
    inside = [(-count, start) for start, count in votes.items() if 0 <= start <= len(task.lines) - len(task.search)]
    return [start for _, start in sorted(inside)[:MOST_WINDOWS]]


def _similarity(task: _Task, start: int) -> float:
    """Return how alike the SEARCH and the window are, in [0, 1]."""
    same = total = 0.0
    for said, line in zip(task.search, task.lines[start:], strict=False):
        weight = len(said) + len(line)
        same += weight * _ratio(said, line)
        total += weight
    return same / total


def _ratio(said: str, line: str) -> float:
    if said == line:
        return 1.0
    if max(len(said), len(line)) > LONGEST_NEAR_LINE:
        return 0.0
    return SequenceMatcher(None, said, line, autojunk=False).ratio()


def _run(start: int, count: int) -> dict[int, int]:
    return {index: start + index for index in range(count)}
