"""Changed files -> a git patch: what `git apply` reads, in the files' own bytes, and its normal form; and back.

Names are quoted as git quotes them. No index lines: `git apply` needs none for text.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

from agentless_mini.domain import FileChange, Patch, Reason, Rejected, SourceFile
from agentless_mini.edits.alignment import Region, differing, shared_ends
from agentless_mini.edits.markers import NO_NEWLINE
from agentless_mini.edits.normal_form import Form, Forms

CONTEXT = 3

_ESCAPES = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 34: '\\"', 92: r"\\"}


def make_patch(changes: Sequence[FileChange], forms: Forms) -> Patch:
    """Return the patch of at least one changed file, each named once. `forms` is the memory that a tree keeps."""
    ordered = tuple(sorted(changes, key=_path))
    diff = b"".join(piece for change in ordered for piece in _file_diff(change))
    undefined = {name for change in ordered if change.after is not None for name in _form(change, forms).undefined}
    return Patch(diff, _normal(ordered, forms), tuple(map(_path, ordered)), tuple(sorted(undefined)))


def candidate_patch(changes: Sequence[FileChange], forms: Forms) -> Patch | Rejected:
    """Return the patch of an answer's changes: none where comments, blank lines and formatting are all that changes."""
    patch = make_patch(changes, forms)
    if patch.normal != _NOTHING:
        return patch
    return Rejected(Reason.NO_EFFECT, f"only comments, blank lines or formatting change in {', '.join(patch.paths)}")


def changed_files(patch: Patch, entries: Mapping[str, SourceFile]) -> tuple[FileChange, ...]:
    """Return what a patch makes of the files of its tree, in the order of its paths; `entries` are the tree's.

    Raises `ValueError` where the patch was made for another tree.
    """
    _, *diffs = _FILE.split(patch.diff)
    return tuple(_changed(path, diff, entries.get(path)) for path, diff in zip(patch.paths, diffs, strict=True))


def _path(change: FileChange) -> str:
    return change.path


# --- the normal form -----------------------------------------------------------------------------------------------


def _normal(changes: Sequence[FileChange], forms: Forms) -> str:
    """Return the digest of what the changed files say afterwards; those that say the same as before do not count."""
    digest = hashlib.sha256()
    for change in changes:
        before = "nothing" if change.before is None else forms.of(change.path, change.before).digest
        after = "nothing" if change.after is None else _form(change, forms).digest
        if before != after:
            digest.update(f"{len(change.path)} {change.path} {after}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


_NOTHING = hashlib.sha256().hexdigest()


def _form(change: FileChange, forms: Forms) -> Form:
    """Return the form of the file afterwards, which exists."""
    return forms.of(change.path, change.after or b"", change.before or b"")


# --- the diff, read back -------------------------------------------------------------------------------------------

# No line of a file begins like these: each has a sign before it.
_FILE = re.compile(rb"^diff --git .*\n", re.MULTILINE)
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? ")
_MODE = re.compile(rb"(new|deleted) file mode (\d+)\n")


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
    skipped, before, after = _around(change.before or b"", change.after or b"")
    regions = differing(before, after)
    if regions:
        end = b"\t\n" if " " in change.path else b"\n"  # where a name with blanks ends would be unclear
        yield b"--- %b%b" % ((b"/dev/null", b"\n") if change.before is None else (old, end))
        yield b"+++ %b%b" % ((b"/dev/null", b"\n") if change.after is None else (new, end))
        for hunk in _hunks(regions):
            yield from _hunk(hunk, before, after, skipped)


def _around(before: bytes, after: bytes) -> tuple[int, list[bytes], list[bytes]]:
    """Return the lines of both from the context of their first difference to that of their last, and how many before.

    Most of a long file is not even split into lines.
    """
    head, tail = shared_ends(before, after)
    start, stop = head, len(before) - tail
    for _ in range(CONTEXT + 1):  # the first time to the beginning of the line that differs
        start = before.rfind(b"\n", 0, max(0, start - 1)) + 1
    for _ in range(CONTEXT + 1):
        stop = before.find(b"\n", stop) + 1 or len(before)
    kept = len(before) - stop
    return before.count(b"\n", 0, start), _lines(before[start:stop]), _lines(after[start : len(after) - kept])


def _hunks(regions: Sequence[Region]) -> Iterator[list[Region]]:
    """Yield runs of regions whose context lines would touch."""
    hunk: list[Region] = []
    for region in regions:
        if hunk and region.a_start - hunk[-1].a_stop > 2 * CONTEXT:
            yield hunk
            hunk = []
        hunk.append(region)
    yield hunk


def _hunk(regions: Sequence[Region], before: Sequence[bytes], after: Sequence[bytes], skipped: int) -> Iterator[bytes]:
    lead = min(CONTEXT, regions[0].a_start)
    tail = min(CONTEXT, len(before) - regions[-1].a_stop)
    a_start, a_stop = regions[0].a_start - lead, regions[-1].a_stop + tail
    b_start, b_stop = regions[0].b_start - lead, regions[-1].b_stop + tail
    yield b"@@ -%b +%b @@\n" % (
        _range(skipped + a_start, skipped + a_stop),
        _range(skipped + b_start, skipped + b_stop),
    )
    at = a_start
    for region in regions:
        yield from (_line(b" ", line) for line in before[at : region.a_start])
        yield from (_line(b"-", line) for line in before[region.a_start : region.a_stop])
        yield from (_line(b"+", line) for line in after[region.b_start : region.b_stop])
        at = region.a_stop
    yield from (_line(b" ", line) for line in before[at:a_stop])


def _range(start: int, stop: int) -> bytes:
    """Return a hunk's range as unified diffs count: from 1, an empty range by the line before it."""
    count = stop - start
    return b"%d" % (start + 1) if count == 1 else b"%d,%d" % (start + 1 if count else start, count)


def _line(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n" + NO_NEWLINE.encode() + b"\n"


def _lines(data: bytes) -> list[bytes]:
    """Return the lines with their newlines; only the last may have none."""
    *whole, rest = data.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines


def _quoted(prefix: str, path: str) -> bytes:
    """Return the name in double quotes with escapes if it holds anything but plain ASCII, as git writes it."""
    name = (prefix + path).encode("utf-8", "surrogateescape")
    if all(0x20 <= byte < 0x7F and byte not in _ESCAPES for byte in name):
        return name
    plain = (_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in name)
    return f'"{"".join(plain)}"'.encode()
