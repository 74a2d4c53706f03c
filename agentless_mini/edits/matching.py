"""Where in a file the lines of a SEARCH stand, and what exactly takes their place.

Strict: equal to whole lines, at exactly one place. Terminators aside: a line that ends in `\n` in an answer matches
one that ends in `\r\n` in the file. A line whose `\r` the answer spells out, and a last line that it says has no
newline, match only such lines. What happens where nothing matches strictly is left to `loose`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from agentless_mini.domain import Reading, Reason, Rejected
from agentless_mini.edits.alignment import differing, partners
from agentless_mini.edits.sources import content, contents, dominant_terminator, split_lines, terminator

MOST_PLACES = 1000


class Lines:
    """The lines of a file, each with its terminator, and the text in which runs of them are looked for."""

    def __init__(self, lines: list[str]) -> None:
        """Take over lines of which only the last may have no terminator."""
        self.lines = lines

    @cached_property
    def contents(self) -> list[str]:
        """Return the lines without their terminators."""
        return contents(self.lines)

    @cached_property
    def text(self) -> str:
        """Return the contents with a newline before, between and after them."""
        return "\n".join(("", *self.contents, ""))

    @cached_property
    def squeezed(self) -> dict[str, int]:
        """Return the number, from 1, of the first line that says this, by lines without any blanks."""
        return {"".join(line.split()): len(self.contents) - at for at, line in enumerate(reversed(self.contents))}

    def holds(self, line: str) -> bool:
        """Tell whether a line is one of the file's, blanks at its ends aside."""
        return line.strip() in self._stripped

    @cached_property
    def _stripped(self) -> frozenset[str]:
        return frozenset(map(str.strip, self.contents))


@dataclass(frozen=True, slots=True)
class Match:
    """Lines [start, stop) of a file are to be replaced by `replace`, lines as an answer spells them.

    `ends_open` tells that the answer itself says that the last of the replaced lines has no newline.
    """

    start: int
    stop: int
    replace: tuple[str, ...]
    ends_open: bool = False


def changed_by(match: Match, file: Lines) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return which lines [start, stop) of a file a match changes, and what stands there then, without terminators."""
    new = contents(match.replace)
    regions = differing(file.contents[match.start : match.stop], new)
    return [(match.start + a, match.start + b, tuple(new[c:d])) for a, b, c, d in regions]


def strict_matches(reading: Reading, file: Lines) -> list[Match]:
    """Return every place where the SEARCH of a reading stands, at most some 1,000. It must have a line."""
    search = split_lines(reading.search)
    replace = tuple(split_lines(reading.replace))
    ends_open = not terminator(search[-1])
    spelled = [index for index, line in enumerate(search) if terminator(line) == "\r\n"]
    starts = _tail(search, file.lines) if ends_open else occurrences(contents(search), file.text)
    return [
        Match(start, start + len(search), replace, ends_open)
        for start in starts
        if all(terminator(file.lines[start + index]) == "\r\n" for index in spelled)
    ]


def occurrences(wanted: Sequence[str], text: str) -> Iterator[int]:
    """Yield the index of each run of lines equal to those wanted in a text such as `Lines.text`."""
    needle = "\n".join(("", *wanted, ""))
    at, line, passed = text.find(needle), 0, 0
    for _ in range(MOST_PLACES):
        if at < 0:
            return
        line += text.count("\n", passed, at)
        yield line
        passed, at = at, text.find(needle, at + 1)


def _tail(search: Sequence[str], lines: Sequence[str]) -> list[int]:
    """Return where the search stands if it is the end of a file without a final newline."""
    start = len(lines) - len(search)
    fits = start >= 0 and not terminator(lines[-1]) and contents(search) == contents(lines[start:])
    return [start] if fits else []


def splice(lines: Sequence[str], match: Match) -> list[str] | Rejected:
    """Return the file's lines after the replacement: the new ones get the terminators of those that they replace.

    A line equal to a replaced one keeps that one's; another has that of its neighbour. The end of the file stays as it
    is unless the answer says otherwise on either side. `Rejected` where a line without a newline would not be the last.
    """
    old = lines[match.start : match.stop]
    new = _terminated(match.replace, old, lines)
    at_end = match.stop == len(lines)
    if new and at_end and not match.ends_open and not terminator(old[-1]):
        new[-1] = content(new[-1])
    if match.replace and not terminator(match.replace[-1]):
        if not at_end:
            return Rejected(Reason.MALFORMED, "REPLACE says that the file ends within it, but more lines follow")
        new[-1] = match.replace[-1]
    return [*lines[: match.start], *new, *lines[match.stop :]]


def _terminated(new: Sequence[str], old: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return the new lines with terminators, as if none of them were the end of the file."""
    ends = {terminator(line) for line in old} - {""}
    if len(ends) == 1:
        chosen = [ends.pop()] * len(new)
    elif not ends:
        chosen = [dominant_terminator(lines)] * len(new)
    else:
        chosen = _neighbours(
            contents(old), contents(new), [terminator(line) or dominant_terminator(lines) for line in old]
        )
    return [line if terminator(line) == "\r\n" else content(line) + end for line, end in zip(new, chosen, strict=True)]


def _neighbours(old: Sequence[str], new: Sequence[str], ends: Sequence[str]) -> list[str]:
    """Return a terminator for each new line: its partner's, else that of the old line in its stead or before it."""
    chosen = {index: ends[partner] for index, partner in partners(old, new).items()}
    for region in differing(old, new):
        for index in range(region.b_start, region.b_stop):
            stead = min(region.a_start + index - region.b_start, region.a_stop - 1)
            chosen[index] = ends[max(stead, 0)]
    return [chosen[index] for index in range(len(new))]
