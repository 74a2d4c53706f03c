"""Which two commits say what a merged pull request did: at the merge base, and after.

merge commit   the merge base of its two parents, and the second parent: what the author wrote, no one else's work
squash         the merge commit's parent, and the merge commit
rebase         the commit as many steps back as there were commits; told from a squash by the number of files
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agentless_mini.learning.curation.history import Changed, Commit, History, is_squash
from agentless_mini.learning.curation.records import PullFacts
from agentless_mini.learning.curation.steps import Step

MOST_COMMITS = 250


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
    named = {number: pull.merge for number, pull in pulls.items()}
    known = history.commits([name for name in named.values() if name])
    for number, name in named.items():
        if name not in known:
            named[number] = history.merged_as(number)
    known |= history.commits([name for name in named.values() if name and name not in known])
    return {number: known[name] for number, name in named.items() if name in known}


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
    """Choose among the ways; where there are two by the number of files, else by a subject that ends in the number."""
    fitting = [way for way, changes in ways.items() if len(ways) == 1 or len(changes) == pull.changed_files]
    if not fitting and is_squash(merge):
        fitting = list(ways)
    if not fitting:
        return Step.HISTORY_UNCLEAR
    return Span(*fitting[0], merge, ways[fitting[0]])


def _real(changes: tuple[Changed, ...]) -> tuple[Changed, ...]:
    """Return the files whose contents differ, and not only their modes."""
    return tuple(one for one in changes if one.before != one.after)
