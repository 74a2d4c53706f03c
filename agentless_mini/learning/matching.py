"""`difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()`, the very value, in a fraction of the time.

difflib takes the longest common substring (the first in `a`, then the first in `b`), then the same on its left and its
right, and visits each pair of equal characters anew in each part. Here the length of that substring is found by
bisection instead: two substrings of `k` characters are equal if the ranks of their first and last `p` characters are,
`p` being the power of two not above `k`, and ranks of `2p` characters are made of two of `p` (Karp, Miller and
Rosenberg 1972). Small parts are left to difflib, or to `cydifflib`, the same algorithm in C, where that is installed.
"""

import difflib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

SequenceMatcher: type[difflib.SequenceMatcher[str]] = difflib.SequenceMatcher
with suppress(ImportError):
    from cydifflib import SequenceMatcher  # type: ignore[no-redef]

Ratio = Callable[[str, str], float]

MOST_PAIRS = 50_000
"""Pairs of characters up to which difflib is asked: some milliseconds at worst."""


class _Part(NamedTuple):
    """Characters [a_start, a_stop) and [b_start, b_stop), with no common substring longer than `most`."""

    a_start: int
    a_stop: int
    b_start: int
    b_stop: int
    most: int


def ratio(a: str, b: str, small: int = MOST_PAIRS) -> float:
    """Return the similarity in [0, 1] of two texts, 1.0 for two empty ones. Not symmetric, as difflib's is not.

    Parts of up to `small` pairs of characters are left to difflib: a matter of time, not of the value.
    """
    if a == b:
        return 1.0
    return 2.0 * sum(_matched(a, b, small)) / (len(a) + len(b))


def _matched(a: str, b: str, small: int) -> Iterator[int]:
    """Yield the lengths of difflib's matching blocks, in no particular order."""
    ranks = _Ranks(a, b)
    parts = [_Part(0, len(a), 0, len(b), min(len(a), len(b)))]
    while parts:
        part = parts.pop()
        of_a, of_b = a[part.a_start : part.a_stop], b[part.b_start : part.b_stop]
        if len(of_a) * len(of_b) <= small:
            blocks = SequenceMatcher(None, of_a, of_b, autojunk=False).get_matching_blocks()
            yield sum(block.size for block in blocks)
        elif length := ranks.longest(part):
            a_next, b_next = part.a_start, part.b_start
            for at_a, at_b in ranks.matches(part, length):
                parts.append(_Part(a_next, at_a, b_next, at_b, length - 1))
                a_next, b_next = at_a + length, at_b + length
                yield length
            parts.append(_Part(a_next, part.a_stop, b_next, part.b_stop, length - 1))


class _Ranks:
    """Numbers for the substrings of 1, 2, 4, ... characters of two texts: equal ones, and no others, have one number.

    Longer ones are numbered when they are first asked for, up to a length of which no substring is common.
    """

    def __init__(self, a: str, b: str) -> None:
        self._levels = [_numbered([*map(ord, a)], [*map(ord, b)])]

    def longest(self, part: _Part) -> int:
        """Return the length of the longest common substring, 0 for none."""
        least, most = 0, min(part.a_stop - part.a_start, part.b_stop - part.b_start, part.most)
        step = 1
        while least < most and self._is_common(part, step):
            least, step = step, min(2 * step, most)
        most = min(most, max(step - 1, least))
        while least < most:
            middle = (least + most + 1) // 2
            least, most = (middle, most) if self._is_common(part, middle) else (least, middle - 1)
        return least

    def matches(self, part: _Part, length: int) -> Iterator[tuple[int, int]]:
        """Yield where in `a` and `b` difflib matches substrings of that length, the longest that are common.

        That is the first in `a`, at its first place in `b`; then the same again on the right of both. What lies on
        the left has no common substring of that length.
        """
        of_a, of_b = self._keys(part, length)
        common = set(of_b).intersection(of_a)
        of_a, of_b = self._keys(part, length)  # they are read once
        places: dict[object, list[int]] = {key: [] for key in common}
        for at, key in enumerate(of_b, part.b_start):
            if key in common:
                places[key].append(at)
        a_next, b_next = part.a_start, part.b_start
        for at, key in enumerate(of_a, part.a_start):
            if key in common and at >= a_next:
                index = bisect_left(places[key], b_next)
                if index < len(places[key]):
                    yield at, places[key][index]
                    a_next, b_next = at + length, places[key][index] + length

    def _is_common(self, part: _Part, length: int) -> bool:
        of_a, of_b = self._keys(part, length)
        return not set(of_b).isdisjoint(of_a)

    def _keys(self, part: _Part, length: int) -> tuple[Iterable[object], Iterable[object]]:
        """Return for each substring of that length what is equal for equal ones, in `a` and in `b`."""
        level = length.bit_length() - 1
        while len(self._levels) <= level:  # of two ranks of a length, one behind the other, the rank of twice that
            size = 1 << len(self._levels) - 1
            self._levels.append(_numbered(*(list(zip(of, of[size:], strict=False)) for of in self._levels[-1])))
        of_a, of_b = self._levels[level]
        shift = length - (1 << level)
        return (
            _pairs(of_a, part.a_start, part.a_stop - length + 1, shift),
            _pairs(of_b, part.b_start, part.b_stop - length + 1, shift),
        )


def _pairs(ranks: Sequence[int], start: int, stop: int, shift: int) -> Iterable[object]:
    if not shift:
        return ranks[start:stop]
    return zip(ranks[start:stop], ranks[start + shift : stop + shift], strict=True)


def _numbered(of_a: Sequence[object], of_b: Sequence[object]) -> tuple[list[int], list[int]]:
    numbers = {key: number for number, key in enumerate(dict.fromkeys(chain(of_a, of_b)))}
    return [numbers[key] for key in of_a], [numbers[key] for key in of_b]
