"""Answers as models write them, over real files of installed packages: right ones, wrong ones, and ill-formed ones.

Drawn with a seed. Each is a function of the right edits and of dice; what the reader makes of it is not said here.
"""

import ast
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agentless_mini.domain import FileChange
from agentless_mini.edits import Tree
from tests.edits.edit_cases import edit, fenced, snapshot

PACKAGES = ("jinja2", "rich", "typer", "unidiff", "git")
WORDS = ("None", "return", "self", "not ", "==", "if ", "0", "1", "and", "True", "len(")

Edit = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """A file, another one beside it, the true edits of the first, and the change that they make."""

    files: dict[str, bytes]
    edits: tuple[Edit, ...]
    oracle: tuple[FileChange, ...]

    @property
    def tree(self) -> Tree:
        return Tree.of(snapshot(self.files))


def sources() -> list[tuple[str, str]]:
    """Return real Python files with their paths: of medium size, in ASCII, in order of name."""
    found = []
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec
        assert spec.origin
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            data = path.read_bytes()
            if 2_000 < len(data) < 40_000 and data.isascii() and b"\r" not in data:
                found.append((f"{package}/{path.relative_to(folder)}", data.decode()))
    return found


def problem(dice: random.Random, files: Sequence[tuple[str, str]]) -> Problem:
    """Return a problem whose true change is one, and parses."""
    while True:
        given = _drawn(dice, files)
        (change,) = given.oracle
        assert change.after
        if change.after != change.before and _parses(change.after):
            return given


def _parses(data: bytes) -> bool:
    try:
        ast.parse(data)
    except SyntaxError:
        return False
    return True


def _drawn(dice: random.Random, files: Sequence[tuple[str, str]]) -> Problem:
    """Return a file of which some lines are removed, remarked upon, altered, or replaced by lines of the other file."""
    (path, text), (other, beside) = dice.sample(files, 2)
    lines, foreign = text.splitlines(keepends=True), beside.splitlines(keepends=True)
    starts = sorted(dice.sample(range(len(lines) - 5), dice.randint(1, 3)))
    stops = [
        min(start + dice.randint(1, 5), most) for start, most in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]
    edits: list[Edit] = []
    after: list[str] = []
    for start, stop, passed in zip(starts, stops, [0, *stops], strict=False):
        lead = "".join(lines[max(passed, start - dice.randint(0, 4)) : start])
        old = "".join(lines[start:stop])
        new = _changed(dice, old, dice.choice(foreign).strip())
        edits.append((path, lead + old, lead + new))
        after += [*lines[passed:start], new]
    after += lines[stops[-1] :]
    changes = (FileChange(path, text.encode(), "".join(after).encode(), "100644"),)
    return Problem({path: text.encode(), other: beside.encode()}, tuple(edits), changes)


def _changed(dice: random.Random, old: str, foreign: str) -> str:
    indent = old[: len(old) - len(old.lstrip())].rpartition("\n")[2]
    return dice.choice([
        "",
        f"{indent}{foreign or 'pass'}\n",
        f"{indent}# {foreign}\n{old}",
        old.replace(dice.choice(WORDS), dice.choice(WORDS)),
    ])  # fmt: skip


# --- the ways to answer --------------------------------------------------------------------------------------------

Answering = Callable[[Problem, random.Random], str]


def _one_fence(edits: Sequence[Edit], info: str = "python") -> str:
    return fenced(*(edit(*one) for one in edits), info=info)


def right(given: Problem, dice: random.Random) -> str:
    return "".join(_one_fence([one]) for one in given.edits)


def in_one_fence(given: Problem, dice: random.Random) -> str:
    return _one_fence(given.edits)


def without_language(given: Problem, dice: random.Random) -> str:
    return _one_fence(given.edits, info="")


def wrapped(given: Problem, dice: random.Random) -> str:
    draft = _one_fence([(given.edits[0][0], given.edits[0][1], "draft\n")])
    return f"<think>\nPerhaps so:\n{draft}No.\n</think>\n<solution>\n{_one_fence(given.edits)}</solution>"


def thinking_cut_off(given: Problem, dice: random.Random) -> str:
    return f"<think>\nLet me see.\n{_one_fence(given.edits)}"


def truncated(given: Problem, dice: random.Random) -> str:
    answer = right(given, dice)
    return answer[: dice.randrange(len(answer))]


def other_blanks(given: Problem, dice: random.Random) -> str:
    return _one_fence([(path, "".join(f" {line}\n" for line in old.split("\n")[:-1]), new)
                       for path, old, new in given.edits])  # fmt: skip


def from_mid_line(given: Problem, dice: random.Random) -> str:
    return _one_fence([(path, old[dice.randint(1, 6) :], new) for path, old, new in given.edits])


def empty_replace(given: Problem, dice: random.Random) -> str:
    return _one_fence([(path, old, "") for path, old, _ in given.edits])


def good_and_bad(given: Problem, dice: random.Random) -> str:
    return _one_fence([*given.edits, (given.edits[0][0], "no such line at all\n", "x\n")])


def nearly_right(given: Problem, dice: random.Random) -> str:
    """Return the right edits with some characters of the new lines changed."""
    return _one_fence([(path, old, new.replace(dice.choice(WORDS), dice.choice(WORDS), 1)) for path, old, new in
                       given.edits])  # fmt: skip


def part_of_it(given: Problem, dice: random.Random) -> str:
    return _one_fence(given.edits[: dice.randint(1, len(given.edits))])


def unchanged(given: Problem, dice: random.Random) -> str:
    return _one_fence([(path, old, old) for path, old, _ in given.edits])


def other_file(given: Problem, dice: random.Random) -> str:
    path, text = next((path, text.decode()) for path, text in given.files.items() if path != given.edits[0][0])
    line = dice.choice(text.splitlines(keepends=True))
    return _one_fence([*given.edits, (path, line, f"{line}# {dice.randrange(9)}\n")])


def another_file_only(given: Problem, dice: random.Random) -> str:
    path = next(path for path in given.files if path != given.edits[0][0])
    first = given.files[path].decode().splitlines(keepends=True)[0]
    return _one_fence([(path, first, f"# {dice.randrange(9)}\n{first}")])


def new_file(given: Problem, dice: random.Random) -> str:
    return _one_fence([*given.edits, (f"tests/test_{dice.randrange(9)}.py", "", "def test():\n    assert True\n")])


def whole_file(given: Problem, dice: random.Random) -> str:
    (change,) = given.oracle
    assert change.before
    assert change.after
    return _one_fence([(change.path, change.before.decode(), change.after.decode())])


def deleted(given: Problem, dice: random.Random) -> str:
    path, text = dice.choice([*given.files.items()])
    return _one_fence([(path, text.decode(), "")])


def in_crlf(given: Problem, dice: random.Random) -> str:
    return _one_fence(given.edits).replace("\n", "\r\n")


def marker_missing(given: Problem, dice: random.Random) -> str:
    return _one_fence(given.edits).replace(dice.choice(["=======\n", ">>>>>>> REPLACE\n", "<<<<<<< SEARCH\n"]), "", 1)


def prose(given: Problem, dice: random.Random) -> str:
    return f"The fault is in `{given.edits[0][0]}`:\n\n{given.edits[0][2]}"


WAYS: tuple[Answering, ...] = (
    right, in_one_fence, without_language, wrapped, thinking_cut_off, truncated, other_blanks, from_mid_line,
    empty_replace, good_and_bad, nearly_right, part_of_it, unchanged, other_file, another_file_only, new_file,
    whole_file, deleted, in_crlf, marker_missing, prose,
)  # fmt: skip
