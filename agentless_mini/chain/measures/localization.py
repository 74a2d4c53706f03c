"""How many files of the true fix the localization found."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """Shares of the gold files, in [0, 1]: those in the first list, and those in any list."""

    first: float
    anywhere: float

    @property
    def all_in_first(self) -> bool:
        """Return whether the first list misses none."""
        return self.first == 1.0

    @property
    def all_anywhere(self) -> bool:
        """Return whether no gold file is missing from all lists."""
        return self.anywhere == 1.0


def found(lists: Sequence[Sequence[str]], gold: Collection[str]) -> Found | None:
    """Compare lists of files, the most wanted first, with the files that the true fix touches.

    None where it touches no file: nothing is to be found then. Files that it creates count as missed unless named.
    """
    if not gold:
        return None
    wanted = frozenset(gold)
    first, anywhere = frozenset(lists[0] if lists else ()), frozenset(path for paths in lists for path in paths)
    return Found(len(wanted & first) / len(wanted), len(wanted & anywhere) / len(wanted))
