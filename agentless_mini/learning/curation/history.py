"""The mirror of a repository, and what it knows: commits, what changed between two of them, contents.

A mirror is somebody else's repository: git runs by `gitcommand`, with its folder named, on plumbing alone. Nothing in
the mirror is run and nothing in it is written. git is asked for many objects at once.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from agentless_mini.errors import RepositoryError, Unreachable, printable
from agentless_mini.learning.curation.events import COMMIT_ID
from agentless_mini.repository.clones import REMOTE_HEAD, bring_up_to_date, copy_of, remote_of
from agentless_mini.repository.gitcommand import GitCommand

LINK, GITLINK = "120000", "160000"
CALL_LIMIT = 600.0  # seconds: what git does here takes seconds in the largest repositories that are whole
_OPTIONS = ("-c", "log.showSignature=false", "-c", "core.attributesFile=")
SQUASHED = re.compile(r"\(#([1-9][0-9]{0,8})\)\s*$")
MERGED = re.compile(r"Merge (?:pull request|PR) #([1-9][0-9]{0,8})\b")


class Commit(NamedTuple):
    """A commit: its parents, when it was made (ISO 8601, UTC), what it says."""

    id: str
    parents: tuple[str, ...]
    at: str
    message: str


class Changed(NamedTuple):
    """A file that differs between two commits: blob ids ("" where it does not exist) and modes; -1 lines: binary."""

    path: bytes
    before: str
    after: str
    modes: tuple[str, str]
    lines: int


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Clones by `owner/name`. Names have passed the pattern of `events`.

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


class History:
    """The objects of a bare repository."""

    def __init__(self, folder: Path) -> None:
        """Read the git directory at a path."""
        self.folder = folder
        variables = (f"GIT_DIR={folder}", "GIT_NO_REPLACE_OBJECTS=1")
        self._git = GitCommand(str(folder), _OPTIONS, variables, CALL_LIMIT)

    def commits(self, ids: Sequence[str]) -> dict[str, Commit]:
        """Return the commits that are there, by id."""
        return {name: _commit(name, data) for name, kind, data in self._objects(ids) if kind == "commit"}

    def blobs(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the contents that are there, by id or by `commit:path` as asked."""
        return {name: data for name, kind, data in self._objects(ids) if kind == "blob"}

    def found(self, specs: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the blob id and the size of each `commit:path` or id that is a blob."""
        out = self._batch("--batch-check", specs)
        found = {}
        for spec, line in zip(specs, out.splitlines(), strict=True):
            fields = line.split(b" ")
            if len(fields) == 3 and fields[1] == b"blob" and fields[2].isdigit():
                found[spec] = (fields[0].decode(), int(fields[2]))
        return found

    def merge_base(self, one: str, other: str) -> str:
        """Return the best common ancestor, "" where there is none or more than one."""
        answer = self._git.ask("merge-base", "--all", one, other)
        bases = answer.out.decode().split()
        return bases[0] if answer.status == 0 and len(bases) == 1 else ""

    def ancestor(self, commit: str, steps: int) -> str:
        """Return the commit so many first parents before one, "" where the history is shorter."""
        answer = self._git.ask("rev-parse", "--verify", "--quiet", f"{commit}~{steps}")
        return answer.out.decode().strip()

    def changes(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Changed, ...]]:
        """Return what differs between each pair of commits (before, after), in their order."""
        if not pairs:
            return []
        asked = "".join(f"{after} {before}\n" for before, after in pairs).encode()
        options = ("-r", "-z", "--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "--always")
        out = self._git.read("diff-tree", "--stdin", "--no-abbrev", *options, stdin=asked)
        return _differences(out, [after for _, after in pairs])

    def messages(self, base: str, head: str, most: int) -> tuple[str, ...]:
        """Return what the commits between two say, the newest first, `most` at most."""
        answer = self._git.ask("rev-list", f"--max-count={most}", head, f"^{base}", "--")
        ids = answer.out.decode().split()
        known = self.commits(ids)
        return tuple(known[name].message for name in ids if name in known)

    def roots(self) -> tuple[str, ...]:
        """Return the first commits of the tip, sorted: clones and forks have them in common."""
        return tuple(sorted(self._git.read("rev-list", "--max-parents=0", self.tip, "--").decode().split()))

    @cached_property
    def tip(self) -> str:
        """The newest commit of the branch that the remote's HEAD names, or else HEAD.

        Raises `RepositoryError` where neither names a commit (the branch is gone), or the history is cut (shallow).
        """
        asked = ("rev-parse", "--verify", "--quiet")
        tips = (self._git.ask(*asked, f"{name}^{{commit}}").out.decode().strip() for name in (REMOTE_HEAD, "HEAD"))
        shown = printable(str(self.folder))
        if not (tip := next(filter(None, tips), "")):
            raise RepositoryError(f"HEAD of {shown} names no commit: point it at a branch (`git symbolic-ref`).")
        if (self.folder / "shallow").exists():
            raise RepositoryError(f"{shown} is a shallow clone: run `git fetch --unshallow` there.")
        return tip

    @cached_property
    def merged(self) -> Mapping[int, str]:
        """The oldest commit on the tip's first parents that says it merges a pull request, by number."""
        out = self._git.read("log", "--first-parent", "--format=%H %s", self.tip, "--")
        lines = (line.partition(" ") for line in out.decode("utf-8", "replace").split("\n"))
        told = ((MERGED.match(subject) or SQUASHED.search(subject), name) for name, _, subject in lines)
        return {int(said[1]): name for said, name in told if said}

    def _objects(self, ids: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
        """Yield the name, kind and data of each object that is there."""
        out, at = self._batch("--batch", ids), 0
        for name in ids:
            end = out.index(b"\n", at)
            fields = out[at:end].split(b" ")
            at = end + 1
            if len(fields) == 3 and fields[2].isdigit():
                size = int(fields[2])
                yield name, fields[1].decode(), out[at : at + size]
                at += size + 1

    def _batch(self, how: str, names: Sequence[str]) -> bytes:
        asked = "".join(f"{name}\n" for name in names).encode()
        return self._git.read("cat-file", how, stdin=asked) if names else b""


def is_squash(commit: Commit) -> bool:
    """Tell whether a commit says that it is a whole pull request."""
    return bool(SQUASHED.search(commit.message.partition("\n")[0]))


def _commit(name: str, data: bytes) -> Commit:
    head, _, message = data.partition(b"\n\n")
    lines = head.split(b"\n")
    said_parents = (line[7:].decode("ascii", "replace") for line in lines if line.startswith(b"parent "))
    parents = tuple(parent for parent in said_parents if COMMIT_ID.fullmatch(parent))
    said = next((line.split() for line in lines if line.startswith(b"committer ")), [])
    at = ""
    with suppress(ValueError, OverflowError, OSError, IndexError):
        at = datetime.fromtimestamp(max(int(said[1:][-2]), 0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Commit(name, parents, at, message.decode("utf-8", "replace"))


def _differences(out: bytes, afters: Sequence[str]) -> list[tuple[Changed, ...]]:
    """Read the output of diff-tree: for each pair its commit, then all `:` fields with paths, then all counts."""
    fields = out.split(b"\0")
    waiting = [name.encode() for name in afters]
    found: list[dict[bytes, Changed]] = []
    at = 0
    while at < len(fields) - 1:
        field = fields[at]
        if len(found) < len(waiting) and field == waiting[len(found)]:
            found.append({})
            at += 1
        elif field.startswith(b":"):
            old_mode, new_mode, *ids, _ = field[1:].decode().split(" ")
            before, after = ("" if set(name) == {"0"} else name for name in ids)
            found[-1][fields[at + 1]] = Changed(fields[at + 1], before, after, (old_mode, new_mode), 0)
            at += 2
        else:
            added, removed, path = field.split(b"\t", 2)
            lines = -1 if added == b"-" else int(added) + int(removed)
            found[-1][path] = found[-1][path]._replace(lines=lines)
            at += 1
    if len(found) != len(waiting):
        raise RepositoryError(f"git does not tell the changes of {printable(afters[-1])}: run `git fsck` there.")
    return [tuple(one.values()) for one in found]
