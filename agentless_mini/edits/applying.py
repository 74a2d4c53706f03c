"""Edits and a tree -> the files that they change, or why they cannot be applied: all of them or none.

Each edit meets the result of those before it. Models also write all edits against the file that they were shown: one
that does not fit the result, but the file as it was, is merged with those before it, if they left its lines alone.

Models repeat themselves, and write a draft before what they mean. An edit that is repeated word for word is one edit.
Of several blocks (edits without a fence or prose between them) that edit one place of a file, each as the file was, the
last one counts, if it changes all that the earlier edit changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agentless_mini.domain import Edit, FileChange, FileKind, Matching, Reading, Reason, Rejected, Snapshot, SourceFile
from agentless_mini.edits.forms import Forms
from agentless_mini.edits.loose import LOOSE_LEVELS, MOST_FOUND
from agentless_mini.edits.markers import left_over
from agentless_mini.edits.paths import Paths, TakenNames
from agentless_mini.edits.sources import (
    MOST_PLACES,
    FileLines,
    Match,
    SourceText,
    contents,
    decode,
    differing,
    new_text,
    partners,
    splice,
    split_lines,
    strict_matches,
)

MOST_LOOSE = 32
"""Edits of an answer that are looked for loosely, which takes its time."""
NEW_FILE_MODE = "100644"
_BOM = "\ufeff"
_KINDS = {
    FileKind.BINARY: "it is binary",
    FileKind.LARGE: "it is too large, or in a submodule",
    FileKind.SYMLINK: "it is a symbolic link",
    FileKind.SUBMODULE: "it is a submodule",
}
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tree:
    """A snapshot made ready for many answers: its entries by path, the names that are taken, the forms of its files.

    `forms` and `text` remember what they have worked out; otherwise nothing here ever changes.
    """

    entries: Mapping[str, SourceFile]
    names: TakenNames
    paths: Paths
    forms: Forms = field(default_factory=Forms)
    _texts: dict[str, SourceText] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Tree":
        """Return the tree of a snapshot."""
        entries = snapshot.by_path()
        return cls(entries, TakenNames.of(snapshot), Paths(entries, snapshot.name))

    def text(self, entry: SourceFile) -> SourceText:
        """Return the text of one of its TEXT files."""
        return self._texts.get(entry.path) or self._texts.setdefault(entry.path, decode(entry))


def apply_edits(
    edits: Sequence[Edit], tree: Tree, matching: Matching = Matching.STRICT
) -> tuple[FileChange, ...] | Rejected:
    """Return the files that the edits change, sorted by path, at least one and each by at least one byte.

    An edit that is repeated counts once, and of several blocks that edit one place the last one counts. A Python file
    that parsed before, or is new, must parse afterwards: else SYNTAX. One that did not parse before (another version's
    code) may stay so.
    """
    drafts = _Drafts(tree, matching)
    for edit in _counting(edits, drafts.original, matching):
        problem = drafts.apply(edit)
        if problem:
            return problem
    return drafts.changes()


class _Drafts:
    """The files that an answer's edits have touched."""

    def __init__(self, tree: Tree, matching: Matching) -> None:
        self._tree = tree
        self._matching = matching
        self._drafts: dict[str, _Draft] = {}
        self._created = TakenNames()
        self._loose = 0

    def original(self, path: str) -> FileLines:
        """Return the lines of a file of the tree, none where it has none."""
        draft = self._draft(path)
        return FileLines([]) if isinstance(draft, Rejected) else draft.original

    def apply(self, edit: Edit) -> Rejected | None:
        """Carry out one edit; return why it cannot be, None where it is done."""
        draft = self._draft(edit.path)
        if isinstance(draft, Rejected):
            return draft
        if not draft.file.lines:
            return self._write(edit, draft)
        if draft.source.bom:  # an answer may repeat the byte order mark before the first line
            marked = [one for one in edit.readings if one.search.startswith(_BOM)]
            bare = [replace(one, search=one.search[1:], replace=one.replace.removeprefix(_BOM)) for one in marked]
            edit = replace(edit, readings=(*edit.readings, *bare))
        return self._put(edit, draft)

    def _draft(self, path: str) -> "_Draft | Rejected":
        """Return the file to work on, opened when it is first named."""
        if path not in self._drafts:
            entry = self._tree.entries.get(path)
            if entry and entry.kind is not FileKind.TEXT:
                return Rejected(Reason.NOT_EDITABLE, f"{path} cannot be edited: {_KINDS[entry.kind]}")
            self._drafts[path] = _Draft(self._tree.text(entry) if entry else SourceText(""), exists=entry is not None)
        return self._drafts[path]

    def _write(self, edit: Edit, draft: "_Draft") -> Rejected | None:
        """Create a file, fill an empty one, or delete an empty one whose edit leaves it empty."""
        path = edit.path
        reading = next((reading for reading in edit.readings if not reading.search.strip()), None)
        if reading is None:
            why = "is empty" if draft.exists else "is not in the tree"
            return Rejected(Reason.NOT_FOUND, f"SEARCH is not found: {path} {why}")
        refusal = left_over(edit, reading, draft.file)
        # An edit before may have deleted the file that stood there.
        if not (refusal or draft.exists or path in self._tree.entries or path in self._created):
            refusal = self._tree.names.refusal(path) or self._created.refusal(path)
            if not refusal:
                self._created.add(path)
        if refusal:
            return refusal
        text = reading.replace
        source = replace(draft.source, text=text) if draft.exists else new_text(path, text)
        draft.write(source, exists=not draft.exists or bool(text))
        return None

    def _put(self, edit: Edit, draft: "_Draft") -> Rejected | None:
        """Carry out an edit of a file that has lines: where it fits these, else where it fits those of the tree."""
        is_first = draft.file is draft.original
        at_first = None if is_first else place(edit, draft.original, Matching.STRICT) if draft.original.lines else None
        if isinstance(at_first, Match) and draft.done & {*at_first.changed(draft.original)}:
            return draft.merge(edit, at_first)  # an edit before says some of it
        placed = place(edit, draft.file, Matching.STRICT)
        is_missing = isinstance(placed, Rejected) and placed.reason is Reason.NOT_FOUND
        if is_missing and isinstance(at_first, Match):
            return draft.merge(edit, at_first)
        if isinstance(at_first, Rejected) and at_first.reason is Reason.AMBIGUOUS and edit.block != draft.block:
            return at_first  # what an edit before made of one of the places does not say which is meant
        if is_missing and self._matching is Matching.LOOSE and self._loose < MOST_LOOSE:
            self._loose += 1
            placed = place(edit, draft.file, Matching.LOOSE)
        if isinstance(placed, Rejected):
            return placed
        if refusal := left_over(edit, placed.reading, draft.file):
            return refusal
        known = placed if is_first else at_first
        if isinstance(known, Match):
            draft.done.update(known.changed(draft.original))
        draft.block = edit.block
        return draft.put(placed)

    def changes(self) -> tuple[FileChange, ...] | Rejected:
        """Return what has come of all edits."""
        changes = []
        for path, draft in sorted(self._drafts.items()):
            entry = self._tree.entries.get(path)
            before = entry.data if entry else None
            try:
                after = replace(draft.source, text="".join(draft.file.lines)).data() if draft.exists else None
            except UnicodeError:
                problem = f"{path} is written in {draft.source.encoding}, which cannot hold the edit"
                return Rejected(Reason.ENCODING, problem)
            if after == before:
                continue
            if problem := self._tree.forms.fault(path, before, after):
                return Rejected(Reason.SYNTAX, f"{path} would no longer parse, {problem}")
            changes.append(FileChange(path, before, after, entry.mode if entry else NEW_FILE_MODE))
        return tuple(changes) or Rejected(Reason.NO_CHANGE, "the edits leave every file as it is")


class _Draft:
    """A file as the edits so far leave it. `exists` tells an empty file from none."""

    def __init__(self, source: SourceText, exists: bool) -> None:
        self.source = source
        self.exists = exists
        self.original = self.file = source.lines
        # Where each line stood at first, None for a new one.
        self.origins: list[int | None] = list(range(len(self.file.lines)))
        # What edits have changed of the original, and the block of the last one.
        self.done: set[tuple[int, int, tuple[str, ...]]] = set()
        self.block = -1

    def write(self, source: SourceText, exists: bool) -> None:
        """Put a new text in the place of no line."""
        self.source, self.exists = source, exists
        self.file = source.lines
        self.origins = [None] * len(self.file.lines)

    def put(self, match: Match) -> Rejected | None:
        """Replace lines; return why that cannot be, None where it is done."""
        lines = splice(self.file.lines, match)
        if isinstance(lines, Rejected):
            return lines
        stop = match.stop - len(self.file.lines) + len(lines)
        old, new = self.file.contents[match.start : match.stop], contents(lines[match.start : stop])
        kept = partners(old, new)
        moved = [self.origins[match.start + kept[at]] if at in kept else None for at in range(len(new))]
        self.origins[match.start : match.stop] = moved
        self.file, self.exists = FileLines(lines), bool(lines)
        return None

    def merge(self, edit: Edit, match: Match) -> Rejected | None:
        """Change what an edit of the original changes; `Rejected` where an edit before did not leave it alone."""
        if refusal := left_over(edit, match.reading, self.original):
            return refusal
        if not self._merged(match):
            why = "an edit before it changed these lines"
            return Rejected(Reason.NOT_FOUND, f"SEARCH is not found in {edit.path}: {why}")
        self.done.update(match.changed(self.original))
        return None

    def _merged(self, match: Match) -> bool:
        before, after = self.original.lines, splice(self.original.lines, match)
        if isinstance(after, Rejected):
            return False
        places = {origin: at for at, origin in enumerate(self.origins) if origin is not None}
        changed, origins = [*self.file.lines], [*self.origins]
        for start, stop, new_start, new_stop in reversed(differing(before, after)):
            new = after[new_start:new_stop]
            begin = 0 if start == 0 else places.get(start - 1, -2) + 1
            end = len(changed) if stop == len(before) else places.get(stop, -1)
            if start < stop and {start, stop - 1} <= places.keys():
                begin, end = places[start], places[stop - 1] + 1
            elif begin < 0 or end < 0:  # a neighbour is gone
                begin = end = max(begin, end)
                if start < stop or begin < 0:
                    return False
            if changed[begin:end] == new:  # an edit before says the same
                continue
            if origins[begin:end] != list(range(start, stop)):
                return False
            changed[begin:end], origins[begin:end] = new, [None] * len(new)
        self.file, self.origins, self.exists = FileLines(changed), origins, bool(changed)
        return True


# --- the place of an edit --------------------------------------------------------------------------------------------


def place(edit: Edit, file: FileLines, matching: Matching) -> Match | Rejected:
    """Return where the edit replaces lines of a file that has some.

    Of several readings the one with the longest SEARCH that matches is taken. `Rejected` as EXISTS where SEARCH is
    empty, AMBIGUOUS where it matches in several places, NOT_FOUND with a hint where it matches in none.
    """
    readings = sorted((one for one in edit.readings if one.search), key=lambda one: len(one.search), reverse=True)
    if not readings:
        return Rejected(Reason.EXISTS, f"SEARCH is empty, but {edit.path} exists and has lines")
    possible = [one for one in readings if not any(file.holds(line) for line in one.unless)]
    if not possible:
        return Rejected(Reason.MALFORMED, f"an edit of {edit.path} has no marker between its two sides")
    for level in (strict_matches, *(LOOSE_LEVELS if matching is Matching.LOOSE else ())):
        for reading in possible:
            if found := level(reading, file):
                if len(found) == 1 and not _fits_otherwise(found[0], possible, file):
                    return found[0]
                most = MOST_PLACES if level is strict_matches else MOST_FOUND
                count = f"{most} or more" if len(found) >= most else str(max(len(found), 2))
                return Rejected(Reason.AMBIGUOUS, f"SEARCH stands at {count} places in {edit.path}")
    return Rejected(Reason.NOT_FOUND, f"SEARCH is not found in {edit.path}: {_hint(possible[-1], file)}")


def _fits_otherwise(found: Match, readings: Sequence[Reading], file: FileLines) -> bool:
    """Tell whether the same lines, indented otherwise, stand elsewhere: nothing says which are meant."""
    said = [line.strip() for line in split_lines(found.reading.search)]
    others = [one for one in readings if [line.strip() for line in split_lines(one.search)] == said]
    return any(match.start != found.start for one in others for match in strict_matches(one, file))


def _hint(reading: Reading, file: FileLines) -> str:
    """Say in a clause what keeps the SEARCH from matching."""
    known = set(file.contents)
    lines = enumerate(contents(split_lines(reading.search)), 1)
    number, line = next((said for said in lines if said[1] not in known), (0, ""))
    said, squeezed = line.strip(), "".join(line.split())
    if not number:
        return "each of its lines is in the file, but not all of them together and in this order"
    if said and squeezed in file.squeezed:
        return f"line {number} of SEARCH differs from line {file.squeezed[squeezed]} in blanks only"
    if said and (found := file.text.find(said)) >= 0:
        return f"line {number} of SEARCH is only a part of line {file.text.count(chr(10), 0, found)}"
    return f"line {number} of SEARCH is nowhere in the file: {said[:80]!r}"


# --- the edits that count --------------------------------------------------------------------------------------------


def _counting(edits: Sequence[Edit], original: Callable[[str], FileLines], matching: Matching) -> list[Edit]:
    """Return the edits that count, in their order. `original` gives the lines of a file as it was.

    Places are looked for loosely only where edits are so few that all of them are looked for so.
    """
    # Of repetitions in one block the first counts, of those in several blocks the last.
    by_text: dict[tuple[object, ...], dict[int, int]] = {}
    for at, edit in enumerate(edits):
        by_text.setdefault((edit.path, edit.readings), {}).setdefault(edit.block, at)
    edits = [edits[at] for at in sorted(max(places.values()) for places in by_text.values())]
    if len({edit.block for edit in edits}) <= 1:
        return edits
    if len(edits) > MOST_LOOSE:
        matching = Matching.STRICT
    superseded: set[int] = set()
    for path in {edit.path for edit in edits}:
        places = [at for at, edit in enumerate(edits) if edit.path == path]
        superseded |= _superseded(places, edits, original(path), matching)
    return [edit for at, edit in enumerate(edits) if at not in superseded]


def _superseded(places: Sequence[int], edits: Sequence[Edit], file: FileLines, matching: Matching) -> set[int]:
    """Return which of the edits of one file change nothing but what edits of later blocks change, too."""
    superseded: set[int] = set()
    later: dict[int, tuple[int, _Span]] = {}
    blocks: dict[_Span, int] = {}
    for at in reversed(places):
        block = edits[at].block
        span, touched = _reach(edits[at], file, matching)
        if span is None:
            continue
        over = [later[one] for one in touched if one in later]
        is_over = len(over) == len(touched) > 0 and all(
            other > block and max(span[0], there[0]) < min(span[1], there[1]) for other, there in over
        )
        if is_over or blocks.get(span, block) > block:
            superseded.add(at)
        else:
            later.update(dict.fromkeys(touched, (block, span)))
            blocks.setdefault(span, block)
    return superseded


def _reach(edit: Edit, file: FileLines, matching: Matching) -> tuple[_Span | None, set[int]]:
    """Return the lines [start, stop) that an edit finds in a file, None for no one place, and what it changes.

    Line n of the file is 2n + 1, and the place before it, where lines may be added, 2n.
    """
    if not file.lines:
        creates = any(not reading.search.strip() for reading in edit.readings)
        return (0, 0) if creates else None, set()
    placed = place(edit, file, matching)
    if isinstance(placed, Rejected):
        return None, set()
    touched: set[int] = set()
    for begin, end, _ in placed.changed(file):
        touched.update(range(2 * begin + 1, 2 * end) if begin < end else (2 * begin,))
    return (placed.start, placed.stop), touched
