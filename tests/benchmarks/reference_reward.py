"""Every reading in which the reference's reward and this project's differ, over generated and real answers.

    python -m tests.benchmarks.reference_reward FILE [--answers FOLDER] [--generated 300] [--list]

FILE is `src/swerl/core/reward.py` of a checkout of facebookresearch/swe-rl, which is not part of this project; it needs
`unidiff`. The generated answers are those of tests/learning/reward/answers.py; FOLDER holds real ones as
tests/benchmarks/answers.py reads them. The reference wants `<think>` and `<solution>` once each: an answer without
these is put between them for both. Both read each answer on the same files and compare it with the same oracle: the
true change of a generated answer, the reference result of a real one, else a change of its first file's first line.

A difference is one of the files that result, of whether the answer is rejected, or of the reward by more than 1e-12. It
is put down to the first cause in `CAUSES` that holds; the text there says why this project reads otherwise. Exit code
1 if one has no cause.
"""

import argparse
import importlib.util
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from agentless_mini.domain import FileChange, FileKind, Rejected
from agentless_mini.edits import Tree, changed_files
from agentless_mini.learning.reward import Oracle, reward
from tests.benchmarks import say
from tests.benchmarks.answers import answers as real_answers
from tests.edits.edit_cases import read
from tests.learning.reward.answers import WAYS, problem, sources

SEED = 20_250_523
TAGS = ("<think>", "</think>", "<solution>", "</solution>")


class Reference(Protocol):
    """What is used of the reference's file."""

    def calculate_search_replace_reward(
        self, code_context: dict[str, str], oracle_new_content: dict[str, str], output: str
    ) -> tuple[float, dict[str, str]]: ...

    def parse_search_replace(self, text: str) -> dict[str, list[tuple[str, str]]]: ...

    def apply_code_change(
        self, code_context: dict[str, str], search_replace_dict: dict[str, list[tuple[str, str]]]
    ) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Case:
    """An answer, the files that it is about, and what it is compared with."""

    name: str
    text: str
    tree: Tree
    oracle: tuple[FileChange, ...]

    @property
    def files(self) -> dict[str, str]:
        """Return the texts of the tree."""
        entries = self.tree.entries.values()
        return {file.path: file.data.decode() for file in entries if file.kind is FileKind.TEXT}


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer is worth, the changed files, and why it is rejected: "" where it is not."""

    value: float | None
    files: dict[str, str]
    why: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A case that is read in two ways."""

    case: Case
    theirs: Reading
    ours: Reading


def generated(count: int) -> Iterator[Case]:
    """Yield the generated answers."""
    dice = random.Random(SEED)  # noqa: S311 - drawn again alike, not for secrets
    files = sources()
    for number in range(count):
        way = WAYS[number % len(WAYS)]
        given = problem(dice, files)
        yield Case(f"{number:03} {way.__name__}", way(given, dice), given.tree, given.oracle)


def real(folder: Path) -> Iterator[Case]:
    """Yield the real answers that have a file to compare with."""
    for answer in real_answers(folder, said=False):
        before = {file.path: file.data for file in answer.tree.entries.values() if file.kind is FileKind.TEXT}
        after = answer.reference or {path: b"# changed\n" + data for path, data in [*before.items()][:1]}
        changes = tuple(FileChange(path, before.get(path), data, "100644") for path, data in after.items())
        if changes and b"\r" not in b"".join(before.values()):
            yield Case(answer.name, answer.text, answer.tree, changes)


def tagged(case: Case) -> str:
    """Return the answer as the reference wants it."""
    if any(tag in case.text for tag in TAGS):
        return case.text
    return f"<think>\nSo.\n</think>\n<solution>\n{case.text}\n</solution>\n"


def read_theirs(reference: Reference, case: Case) -> Reading:
    """Return what the reference makes of an answer."""
    text = tagged(case)
    oracle = {change.path: (change.after or b"").decode() for change in case.oracle}
    value, facts = reference.calculate_search_replace_reward(case.files, oracle, text)
    if value == -1.0:
        return Reading(value, {}, facts["error"])
    found = reference.apply_code_change(case.files, reference.parse_search_replace(facts["answer"]))
    return Reading(value, {path: new for path, new in found.items() if new != case.files.get(path, "")}, "")


def read_ours(case: Case) -> Reading:
    """Return what this project makes of an answer."""
    outcome = read(tagged(case), case.tree)
    value = reward(outcome, Oracle(case.oracle), case.tree)
    if isinstance(outcome, Rejected):
        return Reading(value, {}, f"{outcome.reason}: {outcome.detail}")
    made = changed_files(outcome, case.tree.entries)
    return Reading(value, {change.path: (change.after or b"").decode() for change in made}, "")


def differ(theirs: Reading, ours: Reading) -> bool:
    """Tell whether two readings are not the same."""
    if bool(theirs.why) != bool(ours.why) or theirs.files != ours.files:
        return True
    return ours.value is None or theirs.value is None or abs(theirs.value - ours.value) > 1e-12


# --- why ------------------------------------------------------------------------------------------------------------

Cause = tuple[str, Callable[[Difference], bool]]


def _ours(*reasons: str) -> Callable[[Difference], bool]:
    return lambda found: found.ours.why.partition(":")[0] in reasons


def _theirs(said: str) -> Callable[[Difference], bool]:
    return lambda found: found.theirs.why.startswith(said)


def _has_empty_side(found: Difference) -> bool:
    return bool(re.search(r"^(<{7} SEARCH\n={7}|={7}\n>{7} REPLACE)$", found.case.text, re.MULTILINE))


def _writes(marker: str) -> Callable[[Difference], bool]:
    """Return what tells whether theirs writes such a line into a file."""
    line = re.compile(f"^{marker}$", re.MULTILINE)

    def writes(found: Difference) -> bool:
        files = found.case.files
        new = found.theirs.files.items()
        return any(len(line.findall(text)) > len(line.findall(files.get(path, ""))) for path, text in new)

    return writes


def _has_backslashes(found: Difference) -> bool:
    return not found.ours.why and re.search(r"^### .*\\", found.case.text, re.MULTILINE) is not None


def _repeats(found: Difference) -> bool:
    edits = re.findall(r"^### [^\n]+\n<{7} SEARCH\n.*?^>{7} REPLACE$", found.case.text, re.MULTILINE | re.DOTALL)
    return not found.ours.why and len({*edits}) < len(edits)


CAUSES: tuple[Cause, ...] = (
    ("edits that share a fence: theirs takes the first SEARCH and all that follows for one edit and writes the markers "
     "of the others into the file; ours reads each, as its prompt asks for, and as the reference's own inference does",
     _writes("(<{7} SEARCH|>{7} REPLACE)")),
    ("a divider too many: theirs writes it into the file; ours rejects it, or reads the edit without it",
     _writes("={7}")),
    ("an empty SEARCH or REPLACE: theirs wants a line in each and drops the edit, or the answer where it is the only "
     "one; ours creates the file or deletes the lines, which is what the answer says",
     _has_empty_side),
    ("an edit that changes nothing beside one that does: theirs rejects the answer; ours judges the whole, for it "
     "changes what the others do",
     _theirs("Search and replace blocks are identical")),
    ("SEARCH stands at several places: theirs changes all of them; ours rejects it, for the answer does not say which",
     _ours("search-ambiguous")),
    ("an incomplete edit beside complete ones: theirs takes those; ours rejects it, for half a change is worse than "
     "none", _ours("malformed", "truncated")),
    ("a path with backslashes: theirs looks for a file of that name; ours reads the file that it means",
     _has_backslashes),
    ("an edit that is repeated: theirs misses its SEARCH the second time; ours counts it once",
     _repeats),
    ("SEARCH or its end within a line: theirs changes the part of a line; ours wants whole lines, so that an edit "
     "cannot hit the beginning of a longer one", _ours("search-not-found")),
    ("Python that no longer parses: theirs rewards its likeness; ours rejects it, for it cannot be a repair",
     _ours("syntax-error")),
    ("a patch without effect: theirs rewards its likeness; ours rejects it, for it cannot be a repair",
     _ours("no-change", "no-effect")),
    ("a file that may not be created or edited: theirs does not look; ours rejects it",
     _ours("file-exists", "bad-path", "not-editable", "encoding")),
    ("a tag that is not there exactly once: theirs rejects the answer; ours reads what is outside of the thinking",
     _theirs("count of")),
    ("thinking that is empty: theirs rejects the answer; ours reads what follows it", _theirs("Thought is empty")),
    ("a path, fence or marker written otherwise than theirs asks for: theirs finds no edit; ours reads what has one "
     "reading only", _theirs("No valid search blocks"))
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reference_reward")
    parser.add_argument("file", type=Path)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--generated", type=int, default=300)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args(arguments)
    reference = loaded(given.file)
    cases = [*generated(given.generated), *(real(given.answers) if given.answers else ())]
    found = [Difference(case, read_theirs(reference, case), read_ours(case)) for case in cases]
    found = [one for one in found if differ(one.theirs, one.ours)]
    causes = Counter(next((text for text, holds in CAUSES if holds(one)), "") for one in found)
    say(f"{len(cases)} answers, {len(found)} read otherwise")
    for text, count in causes.most_common():
        say(f"{count:4} {text or 'NO CAUSE'}")
    for one in found:
        if given.list or not any(holds(one) for _, holds in CAUSES):
            say(f"  {one.case.name}: theirs {shown(one.theirs)}; ours {shown(one.ours)}")
    return int(causes[""] > 0)


def loaded(file: Path) -> Reference:
    spec = importlib.util.spec_from_file_location("reference_reward_of_swe_rl", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Reference", module)


def shown(reading: Reading) -> str:
    value = "none" if reading.value is None else f"{reading.value:.4f}"
    return f"{value} ({' '.join(reading.why.split())[:90] or ', '.join(sorted(reading.files)) or 'no file'})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
