"""Which two commits say what a merged pull request did: at the merge base, and after.

merge commit   the merge base of its two parents, and the second parent: what the author wrote, no one else's work
squash         the merge commit's parent, and the merge commit
rebase         the commit as many steps back as there were commits; told from a squash by the numbers of files and lines

A merge commit that no event names is looked for by the number that its subject tells. The history of a fork tells those
of its origin as well, so it must be of the time of the events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentless_mini.learning.curation.history import Changed, Commit, History, is_squash
from agentless_mini.learning.curation.records import PullFacts
from agentless_mini.learning.curation.steps import Step

MOST_COMMITS = 250
SLACK = timedelta(days=7)  # between a merge and its commit's date: clocks differ, and merges wait to be pushed


@dataclass(frozen=True, slots=True)
class Span:
    """What a pull request did: commits before and after, the merge commit, and the changed files."""

    base: str
    after: str
    merge: Commit
    changes: tuple[Changed, ...]


def spans(history: History, pulls: Mapping[int, PullFacts]) -> dict[int, Span | Step]:
    """Return the span of each pull request by number, or why there is none."""
    merges = _merge_commits(history, pulls)
    ways = {number: _ways(history, merge, pulls[number]) for number, merge in merges.items()}
    pairs = list(dict.fromkeys(pair for found in ways.values() for pair in found))
    changes = dict(zip(pairs, history.changes(pairs), strict=True))
    return {
        number: _chosen(merges[number], pull, {way: _real(changes[way]) for way in ways[number]})
        if number in merges
        else _missing(pull)
        for number, pull in pulls.items()
    }


def _missing(pull: PullFacts) -> Step:
    return Step.NOT_MERGED if pull.merged is None else Step.COMMIT_MISSING


def _merge_commits(history: History, pulls: Mapping[int, PullFacts]) -> dict[int, Commit]:
    """Return the merge commits that the mirror has: those that events name, else those that name the number."""
    known = history.commits([pull.merge for pull in pulls.values() if pull.merge])
    told = {number: history.merged_as(number) for number, pull in pulls.items() if pull.merge not in known}
    numbered = history.commits([name for name in told.values() if name])
    fitting = {
        number: numbered[name]
        for number, name in told.items()
        if name in numbered and _fits(numbered[name], pulls[number])
    }
    return {number: known[pull.merge] for number, pull in pulls.items() if pull.merge in known} | fitting


def _fits(merge: Commit, pull: PullFacts) -> bool:
    """Tell whether a commit is of the time of a pull request."""
    since, until = pull.since or merge.at, pull.merged_at or merge.at
    return bool(merge.at) and _after(since, merge.at) <= SLACK and _after(merge.at, until) <= SLACK


def _after(one: str, other: str) -> timedelta:
    return datetime.fromisoformat(one) - datetime.fromisoformat(other)


def _ways(history: History, merge: Commit, pull: PullFacts) -> list[tuple[str, str]]:
    """Return the possible (before, after), the likeliest first."""
    if len(merge.parents) == 2:
        base = history.merge_base(*merge.parents)
        return [(base, merge.parents[1])] if base else []
    if len(merge.parents) != 1:
        return []
    rebased = history.ancestor(merge.id, pull.commits) if 1 < pull.commits <= MOST_COMMITS else ""
    return [(base, merge.id) for base in (merge.parents[0], rebased) if base]


def _chosen(merge: Commit, pull: PullFacts, ways: Mapping[tuple[str, str], tuple[Changed, ...]]) -> Span | Step:
    """Choose among the ways: by the number of files, by that of lines, by a subject that tells of a squash."""
    fitting = [way for way, changes in ways.items() if len(ways) == 1 or len(changes) == pull.changed_files]
    if len(fitting) > 1:
        fitting = [way for way in fitting if _lines(ways[way]) == pull.lines] or fitting
    if len(fitting) != 1 and is_squash(merge):
        fitting = list(ways)[:1]
    if len(fitting) != 1:
        return Step.HISTORY_UNCLEAR
    return Span(*fitting[0], merge, ways[fitting[0]])


def _lines(changes: Sequence[Changed]) -> int:
    return sum(max(one.lines, 0) for one in changes)


def _real(changes: tuple[Changed, ...]) -> tuple[Changed, ...]:
    """Return the files whose contents differ, and not only their modes."""
    return tuple(one for one in changes if one.before != one.after)
