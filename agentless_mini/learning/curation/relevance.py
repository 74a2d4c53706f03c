"""Finds files that matter to an issue though its repair leaves them as they are.

Without them a model that learns from rows learns to edit everything it is shown (arXiv 2502.18449). What is found by a
model comes through the Sampler port, so that its answers can be recorded and a run that goes on pays for none twice.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from agentless_mini.domain import Event, Issue, Patch, Snapshot
from agentless_mini.errors import ContextTooSmall
from agentless_mini.lexical import is_sayable, survey
from agentless_mini.ports import Sampler
from agentless_mini.prompts import Prompts
from agentless_mini.repository import open_repository
from agentless_mini.stages.localize import LocalizeSettings, localize
from agentless_mini.stages.session import Session, Subject


@dataclass(frozen=True, slots=True)
class Wish:
    """The tree of a commit of a mirror, the issue, and the files that the repair changes."""

    mirror: Path
    base: str
    issue: Issue
    changed: frozenset[str]


class Relevance(Protocol):
    """A way to find relevant but unmodified files."""

    def paths(self, wish: Wish) -> tuple[str, ...]:
        """Return paths of the tree that are not among the changed, the likeliest first."""
        ...


Finding = Callable[[Path], AbstractContextManager[Relevance]]
"""Opens a way to find files, for one task, whose record may lie at the path. It is sent to other processes."""


class NoRelevance:
    """Finds none."""

    def paths(self, wish: Wish) -> tuple[str, ...]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class LexicalRelevance:
    """Finds the likeliest files of the lexical ranking of localization, without a model."""

    most: int

    def paths(self, wish: Wish) -> tuple[str, ...]:
        """Return the first of the ranking that the repair leaves alone."""
        return _others(survey(wish.issue, _snapshot(wish)).ranked, wish, self.most)


class SampledRelevance:
    """Finds the files that localization names and the repair leaves alone."""

    def __init__(self, session: Session, settings: LocalizeSettings, most: int, runner: asyncio.Runner) -> None:
        """Ask the sampler of a session, from the event loop of the runner, for `most` files at most."""
        self._session = session
        self._settings = settings
        self._most = most
        self._runner = runner

    def paths(self, wish: Wish) -> tuple[str, ...]:
        """Return what the lists name, those with more votes first; none where the issue leaves no room for a tree."""
        snapshot = _snapshot(wish)
        subject = Subject(wish.issue, snapshot, survey(wish.issue, snapshot))
        session = replace(self._session, instance=wish.issue.source)
        try:
            found = self._runner.run(localize(subject, session, self._settings))
        except ContextTooSmall:
            return ()
        named = dict.fromkeys(path for paths in found.lists for path in paths)
        return _others(tuple(named), wish, self._most)


@dataclass(frozen=True, slots=True)
class WithoutModel:
    """Opens what needs no model: `most` files of the lexical ranking, none where it is 0."""

    most: int

    @contextmanager
    def _open(self) -> Iterator[Relevance]:
        yield LexicalRelevance(self.most) if self.most else NoRelevance()

    def __call__(self, record: Path) -> AbstractContextManager[Relevance]:
        """Open it; nothing is recorded."""
        return self._open()


def _snapshot(wish: Wish) -> Snapshot:
    return open_repository(str(wish.mirror), wish.base, wish.mirror).snapshot()


def _others(paths: tuple[str, ...], wish: Wish, most: int) -> tuple[str, ...]:
    return tuple(path for path in paths if path not in wish.changed and is_sayable(path))[:most]


def quiet_session(sampler: Sampler, prompts: Prompts) -> Session:
    """Return a session that checks no patch, for there is none, and tells nobody what happens."""
    return Session(sampler, prompts, _accepted, _untold, "")


def _accepted(patch: Patch) -> Patch:
    return patch


def _untold(event: Event) -> None:
    pass
