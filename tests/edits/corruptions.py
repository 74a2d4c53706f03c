"""Edits as models miscopy them: ways to corrupt a true one, and the judge of what loose matching makes of it.

A true edit replaces lines [start, stop) of a file by new ones; its answer has some lines around them on both sides. A
corruption miscopies the SEARCH, and the lines that REPLACE puts back likewise; what is new in REPLACE changes in blanks
at most. Two kinds alter the file instead, so that what the edit is about is no longer there. All is drawn from dice.
"""

import difflib
import enum
import random
import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

from agentless_mini.domain import FileKind, Matching, Patch, Rejected, SourceFile
from agentless_mini.edits import changed_files
from tests.edits.edit_cases import edit, fenced, read

WORD = re.compile(r"[A-Za-z_]\w{2,}")


@dataclass(frozen=True, slots=True)
class Copy:
    """An edit as somebody copied it. Lines have no terminators; `is_gone` tells that the file lacks what is meant.

    `before` and `after` count the lines that SEARCH and REPLACE share around what changes. `unsaid` is the place in the
    file of a line that the copy left out of them, -1 for none.
    """

    path: str
    lines: tuple[str, ...]
    start: int
    stop: int
    new: tuple[str, ...]
    search: tuple[str, ...]
    replace: tuple[str, ...]
    before: int
    after: int
    is_gone: bool = False
    unsaid: int = -1

    @property
    def answer(self) -> str:
        """Return the answer in a fence."""
        return fenced(edit(self.path, _text(self.search), _text(self.replace)))

    @property
    def data(self) -> bytes:
        """Return the file."""
        return _text(self.lines).encode()

    @property
    def truth(self) -> list[str]:
        """Return the lines that the true edit leaves."""
        return [*self.lines[: self.start], *self.new, *self.lines[self.stop :]]


def copy_of(path: str, lines: Sequence[str], change: tuple[int, int, Sequence[str]], around: tuple[int, int]) -> Copy:
    """Return the true copy of a change (start, stop, new lines), with some lines around it, more if it needs them."""
    start, stop, new = change
    first, last = max(0, start - around[0]), min(len(lines), stop + around[1])
    while not _is_unique(lines, first, last) and (first > 0 or last < len(lines)):
        first, last = max(0, first - 1), min(len(lines), last + 1)
    lead, trail = lines[first:start], lines[stop:last]
    return Copy(path, tuple(lines), start, stop, tuple(new), tuple(lines[first:last]), (*lead, *new, *trail),
                len(lead), len(trail))  # fmt: skip


def _is_unique(lines: Sequence[str], first: int, last: int) -> bool:
    wanted, size = lines[first:last], last - first
    return size > 0 and sum(lines[at : at + size] == wanted for at in range(len(lines) - size + 1)) == 1


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


# --- the judge -----------------------------------------------------------------------------------------------------


class Verdict(enum.StrEnum):
    """What an application came to."""

    RIGHT = "right"  # what the true edit leaves; blanks at the ends of new lines are excused
    MORE_BLANKS = "with other blanks"  # the same but for the indentation of new lines, or for more or fewer blank ones
    FEWER_BLANKS = "without blank lines"  # the same but for blank lines that the true edit leaves alone: they are lost
    PART = "in part"  # changes none but the meant lines and leaves nothing but old and new ones there
    WRONG = "WRONG"


def judge(copy: Copy, result: Sequence[str]) -> Verdict:
    """Return the verdict on a file's lines after an application.

    A line that holds more than blanks and that the true edit leaves alone must be there, byte for byte and in its
    order: those before the edit first, those behind it last. Between them the new lines must stand, and nothing that is
    neither a new line nor one of those that the true edit replaces. Where the copy leaves out a line beside the edit,
    it does not say on which side of that line the new ones belong: both are right.
    """
    if copy.is_gone:
        return Verdict.WRONG
    verdicts = [_judge(copy, result)]
    if copy.unsaid in {copy.start - 1, copy.stop} and copy.unsaid >= 0:
        verdicts.append(_judge(_on_the_other_side(copy), result))
    return min(verdicts, key=[*Verdict].index)


def _judge(copy: Copy, result: Sequence[str]) -> Verdict:
    lead, trail = copy.lines[: copy.start], copy.lines[copy.stop :]
    if _is_within([*lead, *trail], result):
        if _without_ends(result) == _without_ends(copy.truth):
            return Verdict.RIGHT
        if _stripped(result) == _stripped(copy.truth):
            return Verdict.MORE_BLANKS
    lead, trail = tuple(_filled(lead)), tuple(_filled(trail))
    found = _filled(result)
    middle = found[len(lead) : len(found) - len(trail)]
    if found != [*lead, *middle, *trail]:
        return Verdict.WRONG
    said, new = _stripped(middle), _stripped(copy.new)
    if said == new:
        return Verdict.FEWER_BLANKS
    old, again = _stripped(copy.lines[copy.start : copy.stop]), {*_stripped(copy.search)}
    return Verdict.PART if _is_mixture(said, new, old, again) else Verdict.WRONG


def _is_within(lines: Sequence[str], result: Sequence[str]) -> bool:
    """Tell whether lines stand in a result in their order."""
    left = iter(result)
    return all(line in left for line in lines)


def _without_ends(lines: Sequence[str]) -> list[str]:
    return [line.rstrip() for line in lines]


def _on_the_other_side(copy: Copy) -> Copy:
    """Return the copy with the new lines on the other side of the one that was left out beside them."""
    line = copy.lines[copy.unsaid]
    if copy.unsaid < copy.start:
        return replace(copy, start=copy.start - 1, new=(*copy.new, line))
    return replace(copy, stop=copy.stop + 1, new=(line, *copy.new))


def _filled(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.strip()]


def _stripped(lines: Sequence[str]) -> list[str]:
    """Return the lines that hold more than blanks, without any."""
    return ["".join(line.split()) for line in _filled(lines)]


def _is_mixture(said: Sequence[str], new: Sequence[str], old: Sequence[str], again: Set[str]) -> bool:
    """Tell whether lines are the new ones in order, with some of the old ones in order among them.

    An old line may stand for a new one that is `again` in SEARCH: the copy says that such a line stays as it is.
    """
    reached = {(0, 0)}
    for line in said:
        follow = {(n + 1, o) for n, o in reached if n < len(new) and new[n] == line}
        for n, o in reached:
            for at in range(o, len(old)):
                if old[at] == line:
                    follow |= {(n, at + 1), (n + 1, at + 1)} if n < len(new) and new[n] in again else {(n, at + 1)}
        reached = follow
    return any(n == len(new) for n, _ in reached)


# --- corruptions of a copy -----------------------------------------------------------------------------------------

Corruption = Callable[[Copy, random.Random], Copy | None]
"""Returns the copy corrupted, None where that kind of fault cannot be made in it."""


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _both(copy: Copy, change: Callable[[str], str]) -> Copy:
    return replace(copy, search=tuple(map(change, copy.search)), replace=tuple(map(change, copy.replace)))


def _at(copy: Copy, index: int, lines: Sequence[str]) -> Copy:
    """Return the copy with a line of SEARCH replaced by others, in REPLACE too where it puts that line back."""
    search = (*copy.search[:index], *lines, *copy.search[index + 1 :])
    more = len(lines) - 1
    if index < copy.before:
        again = (*copy.replace[:index], *lines, *copy.replace[index + 1 :])
        return replace(copy, search=search, replace=again, before=copy.before + more)
    if index >= len(copy.search) - copy.after:
        at = index - len(copy.search) + len(copy.replace)
        again = (*copy.replace[:at], *lines, *copy.replace[at + 1 :])
        return replace(copy, search=search, replace=again, after=copy.after + more)
    return replace(copy, search=search)


def _some_line(copy: Copy, dice: random.Random, wanted: Callable[[str], object] = str.strip) -> int | None:
    found = [index for index, line in enumerate(copy.search) if wanted(line)]
    return dice.choice(found) if found else None


def _altered(copy: Copy, dice: random.Random, alter: Callable[[str], str]) -> Copy | None:
    """Return the copy with one line altered, None where no line can be."""
    index = _some_line(copy, dice, lambda line: bool(line.strip()) and alter(line) != line)
    return None if index is None else _at(copy, index, [alter(copy.search[index])])


def trailing_blanks(copy: Copy, dice: random.Random) -> Copy | None:
    more = {line: dice.choice(["", " ", "  ", "\t"]) for line in (*copy.search, *copy.replace)}
    return _both(copy, lambda line: line + more[line])


def indentation_lost(copy: Copy, dice: random.Random) -> Copy | None:
    common = min(map(_indent, _filled([*copy.search, *copy.replace])), key=len)
    return _both(copy, lambda line: line.removeprefix(common)) if common else None


def indentation_shifted(copy: Copy, dice: random.Random) -> Copy | None:
    more = dice.choice(["    ", "  ", " ", "\t", "        "])
    return _both(copy, lambda line: more + line if line.strip() else line)


def first_indentation_lost(copy: Copy, dice: random.Random) -> Copy | None:
    if copy.search[0].lstrip() == copy.search[0] or not copy.replace:
        return None
    if copy.before:
        return _at(copy, 0, [copy.search[0].lstrip()])
    return replace(copy, search=(copy.search[0].lstrip(), *copy.search[1:]),
                   replace=(copy.replace[0].lstrip(), *copy.replace[1:]))  # fmt: skip


def tabs_and_spaces(copy: Copy, dice: random.Random) -> Copy | None:
    wide = dice.choice([2, 4, 8])

    def other(line: str) -> str:
        indent = _indent(line)
        return (indent.replace("\t", " " * wide) if "\t" in indent else indent.replace("    ", "\t")) + line[
            len(indent) :
        ]

    return _both(copy, other)


def line_left_out(copy: Copy, dice: random.Random) -> Copy | None:
    index = _some_line(copy, dice)
    if index is None or len(copy.search) < 3:
        return None
    return replace(_at(copy, index, []), unsaid=copy.start - copy.before + index)


def line_added(copy: Copy, dice: random.Random) -> Copy | None:
    index = _some_line(copy, dice)
    foreign = dice.choice(_filled(copy.lines))
    if index is None or foreign in copy.search:
        return None
    both = [copy.search[index], foreign]
    return _at(copy, index, both if dice.random() < 0.5 else both[::-1])


def _misspelt(dice: random.Random) -> Callable[[str], str]:
    way, share = dice.randrange(4), dice.random()

    def alter(line: str) -> str:
        words = [*WORD.finditer(line)]
        if not words:
            return line
        word = words[int(share * len(words))]
        at = word.start() + 1 + int(share * (len(word[0]) - 2))
        made = (line[at], line[at] * 2, "", line[at + 1 : at + 2] + line[at])[way]
        return line[:at] + made + line[at + (2 if way == 3 else 1) :] if way else line[:at] + "x" + line[at:]

    return alter


def typo(copy: Copy, dice: random.Random) -> Copy | None:
    return _altered(copy, dice, _misspelt(dice))


def two_typos(copy: Copy, dice: random.Random) -> Copy | None:
    once = typo(copy, dice)
    return once and typo(once, dice)


def variable_renamed(copy: Copy, dice: random.Random) -> Copy | None:
    names = sorted({word for line in copy.search for word in WORD.findall(line)})
    if not names:
        return None
    old, new = dice.choice(names), dice.choice([*names, "value", "result", "item", "other_name", "ctx"])
    return _in_search(copy, lambda line: re.sub(rf"\b{old}\b", new, line))


def _in_search(copy: Copy, alter: Callable[[str], str]) -> Copy:
    """Return the copy with every line of SEARCH altered, and those that REPLACE puts back."""
    for index, line in enumerate(copy.search):
        copy = _at(copy, index, [alter(line)])
    return copy


def other_quotes(copy: Copy, dice: random.Random) -> Copy | None:
    swap = str.maketrans("'\"", "\"'")
    return _altered(copy, dice, lambda line: line.translate(swap))


def other_case(copy: Copy, dice: random.Random) -> Copy | None:
    share = dice.random()

    def alter(line: str) -> str:
        words = [*WORD.finditer(line)]
        word = words[int(share * len(words))] if words else None
        return line[: word.start()] + word[0].swapcase() + line[word.end() :] if word else line

    return _altered(copy, dice, alter)


def comment_lost(copy: Copy, dice: random.Random) -> Copy | None:
    return _altered(copy, dice, lambda line: re.sub(r"\s*(#|//|/\*) .*", "", line) or line)


def part_of_a_line(copy: Copy, dice: random.Random) -> Copy | None:
    line = copy.search[0].strip()
    return _at(copy, 0, [line[dice.randint(1, len(line) // 2) :]]) if copy.before and len(line) > 6 else None


def line_broken(copy: Copy, dice: random.Random) -> Copy | None:
    index = _some_line(copy, dice, lambda line: len(line.strip()) > 40 and ", " in line)
    if index is None:
        return None
    line = copy.search[index]
    at = line.rindex(", ") + 1
    return _at(copy, index, [line[:at], f"{_indent(line)}    {line[at:].lstrip()}"])


def lines_exchanged(copy: Copy, dice: random.Random) -> Copy | None:
    places = [at for at in range(copy.before - 1) if copy.search[at] != copy.search[at + 1]]
    if not places:
        return None
    at = dice.choice(places)
    first, second = copy.search[at : at + 2]
    return _at(_at(copy, at, [second]), at + 1, [first])


def similar(line: str, lines: Sequence[str], least: float, most: float) -> list[str]:
    """Return the lines that are alike, up to a measure."""
    ratios = {other: difflib.SequenceMatcher(None, line.strip(), other.strip()).ratio() for other in {*lines}}
    return sorted(other for other, ratio in ratios.items() if least <= ratio <= most)


def neighbour_instead(copy: Copy, dice: random.Random) -> Copy | None:
    """Put a line from nearby that looks alike in the place of one that changes."""
    old = range(copy.before, len(copy.search) - copy.after)
    near = [line for line in copy.lines[max(0, copy.start - 15) : copy.stop + 15] if line not in copy.search]
    found = [(index, line) for index in old for line in similar(copy.search[index], near, 0.6, 0.97)]
    if not found:
        return None
    index, line = dice.choice(found)
    return _at(copy, index, [line])


def surroundings_of_another_place(copy: Copy, dice: random.Random) -> Copy | None:
    """Put the line that stands before another line like the first one in the place of the line before the edit."""
    if not copy.before:
        return None
    line = copy.search[copy.before - 1]
    others = [other for other in similar(line, _filled(copy.lines), 0.5, 0.97) if other not in copy.search]
    return _at(copy, copy.before - 1, [dice.choice(others)]) if others else None


def blank_lines_lost(copy: Copy, dice: random.Random) -> Copy | None:
    for index in reversed(range(len(copy.search))):
        if not copy.search[index].strip():
            copy = _at(copy, index, [])
    return copy if copy.search else None


def blank_lines_added(copy: Copy, dice: random.Random) -> Copy | None:
    index = _some_line(copy, dice)
    return None if index is None else _at(copy, index, [copy.search[index], ""])


def _elision(copy: Copy, dice: random.Random) -> str:
    mark = "#" if copy.path.endswith(".py") else "//"
    return dice.choice([f"{mark} ...", f"{mark} ... existing code ...", "...", f"{mark} rest of the code unchanged"])


def elided(copy: Copy, dice: random.Random) -> Copy | None:
    """Elide lines that both sides share."""
    if copy.before < 3:
        return None
    first, last = 1, copy.before - 1
    mark = _indent(copy.search[1]) + _elision(copy, dice)
    return replace(copy, search=(*copy.search[:first], mark, *copy.search[last:]),
                   replace=(*copy.replace[:first], mark, *copy.replace[last:]),
                   before=copy.before - last + first + 1)  # fmt: skip


def elided_in_replace(copy: Copy, dice: random.Random) -> Copy | None:
    """Elide in REPLACE alone the lines behind the edit."""
    if copy.after < 2:
        return None
    kept = copy.replace[: len(copy.replace) - copy.after]
    mark = _indent(copy.search[-copy.after]) + _elision(copy, dice)
    return replace(copy, replace=(*kept, mark))


def gone(copy: Copy, dice: random.Random) -> Copy | None:
    """Take out of the file what the edit replaces."""
    if not _filled(copy.lines[copy.start : copy.stop]):
        return None
    return replace(copy, lines=(*copy.lines[: copy.start], *copy.lines[copy.stop :]), is_gone=True)


def replaced_by_others(copy: Copy, dice: random.Random) -> Copy | None:
    """Put lines of the file that look alike in the place of those that the edit replaces."""
    old = copy.lines[copy.start : copy.stop]
    found = [similar(line, _filled(copy.lines), 0.5, 0.9) if line.strip() else [line] for line in old]
    if not _filled(old) or not all(found):
        return None
    others = [dice.choice(lines) for lines in found]
    return replace(copy, lines=(*copy.lines[: copy.start], *others, *copy.lines[copy.stop :]), is_gone=True)


def done_already(copy: Copy, dice: random.Random) -> Copy | None:
    """Let the file hold what the edit makes of it."""
    return replace(copy, lines=tuple(copy.truth), is_gone=True)


def two_faults(copy: Copy, dice: random.Random) -> Copy | None:
    first, second = dice.sample(SLIGHT, 2)
    once = first(copy, dice)
    return once and second(once, dice)


SLIGHT: tuple[Corruption, ...] = (
    trailing_blanks, indentation_lost, indentation_shifted, typo, blank_lines_lost, other_quotes, line_added,
    tabs_and_spaces, comment_lost,
)  # fmt: skip


CORRUPTIONS: tuple[Corruption, ...] = (
    trailing_blanks, indentation_lost, indentation_shifted, first_indentation_lost, tabs_and_spaces, line_left_out,
    line_added, typo, two_typos, variable_renamed, other_quotes, other_case, comment_lost, part_of_a_line, line_broken,
    lines_exchanged, neighbour_instead, surroundings_of_another_place, blank_lines_lost, blank_lines_added, elided,
    elided_in_replace, gone, replaced_by_others, done_already, two_faults,
)  # fmt: skip


# --- copies of true edits, and what becomes of them ------------------------------------------------------------------

DRAWS = 300


def corrupted(true: Sequence[Copy], count: int, dice: random.Random) -> Iterator[tuple[Corruption, Copy]]:
    """Yield copies with their kinds, the kinds in turn; none that strict matching reads right."""
    kinds = [*CORRUPTIONS]
    made = 0
    while made < count and kinds:
        for kind in [*kinds]:
            drawn = (kind(dice.choice(true), dice) for _ in range(DRAWS))
            copy = next((copy for copy in drawn if copy and _is_off(copy)), None)
            if copy is None:
                kinds.remove(kind)
            elif made < count:
                made += 1
                yield kind, copy


def _is_off(copy: Copy) -> bool:
    """Tell whether a copy is refused by strict matching, or what strict matching makes of its REPLACE is not right."""
    outcome = read(copy.answer, {copy.path: copy.data})
    if isinstance(outcome, Rejected):
        return True
    said_exactly = copy.search == copy.lines[copy.start - copy.before : copy.stop + copy.after]
    return said_exactly and not copy.is_gone and judge(copy, _after(outcome, copy)) is not Verdict.RIGHT


def _after(patch: Patch, copy: Copy) -> list[str]:
    """Return the lines of the one file that a patch changes."""
    (change,) = changed_files(patch, {copy.path: SourceFile(copy.path, "100644", FileKind.TEXT, copy.data)})
    return (change.after or b"").decode().split("\n")[:-1]


def is_true(copy: Copy) -> bool:
    """Tell whether the edit can be applied strictly, and does what it should."""
    outcome = read(copy.answer, {copy.path: copy.data})
    return isinstance(outcome, Patch) and _after(outcome, copy) == copy.truth


def verdict(copy: Copy) -> str:
    """Return what becomes of a copy that is read loosely."""
    outcome = read(copy.answer, {copy.path: copy.data}, Matching.LOOSE)
    if isinstance(outcome, Rejected):
        return "rejected"
    return judge(copy, _after(outcome, copy))
