"""How alike two changes are: the continuous reward of SWE-RL before its sign for malformed answers, and its ablation.

Over the union of the files that either side changed: the mean of the similarity of the two per-file unified diffs, by
difflib's ratio; a file that one side alone changed counts 0. A diff has three lines of context and its `@@` lines, no
header with names; its lines are joined by newlines, without one at the end, as the published reward has it.

What that reward leaves open. Bytes that are not UTF-8 count as one character each. Lines end at `\\n` alone: a `\\r`
is a character like others, and a missing newline at the end is said as git says it, so what `git apply` tells apart is
never equal. An empty file has an empty diff, created or deleted: two such changes are alike, and unlike any other.
"""

import difflib
from collections.abc import Mapping, Sequence

from agentless_mini.domain import FileChange
from agentless_mini.edits.sources import split_lines
from agentless_mini.learning.reward.matching import Ratio, ratio

CONTEXT = 3
_NO_NEWLINE = "\\ No newline at end of file"
_HEADER_LINES = 2


class Oracle:
    """The true change of a row, made ready for the answers of many rollouts. Not for two threads at once.

    A change that changes nothing does not count. Its own diffs are made once, and so is each comparison: rollouts of
    one prompt often agree.
    """

    def __init__(self, changes: Sequence[FileChange], alike: Ratio = ratio) -> None:
        """Take the changes of one tree, each path named once; `alike` compares two diffs, the answer's first."""
        self._after = _after(changes)
        self._diffs = {change.path: file_diff(change) for change in changes if change.path in self._after}
        self._alike = alike
        self._known: dict[tuple[str, bytes | None], float] = {}

    def __bool__(self) -> bool:
        """Tell whether there is a change to compare with."""
        return bool(self._diffs)

    def similarity(self, changes: Sequence[FileChange]) -> float:
        """Return how alike the changes of an answer to the same tree are to these, in [0, 1]; 1.0 if none are made."""
        made = {change.path: change for change in changes if change.before != change.after}
        paths = made.keys() | self._diffs.keys()
        values = [self._of_file(made[path]) for path in sorted(made.keys() & self._diffs.keys())]
        return sum(values) / len(paths) if paths else 1.0

    def equality(self, changes: Sequence[FileChange]) -> float:
        """Return 1.0 if the changes leave the very bytes that these leave, else 0.0 (the paper's discrete reward)."""
        return float(_after(changes) == self._after)

    def _of_file(self, change: FileChange) -> float:
        key = (change.path, change.after)
        if key not in self._known:
            self._known[key] = self._alike(file_diff(change), self._diffs[change.path])
        return self._known[key]


def similarity(changes: Sequence[FileChange], oracle: Sequence[FileChange], alike: Ratio = ratio) -> float:
    """Return how alike two changes of one tree are, in [0, 1]. For many answers to one row use an `Oracle`."""
    return Oracle(oracle, alike).similarity(changes)


def file_diff(change: FileChange) -> str:
    """Return the unified diff of one file as it is compared; "" if its lines are the same."""
    lines = difflib.unified_diff(_lines(change.before), _lines(change.after), n=CONTEXT)
    return "\n".join(map(_said, [*lines][_HEADER_LINES:]))


def _said(line: str) -> str:
    return line.removesuffix("\n") if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}"


def _lines(data: bytes | None) -> list[str]:
    return split_lines((data or b"").decode("utf-8", "surrogateescape"))


def _after(changes: Sequence[FileChange]) -> Mapping[str, bytes | None]:
    return {change.path: change.after for change in changes if change.before != change.after}
