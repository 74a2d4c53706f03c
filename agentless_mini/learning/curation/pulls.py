"""From what events and the mirror say of a merged pull request to the words of a row: its issues, its conversation."""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentless_mini.learning.curation.history import Commit, History
from agentless_mini.learning.curation.joined import Joined, Said
from agentless_mini.learning.curation.links import Link, closing_links
from agentless_mini.learning.curation.records import PullFacts, Text
from agentless_mini.learning.curation.spans import MOST_COMMITS, Span
from agentless_mini.learning.curation.steps import Step

MOST_CONVERSATION = 200_000  # characters
_NUMBER = re.compile(r"\s*\(#\d+\)\s*$")
_MERGE_SUBJECT = re.compile(r"Merge (?:pull request|PR) #\d+\b")


@dataclass(frozen=True, slots=True)
class Story:
    """What was said: the pull request's title, the issues' text, and the conversation until the merge."""

    title: str
    issue: str
    conversation: str
    merged_at: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged pull request and what it did."""

    repo: str
    number: int
    pull: PullFacts
    span: Span

    @property
    def merged_at(self) -> str:
        """Return when it was merged: as events say, else the date of the merge commit."""
        return self.pull.merged_at or self.span.merge.at


def story(known: Joined, history: History, merged: Merged) -> Story | Step:
    """Return what was said of a pull request, or `Step` where no issue that it closes is known."""
    title, body = _words(merged.pull, merged.span.merge)
    texts = (title, body, merged.span.merge.message)
    links = closing_links(texts, merged.repo) or _linked_in_commits(history, merged)
    if not links:
        return Step.NO_ISSUE
    found = {link: issue for link in links if (issue := _open_before(known, link, merged.merged_at))}
    if not found:
        return Step.ISSUE_UNKNOWN
    told = "\n\n".join(map(_issue_text, found.values()))
    return Story(title, told, _conversation(known, merged, tuple(found)), merged.merged_at)


def _words(pull: PullFacts, merge: Commit) -> tuple[str, str]:
    """Return title and body; where no event tells them those that GitHub writes into merge commits."""
    if pull.title:
        return pull.title, pull.body
    subject, _, rest = merge.message.partition("\n")
    if _MERGE_SUBJECT.match(subject):
        subject, _, rest = rest.strip().partition("\n")
    return _NUMBER.sub("", subject.strip()), rest.strip()


def _linked_in_commits(history: History, merged: Merged) -> tuple[Link, ...]:
    span = merged.span
    return closing_links(history.messages(span.base, span.after, MOST_COMMITS), merged.repo)


def _open_before(known: Joined, link: Link, moment: str) -> Text | None:
    """Return an issue with words that was there before a moment; what came later may tell of the repair."""
    issue = known.issue(link.repo, link.number)
    return issue if issue and issue.title.strip() and issue.created_at < moment else None


def _issue_text(issue: Text) -> str:
    return f"{issue.title.strip()}\n\n{issue.body.strip()}".strip().replace("\r\n", "\n")


def _conversation(known: Joined, merged: Merged, issues: tuple[Link, ...]) -> str:
    """Return what people said of the issues and the pull request until it was merged, in order of time."""
    threads = [known.said(link.repo, link.number) for link in (*issues, Link(merged.repo, merged.number))]
    pieces: list[str] = []
    room = MOST_CONVERSATION
    for piece in _pieces(heapq.merge(*threads, key=lambda said: said.at), merged.merged_at):
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
    return "\n\n".join(pieces)


def _pieces(said: Iterator[Said], until: str) -> Iterator[str]:
    for one in said:
        if one.at > until:
            return
        place = f" on {one.comment.place}" if one.comment.place else ""
        body = one.comment.body.strip().replace("\r\n", "\n")
        yield f"{one.comment.login or 'somebody'}{place}, {one.at}:\n{body}"
