"""How much a patch is like the others: the similarity of SWE-Swiss, for patches with as many votes as another.

SWE-Swiss ("enhanced self-consistency"; github.com/zhenyuhe00/SWE-Swiss, evaluation/agentless/repair/rerank.py) adds to
the votes of a normal form the mean of its similarities to the half of all samples most like it, itself among them. That
mean is in (0, 1], so a vote outweighs it, and it decides between equals. There it is Levenshtein's ratio (twice the
longest common subsequence, over both lengths) of the characters of whole normalised diffs, and answers without a patch
count in the half. Here it is the same ratio of the words of what is added and removed, of valid samples alone.
"""

import re
from collections.abc import Mapping

MOST_WORDS = 256
"""Words of a patch that are compared, the first: a pair takes a tenth of a millisecond at most."""

_HEADER = re.compile(rb"(?:---|\+\+\+) ")
_WORD = re.compile(rb"\w+|[^\w\s]")


class Likeness:
    """Compares diffs, each two of them once."""

    def __init__(self) -> None:
        """Begin with nothing compared."""
        self._words: dict[bytes, tuple[bytes, ...]] = {}
        self._pairs: dict[tuple[bytes, bytes], float] = {}

    def of(self, diff: bytes, votes: Mapping[bytes, int]) -> float:
        """Return the mean similarity, in [0, 1], of a diff to the better half of all, itself among them.

        `votes` has the samples of each distinct diff. A sole sample, and one of three, is like itself alone: 1.
        """
        left = half = max(1, sum(votes.values()) // 2)
        total = 0.0
        for ratio, count in sorted(((self._ratio(diff, other), count) for other, count in votes.items()), reverse=True):
            taken = min(left, count)
            total, left = total + taken * ratio, left - taken
        return total / half

    def _ratio(self, one: bytes, other: bytes) -> float:
        if one == other:
            return 1.0
        key = min(one, other), max(one, other)
        if key not in self._pairs:
            a, b = self._said(one), self._said(other)
            self._pairs[key] = 2 * _common(a, b) / (len(a) + len(b)) if a or b else 1.0
        return self._pairs[key]

    def _said(self, diff: bytes) -> tuple[bytes, ...]:
        """Return the words that a diff adds and removes, after the names of the files."""
        if diff not in self._words:
            lines = (line for line in diff.split(b"\n") if line[:1] in (b"+", b"-", b"d") and not _HEADER.match(line))
            words = (word for line in lines for word in _WORD.findall(line))
            self._words[diff] = tuple(word for word, _ in zip(words, range(MOST_WORDS), strict=False))
        return self._words[diff]


def _common(a: tuple[bytes, ...], b: tuple[bytes, ...]) -> int:
    """Return the length of the longest common subsequence, a bit for each word of `a` (Hyyro 2004)."""
    places: dict[bytes, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    open_places = full
    for word in b:
        if matches := open_places & places.get(word, 0):
            open_places = (open_places + matches | open_places - matches) & full
    return len(a) - open_places.bit_count()
