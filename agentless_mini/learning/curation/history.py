"""The mirror of a repository, and what it knows: commits, what changed between two of them, contents.

A mirror is somebody else's repository: nothing in it is run, and nothing written. git is asked for many at once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

from agentless_mini.errors import RepositoryError, Unreachable, printable
from agentless_mini.repository import gitcommand
from agentless_mini.repository.clones import REMOTE_HEAD, bring_up_to_date, copy_of, remote_of

CALL_LIMIT = 600.0  # seconds: what git does here takes seconds in the largest repositories that are whole
_OPTIONS = ("-c", "log.showSignature=false", "-c", "core.attributesFile=", "-c", "i18n.logOutputEncoding=UTF-8")
_DIFF = ("--stdin", "--no-abbrev", "-r", "-z", "--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
_DATE = "--date=format-local:%Y-%m-%dT%H:%M:%SZ"
_BLOB = re.compile(rb"([0-9a-f]+) blob ([0-9]+)")
SQUASHED = re.compile(r"\(#([1-9][0-9]{0,8})\)\s*$")
MERGED = re.compile(r"Merge (?:pull request|PR) #([1-9][0-9]{0,8})\b")


class Commit(NamedTuple):
    """A commit: its parents, when it was made (ISO 8601, UTC; "" where no calendar has that), what it says."""

    id: str
    parents: tuple[str, ...]
    at: str
    message: str

    @property
    def is_squash(self) -> bool:
        """Whether it says that it is a whole pull request."""
        return bool(SQUASHED.search(self.message.partition("\n")[0]))


class Changed(NamedTuple):
    """A file that differs between two commits: blob ids ("" where it does not exist) and modes; -1 lines: binary."""

    path: bytes
    before: str
    after: str
    modes: tuple[str, str]
    lines: int

    @property
    def name(self) -> str:
        """The path as a text, which may hold surrogates."""
        return self.path.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Clones by `owner/name`. Names have passed the pattern of `events`.

    A mirror is `owner+name`, `owner/name` or `owner__name` in `folder`, each with or without `.git` after it, as given
    or in lower case: a bare repository, or a folder that holds one as `repo` or `.git`. Where there is none and
    `clone_from` is an address, `clone_from/owner/name` is cloned into `cache`.
    """

    folder: Path
    cache: Path
    clone_from: str = ""

    def kept(self, repo: str) -> Path | None:
        """Return the git directory of a repository in the folder of mirrors, None where there is none."""
        spellings = (dict.fromkeys((repo, repo.lower())), ("+", "/", "__"), ("", ".git"), ("", "repo", ".git"))
        for spelled, sign, end, inside in product(*spellings):
            folder = self.folder / f"{spelled.replace('/', sign)}{end}" / inside
            if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
                return folder.absolute()
        return None

    def states(self) -> Iterator[tuple[str, str]]:
        """Yield the owners of mirrors, each with what changes when one comes, goes, or a bare one is fetched."""
        for entry in sorted(self.folder.iterdir()):
            with suppress(OSError):  # it went meanwhile
                yield re.split(r"\+|__", entry.name)[0], f"{entry.name} {entry.stat().st_mtime_ns}"

    def find(self, repo: str) -> Path | None:
        """Return the git directory of a repository, cloned or brought up to date where no mirror is kept.

        A clone that cannot be brought up to date is used as it is. None where there is none to clone: gone, private or
        renamed. Raises `Unreachable` where that is not known: it is owed.
        """
        kept = self.kept(repo)
        if kept is not None or not self.clone_from:
            return kept
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
        variables = (f"GIT_DIR={folder}", "GIT_NO_REPLACE_OBJECTS=1", "TZ=UTC")
        self._git = gitcommand.GitCommand(str(folder), _OPTIONS, variables, CALL_LIMIT)

    def commits(self, ids: Sequence[str]) -> dict[str, Commit]:
        """Return the commits that are there, by id."""
        how = ("--no-walk=unsorted", "--ignore-missing", "-z", _DATE, "--format=%H%n%P%n%cd%n%B", "--stdin")
        out = self._git.read("log", *how, stdin="\n".join(ids).encode()) if ids else b""
        found = (one.split("\n", 3) for one in out.decode("utf-8", "replace").split("\0")[:-1])
        return {
            name: Commit(name, tuple(parents.split()), at if len(at) == len("2024-01-02T03:04:05Z") else "", message)
            for name, parents, at, message in found
        }

    def found(self, specs: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the blob id and the size of each `commit:path` or id that is a blob."""
        asked = "".join(f"{name}\n" for name in specs).encode()
        lines = self._git.read("cat-file", "--batch-check", stdin=asked).splitlines() if specs else []
        told = ((spec, _BLOB.fullmatch(line)) for spec, line in zip(specs, lines, strict=True))
        return {spec: (said[1].decode(), int(said[2])) for spec, said in told if said}

    def blobs(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of blobs that are there."""
        return dict(zip(ids, gitcommand.blobs(self._git, ids), strict=True)) if ids else {}

    def merge_base(self, one: str, other: str) -> str:
        """Return the best common ancestor, "" where there is none or more than one."""
        answer = self._git.ask("merge-base", "--all", one, other)
        bases = answer.out.decode().split()
        return bases[0] if answer.status == 0 and len(bases) == 1 else ""

    def ancestor(self, commit: str, steps: int) -> str:
        """Return the commit so many first parents before one, "" where the history is shorter."""
        return self._git.ask("rev-parse", "--verify", "--quiet", f"{commit}~{steps}").out.decode().strip()

    def changes(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[Changed, ...]]:
        """Return what differs between each pair of commits (before, after)."""
        asked = "".join(f"{after} {before}\n" for before, after in pairs).encode()
        fields = iter(self._git.read("diff-tree", *_DIFF, "--always", stdin=asked).split(b"\0")[:-1] if pairs else ())
        told: list[tuple[bytes, dict[bytes, Changed]]] = []
        for field in fields:  # for each pair its commit, then all `:` fields with paths, then all counts
            if field.startswith(b":"):
                old_mode, new_mode, *ids, _ = field[1:].decode().split(" ")
                before, after = ("" if set(name) == {"0"} else name for name in ids)
                path = next(fields)
                told[-1][1][path] = Changed(path, before, after, (old_mode, new_mode), 0)
            elif b"\t" in field:
                added, removed, path = field.split(b"\t", 2)
                lines = -1 if added == b"-" else int(added) + int(removed)
                told[-1][1][path] = told[-1][1][path]._replace(lines=lines)
            else:
                told.append((field, {}))
        if [name.decode() for name, _ in told] != [after for _, after in pairs]:
            raise RepositoryError(f"git does not tell the changes of {printable(pairs[-1][1])}: run `git fsck` there.")
        return {pair: tuple(found.values()) for pair, (_, found) in zip(pairs, told, strict=True)}

    def messages(self, base: str, head: str, most: int) -> tuple[str, ...]:
        """Return what the commits between two say, the newest first, `most` at most."""
        answer = self._git.ask("log", f"--max-count={most}", "-z", "--format=%B", head, f"^{base}", "--")
        return tuple(answer.out.decode("utf-8", "replace").split("\0")[:-1])

    def roots(self) -> tuple[str, ...]:
        """Return the first commits of the tip, sorted: clones and forks have them in common."""
        return tuple(sorted(self._git.read("rev-list", "--max-parents=0", self.tip, "--").decode().split()))

    @cached_property
    def tip(self) -> str:
        """The newest commit of the branch that the remote's HEAD names, or else HEAD.

        Raises `RepositoryError` where neither names a commit (the branch is gone), or the history is cut (shallow).
        """
        shown = printable(str(self.folder))
        if not (tip := self.ancestor(REMOTE_HEAD, 0) or self.ancestor("HEAD", 0)):
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
