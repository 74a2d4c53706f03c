"""Edits and a tree -> the files that they change, or why they cannot be applied: all of them or none.

Each edit meets the result of those before it. Nothing is written anywhere: the outcome is a value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agentless_mini.domain import Edit, FileChange, FileKind, Reason, Rejected, Snapshot, SourceFile
from agentless_mini.edits.matching import splice
from agentless_mini.edits.normal_form import Forms
from agentless_mini.edits.parsing import Matching
from agentless_mini.edits.paths import Names
from agentless_mini.edits.placing import place
from agentless_mini.sources import SourceText, decode, is_python, new_text, split_lines

NEW_FILE_MODE = "100644"


@dataclass(frozen=True, slots=True)
class Tree:
    """A snapshot made ready for many answers: its entries by path, the names that are taken, the forms of its files.

    `forms` remembers what it has worked out; otherwise nothing here ever changes.
    """

    entries: Mapping[str, SourceFile]
    names: Names
    forms: Forms = field(default_factory=Forms)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Tree":
        """Return the tree of a snapshot."""
        return cls(snapshot.by_path(), Names.of(snapshot))


def apply_edits(
    edits: Sequence[Edit], tree: Tree, matching: Matching = Matching.STRICT
) -> tuple[FileChange, ...] | Rejected:
    """Return the files that the edits change, sorted by path, at least one and each by at least one byte.

    A Python file that parsed before, or is new, must parse afterwards: else SYNTAX. One that did not parse before
    (another version's code) may stay so.
    """
    desk = _Desk(tree, matching)
    for edit in edits:
        problem = desk.apply(edit)
        if problem:
            return problem
    return desk.changes()


@dataclass(slots=True)
class _Draft:
    """A file as the edits so far leave it. `lines` is empty for an empty file; `exists` tells it from none."""

    source: SourceText
    lines: list[str]
    exists: bool


class _Desk:
    """The files that an answer's edits have touched."""

    def __init__(self, tree: Tree, matching: Matching) -> None:
        self._tree = tree
        self._matching = matching
        self._drafts: dict[str, _Draft] = {}
        self._created = Names()

    def apply(self, edit: Edit) -> Rejected | None:
        """Carry out one edit; return why it cannot be, None where it is done."""
        draft = self._draft(edit.path)
        if isinstance(draft, Rejected):
            return draft
        if not draft.lines:
            return self._write(edit, draft)
        match = place(edit, draft.lines, self._matching)
        if isinstance(match, Rejected):
            return match
        lines = splice(draft.lines, match)
        if isinstance(lines, Rejected):
            return lines
        draft.lines, draft.exists = lines, bool(lines)
        return None

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
                self._drafts[path] = _Draft(SourceText(""), [], exists=False)
            elif entry.kind is FileKind.TEXT:
                source = decode(entry)
                self._drafts[path] = _Draft(source, split_lines(source.text), exists=True)
            else:
                return Rejected(Reason.NOT_EDITABLE, f"{path} cannot be edited: {_KINDS[entry.kind]}")
        return self._drafts[path]

    def _write(self, edit: Edit, draft: _Draft) -> Rejected | None:
        """Create a file, fill an empty one, or delete an empty one whose edit leaves it empty."""
        text = next((reading.replace for reading in edit.readings if not reading.search), None)
        if text is None:
            why = "is empty" if draft.exists else "is not in the tree"
            return Rejected(Reason.NOT_FOUND, f"SEARCH is not found: {edit.path} {why}")
        if not draft.exists:
            refusal = self._refusal(edit.path)
            if refusal:
                return refusal
            draft.source = new_text(edit.path, text)
        draft.exists = not draft.exists or bool(text)
        draft.lines = split_lines(text)
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
            after = replace(draft.source, text="".join(draft.lines)).data() if draft.exists else None
        except UnicodeError:
            return Rejected(
                Reason.ENCODING, f"{path} is written in {draft.source.encoding}, which cannot hold the edit"
            )
        if after not in (before, None) and (before is not None or is_python(path)):
            problem = self._tree.forms.of(path, after, before or b"").problem
            if problem:
                return Rejected(Reason.SYNTAX, f"{path} would no longer parse, {problem}")
        return FileChange(path, before, after, entry.mode if entry else NEW_FILE_MODE)


_KINDS = {
    FileKind.BINARY: "it is binary",
    FileKind.LARGE: "it is too large",
    FileKind.SYMLINK: "it is a symbolic link",
    FileKind.SUBMODULE: "it is a submodule",
}
