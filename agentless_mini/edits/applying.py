"""Edits and a tree -> the files that they change, or why they cannot be applied: all of them or none.

Each edit meets the result of those before it. Models also write all edits against the file that they were shown: one
that does not fit the result, but the file as it was, is merged with those before it, if they left its lines alone.
Nothing is written anywhere: the outcome is a value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agentless_mini.domain import Edit, FileChange, FileKind, Matching, Reading, Reason, Rejected, Snapshot, SourceFile
from agentless_mini.edits.alignment import Region, differing, partners
from agentless_mini.edits.counting import counting
from agentless_mini.edits.leftovers import left_over
from agentless_mini.edits.matching import Lines, Match, changed_by, splice
from agentless_mini.edits.normal_form import Forms
from agentless_mini.edits.paths import Names, Paths
from agentless_mini.edits.placing import MOST_LOOSE, Placed, place
from agentless_mini.edits.sources import SourceText, contents, decode, is_python, new_text, split_lines

NEW_FILE_MODE = "100644"
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Tree:
    """A snapshot made ready for many answers: its entries by path, the names that are taken, the forms of its files.

    `forms` remembers what it has worked out; otherwise nothing here ever changes.
    """

    entries: Mapping[str, SourceFile]
    names: Names
    paths: Paths
    forms: Forms = field(default_factory=Forms)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Tree":
        """Return the tree of a snapshot."""
        entries = snapshot.by_path()
        return cls(entries, Names.of(snapshot), Paths(entries, snapshot.name))


def apply_edits(
    edits: Sequence[Edit], tree: Tree, matching: Matching = Matching.STRICT
) -> tuple[FileChange, ...] | Rejected:
    """Return the files that the edits change, sorted by path, at least one and each by at least one byte.

    An edit that is repeated counts once, and of several blocks that edit one place the last one counts. A Python file
    that parsed before, or is new, must parse afterwards: else SYNTAX. One that did not parse before (another version's
    code) may stay so.
    """
    desk = _Desk(tree, matching)
    for edit in counting(edits, desk.original, matching):
        problem = desk.apply(edit)
        if problem:
            return problem
    return desk.changes()


class _Draft:
    """A file as the edits so far leave it. `exists` tells an empty file from none."""

    def __init__(self, source: SourceText, exists: bool) -> None:
        self.source = source
        self.exists = exists
        self.original = self.file = Lines(split_lines(source.text))
        # Where each line stood at first, None for a new one.
        self.origins: list[int | None] = list(range(len(self.file.lines)))
        # What edits have changed of the original, and the block of the last one.
        self.done: set[tuple[int, int, tuple[str, ...]]] = set()
        self.block = -1

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
        self.file, self.exists = Lines(lines), bool(lines)
        return None

    def write(self, source: SourceText, exists: bool) -> None:
        """Put a new text in the place of no line."""
        self.source, self.exists = source, exists
        self.file = Lines(split_lines(source.text))
        self.origins = [None] * len(self.file.lines)

    def merged(self, match: Match) -> bool:
        """Change what a match on the original changes, where the edits before it left these lines alone."""
        lines = splice(self.original.lines, match)
        if isinstance(lines, Rejected):
            return False
        before, after = self.original.lines, lines
        places = {origin: at for at, origin in enumerate(self.origins) if origin is not None}
        changed = list(self.file.lines)
        origins = list(self.origins)
        for region in reversed(differing(before, after)):
            new = after[region.b_start : region.b_stop]
            span = _span(region, len(before), places, len(changed))
            if span is None:
                return False
            begin, end = span
            if changed[begin:end] == new:  # an edit before says the same
                continue
            if origins[begin:end] != list(range(region.a_start, region.a_stop)):
                return False
            changed[begin:end], origins[begin:end] = new, [None] * len(new)
        self.file, self.origins, self.exists = Lines(changed), origins, bool(changed)
        return True


def _span(region: Region, most: int, places: Mapping[int, int], end: int) -> tuple[int, int] | None:
    """Return which lines now stand where a region of the original stood, None where that cannot be told."""
    before = 0 if region.a_start == 0 else places.get(region.a_start - 1, -2) + 1
    after = end if region.a_stop == most else places.get(region.a_stop, -1)
    if region.a_start < region.a_stop and {region.a_start, region.a_stop - 1} <= places.keys():
        return places[region.a_start], places[region.a_stop - 1] + 1
    if before < 0 or after < 0:
        known = max(before, after)
        return (known, known) if region.a_start == region.a_stop and known >= 0 else None
    return before, after


class _Desk:
    """The files that an answer's edits have touched."""

    def __init__(self, tree: Tree, matching: Matching) -> None:
        self._tree = tree
        self._matching = matching
        self._drafts: dict[str, _Draft] = {}
        self._created = Names()
        self._loose = 0

    def original(self, path: str) -> Lines:
        """Return the lines of a file of the tree, none where it has none."""
        draft = self._draft(path)
        return Lines([]) if isinstance(draft, Rejected) else draft.original

    def apply(self, edit: Edit) -> Rejected | None:
        """Carry out one edit; return why it cannot be, None where it is done."""
        draft = self._draft(edit.path)
        if isinstance(draft, Rejected):
            return draft
        if not draft.file.lines:
            return self._write(edit, draft)
        if draft.source.bom:
            edit = _also_without_bom(edit)
        return self._put(edit, draft)

    def _put(self, edit: Edit, draft: _Draft) -> Rejected | None:
        """Carry out an edit of a file that has lines: where it fits these, else where it fits those of the tree."""
        is_first = draft.file is draft.original
        at_first = None if is_first else place(edit, draft.original, Matching.STRICT) if draft.original.lines else None
        if isinstance(at_first, Placed) and draft.done & {*changed_by(at_first.match, draft.original)}:
            return self._merged(edit, at_first, draft)  # an edit before says some of it
        placed = place(edit, draft.file, Matching.STRICT)
        if _is_missing(placed) and isinstance(at_first, Placed):
            return self._merged(edit, at_first, draft)
        if isinstance(at_first, Rejected) and at_first.reason is Reason.AMBIGUOUS and edit.block != draft.block:
            return at_first  # what an edit before made of one of the places does not say which is meant
        if _is_missing(placed) and self._matching is Matching.LOOSE and self._loose < MOST_LOOSE:
            self._loose += 1
            placed = place(edit, draft.file, Matching.LOOSE)
        if isinstance(placed, Rejected):
            return placed
        refusal = self._left_over(edit, placed.reading, draft.file)
        if refusal:
            return refusal
        known = placed if is_first else at_first
        if isinstance(known, Placed):
            draft.done.update(changed_by(known.match, draft.original))
        draft.block = edit.block
        return draft.put(placed.match)

    def _merged(self, edit: Edit, at_first: Placed, draft: _Draft) -> Rejected | None:
        refusal = self._left_over(edit, at_first.reading, draft.original)
        if not refusal and draft.merged(at_first.match):
            draft.done.update(changed_by(at_first.match, draft.original))
            return None
        return refusal or _conflict(edit)

    def _left_over(self, edit: Edit, reading: Reading, file: Lines) -> Rejected | None:
        search, replace = contents(split_lines(reading.search)), contents(split_lines(reading.replace))
        return left_over(edit.path, edit.fence, search, replace, file)

    def changes(self) -> tuple[FileChange, ...] | Rejected:
        """Return what has come of all edits."""
        changes = []
        for path in sorted(self._drafts):
            change = self._change(path, self._drafts[path])
            if isinstance(change, Rejected):
                return change
            if change.before != change.after:
                changes.append(change)
        return tuple(changes) or Rejected(Reason.NO_CHANGE, "the edits leave every file as it is")

    def _draft(self, path: str) -> _Draft | Rejected:
        """Return the file to work on, opened when it is first named."""
        if path not in self._drafts:
            entry = self._tree.entries.get(path)
            if entry is None:
                self._drafts[path] = _Draft(SourceText(""), exists=False)
            elif entry.kind is FileKind.TEXT:
                self._drafts[path] = _Draft(decode(entry), exists=True)
            else:
                return Rejected(Reason.NOT_EDITABLE, f"{path} cannot be edited: {_KINDS[entry.kind]}")
        return self._drafts[path]

    def _write(self, edit: Edit, draft: _Draft) -> Rejected | None:
        """Create a file, fill an empty one, or delete an empty one whose edit leaves it empty."""
        reading = next((reading for reading in edit.readings if not reading.search.strip()), None)
        if reading is None:
            why = "is empty" if draft.exists else "is not in the tree"
            return Rejected(Reason.NOT_FOUND, f"SEARCH is not found: {edit.path} {why}")
        unmeant = self._left_over(edit, reading, draft.file)
        refusal = unmeant or (None if draft.exists else self._refusal(edit.path))
        if refusal:
            return refusal
        text = reading.replace
        source = replace(draft.source, text=text) if draft.exists else new_text(edit.path, text)
        draft.write(source, exists=not draft.exists or bool(text))
        return None

    def _refusal(self, path: str) -> Rejected | None:
        """Return why no file can be created at a path, None where one can: an edit may have deleted the one there."""
        if path in self._tree.entries or path in self._created:
            return None
        refusal = self._tree.names.refusal(path) or self._created.refusal(path)
        if not refusal:
            self._created.add(path)
        return refusal

    def _change(self, path: str, draft: _Draft) -> FileChange | Rejected:
        """Return a file before and after; the two may be equal."""
        entry = self._tree.entries.get(path)
        before = entry.data if entry else None
        try:
            after = replace(draft.source, text="".join(draft.file.lines)).data() if draft.exists else None
        except UnicodeError:
            return Rejected(
                Reason.ENCODING, f"{path} is written in {draft.source.encoding}, which cannot hold the edit"
            )
        if after not in (before, None) and ((before or b"").strip() or is_python(path)):
            problem = self._tree.forms.of(path, after, before or b"").problem
            if problem:
                return Rejected(Reason.SYNTAX, f"{path} would no longer parse, {problem}")
        return FileChange(path, before, after, entry.mode if entry else NEW_FILE_MODE)


def _also_without_bom(edit: Edit) -> Edit:
    """Return the edit, read also without the byte order mark that an answer may repeat before a file's first line."""
    marked = [one for one in edit.readings if one.search.startswith(_BOM)]
    bare = tuple(replace(one, search=one.search[1:], replace=one.replace.removeprefix(_BOM)) for one in marked)
    return replace(edit, readings=(*edit.readings, *bare))


def _is_missing(placed: Placed | Rejected) -> bool:
    return isinstance(placed, Rejected) and placed.reason is Reason.NOT_FOUND


def _conflict(edit: Edit) -> Rejected:
    return Rejected(Reason.NOT_FOUND, f"SEARCH is not found in {edit.path}: an edit before it changed these lines")


_KINDS = {
    FileKind.BINARY: "it is binary",
    FileKind.LARGE: "it is too large",
    FileKind.SYMLINK: "it is a symbolic link",
    FileKind.SUBMODULE: "it is a submodule",
}
