"""Lines of a file: where two runs of them differ, where one stands in a file, and what exactly takes its place.

Differences are those of patience diff: `difflib` alone takes minutes on files of twenty thousand lines, so lines that
both sides hold exactly once split the problem first, and what stays too large to align is one region. The result is
always a correct difference, not always the smallest.

A SEARCH matches strictly where it is equal to whole lines, terminators aside: a line that ends in LF in an answer
matches one that ends in CR LF in the file. A line whose CR the answer spells out, and a last line that it says has no
newline, match only such lines. What happens where nothing matches strictly is left to `loose`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import AnyStr, NamedTuple

from agentless_mini.domain import Reading, Reason, Rejected
from agentless_mini.edits.sources import content, contents, dominant_terminator, split_lines, terminator

MOST_PAIRS = 100_000  # of lines up to which difflib is asked: some milliseconds at worst
MOST_PLACES = 1000


class Difference(NamedTuple):
    """Lines [a_start, a_stop) of one side stand where the other has [b_start, b_stop)."""

    a_start: int
    a_stop: int
    b_start: int
    b_stop: int


def differing(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> list[Difference]:
    """Return the regions in which two sequences differ, ascending, with at least one equal line between any two."""
    found: list[Difference] = []
    waiting = [Difference(0, len(a), 0, len(b))]
    while waiting:
        a_start, a_stop, b_start, b_stop = waiting.pop()
        while a_start < a_stop and b_start < b_stop and a[a_start] == b[b_start]:
            a_start, b_start = a_start + 1, b_start + 1
        while a_start < a_stop and b_start < b_stop and a[a_stop - 1] == b[b_stop - 1]:
            a_stop, b_stop = a_stop - 1, b_stop - 1
        region = Difference(a_start, a_stop, b_start, b_stop)
        if a_start == a_stop or b_start == b_stop:
            if a_start < a_stop or b_start < b_stop:
                found.append(region)
            continue
        chain: list[tuple[int, int]] = _anchors(a, b, region)
        if chain:
            begins = [(a_start, b_start), *((one + 1, other + 1) for one, other in chain)]
            ends = [*chain, (a_stop, b_stop)]
            between = [Difference(i, j, k, m) for (i, k), (j, m) in zip(begins, ends, strict=True)]
            waiting.extend(reversed(between))
        elif (a_stop - a_start) * (b_stop - b_start) > MOST_PAIRS:
            found.append(region)
        else:
            codes = SequenceMatcher(None, a[a_start:a_stop], b[b_start:b_stop], autojunk=False).get_opcodes()
            unlike = [code for code in codes if code[0] != "equal"]
            found += [Difference(a_start + i, a_start + j, b_start + k, b_start + m) for _, i, j, k, m in unlike]
    return found


def _anchors(a: Sequence[AnyStr], b: Sequence[AnyStr], region: Difference) -> list[tuple[int, int]]:
    """Return the longest ascending chain of pairs of equal lines that either side holds once in the region."""
    a_start, a_stop, b_start, b_stop = region
    a_counts, b_counts = Counter(a[a_start:a_stop]), Counter(b[b_start:b_stop])
    b_places = {b[place]: place for place in range(b_start, b_stop)}
    pairs = [
        (place, b_places[a[place]])
        for place in range(a_start, a_stop)
        if a_counts[a[place]] == 1 and b_counts[a[place]] == 1
    ]
    tails: list[int] = []  # the least place at which a chain of each length ends, and the pair that is its end
    ends: list[int] = []
    before: list[int | None] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(tails, place)
        before.append(ends[length - 1] if length else None)
        tails[length : length + 1] = [place]
        ends[length : length + 1] = [index]
    chain = []
    last = ends[-1] if ends else None
    while last is not None:
        chain.append(pairs[last])
        last = before[last]
    return chain[::-1]


def partners(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> dict[int, int]:
    """Return for each line of `b` that is aligned with an equal line of `a`: index in `b` -> index in `a`."""
    pairs: dict[int, int] = {}
    a_next = b_next = 0
    for region in (*differing(a, b), Difference(len(a), len(a), len(b), len(b))):
        pairs.update(zip(range(b_next, region.b_start), range(a_next, region.a_start), strict=True))
        a_next, b_next = region.a_stop, region.b_stop
    return pairs


def shared_ends(a: AnyStr, b: AnyStr) -> tuple[int, int]:
    """Return how much two texts share at their beginning, and how much at their end; these do not overlap."""
    one, two = len(a), len(b)
    head = _shared(lambda start, stop: a[start:stop] == b[start:stop], min(one, two))
    tail = _shared(lambda start, stop: a[one - stop : one - start] == b[two - stop : two - start], min(one, two) - head)
    return head, tail


def _shared(equal: Callable[[int, int], bool], most: int) -> int:
    """Return up to where two texts are equal, by bisection: comparing is done in C."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if equal(least, middle) else (least, middle - 1)
    return least


# --- where lines stand -----------------------------------------------------------------------------------------------


class FileLines:
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

    @cached_property
    def _stripped(self) -> frozenset[str]:
        return frozenset(map(str.strip, self.contents))

    def holds(self, line: str) -> bool:
        """Tell whether a line is one of the file's, blanks at its ends aside."""
        return line.strip() in self._stripped


@dataclass(frozen=True, slots=True)
class Match:
    """Lines [start, stop) of a file are to be replaced by `replace`, lines as an answer spells them.

    `ends_open` tells that the answer itself says that the last of the replaced lines has no newline.
    """

    start: int
    stop: int
    replace: tuple[str, ...]
    ends_open: bool = False

    def changed(self, file: FileLines) -> list[tuple[int, int, tuple[str, ...]]]:
        """Return which lines [start, stop) of the file change, and what stands there then, without terminators."""
        new = contents(self.replace)
        regions = differing(file.contents[self.start : self.stop], new)
        return [(self.start + a, self.start + b, tuple(new[c:d])) for a, b, c, d in regions]


def strict_matches(reading: Reading, file: FileLines) -> list[Match]:
    """Return every place where the SEARCH of a reading stands, at most some 1,000. It must have a line."""
    search = split_lines(reading.search)
    replace = tuple(split_lines(reading.replace))
    ends_open = not terminator(search[-1])
    starts: Iterator[int] | list[int] = occurrences(contents(search), file.text)
    if ends_open:  # it stands only at the end of a file without a final newline
        start = len(file.lines) - len(search)
        is_there = start >= 0 and not terminator(file.lines[-1]) and contents(search) == contents(file.lines[start:])
        starts = [start] if is_there else []
    spelled = [index for index, line in enumerate(search) if terminator(line) == "\r\n"]
    return [
        Match(start, start + len(search), replace, ends_open)
        for start in starts
        if all(terminator(file.lines[start + index]) == "\r\n" for index in spelled)
    ]


def occurrences(wanted: Sequence[str], text: str) -> Iterator[int]:
    """Yield the index of each run of lines equal to those wanted in a text such as `FileLines.text`."""
    needle = "\n".join(("", *wanted, ""))
    at, line, passed = text.find(needle), 0, 0
    for _ in range(MOST_PLACES):
        if at < 0:
            return
        line += text.count("\n", passed, at)
        yield line
        passed, at = at, text.find(needle, at + 1)


# --- what takes their place ------------------------------------------------------------------------------------------


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
    known = {terminator(line) for line in old} - {""}
    if len(known) < 2:
        chosen = dict.fromkeys(range(len(new)), known.pop() if known else dominant_terminator(lines))
    else:  # a partner's, else that of the old line in whose stead it stands, or before it
        before, after = contents(old), contents(new)
        ends = [terminator(line) or dominant_terminator(lines) for line in old]
        chosen = {index: ends[partner] for index, partner in partners(before, after).items()}
        for region in differing(before, after):
            for index in range(region.b_start, region.b_stop):
                stead = min(region.a_start + index - region.b_start, region.a_stop - 1)
                chosen[index] = ends[max(stead, 0)]
    return [line if terminator(line) == "\r\n" else content(line) + chosen[at] for at, line in enumerate(new)]
