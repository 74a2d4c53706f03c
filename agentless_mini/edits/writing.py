"""A change -> an answer that asks for it: the inverse of the parser, for training data and for tests.

Edits are as small as they can be: the changed lines, with as many unchanged ones around them as make their place
unique. What such edits cannot say (other terminators, another byte order mark) is said by removing every line and
creating the file anew, or, to keep its encoding, by leaving one line without a terminator and replacing that. Each
file's edits are read and applied here once, so an answer that is returned works.
"""

from collections.abc import Sequence
from itertools import count, product

from agentless_mini.domain import FileChange, FileKind, Reading, Reason, Rejected, Snapshot, SourceFile
from agentless_mini.edits.alignment import Region, differing
from agentless_mini.edits.applying import Tree, apply_edits
from agentless_mini.edits.markers import MOST_WIDTH, NO_NEWLINE, WIDTH, marker_width
from agentless_mini.edits.matching import Lines, strict_matches
from agentless_mini.edits.parsing import parse_edits
from agentless_mini.edits.paths import Paths, Said, clean_path
from agentless_mini.edits.sources import SourceText, content, contents, decode, split_lines, terminator

_CONTEXT = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)
_BOM = "\ufeff"
_STAND_IN = "x"
_FENCE = "```"


def write_answer(changes: Sequence[FileChange]) -> str | Rejected:
    """Return one fenced block of edits that turns each file's `before` into its `after`, byte for byte.

    `Rejected` as BAD_PATH where the format cannot name a file, SYNTAX where the applier refuses the new Python, and
    ENCODING where the format cannot say the new bytes: none but those of UTF-8, of the encoding that the file has, and
    of one that a Python file declares.
    """
    blocks = [_file_edits(change) for change in changes]
    refused = [block for block in blocks if isinstance(block, Rejected)]
    said = "".join(block for block in blocks if isinstance(block, str))
    return refused[0] if refused else _fenced(said)


def write_edit(name: str, search: str, replace: str) -> str:
    """Return an answer of one edit of the file that goes by `name` in answers, in a fence that no new line closes."""
    taken = [line.strip() for line in replace.split("\n") if line.strip().startswith(_FENCE)]
    fence = "`" * max([len(_FENCE), *(1 + len(line) for line in taken)])
    return f"{fence}\n{_written(name, Reading(search, replace), WIDTH)}{fence}\n"


def _fenced(said: str) -> str:
    return f"{_FENCE}\n{said}{_FENCE}\n"


def _file_edits(change: FileChange) -> str | Rejected:
    """Return the first way to say a change that gives its very bytes."""
    known = Paths(() if change.before is None else (change.path,))
    names = [
        said for said in (change.path, f"`{change.path}`", f"File: `{change.path}`") if _is_read(said, change, known)
    ]
    if not names:
        return Rejected(Reason.BAD_PATH, f"the format cannot name the file {change.path!r}")
    outcome = Rejected(Reason.ENCODING, f"the format cannot say the new bytes of {change.path}")
    # Wider markers say that lines which look left over are meant.
    for readings, width in product(_ways(change), (WIDTH, WIDTH + 2)):
        said = "".join(_written(names[0], reading, width) for reading in readings)
        result = _applied(said, change)
        if result == change.after:
            return said
        outcome = result if isinstance(result, Rejected) and result.reason is Reason.SYNTAX else outcome
    return outcome


def _is_read(said: str, change: FileChange, known: Paths) -> bool:
    """Tell whether a name is read as the path, also where the file is created, or created anew."""
    created = () if change.before is None else (change.path,)
    is_valid = clean_path(f"`{change.path}`") == change.path
    return is_valid and known.of([Said(f"### {said}")], True, created, "") == change.path


def _applied(said: str, change: FileChange) -> bytes | Rejected | None:
    """Return what the written edits make of the file."""
    files = () if change.before is None else (SourceFile(change.path, change.mode, FileKind.TEXT, change.before),)
    tree = Tree.of(Snapshot("", "", "", files))
    edits = parse_edits(_fenced(said), tree.paths)
    outcome = edits if isinstance(edits, Rejected) else apply_edits(edits, tree)
    return outcome if isinstance(outcome, Rejected) else outcome[0].after


def _written(name: str, reading: Reading, least: int) -> str:
    """Return one edit, its markers of at least that width, and wide enough to tell them from the text."""
    search, replace = (_with_note(side) for side in (reading.search, reading.replace))
    taken = {marker_width(line) for line in (search + replace).split("\n")}
    width = next((width for width in range(least, MOST_WIDTH) if width not in taken), MOST_WIDTH)
    head, divider, foot = "<" * width + " SEARCH", "=" * width, ">" * width + " REPLACE"
    return f"### {name}\n{head}\n{search}{divider}\n{replace}{foot}\n"


def _with_note(side: str) -> str:
    return side if side.endswith("\n") or not side else f"{side}\n{NO_NEWLINE}\n"


# --- the ways to say a change of one file --------------------------------------------------------------------------


def _ways(change: FileChange) -> list[list[Reading]]:
    """Return edits that should make the change, the best way first."""
    old = decode(SourceFile(change.path, change.mode, FileKind.TEXT, change.before or b""))
    lines = split_lines(old.text)
    removal = [_reading(lines, [])]
    if change.after is None:
        return [removal]
    new = _in_the_manner_of(old, change.after)
    creation = _whole("", _created(SourceFile(change.path, change.mode, FileKind.TEXT, change.after)))
    stand_in = f"{_STAND_IN}\n"
    rewriting = [_reading(lines, [stand_in]), Reading(stand_in, _STAND_IN), *_whole(_STAND_IN, new)]
    first = _small_edits(lines, split_lines(new)) if lines else creation
    return [first, removal + creation, rewriting]


def _in_the_manner_of(old: SourceText, data: bytes) -> str:
    """Return the text of new bytes, read as the old ones are; what cannot be read so, edits cannot say either."""
    return data.decode(old.encoding, "replace").removeprefix(_BOM if old.bom else "")


def _created(file: SourceFile) -> str:
    source = decode(file)
    return _BOM + source.text if source.bom else source.text


def _whole(search: str, text: str) -> list[Reading]:
    """Return edits after which the text stands where the search stood, to the letter."""
    last = f"{NO_NEWLINE}\n"
    if not text.endswith("\n" + last):
        return [Reading(search, text)]
    # Such a last line would be taken for the note, but not where it stands alone.
    taken = set(contents(split_lines(text)))
    stand_in = next(line for line in map(str, count()) if line not in taken)
    return [Reading(search, f"{text.removesuffix(last)}{stand_in}\n"), Reading(f"{stand_in}\n", last)]


def _plain(lines: Sequence[str]) -> str:
    """Return lines as an answer says them: with `\\n`, but for a `\\r\\n` without which their text would be lost."""
    return "".join(line if _spelled(line) else content(line) + "\n" for line in lines)


def _spelled(line: str) -> bool:
    return content(line).endswith("\r") and terminator(line) == "\r\n"


def _small_edits(before: Sequence[str], after: Sequence[str]) -> list[Reading]:
    """Return an edit for each region that differs; regions whose place cannot be made unique are joined.

    That ends at the latest with the whole file, whose place is unique. It must have a line.
    """
    waiting = differing(before, after)[::-1]
    done: list[tuple[Region, Reading]] = []
    while waiting:
        region = waiting.pop()
        previous = done[-1][0] if done else Region(0, 0, 0, 0)
        following = waiting[-1].a_start if waiting else len(before)
        reading = _unique(before, after, region, (previous, following))
        if reading:
            done.append((region, reading))
        elif waiting:
            waiting.append(_joined(region, waiting.pop()))
        else:
            waiting.append(_joined(done.pop()[0], region))
    return [reading for _, reading in done]


def _joined(first: Region, second: Region) -> Region:
    return Region(first.a_start, second.a_stop, first.b_start, second.b_stop)


def _unique(before: Sequence[str], after: Sequence[str], region: Region, around: tuple[Region, int]) -> Reading | None:
    """Return the smallest edit whose SEARCH stands once in the file as the edits before it leave it.

    `around` is the region edited before, and the line where the next begins. None where there is no such edit.
    """
    previous, following = around
    current = [*after[: previous.b_stop], *before[previous.a_stop :]]
    for context in (*_CONTEXT, len(before)):
        lead = min(context, region.a_start - previous.a_stop)
        tail = min(context, following - region.a_stop)
        search = before[region.a_start - lead : region.a_stop + tail]
        reading = _reading(search, after[region.b_start - lead : region.b_stop + tail])
        if search and len(strict_matches(reading, Lines(current))) == 1:
            return reading
    return None


def _reading(search: Sequence[str], replace: Sequence[str]) -> Reading:
    """Return the edit; a missing newline is said where only one side lacks it: else it stays as it is.

    It is said also where a last line ends in `\\r`, which would be taken for a part of the terminator.
    """
    ends = [side[-1] for side in (search, replace) if side and not terminator(side[-1])]
    is_said = len(ends) == 1 or any(end.endswith("\r") for end in ends)
    said = _open if is_said else _plain
    return Reading(said(search), said(replace))


def _open(lines: Sequence[str]) -> str:
    return _plain(lines).removesuffix("\n") if lines and not terminator(lines[-1]) else _plain(lines)
