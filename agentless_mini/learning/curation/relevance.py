"""Finds files that matter to an issue though its repair leaves them as they are.

Without them a model that learns from rows learns to edit everything it is shown (arXiv 2502.18449). What is found by a
model comes through the Sampler port, so that its answers can be recorded and a run that goes on pays for none twice.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.chain.lexical import is_sayable, survey
from agentless_mini.chain.localize import localize
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.session import Session, Subject
from agentless_mini.domain import Issue, Snapshot
from agentless_mini.errors import ContextTooSmall
from agentless_mini.ports import Sampler
from agentless_mini.repository.opening import open_repository
from agentless_mini.settings.run import LocalizeSettings


@dataclass(frozen=True, slots=True)
class Wish:
    """The tree of a commit of a mirror, the issue, and the files that the repair changes."""

    mirror: Path
    base: str
    issue: Issue
    changed: frozenset[str]


Relevance = Callable[[Wish], tuple[str, ...]]
"""Finds paths of the tree that are not among the changed, the likeliest first."""

Finding = Callable[[Path], AbstractContextManager[Relevance]]
"""Opens a way to find files, for one task, whose record may lie at the path. It is sent to other processes."""


@contextmanager
def without_model(most: int, record: Path) -> Iterator[Relevance]:
    """Find the first `most` files of localization's lexical ranking, none where it is 0; nothing is recorded."""
    yield lambda wish: _others(survey(wish.issue, _snapshot(wish)).ranked, wish, most) if most else ()


def sampled(
    sampler: Sampler, prompts: Prompts, settings: LocalizeSettings, most: int, runner: asyncio.Runner
) -> Relevance:
    """Return what finds the files that localization names and the repair leaves alone, those with more votes first.

    The sampler is asked from the event loop of the runner. Where the issue leaves no room for a tree there are none.
    """

    def named(wish: Wish) -> tuple[str, ...]:
        snapshot = _snapshot(wish)
        subject = Subject(wish.issue, snapshot, survey(wish.issue, snapshot))
        session = Session(sampler, prompts, lambda patch: patch, lambda event: None, wish.issue.source)
        try:
            found = runner.run(localize(subject, session, settings))
        except ContextTooSmall:
            return ()
        return _others(dict.fromkeys(path for paths in found.lists for path in paths), wish, most)

    return named


def _snapshot(wish: Wish) -> Snapshot:
    return open_repository(str(wish.mirror), wish.base, wish.mirror).snapshot()


def _others(paths: Iterable[str], wish: Wish, most: int) -> tuple[str, ...]:
    return tuple(path for path in paths if path not in wish.changed and is_sayable(path))[:most]
