"""Finds the clone of a repository: in a folder of mirrors, or cloned on demand."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.clones import bring_up_to_date, copy_of, remote_of
from agentless_mini.errors import RepositoryError, Unreachable


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Clones by `owner/name`. Names have passed `records.REPO_NAME`.

    A mirror is `owner+name`, `owner/name` or `owner__name` in `folder`, each with or without `.git` after it, as given
    or in lower case: a bare repository, or a folder that holds one as `repo` or `.git`. Where there is none and
    `clone_from` is an address, `clone_from/owner/name` is cloned into `cache` and kept there.
    """

    folder: Path
    cache: Path
    clone_from: str = ""

    def find(self, repo: str) -> Path | None:
        """Return the git directory of a repository, None where there is none and none can be cloned."""
        return self.kept(repo) or (self._cloned(repo) if self.clone_from else None)

    def kept(self, repo: str) -> Path | None:
        """Return the git directory of a repository in the folder of mirrors, None where there is none."""
        for place in self._places(repo):
            for folder in (place, place / "repo", place / ".git"):
                if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
                    return folder.absolute()
        return None

    def states(self) -> Iterator[tuple[str, str]]:
        """Yield the owners of mirrors, each with what changes when one comes, goes, or a bare one is fetched."""
        with os.scandir(self.folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                with suppress(OSError):  # it went meanwhile
                    owner = re.split(r"\+|__", entry.name)[0]
                    yield owner, f"{entry.name} {entry.stat().st_mtime_ns}"

    def _places(self, repo: str) -> Iterator[Path]:
        for spelled in dict.fromkeys((repo, repo.lower())):
            owner, _, name = spelled.partition("/")
            for stem in (f"{owner}+{name}", f"{owner}/{name}", f"{owner}__{name}"):
                yield self.folder / stem
                yield self.folder / f"{stem}.git"

    def _cloned(self, repo: str) -> Path | None:
        """Clone a repository, or bring its clone up to date; one that cannot be is used as it is.

        None where there is none to clone: gone, private or renamed, as many repositories in old events are. Raises
        `Unreachable` where that is not known, for then the repository is owed.
        """
        remote = remote_of(f"{self.clone_from.rstrip('/')}/{repo}")
        copy = copy_of(remote, self.cache).absolute()
        try:
            return bring_up_to_date(remote, None, self.cache).absolute()
        except RepositoryError as error:
            if isinstance(error, Unreachable) and not copy.exists():
                raise
            return copy if copy.exists() else None
