"""Where a file of one release differs from that of another, and the file with some of the differences applied.

A place is named by its first line in the file that is changed, counted from 1. `difflib` alone decides what the places
are, so that recipes keep their meaning whatever becomes of the package's own diffs.
"""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple


class Place(NamedTuple):
    """Lines [start, stop), counted from 0, and what stands there instead of them."""

    start: int
    stop: int
    lines: tuple[bytes, ...]


@functools.lru_cache(maxsize=64)
def places(before: bytes, after: bytes) -> Mapping[int, Place]:
    """Return every place in which two files differ, by its first line."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    head = _shared(old, new)
    tail = _shared(old[head:][::-1], new[head:][::-1])
    matcher = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False)
    codes = [code[1:] for code in matcher.get_opcodes() if code[0] != "equal"]
    found = [Place(a + head, b + head, tuple(new[c + head : d + head])) for a, b, c, d in codes]
    return {place.start + 1: place for place in found}


def _shared(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """Return how many lines both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def chosen(before: bytes, after: bytes, lines: Collection[int]) -> list[Place]:
    """Return the places that begin on these lines. Raises KeyError where none does."""
    found = places(before, after)
    return [found[line] for line in sorted(lines)]


def applied(before: bytes, changes: Sequence[Place]) -> bytes:
    """Return the file with the places changed; they are in ascending order."""
    return b"".join(_pieces(before.splitlines(keepends=True), changes))


def _pieces(old: Sequence[bytes], changes: Sequence[Place]) -> Iterator[bytes]:
    at = 0
    for place in changes:
        yield from old[at : place.start]
        yield from place.lines
        at = place.stop
    yield from old[at:]


def without(changes: Sequence[Place], dropped: Collection[int]) -> list[Place]:
    """Return the changes less some of their new lines, counted from 1 through all of them."""
    kept: list[Place] = []
    number = 0
    for place in changes:
        numbered = list(enumerate(place.lines, number + 1))
        kept.append(place._replace(lines=tuple(line for n, line in numbered if n not in dropped)))
        number += len(place.lines)
    return kept


def new_lines(changes: Sequence[Place]) -> set[int]:
    """Return the numbers, from 1, that the new lines have once the changes are applied."""
    numbers: set[int] = set()
    shift = 0
    for place in changes:
        first = place.start + shift + 1
        numbers |= set(range(first, first + len(place.lines)))
        shift += len(place.lines) - (place.stop - place.start)
    return numbers
