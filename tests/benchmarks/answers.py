"""Real answers with SEARCH/REPLACE edits, read strictly and loosely, beside what a careful reading of them gives.

    python -m tests.benchmarks.answers FOLDER [--said] [--list]

FOLDER holds a folder for each answer. Public chat logs are a source of them, with the history of the project that
they were about. In each:

- `answer.md`: what the model said, whole.
- `answer.ours.md`, optional: the same with the lines that name files rewritten into `### path`, at the place where
  the repair prompt asks for them, and all else kept. It is read instead of `answer.md` unless `--said` is given: logs
  come from tools that ask for another line there.
- `before/`: the files that the answer names, as they were. `tree.txt`, optional, lists every path of the tree, one on
  a line; those that are not in `before/` are there as binary files, so that they cannot be edited or created.
- `after/`: the files that change, as they are afterwards. How they were had must not depend on this project's parser.
- `meta.json`: `expected` is "files"; "rejected" where no careful reader would apply the answer; or "either" where one
  may, and `after/` is what comes of it. `deleted` lists the files that the answer deletes. More keys may say where the
  answer is from and how `after/` was had.

An answer is WRONG that is read as a patch of other files, or of other bytes, than the reference has, or that is read
as a patch at all where it is to be rejected. `--list` names every answer that differs, with the reason. Exit code 1 if
one is wrong.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import FileKind, Matching, Patch, Rejected, SourceFile
from agentless_mini.edits import Tree, changed_files
from tests.benchmarks import say
from tests.edits.edit_cases import read, snapshot

Files = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, its tree, what is expected of it, and the files that it changes by the reference."""

    name: str
    text: str
    tree: Tree
    expected: str
    reference: Files


def answers(folder: Path, said: bool) -> Iterator[Answer]:
    """Yield the answers of a folder in order of name."""
    for meta in sorted(folder.glob("*/meta.json")):
        facts = json.loads(meta.read_text())
        ours = meta.parent / "answer.ours.md"
        text = (ours if ours.exists() and not said else meta.parent / "answer.md").read_bytes().decode()
        reference = dict(_files(meta.parent / "after")) | dict.fromkeys(facts.get("deleted", []))
        tree = Tree.of(snapshot(_entries(meta.parent)))
        yield Answer(meta.parent.name, text, tree, facts["expected"], reference)


def _entries(folder: Path) -> dict[str, bytes | SourceFile]:
    listed = folder / "tree.txt"
    paths = listed.read_text().split("\n")[:-1] if listed.exists() else []
    return {path: SourceFile(path, "100644", FileKind.BINARY) for path in paths} | dict(_files(folder / "before"))


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def verdict(answer: Answer, matching: Matching) -> tuple[str, str]:
    """Return "equal", "rejected", "refused" (rejected, and rightly) or "WRONG", and the reason or what differs."""
    outcome = read(answer.text, answer.tree, matching)
    if isinstance(outcome, Rejected):
        return ("rejected" if answer.expected == "files" else "refused"), f"{outcome.reason}: {outcome.detail}"
    if answer.expected == "rejected":
        return "WRONG", "is a patch, and is to be rejected"
    other = _differing(outcome, answer)
    return ("WRONG", f"differs in {', '.join(other)}") if other else ("equal", "")


def _differing(patch: Patch, answer: Answer) -> list[str]:
    got = {change.path: change.after for change in changed_files(patch, answer.tree.entries)}
    reference = answer.reference
    return sorted(path for path in got.keys() | reference.keys() if got.get(path, b"") != reference.get(path, b""))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.answers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--said", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args(arguments)
    all_answers = [*answers(given.folder, given.said)]
    if not all_answers:
        parser.error(f"{given.folder} holds no answers: name the folder whose folders hold a meta.json each")
    expected = Counter(answer.expected for answer in all_answers)
    say(
        f"{len(all_answers)} answers: {expected['files']} with a result, {expected['rejected']} to be rejected, "
        f"{expected['either']} that may be"
    )
    wrong = [report(all_answers, matching, given.list) for matching in (Matching.STRICT, Matching.LOOSE)]
    return int(any(wrong))


def report(all_answers: Sequence[Answer], matching: Matching, in_full: bool) -> int:
    """Print what becomes of the answers; return how many are wrong."""
    verdicts = [(answer, *verdict(answer, matching)) for answer in all_answers]
    of_files = Counter(kind for answer, kind, _ in verdicts if answer.expected == "files")
    of_others = Counter(kind for answer, kind, _ in verdicts if answer.expected != "files")
    total = max(of_files.total(), 1)
    say(
        f"{matching}: {of_files['equal']} of {total} byte-equal ({of_files['equal'] / total:.1%}), "
        f"{of_files['rejected']} rejected, {of_files['WRONG']} WRONG; of the others {of_others['refused']} rejected, "
        f"{of_others['equal']} read as they may be, {of_others['WRONG']} WRONG"
    )
    reasons = Counter(why.partition(":")[0] for _, kind, why in verdicts if kind == "rejected")
    for reason, number in reasons.most_common():
        say(f"    rejected as {reason}: {number}")
    for answer, kind, why in verdicts:
        if kind == "WRONG" or (in_full and kind == "rejected"):
            say(f"    {answer.name} {kind}: {why}")
    return of_files["WRONG"] + of_others["WRONG"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
