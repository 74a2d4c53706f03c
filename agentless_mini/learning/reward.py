"""What an answer is worth: the rewards of SWE-RL and Satori-SWE (arXiv 2502.18449, 2505.23604).

An answer is read by `edits.read_answer`, the reader of inference: what is rewarded is what `amini repair` would apply.
A reward is a number, or None where it cannot be told: infrastructure that failed is never a bad mark.

How alike two changes are: over the union of the files that either side changed, the mean of the similarity of the two
per-file unified diffs, by difflib's ratio; a file that one side alone changed counts 0. A diff has three lines of
context and its `@@` lines, no header with names; its lines are joined by newlines, without one at the end, as the
published reward has it. What that reward leaves open: bytes that are not UTF-8 count as one character each. Lines end
at `\\n` alone: a `\\r` is a character like others, and a missing newline at the end is said as git says it, so what
`git apply` tells apart is never equal. An empty file has an empty diff, created or deleted: two such changes are alike,
and unlike any other.

| outcome of an answer                                                   | reward       | F    |
|------------------------------------------------------------------------|--------------|------|
| a patch                                                                | its measure  | 0    |
| not in the format, edits that do not match, a result of no use, no change | -1        | 1    |
| withheld, and reasons of generated tests: not the answer's doing       | None         | 0    |

So the reward is -1 exactly where `amini repair` has no candidate. SWE-RL's own reward is -1 where an edit is missing or
does not match, and where SEARCH and REPLACE are the same; it does not parse the code. An answer with nothing to
compare it with (the oracle changes nothing) has no reward.
"""

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from agentless_mini.domain import FileChange, Patch, Reason, Rejected, RewardKind
from agentless_mini.edits import Tree, candidate_patch, changed_files
from agentless_mini.edits.sources import split_lines
from agentless_mini.learning.matching import Ratio, ratio

WORST = -1.0
CONTEXT = 3
_NO_NEWLINE = "\\ No newline at end of file"
_HEADER_LINES = 2
_FILE = re.compile(r"^diff --git (.+)$", re.MULTILINE)
_OF_TESTS = {Reason.NO_TEST, Reason.NOT_REPRODUCED, Reason.OTHER_FAULT, Reason.FLAKY, Reason.SURPLUS}
_NO_FAULT = {Reason.WITHHELD, *_OF_TESTS}
COSTS: Mapping[Reason, float] = MappingProxyType({reason: 1.0 for reason in Reason if reason not in _NO_FAULT})
"""The format penalty of each reason that is an answer's own fault; others have none, and no reward either."""


class Oracle:
    """The true change of a row, made ready for the answers of many rollouts. Not for two threads at once.

    A change that changes nothing does not count. Each comparison is made once: rollouts of one prompt often agree.
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


def reward(
    outcome: Patch | Rejected, oracle: Oracle, tree: Tree, kind: RewardKind = RewardKind.SIMILARITY
) -> float | None:
    """Return SWE-RL's reward of an answer to the oracle's row, whose tree it is, in [-1, 1], None where it has none.

    `kind` is SIMILARITY or DISCRETE; the others need more than an oracle.
    """
    if not oracle or (isinstance(outcome, Rejected) and outcome.reason not in COSTS):
        return None
    if isinstance(outcome, Rejected):
        return WORST
    changes = changed_files(outcome, tree.entries)
    return oracle.equality(changes) if kind is RewardKind.DISCRETE else oracle.similarity(changes)


def format_penalty(outcome: Patch | Rejected, costs: Mapping[Reason, float] = COSTS) -> float:
    """Return F of Satori: 0 for a patch, for a rejected answer what its reason costs."""
    return costs.get(outcome.reason, 0.0) if isinstance(outcome, Rejected) else 0.0


def shaped(value: float | None, parent: float | None, penalty: float, weight: float) -> float | None:
    """Return R(y) - R(y') - weight * F(y), None where either potential is (Satori-SWE; its weight is not published).

    A potential says how good an outcome is by itself: similarity, tests passed, a reward model; None where nobody can
    tell. `value` is that of the answer, `parent` that of the attempt it was shown. Without penalties the gains of
    the rounds of one lineage add up to the last potential less the first: shaping favours no detour.
    """
    if value is None or parent is None:
        return None
    return value - parent - weight * penalty


def read_patch(diff: str, tree: Tree) -> Patch | Rejected:
    """Return the patch of a tree that `edits.make_patch` wrote as this diff, or why it is none of this tree."""
    try:
        # Both names of a file are of one length: "a/x b/x", in double quotes with C's escapes where git quotes them.
        names = [both[len(both) // 2 + 1 :] for both in _FILE.findall(diff)]
        said = [ast.literal_eval(f"b{name}").decode() if name.startswith('"') else name for name in names]
        patch = Patch(diff.encode(), "", tuple(name.removeprefix("b/") for name in said))
        return candidate_patch(changed_files(patch, tree.entries), tree.forms)
    except (ValueError, SyntaxError) as error:
        return Rejected(Reason.NOT_FOUND, " ".join(str(error).split())[:200])
