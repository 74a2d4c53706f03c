"""The merged pull requests of one repository -> rows, or the steps that leave them out.

Which two commits say what a pull request did, at the merge base and after:

merge commit   the merge base of its two parents, and the second parent: what the author wrote, no one else's work
squash         the merge commit's parent, and the merge commit
rebase         the commit as many steps back as there were commits; told from a squash by the numbers of files and lines

A merge commit that no event names is looked for by the number that its subject tells. The history of a fork tells those
of its origin as well, so it must be of the time of the events.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from agentless_mini.chain.context import without_middle
from agentless_mini.chain.file_roles import is_sayable
from agentless_mini.chain.lexical import survey
from agentless_mini.chain.localize import localize
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.session import Session, Subject, ask
from agentless_mini.domain import Completion, Issue, Rejected, Snapshot, Stage
from agentless_mini.edits import write_answer
from agentless_mini.errors import ContextTooSmall, RepositoryError
from agentless_mini.learning.curation import filters
from agentless_mini.learning.curation.filters import LeftOut, Link, Step
from agentless_mini.learning.curation.history import MERGED, SQUASHED, Changed, Commit, History
from agentless_mini.learning.curation.joined import Joined, Pull
from agentless_mini.learning.rows import Row, RowFile
from agentless_mini.ports import Sampler
from agentless_mini.repository.opening import open_repository
from agentless_mini.settings.learning import CurateSettings, Relevant
from agentless_mini.settings.run import LocalizeSettings

MOST_COMMITS = 250
MOST_ASKED = 8_000  # characters of an issue of which is asked whether it wants a change
MOST_CONVERSATION = 200_000  # characters
SLACK = timedelta(days=7)  # between a merge and its commit's date: clocks differ, and merges wait to be pushed

Relevance = Callable[[Issue, Snapshot], Iterable[str]]
"""Ranks paths of a tree by how much they matter to an issue, the likeliest first."""
Finding = Callable[[Path], AbstractContextManager[Relevance]]
"""Opens a way to find files, for one task, whose record may lie at the path. It is sent to other processes."""


@contextmanager
def without_model(record: Path) -> Iterator[Relevance]:
    """Rank files as localization's lexical ranking does; nothing is recorded."""
    yield lambda issue, snapshot: survey(issue, snapshot).ranked


def sampled(sampler: Sampler, prompts: Prompts, settings: LocalizeSettings, runner: asyncio.Runner) -> Relevance:
    """Return what finds the files that localization names, those with more votes first.

    The sampler is asked from the event loop of the runner, and first whether the issue asks for a change: where it does
    not, `LeftOut` is raised. Where the issue leaves no room for a tree there are none.
    """

    def named(issue: Issue, snapshot: Snapshot) -> Iterable[str]:
        session = Session(sampler, prompts, lambda patch: patch, lambda event: None, issue.source)
        shown = Issue(without_middle(issue.text, MOST_ASKED), issue.source)
        once = settings.model_copy(update={"samples": 1, "temperature": 0.0})
        _, answers = runner.run(ask(prompts.asks(shown), Stage.LOCALIZE, session, once, _word))
        if answers[0] == "no":
            raise LeftOut(Step.NO_CHANGE_ASKED)
        try:
            found = runner.run(localize(Subject(issue, snapshot, survey(issue, snapshot)), session, settings))
        except ContextTooSmall:
            return ()
        return dict.fromkeys(path for paths in found.lists for path in paths)

    return named


def _word(completion: Completion) -> str | Rejected:
    """Return the last word of an answer."""
    return (completion.text.split() or [""])[-1].strip(".*`\"'").lower()


class Span(NamedTuple):
    """What a pull request did: commits before and after, the merge commit, and the changed files."""

    base: str
    after: str
    merge: Commit
    changes: tuple[Changed, ...]


@dataclass(eq=False)
class RowMaker:
    """Makes the rows of one repository: words from what the events tell, contents from the history."""

    repo: str
    known: Joined
    history: History
    settings: CurateSettings
    relevance: Relevance
    _licences: dict[str, str] = field(default_factory=dict)

    def rows(self, pulls: Mapping[int, Pull]) -> dict[int, Row | LeftOut]:
        """Return the row of each pull request, whose split is not yet known, or why there is none."""
        try:
            merges = self._merges(pulls)
            ways = {number: self._ways(merge, pulls[number]) for number, merge in merges.items()}
            pairs = list(dict.fromkeys(pair for found in ways.values() for pair in found))
            changes = self.history.changes(pairs)
            found: dict[int, Row | LeftOut] = {}
            for number, pull in pulls.items():
                try:
                    if number not in merges:
                        raise LeftOut(Step.NOT_MERGED if pull.merged is None else Step.COMMIT_MISSING)
                    real = {way: tuple(c for c in changes[way] if c.before != c.after) for way in ways[number]}
                    found[number] = self._row(number, pull, _chosen(merges[number], pull, real))
                except LeftOut as left_out:
                    found[number] = left_out
        except RepositoryError as error:
            if len(pulls) == 1:
                return dict.fromkeys(pulls, LeftOut(Step.MIRROR_BROKEN, str(error)))
            # One commit that git cannot read is no reason to lose the others.
            return {number: one for n in pulls for number, one in self.rows({n: pulls[n]}).items()}
        return found

    def _merges(self, pulls: Mapping[int, Pull]) -> dict[int, Commit]:
        """Return the merge commits that the mirror has: those that events name, else those that name the number."""
        known = self.history.commits([pull.merge for pull in pulls.values() if pull.merge])
        merges = {number: known[pull.merge] for number, pull in pulls.items() if pull.merge in known}
        told = {n: self.history.merged[n] for n in pulls.keys() - merges.keys() if n in self.history.merged}
        numbered = self.history.commits(sorted(told.values()))
        fits = {n: numbered[name] for n, name in told.items() if name in numbered and _fits(numbered[name], pulls[n])}
        return merges | fits

    def _ways(self, merge: Commit, pull: Pull) -> list[tuple[str, str]]:
        """Return the possible (before, after), the likeliest first."""
        if len(merge.parents) == 2:
            base = self.history.merge_base(*merge.parents)
            return [(base, merge.parents[1])] if base else []
        if len(merge.parents) != 1:
            return []
        rebased = self.history.ancestor(merge.id, pull.commits) if 1 < pull.commits <= MOST_COMMITS else ""
        return [(base, merge.id) for base in (merge.parents[0], rebased) if base]

    def _row(self, number: int, pull: Pull, span: Span) -> Row:
        if step := filters.by_changes(span.changes, self.settings):
            raise LeftOut(step)
        until = pull.merged_at or span.merge.at
        title, issues = self._words(pull, span, until)
        if step := filters.by_title(title):
            raise LeftOut(step)
        name, text = f"{self.repo}#{number}", "\n\n".join(issues.values())
        changed = self._changed(filters.wanted_files(span.changes, self.settings.oracle))
        files = (*changed, *self._unmodified(span.base, Issue(text, name), {file.path for file in changed}))
        said = self.known.conversation((*issues, (self.repo, number)), until, MOST_CONVERSATION)
        licence = self._licence(span.base)
        row = Row(name, self.repo, title, text, said, files, span.base, until, licence, split="")
        outcome = write_answer(row.oracle())
        if isinstance(outcome, Rejected):
            raise LeftOut(Step.UNSAYABLE, outcome.detail)
        return row

    def _words(self, pull: Pull, span: Span, until: str) -> tuple[str, dict[Link, str]]:
        """Return the title and the issues that are closed and were open before the merge: later ones may tell of it.

        Where no event tells title and body they are those that GitHub writes into merge commits.
        """
        title, body = pull.title, pull.body
        if not title:
            subject, _, rest = span.merge.message.partition("\n")
            if MERGED.match(subject):
                subject, _, rest = rest.strip().partition("\n")
            title, body = SQUASHED.sub("", subject).strip(), rest.strip()
        links = filters.closing_links((title, body, span.merge.message), self.repo) or filters.closing_links(
            self.history.messages(span.base, span.after, MOST_COMMITS), self.repo
        )
        if not links:
            raise LeftOut(Step.NO_ISSUE)
        found = {link: text for link in links if (text := self.known.issue(*link, until))}
        if not found:
            raise LeftOut(Step.ISSUE_UNKNOWN)
        return title, found

    def _changed(self, wanted: Sequence[Changed]) -> tuple[RowFile, ...]:
        """Return the changed files, sorted by path."""
        for one in wanted:
            if why := filters.unreadable(one):
                raise LeftOut(Step.UNREADABLE, f"{one.path!r}: {why}")
        ids = [name for one in wanted for name in (one.before, one.after) if name]
        found = self.history.found(ids)
        if sum(size for _, size in found.values()) > self.settings.most_bytes:
            raise LeftOut(Step.HUGE)
        texts = {name: text for name, data in self.history.blobs([*found]).items() if (text := _text(data)) is not None}
        if lacking := sorted(set(ids) - texts.keys()):
            raise LeftOut(Step.UNREADABLE, f"{lacking[0]}: not UTF-8, or missing")
        files = (RowFile(one.path.decode(), texts.get(one.before), texts.get(one.after)) for one in wanted)
        return tuple(sorted(files, key=lambda file: file.path))

    def _unmodified(self, base: str, issue: Issue, changed: Set[str]) -> tuple[RowFile, ...]:
        """Return relevant files as they are, sorted by path, those that are too large or no text left out."""
        if self.settings.relevant in {None, Relevant.NONE}:
            return ()
        repository = open_repository(str(self.history.folder), base, self.history.folder)
        ranked = self.relevance(issue, replace(repository.snapshot(), history=repository.history()))
        others = islice((p for p in ranked if p not in changed and is_sayable(p)), self.settings.most_relevant)
        sizes = self.history.found([f"{base}:{path}" for path in others])
        fitting = {spec: name for spec, (name, size) in sizes.items() if size <= self.settings.most_bytes}
        data = self.history.blobs([*dict.fromkeys(fitting.values())])
        texts = {spec.partition(":")[2]: _text(data[name]) for spec, name in fitting.items()}
        return tuple(RowFile(path, text, text) for path, text in sorted(texts.items()) if text is not None)

    def _licence(self, base: str) -> str:
        """Return the licence at a commit; its text is read once for each text."""
        found = self.history.found([f"{base}:{name}" for name in filters.LICENCE_FILES])
        name, size = next(iter(found.values()), ("", 0))
        if name and name not in self._licences:
            self._licences[name] = filters.licence_of(self.history.blobs([name])[name]) if size < 10**6 else "other"
        return self._licences.get(name, "")


def _fits(merge: Commit, pull: Pull) -> bool:
    """Tell whether a commit is of the time of a pull request."""
    if not merge.at:
        return False
    at, since, until = map(datetime.fromisoformat, (merge.at, pull.since or merge.at, pull.merged_at or merge.at))
    return since - at <= SLACK and at - until <= SLACK


def _chosen(merge: Commit, pull: Pull, ways: Mapping[tuple[str, str], tuple[Changed, ...]]) -> Span:
    """Choose among the ways: by the number of files, by that of lines, by a subject that tells of a squash."""
    fitting = [way for way, changes in ways.items() if len(ways) == 1 or len(changes) == pull.changed_files]
    if len(fitting) > 1:
        fitting = [way for way in fitting if sum(max(c.lines, 0) for c in ways[way]) == pull.lines] or fitting
    if len(fitting) != 1 and merge.is_squash:
        fitting = list(ways)[:1]
    if len(fitting) != 1:
        raise LeftOut(Step.HISTORY_UNCLEAR)
    return Span(*fitting[0], merge, ways[fitting[0]])


def _text(data: bytes) -> str | None:
    """Return the text of a file that is one: UTF-8 without a NUL."""
    with suppress(UnicodeDecodeError):
        return None if b"\0" in data else data.decode()
    return None
