"""A merged pull request with its story -> a row, or the step that leaves it out. Contents are read here, at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentless_mini.domain import Issue, Rejected
from agentless_mini.edits import write_answer
from agentless_mini.learning.curation.filters import unreadable, wanted_files
from agentless_mini.learning.curation.history import Changed, History
from agentless_mini.learning.curation.licences import FILES, licence_of
from agentless_mini.learning.curation.pulls import Merged, Story
from agentless_mini.learning.curation.relevance import Relevance, Wish
from agentless_mini.learning.curation.settings import CurateSettings
from agentless_mini.learning.curation.steps import Step
from agentless_mini.learning.rows import Row, RowFile


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why there is no row; `detail` is for the record of what could not be read."""

    step: Step
    detail: str = ""


class RowMaker:
    """Makes the rows of one repository."""

    def __init__(self, history: History, settings: CurateSettings, relevance: Relevance) -> None:
        """Read contents from a history."""
        self.history = history
        self._settings = settings
        self._relevance = relevance
        self._licences: dict[str, str] = {}

    def row(self, merged: Merged, story: Story) -> Row | LeftOut:
        """Return the row, whose split is not yet known."""
        wanted = wanted_files(merged.span.changes, self._settings.oracle)
        problem = next((f"{one.path!r}: {why}" for one in wanted if (why := unreadable(one))), "")
        if problem:
            return LeftOut(Step.UNREADABLE, problem)
        changed = self._changed(wanted)
        if isinstance(changed, LeftOut):
            return changed
        row = self._row(merged, story, changed)
        outcome = write_answer(row.oracle())
        return LeftOut(Step.UNSAYABLE, outcome.detail) if isinstance(outcome, Rejected) else row

    def _row(self, merged: Merged, story: Story, changed: tuple[RowFile, ...]) -> Row:
        base = merged.span.base
        wish = Wish(
            self.history.folder,
            base,
            Issue(story.issue, f"{merged.repo}#{merged.number}"),
            frozenset(file.path for file in changed),
        )
        relevant = self._unmodified(base, self._relevance.paths(wish))
        return Row(
            id=f"{merged.repo}#{merged.number}",
            repo=merged.repo,
            title=story.title,
            issue=story.issue,
            conversation=story.conversation,
            files=(*changed, *relevant),
            base=base,
            merged_at=story.merged_at,
            licence=self._licence(base),
            split="",
        )

    def _changed(self, wanted: Sequence[Changed]) -> tuple[RowFile, ...] | LeftOut:
        """Return the changed files, sorted by path."""
        ids = [name for one in wanted for name in (one.before, one.after) if name]
        sizes = self.history.found(ids)
        if sum(size for _, size in sizes.values()) > self._settings.most_bytes:
            return LeftOut(Step.HUGE)
        data = self.history.blobs(ids)
        texts = {name: text for name, content in data.items() if (text := _text(content)) is not None}
        lacking = sorted(set(ids) - texts.keys())
        if lacking:
            return LeftOut(Step.UNREADABLE, f"{lacking[0]}: not UTF-8, or missing")
        files = (RowFile(one.path.decode(), texts.get(one.before), texts.get(one.after)) for one in wanted)
        return tuple(sorted(files, key=lambda file: file.path))

    def _unmodified(self, base: str, paths: Sequence[str]) -> tuple[RowFile, ...]:
        """Return relevant files as they are, sorted by path, those that are too large or no text left out."""
        sizes = self.history.found([f"{base}:{path}" for path in paths])
        fitting = {spec: name for spec, (name, size) in sizes.items() if size <= self._settings.most_bytes}
        data = self.history.blobs(list(dict.fromkeys(fitting.values())))
        texts = {spec.partition(":")[2]: _text(data[name]) for spec, name in fitting.items() if name in data}
        return tuple(RowFile(path, text, text) for path, text in sorted(texts.items()) if text is not None)

    def _licence(self, base: str) -> str:
        """Return the licence at a commit; its text is read once for each text."""
        found = self.history.found([f"{base}:{name}" for name in FILES])
        name, size = next(iter(found.values()), ("", 0))
        if name and name not in self._licences:
            self._licences[name] = licence_of(self.history.blobs([name])[name]) if size < 10**6 else "other"
        return self._licences.get(name, "")


def _text(data: bytes) -> str | None:
    """Return the text of a file that is one: UTF-8 without a NUL."""
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None
