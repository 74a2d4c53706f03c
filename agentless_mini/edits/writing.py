"""A completion -> a git patch, in the files' own bytes; and changed files -> an answer, the parser's inverse.

The patch is what `git apply` reads: names are quoted as git quotes them, and no index lines, which text does not need.

An answer's edits, for training data and for tests, are as small as they can be: the changed lines, with as many
unchanged ones around them as make their place unique. The public reward of SWE-RL reads them, too: each has a fence of
its own, and context where it only removes lines, or where another line begins as its last one does. What such edits
cannot say (other terminators, another byte order mark) is said by removing every line and creating the file anew, or,
to keep its encoding, by leaving one line without a terminator and replacing that. Each file's edits are read and
applied here once, so an answer that is returned works.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, product

from agentless_mini.domain import (
    Completion,
    FileChange,
    FileKind,
    Finish,
    Matching,
    Patch,
    Reading,
    Reason,
    Rejected,
    Snapshot,
    SourceFile,
)
from agentless_mini.edits.answer import KNOWN, Marks, parse_edits
from agentless_mini.edits.applying import Tree, apply_edits
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.markers import MOST_WIDTH, NO_NEWLINE, WIDTH, marker_width
from agentless_mini.edits.paths import Lead, Paths, clean_path
from agentless_mini.edits.sources import (
    Difference,
    FileLines,
    content,
    contents,
    decode,
    differing,
    split_lines,
    strict_matches,
    terminator,
)

CONTEXT = 3
_ESCAPES = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 34: '\\"', 92: r"\\"}
_NOTHING = hashlib.sha256().hexdigest()
_WIDER = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)  # lines of context around a SEARCH that are tried
_BOM = "\ufeff"
_STAND_IN = "x"
_FENCE = "```"
_lines = re.compile(rb"[^\n]*\n|[^\n]+").findall  # with their newlines; only the last may have none


def read_answer(
    completion: Completion, tree: Tree, matching: Matching = Matching.STRICT, marks: Marks = KNOWN
) -> Patch | Rejected:
    """Return the patch that a completion asks for on a tree, or why it is no patch."""
    if completion.finish is Finish.LENGTH:
        return Rejected(Reason.TRUNCATED, "the answer was cut off by the token limit")
    if completion.finish is Finish.FILTER:
        return Rejected(Reason.WITHHELD, "the server withheld the answer")
    if completion.reasoning.strip() and not completion.text.strip():
        return Rejected(Reason.NO_EDIT, "the answer is empty, and all that was said is in the server's reasoning field")
    edits = parse_edits(completion.text, tree.paths, marks)
    if isinstance(edits, Rejected):
        return edits
    changes = apply_edits(edits, tree, matching)
    return changes if isinstance(changes, Rejected) else candidate_patch(changes, tree.forms)


def make_patch(changes: Sequence[FileChange], forms: Forms) -> Patch:
    """Return the patch of at least one changed file, each named once. `forms` is the memory that a tree keeps."""
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    diff = b"".join(piece for change in ordered for piece in _file_diff(change))
    normal = hashlib.sha256()  # of what files say afterwards that say something else than before
    undefined: set[str] = set()
    for change in ordered:
        before = after = "nothing"
        if change.before is not None:
            before = forms.of(change.path, change.before).digest
        if change.after is not None:
            form = forms.of(change.path, change.after, change.before or b"")
            after = form.digest
            undefined.update(form.undefined)
        if before != after:
            normal.update(f"{len(change.path)} {change.path} {after}\n".encode("utf-8", "surrogatepass"))
    paths = tuple(change.path for change in ordered)
    return Patch(diff, normal.hexdigest(), paths, tuple(sorted(undefined)), _suspicious(ordered))


# One of these stands in every line that a rule of `suspicion` can mean: a word, or what writes one in another way.
_WORTH = re.compile(
    rb"pytest|unittest|pluggy|nose|doctest|exit|quit|SystemExit|abort|kill|exec|fork|spawn|signal|modules|meta_path"
    rb"|path_hooks|builtins|frame|settrace|setprofile|inspect|\bgc\b|ctypes|eval|__import__|PYTEST|AMINI|amini|test"
    rb"|f_(?:back|locals|globals)|/proc/|/mem|[gs]etattr|_stack|path_importer|monitoring|def assert"
    rb"|[^\x00-\x7f]|\\[xuUN0-7]|coding|__(?:self|closure)__|^\s*(?!self\.|cls\.)\w+(?:\.\w+)+\s*=(?!=)|__(?:main|subclasses|eq|ne|lt|le|gt|ge|contains|bool)__"
)


def _suspicious(changes: Sequence[FileChange]) -> tuple[str, ...]:
    """Return what is suspicious in changes. Most have no word of it, and are not looked into."""
    pairs = [((change.before or b"").split(b"\n"), (change.after or b"").split(b"\n")) for change in changes]
    if not any(_WORTH.search(line) for before, after in pairs for line in frozenset(after).difference(before)):
        return ()
    from agentless_mini.edits.suspicion import suspicions

    return suspicions(changes)


def candidate_patch(changes: Sequence[FileChange], forms: Forms) -> Patch | Rejected:
    """Return the patch of an answer's changes: none where comments, blank lines and formatting are all that changes."""
    patch = make_patch(changes, forms)
    if patch.normal != _NOTHING:
        return patch
    return Rejected(Reason.NO_EFFECT, f"only comments, blank lines or formatting change in {', '.join(patch.paths)}")


# --- the diff, read back -------------------------------------------------------------------------------------------

# No line of a file begins like these: each has a sign before it.
_FILE = re.compile(rb"^diff --git .*\n", re.MULTILINE)
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? ")
_MODE = re.compile(rb"(new|deleted) file mode (\d+)\n")


def changed_files(patch: Patch, entries: Mapping[str, SourceFile]) -> tuple[FileChange, ...]:
    """Return what a patch makes of the files of its tree, in the order of its paths; `entries` are the tree's.

    Raises `ValueError` where the patch was made for another tree.
    """
    _, *diffs = _FILE.split(patch.diff)
    return tuple(_changed(path, diff, entries.get(path)) for path, diff in zip(patch.paths, diffs, strict=True))


def _changed(path: str, diff: bytes, entry: SourceFile | None) -> FileChange:
    said = _MODE.match(diff)
    kind, mode = (said[1], said[2].decode()) if said else (b"", "")
    if (kind == b"new") != (entry is None):
        raise ValueError(f"the patch is of another tree: {path} is {'' if entry else 'not '}there")
    before = None if entry is None else entry.data
    after = b"".join(_patched(_lines(before or b""), _lines(diff), path))
    return FileChange(path, before, None if kind == b"deleted" else after, entry.mode if entry else mode)


def _patched(before: Sequence[bytes], diff: Sequence[bytes], path: str) -> Sequence[bytes]:
    """Return the lines that the hunks of a file leave."""
    after: list[bytes] = []
    at, first = 0, next((number for number, line in enumerate(diff) if _HUNK.match(line)), len(diff))
    sign = b""
    for line in diff[first:]:
        if hunk := _HUNK.match(line):
            start = int(hunk[1]) - (hunk[2] != b"0")
            after += before[at:start]
            at = start
        elif line.startswith(b"\\"):
            if sign == b"+":
                after[-1] = after[-1][:-1]
        elif line.startswith(b"+"):
            after.append(line[1:])
        else:
            if at >= len(before) or before[at].removesuffix(b"\n") != line[1:-1]:
                raise ValueError(f"the patch is of another tree: line {at + 1} of {path} is another one")
            after += before[at : at + 1] if line.startswith(b" ") else []
            at += 1
        sign = line[:1]
    return [*after, *before[at:]]


# --- the diff ------------------------------------------------------------------------------------------------------


def _file_diff(change: FileChange) -> Iterator[bytes]:
    old, new = _quoted("a/", change.path), _quoted("b/", change.path)
    yield b"diff --git %b %b\n" % (old, new)
    if change.before is None:
        yield b"new file mode %b\n" % change.mode.encode()
    if change.after is None:
        yield b"deleted file mode %b\n" % change.mode.encode()
    before, after = _lines(change.before or b""), _lines(change.after or b"")
    regions = differing(before, after)
    if regions:
        end = b"\t\n" if " " in change.path else b"\n"  # where a name with blanks ends would be unclear
        yield b"--- %b%b" % ((b"/dev/null", b"\n") if change.before is None else (old, end))
        yield b"+++ %b%b" % ((b"/dev/null", b"\n") if change.after is None else (new, end))
        hunk: list[Difference] = []
        for region in regions:
            if hunk and region.a_start - hunk[-1].a_stop > 2 * CONTEXT:  # their context would not touch
                yield from _hunk(hunk, before, after)
                hunk = []
            hunk.append(region)
        yield from _hunk(hunk, before, after)


def _hunk(regions: Sequence[Difference], before: Sequence[bytes], after: Sequence[bytes]) -> Iterator[bytes]:
    lead = min(CONTEXT, regions[0].a_start)
    tail = min(CONTEXT, len(before) - regions[-1].a_stop)
    at, a_stop = regions[0].a_start - lead, regions[-1].a_stop + tail
    b_start, b_stop = regions[0].b_start - lead, regions[-1].b_stop + tail
    yield b"@@ -%b +%b @@\n" % (_range(at, a_stop), _range(b_start, b_stop))
    for region in (*regions, Difference(a_stop, a_stop, b_stop, b_stop)):
        yield from (_line(b" ", line) for line in before[at : region.a_start])
        yield from (_line(b"-", line) for line in before[region.a_start : region.a_stop])
        yield from (_line(b"+", line) for line in after[region.b_start : region.b_stop])
        at = region.a_stop


def _range(start: int, stop: int) -> bytes:
    """Return a hunk's range as unified diffs count: from 1, an empty range by the line before it."""
    count = stop - start
    return b"%d" % (start + 1) if count == 1 else b"%d,%d" % (start + 1 if count else start, count)


def _line(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n" + NO_NEWLINE.encode() + b"\n"


def _quoted(prefix: str, path: str) -> bytes:
    """Return the name in double quotes with escapes if it holds anything but plain ASCII, as git writes it."""
    name = (prefix + path).encode("utf-8", "surrogateescape")
    if all(0x20 <= byte < 0x7F and byte not in _ESCAPES for byte in name):
        return name
    plain = (_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in name)
    return f'"{"".join(plain)}"'.encode()


# --- answers ---------------------------------------------------------------------------------------------------------


def write_answer(changes: Sequence[FileChange]) -> str | Rejected:
    """Return edits, each in a fence of its own, that turn each file's `before` into its `after`, byte for byte.

    `Rejected` as BAD_PATH where the format cannot name a file, SYNTAX where the applier refuses the new Python, and
    ENCODING where the format cannot say the new bytes: none but those of UTF-8, of the encoding that the file has, and
    of one that a Python file declares.
    """
    said = ""
    for change in changes:
        block = _file_edits(change)
        if isinstance(block, Rejected):
            return block
        said += block
    return said


def write_edit(name: str, search: str, replace: str) -> str:
    """Return an answer of one edit of the file that goes by `name` in answers, in a fence that no new line closes."""
    taken = [line.strip() for line in replace.split("\n") if line.strip().startswith(_FENCE)]
    fence = "`" * max([len(_FENCE), *(1 + len(line) for line in taken)])
    return f"{fence}\n{_written(name, Reading(search, replace), WIDTH)}{fence}\n"


def _file_edits(change: FileChange) -> str | Rejected:
    """Return the first way to say a change that gives its very bytes."""
    path = change.path
    there = () if change.before is None else (path,)  # also where the file is created anew
    ways = (path, f"`{path}`", f"File: `{path}`") if clean_path(f"`{path}`") == path else ()
    name = next((said for said in ways if Paths(there).of([Lead(f"### {said}")], True, there, "") == path), "")
    if not name:
        return Rejected(Reason.BAD_PATH, f"the format cannot name the file {path!r}")
    outcome = Rejected(Reason.ENCODING, f"the format cannot say the new bytes of {path}")
    # Wider markers say that lines which look left over are meant; one fence, that an empty file is created anew.
    for readings, width, is_one in product(_ways(change), (WIDTH, WIDTH + 2), (False, True)):
        between = "" if is_one else f"{_FENCE}\n{_FENCE}\n"
        edits = between.join(_written(name, reading, width) for reading in readings)
        said = f"{_FENCE}\n{edits}{_FENCE}\n"
        result = _applied(said, change)
        if result == change.after:
            return said
        outcome = result if isinstance(result, Rejected) and result.reason is Reason.SYNTAX else outcome
    return outcome


def _applied(said: str, change: FileChange) -> bytes | Rejected | None:
    """Return what the written edits make of the file."""
    files = () if change.before is None else (SourceFile(change.path, change.mode, FileKind.TEXT, change.before),)
    tree = Tree.of(Snapshot("", "", "", files))
    edits = parse_edits(said, tree.paths)
    outcome = edits if isinstance(edits, Rejected) else apply_edits(edits, tree)
    return outcome if isinstance(outcome, Rejected) else outcome[0].after


def _written(name: str, reading: Reading, least: int) -> str:
    """Return one edit, its markers of at least that width, and wide enough to tell them from the text."""
    sides = (reading.search, reading.replace)
    search, replace = (side if side.endswith("\n") or not side else f"{side}\n{NO_NEWLINE}\n" for side in sides)
    taken = {marker_width(line) for line in (search + replace).split("\n")}
    width = next((width for width in range(least, MOST_WIDTH) if width not in taken), MOST_WIDTH)
    head, divider, foot = "<" * width + " SEARCH", "=" * width, ">" * width + " REPLACE"
    return f"### {name}\n{head}\n{search}{divider}\n{replace}{foot}\n"


# --- the ways to say a change of one file --------------------------------------------------------------------------


def _ways(change: FileChange) -> list[list[Reading]]:
    """Return edits that should make the change, the best way first."""
    old = decode(SourceFile(change.path, change.mode, FileKind.TEXT, change.before or b""))
    lines = split_lines(old.text)
    removal = [_reading(lines, [])]
    if change.after is None:
        return [removal]
    # What cannot be read as the old bytes are, edits cannot say either.
    new = change.after.decode(old.encoding, "replace").removeprefix(_BOM if old.bom else "")
    made = decode(SourceFile(change.path, change.mode, FileKind.TEXT, change.after))
    creation = _whole("", _BOM + made.text if made.bom else made.text)
    stand_in = f"{_STAND_IN}\n"
    rewriting = [_reading(lines, [stand_in]), Reading(stand_in, _STAND_IN), *_whole(_STAND_IN, new)]
    first = _small_edits(lines, split_lines(new)) if lines else creation
    anew = [_reading(lines, [stand_in]), Reading(stand_in, ""), *creation]  # of a file that is nothing but a mark
    return [first, removal + creation, rewriting, anew]


def _whole(search: str, text: str) -> list[Reading]:
    """Return edits after which the text stands where the search stood, to the letter."""
    last = f"{NO_NEWLINE}\n"
    if not text.endswith("\n" + last):
        return [Reading(search, text)]
    # Such a last line would be taken for the note, but not where it stands alone.
    taken = set(contents(split_lines(text)))
    stand_in = next(line for line in map(str, count()) if line not in taken)
    return [Reading(search, f"{text.removesuffix(last)}{stand_in}\n"), Reading(f"{stand_in}\n", last)]


def _small_edits(before: Sequence[str], after: Sequence[str]) -> list[Reading]:
    """Return an edit for each region that differs; regions whose place cannot be made unique are joined.

    That ends at the latest with the whole file, whose place is unique. It must have a line.
    """
    waiting, whole = differing(before, after)[::-1], FileLines(list(before))
    done: list[tuple[Difference, Reading]] = []
    while waiting:
        region = waiting.pop()
        previous = done[-1][0] if done else Difference(0, 0, 0, 0)
        following = waiting[-1].a_start if waiting else len(before)
        reading = _unique(whole, after, region, previous, following)
        if reading:
            done.append((region, reading))
        elif waiting:
            waiting.append(Difference(region.a_start, waiting[-1].a_stop, region.b_start, waiting.pop().b_stop))
        else:
            first, _ = done.pop()
            waiting.append(Difference(first.a_start, region.a_stop, first.b_start, region.b_stop))
    return [reading for _, reading in done]


def _unique(
    whole: FileLines, after: Sequence[str], region: Difference, previous: Difference, following: int
) -> Reading | None:
    """Return the smallest edit whose SEARCH stands once in the file, now and after the edits before it; None for none.

    `previous` is the region edited before, `following` the line where the next begins.
    """
    before = whole.lines
    current = FileLines([*after[: previous.b_stop], *before[previous.a_stop :]])
    for context in (*_WIDER, len(before)):
        lead = min(context, region.a_start - previous.a_stop)
        tail = min(context, following - region.a_stop)
        search = before[region.a_start - lead : region.a_stop + tail]
        replace = after[region.b_start - lead : region.b_stop + tail]
        reading = _reading(search, replace)
        said = "\n".join(("", *contents(search)))
        is_alone = all(file.text.find(said) == file.text.rfind(said) for file in (whole, current))
        is_told = len(search) == len(before) or (search and replace and is_alone)
        if is_told and all(len(strict_matches(reading, file)) == 1 for file in (whole, current)):
            return reading
    return None


def _reading(search: Sequence[str], replace: Sequence[str]) -> Reading:
    """Return the edit; a missing newline is said where only one side lacks it: else it stays as it is.

    It is said also where a last line ends in `\\r`, which would be taken for a part of the terminator.
    """
    ends = [side[-1] for side in (search, replace) if side and not terminator(side[-1])]
    is_said = len(ends) == 1 or any(end.endswith("\r") for end in ends)
    return Reading(_text(search, is_said), _text(replace, is_said))


def _text(lines: Sequence[str], may_be_open: bool) -> str:
    """Return lines as an answer says them: with `\n`, but for a `\\r\\n` without which their text would be lost."""
    said = "".join(line if line.endswith("\r\r\n") else content(line) + "\n" for line in lines)
    return said.removesuffix("\n") if may_be_open and lines and not terminator(lines[-1]) else said
