"""A bug on this machine: a git repository of the faulty release, and the answers that models might give."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agentless_mini.domain import FileChange, Patch, PlacedFile, Rejected
from agentless_mini.edits import Forms, make_patch, write_answer
from tests.gitrepo import git, write_files
from tests.real_bugs.differences import Place, applied, chosen, new_lines, without
from tests.real_bugs.index import CACHE, sdist_files
from tests.real_bugs.mutants import mutants
from tests.real_bugs.recipe import Bug, Places, Wrong

T = TypeVar("T")
GOLD = "gold"
"""The kind of the true fix; those of the others are a `WrongKind`'s."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A patch, where it comes from, and the text of a model that asks for it."""

    kind: str
    patch: Patch
    changes: tuple[FileChange, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """A bug, its repository's folder, and the cache that has its sdists."""

    bug: Bug
    folder: Path
    cache: Path

    def gold(self) -> Answer:
        """Return the true fix."""
        return self._answer(GOLD, self._fix())

    def wrongs(self) -> tuple[Answer, ...]:
        """Return the wrong patches, in the recipe's order."""
        return tuple(self._answer(wrong.kind, self._wrong(wrong)) for wrong in self.bug.wrongs)

    def spoilt(self) -> tuple[Answer, ...]:
        """Return the fix spoilt: wrong patches that break no more of the project's tests."""
        return tuple(self._answer(wrong.kind, self._wrong(wrong)) for wrong in self.bug.spoilt)

    def answers(self, seed: int, spoilt: bool = False) -> tuple[Answer, ...]:
        """Return the true fix among the wrong patches, once, in an order that the seed and the bug's name decide."""
        return shuffled((self.gold(), *self.wrongs(), *(self.spoilt() if spoilt else ())), f"{seed} {self.bug.name}")

    def judges(self) -> tuple[PlacedFile, ...]:
        """Return the fixed release's test files of the bug, to put over the tree."""
        fixed = self._files(self.bug.after)
        return tuple(PlacedFile(path, fixed[path]) for path in self.bug.test_files())

    def _files(self, release: str) -> Mapping[str, bytes]:
        return sdist_files(self.bug.project, release, self.bug.sha256[release], self.cache)

    def _fix(self) -> dict[str, bytes]:
        return self._taken(self.bug.after, self.bug.fix)

    def _taken(self, release: str, where: Places) -> dict[str, bytes]:
        """Return the files with what stands in a release in these places."""
        old, new = self._files(self.bug.before), self._files(release)
        return {path: applied(old[path], chosen(old[path], new[path], lines)) for path, lines in where.items()}

    def _wrong(self, wrong: Wrong) -> dict[str, bytes]:
        if wrong.places is not None:
            return self._taken(wrong.release or self.bug.after, wrong.places)
        fixed = self._fix()
        if wrong.mutant is not None:
            path, data = self._mutants()[wrong.mutant]
            return {**fixed, path: data}
        old, changes = self._files(self.bug.before), self._changes()
        number, result = 0, {}
        for path, places in changes.items():
            result[path] = applied(old[path], without(places, {line - number for line in wrong.without}))
            number += sum(len(place.lines) for place in places)
        return result

    def _mutants(self) -> list[tuple[str, bytes]]:
        changes = self._changes()
        return [
            (path, mutant) for path, data in self._fix().items() for mutant in mutants(data, new_lines(changes[path]))
        ]

    def _changes(self) -> dict[str, list[Place]]:
        old, new = self._files(self.bug.before), self._files(self.bug.after)
        return {path: chosen(old[path], new[path], lines) for path, lines in self.bug.fix.items()}

    def _answer(self, kind: str, files: Mapping[str, bytes]) -> Answer:
        old = self._files(self.bug.before)
        changes = [
            FileChange(path, old[path], data, "100644") for path, data in sorted(files.items()) if data != old[path]
        ]
        said = write_answer(changes)
        assert not isinstance(said, Rejected), f"{self.bug.name}, {kind}: {said}"
        return Answer(
            kind, make_patch(changes, Forms()), tuple(changes), f"The cause lies in {changes[0].path}.\n\n{said}"
        )


def shuffled(things: Sequence[T], seed: str) -> tuple[T, ...]:
    """Return the things in an order that the seed decides."""
    return tuple(random.Random(seed).sample(things, len(things)))  # noqa: S311 - an order, no secret


def fetch(bug: Bug, folder: Path, cache: Path = CACHE) -> Checkout:
    """Make a git repository of the faulty release, with one commit, in a new folder.

    Raises `index.IndexUnreachable` where a sdist is not in the cache and cannot be had.
    """
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    write_files(folder, sdist_files(bug.project, bug.before, bug.sha256[bug.before], cache))
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", f"{bug.project} {bug.before}")
    return Checkout(bug, folder, cache)
