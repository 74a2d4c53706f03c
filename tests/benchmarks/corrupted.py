"""Corrupted copies of real edits, read loosely: none may be applied to a line that was not meant.

    python -m tests.benchmarks.corrupted REPOSITORY... [--count 5000] [--seed N] [--list]

Each REPOSITORY is a git repository, bare or not, with its history; together they should hold several of the languages
Python, JavaScript or TypeScript, C, Go and Rust, which have equal shares of the copies. An edit is one hunk of a
commit, with up to four lines around it, on the file as it was; it is taken if it can be applied strictly. It is then
corrupted as models do (tests/edits/corruptions.py has the kinds), and another one is if the copy can still be applied
strictly and comes out right. The same clones, count and seed give the same copies.

The oracle knows which lines of the file the true edit replaces, and by what. An application is WRONG if a line that
holds more than blanks and that the true edit leaves alone is not there afterwards, byte for byte and in its order, or
if anything stands elsewhere than in the place of the replaced lines, or there anything but new and old lines. Where the
file was altered so that the meant lines are not in it any more, any application is WRONG. "Right" is what the true edit
leaves. Excused is what the corruption itself brings: blanks at the ends of new lines, and on which side of a line that
was left out beside the edit the new ones stand. Told apart from right, and not wrong, are other blanks (new lines with
another indentation, or more blank lines), blank lines of the file that are lost, and edits carried out in part: some of
the lines to be replaced still stand beside the new ones, for the copy left them out. Exit code 1 if one is wrong.
"""

import argparse
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentless_mini.domain import Matching, Patch
from tests.benchmarks import say
from tests.edits.corruptions import Copy, Verdict, copy_of, corrupted, is_true, verdict
from tests.edits.edit_cases import read

LANGUAGES = {"py": "Python", "js": "JavaScript", "ts": "JavaScript", "mjs": "JavaScript", "tsx": "JavaScript",
             "c": "C", "h": "C", "go": "Go", "rs": "Rust"}  # fmt: skip
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")
MOST_LINES, MOST_CHANGED = 2_500, 12
EDITS_OF_COMMIT = 3
SEED = 20_261_129


def edits(repository: Path, dice: random.Random) -> Iterator[Copy]:
    """Yield true edits of a repository's commits, drawn in any order, a few of each commit."""
    commits = _git(repository, "log", "--no-merges", "--format=%H").decode().split()
    dice.shuffle(commits)
    for commit in commits:
        found = [*_hunks(_git(repository, "show", "-U0", "--no-renames", "--diff-filter=M", "--format=", commit))]
        dice.shuffle(found)
        for blob, path, start, stop, new in found[:EDITS_OF_COMMIT]:
            data = _git(repository, "cat-file", "blob", blob)
            if _is_plain(data):
                lines = data.decode().split("\n")[:-1]
                around = dice.randint(0, 4), dice.randint(0, 4)
                yield copy_of(path, lines, (start, stop, new), around)


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], stdout=subprocess.PIPE, check=True).stdout


def _is_plain(data: bytes) -> bool:
    """Tell whether a file is text in UTF-8 with newlines alone, of a size to work with."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return text.endswith("\n") and "\r" not in text and "\0" not in text and text.count("\n") <= MOST_LINES


def _hunks(diff: bytes) -> Iterator[tuple[str, str, int, int, list[str]]]:
    """Yield (blob before, path, start, stop, new lines) of the small hunks in files of the languages."""
    for file in diff.decode(errors="replace").split("\ndiff --git "):
        blob = re.search(r"^index ([0-9a-f]+)\.\.", file, re.MULTILINE)
        path = re.search(r"^\+\+\+ b/(.*)$", file, re.MULTILINE)
        if not blob or not path or path[1].rpartition(".")[2] not in LANGUAGES or " " in path[1]:
            continue
        for part in re.split(r"^(?=@@ )", file, flags=re.MULTILINE)[1:]:
            head, *body = part.removesuffix("\n").split("\n")
            found = HUNK.match(head)
            new = [line[1:] for line in body if line.startswith("+")]
            if found and len(body) <= MOST_CHANGED and not any(line.startswith("\\") for line in body):
                count = int(found[2] or 1)
                start = int(found[1]) - (1 if count else 0)
                yield blob[1], path[1], start, start + count, new


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.corrupted")
    parser.add_argument("repositories", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args(arguments)
    dice = random.Random(given.seed)  # noqa: S311 - drawn again alike, not for secrets
    true = by_language(given.repositories, given.count // 10, dice)
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for language, copies in sorted(true.items()):
        for kind, copy in corrupted(copies, given.count // len(true), dice):
            became = verdict(copy)
            table[kind.__name__][became] += 1
            table[f"all, {language}"][became] += 1
            table["all"][became] += 1
            if given.list and became == Verdict.WRONG:
                say(shown(kind.__name__, copy))
    for name, row in sorted(table.items()):
        say(f"{name:30} " + ", ".join(f"{row[one]} {one}" for one in ["rejected", *Verdict] if row[one]))
    return int(table["all"][Verdict.WRONG] > 0)


def by_language(repositories: Sequence[Path], most: int, dice: random.Random) -> dict[str, list[Copy]]:
    """Return true edits by language, so many of each at most."""
    found: dict[str, list[Copy]] = defaultdict(list)
    for repository in repositories:
        for copy in edits(repository, dice):
            language = LANGUAGES[copy.path.rpartition(".")[2]]
            if len(found[language]) < most and is_true(copy):
                found[language].append(copy)
            elif len(found[language]) >= most:
                break
    return found


def shown(kind: str, copy: Copy) -> str:
    """Return a copy and what it became, for people."""
    outcome = read(copy.answer, {copy.path: copy.data}, Matching.LOOSE)
    assert isinstance(outcome, Patch)
    meant = copy.lines[copy.start : copy.stop] if not copy.is_gone else ["(not in the file)"]
    return "\n".join([f"=== {kind}, meant:", *meant, copy.answer, outcome.diff.decode(errors="replace")])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
