"""Where two sequences of lines differ: the alignment that patches, terminators and written answers share.

`difflib` alone takes minutes on files of twenty thousand lines, so lines that both sides hold exactly once split the
problem first (patience diff), and what stays too large to align is one region. The result is always a correct
difference, not always the smallest.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import AnyStr, NamedTuple

# Pairs of lines up to which difflib is asked: some milliseconds at worst.
MOST_PAIRS = 100_000


class Region(NamedTuple):
    """Lines [a_start, a_stop) of one side stand where the other has [b_start, b_stop)."""

    a_start: int
    a_stop: int
    b_start: int
    b_stop: int


def differing(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> list[Region]:
    """Return the regions in which two sequences differ, ascending, with at least one equal line between any two."""
    return list(_regions(a, b))


def partners(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> dict[int, int]:
    """Return for each line of `b` that is aligned with an equal line of `a`: index in `b` -> index in `a`."""
    pairs: dict[int, int] = {}
    a_next = b_next = 0
    for region in (*differing(a, b), Region(len(a), len(a), len(b), len(b))):
        pairs.update(zip(range(b_next, region.b_start), range(a_next, region.a_start), strict=True))
        a_next, b_next = region.a_stop, region.b_stop
    return pairs


def shared_ends(a: bytes, b: bytes) -> tuple[int, int]:
    """Return how many bytes two texts share at their beginning, and how many at their end; these do not overlap."""
    most = min(len(a), len(b))
    head = _shared(lambda start, stop: a[start:stop] == b[start:stop], most)
    tail = _shared(
        lambda start, stop: a[len(a) - stop : len(a) - start] == b[len(b) - stop : len(b) - start], most - head
    )
    return head, tail


def _shared(equal: Callable[[int, int], bool], most: int) -> int:
    """Return up to where two texts are equal, by bisection: bytes are compared in C, and each a few times at most."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if equal(least, middle) else (least, middle - 1)
    return least


def _regions(a: Sequence[AnyStr], b: Sequence[AnyStr]) -> Iterator[Region]:
    """Yield the differing regions in order."""
    open_regions = [Region(0, len(a), 0, len(b))]
    while open_regions:
        region = _trimmed(a, b, open_regions.pop())
        if region.a_start == region.a_stop or region.b_start == region.b_stop:
            if region.a_start < region.a_stop or region.b_start < region.b_stop:
                yield region
        elif anchors := _anchors(a, b, region):
            open_regions.extend(reversed(_between(anchors, region)))
        else:
            yield from _compared(a, b, region)


def _trimmed(a: Sequence[AnyStr], b: Sequence[AnyStr], region: Region) -> Region:
    """Return the region without the lines that both sides begin and end with."""
    a_start, a_stop, b_start, b_stop = region
    while a_start < a_stop and b_start < b_stop and a[a_start] == b[b_start]:
        a_start, b_start = a_start + 1, b_start + 1
    while a_start < a_stop and b_start < b_stop and a[a_stop - 1] == b[b_stop - 1]:
        a_stop, b_stop = a_stop - 1, b_stop - 1
    return Region(a_start, a_stop, b_start, b_stop)


def _anchors(a: Sequence[AnyStr], b: Sequence[AnyStr], region: Region) -> list[tuple[int, int]]:
    """Return the longest ascending chain of pairs of equal lines that either side holds once in the region."""
    a_start, a_stop, b_start, b_stop = region
    a_counts, b_counts = Counter(a[a_start:a_stop]), Counter(b[b_start:b_stop])
    b_places = {b[place]: place for place in range(b_start, b_stop)}
    pairs = [
        (place, b_places[a[place]])
        for place in range(a_start, a_stop)
        if a_counts[a[place]] == 1 and b_counts[a[place]] == 1
    ]
    return _longest_ascending(pairs)


def _longest_ascending(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest subsequence whose second members ascend; the first members ascend already."""
    tails: list[int] = []
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


def _between(anchors: list[tuple[int, int]], region: Region) -> list[Region]:
    """Return what lies before, between and after the anchors."""
    parts = []
    a_next, b_next = region.a_start, region.b_start
    for a_place, b_place in (*anchors, (region.a_stop, region.b_stop)):
        parts.append(Region(a_next, a_place, b_next, b_place))
        a_next, b_next = a_place + 1, b_place + 1
    return parts


def _compared(a: Sequence[AnyStr], b: Sequence[AnyStr], region: Region) -> Iterator[Region]:
    """Yield what difflib finds in a small region, else the region itself."""
    a_start, a_stop, b_start, b_stop = region
    if (a_stop - a_start) * (b_stop - b_start) > MOST_PAIRS:
        yield region
        return
    matcher = SequenceMatcher(None, a[a_start:a_stop], b[b_start:b_stop], autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind != "equal":
            yield Region(a_start + i1, a_start + i2, b_start + j1, b_start + j2)
