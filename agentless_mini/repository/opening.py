"""Opens a git repository and reads a tree of it: the working tree as it is now, or that of a commit.

Nothing of the user's repository is written: no index, no reference, no object, no file, save by `Repository.apply`.
Nothing that the repository configures is run: see `gitcommand`. Two conventions follow from git's:

* The whole tree counts, even where a folder inside it is named.
* A patch is checked by `git apply` itself, with the user's own settings, for that is what it has to pass later. The one
  thing that differs is that filters of the repository's own configuration stay off; a note says so where there are any.

It does not make patches (`edits` does) and knows nothing of remotes (`clones` does).
"""

import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agentless_mini.domain import FileKind, Snapshot, SourceFile
from agentless_mini.errors import RepositoryError, printable
from agentless_mini.repository import clones, gitcommand, worktree
from agentless_mini.repository.gitcommand import Answer, GitCommand, Setting
from agentless_mini.repository.worktree import (
    GITLINK,
    HUGE_OVER,
    LARGE_OVER,
    LINK,
    DiskModes,
    Entry,
    decode_path,
    file_entry,
    read_worktree,
)
from agentless_mini.sandbox.packs import Contents, of_commit, of_folder

_CACHES = ("__pycache__", ".egg-info", "_cache")
"""How the names of folders end that tools make for themselves: nobody looks for a fault there."""
_NAMED = 5
_LINKS = {LINK: FileKind.SYMLINK, GITLINK: FileKind.SUBMODULE}


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What `git apply --check` says of a patch; `message` is its complaint in one line, empty where `ok`."""

    ok: bool
    message: str = ""


class Repository(Protocol):
    """A tree of a git repository. All methods may be called from several threads."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people about what the latest snapshot left out, and what a check cannot foresee."""
        ...

    def snapshot(self) -> Snapshot:
        """Read the tree.

        What the disk holds but a snapshot does not give (nested repositories, FIFOs, files that cannot be read) is
        listed in `Snapshot.ignored`, with what git ignores. Raises `RepositoryError` where the tree cannot be read.
        """
        ...

    def contents(self) -> Contents:
        """Return what reads the files that a snapshot lists without their contents."""
        ...

    def accepts(self, diff: bytes) -> Acceptance:
        """Say whether `git apply` would take the patch on this tree. A refusal is a result.

        Raises `EnvironmentFailed` where git comes to no verdict.
        """
        ...

    def apply(self, diff: bytes) -> None:
        """Apply the patch to the working tree. Raises `RepositoryError` where there is none, or git refuses."""
        ...


def open_repository(where: str, rev: str | None, cache: Path) -> Repository:
    """Open the repository at a path, a git URL, or GitHub's `owner/name` where there is no such path.

    `rev` names a commit in any of git's ways; without it a path means its working tree (of a bare repository: HEAD) and
    a URL the remote's HEAD. Copies of remotes are kept in `cache`. Raises `RepositoryError`.
    """
    gitcommand.require_recent_git()
    if _exists(where):
        return _open_path(where, rev)
    remote = clones.remote_of(where)
    copy = clones.bring_up_to_date(remote, rev, cache)
    return _CommitTree(remote.name, *_at_commit(_bare(str(copy)), clones.REMOTE_HEAD if rev is None else rev))


def _exists(where: str) -> bool:
    try:
        mode = os.stat(where).st_mode  # noqa: PTH116 - Path("") is the current folder, and "" names nothing
    except PermissionError as error:
        raise gitcommand.refusal(where, "Permission denied") from error
    except (OSError, ValueError):
        return False
    if not stat.S_ISDIR(mode):
        raise RepositoryError(f"{printable(where)} is not a folder: name the folder of a repository.")
    own = Path(where, ".git")
    if os.path.lexists(own) and not os.access(own, os.R_OK):  # git would say that there is no repository
        raise gitcommand.refusal(str(own), "Permission denied")
    return True


def _open_path(where: str, rev: str | None) -> Repository:
    asked = "HEAD" if rev is None else rev
    here = GitCommand(where)
    inside, raw_folder = here.read("rev-parse", "--is-inside-work-tree", "--absolute-git-dir").split(b"\n", 1)
    git_folder = os.fsdecode(raw_folder[:-1])
    if inside != b"true":
        name = Path(git_folder).parent.name if Path(git_folder).name == ".git" else Path(git_folder).stem
        return _CommitTree(name, *_at_commit(_bare(git_folder), asked))
    top = os.fsdecode(here.read("rev-parse", "--show-toplevel")[:-1])
    _require_own_folder(top, git_folder)
    git, commit = _at_commit(GitCommand(top), asked)
    if rev is None:
        return _WorkingTree(git, commit)
    return _CommitTree(Path(top).name, git, commit)


def _require_own_folder(top: str, git_folder: str) -> None:
    """Refuse a repository whose configuration (`core.worktree`) declares a folder elsewhere to be its working tree."""
    link = Path(top, ".git")
    target = link
    if link.is_file():
        target = Path(top, os.fsdecode(link.read_bytes().removeprefix(b"gitdir:").strip()))
    if target.resolve() != Path(git_folder).resolve():
        raise RepositoryError(
            f"{printable(git_folder)} declares {printable(top)} to be its working tree, which does not belong to it: "
            "name a commit with --rev, or unset core.worktree."
        )


def _at_commit(git: GitCommand, rev: str) -> tuple[GitCommand, str]:
    """Return the command and the full id of the commit that `rev` names."""
    answer = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if not answer.status:
        return git, answer.out.decode().strip()
    if rev in {"HEAD", clones.REMOTE_HEAD}:
        raise RepositoryError(f"{printable(git.folder)} has no commit yet: commit something, or name a revision.")
    raise RepositoryError(f"There is no commit {printable(rev)}: see what `git log --all` lists, or fetch it first.")


def _bare(git_folder: str) -> GitCommand:
    # Named, because safe.bareRepository=explicit keeps git from finding it.
    return GitCommand(git_folder, variables=(f"GIT_DIR={git_folder}",))


class _WorkingTree:
    """The working tree as it is at the moment of each call."""

    def __init__(self, git: GitCommand, commit: str) -> None:
        configured = gitcommand.settings(git)
        self._git, filters = gitcommand.without_filters(git, configured)
        self._commit = commit
        self._modes = DiskModes(_is_on(configured, "core.filemode"), _is_on(configured, "core.symlinks"))
        self._standing_notes = tuple(
            f"The repository configures the filter {printable(name)!r}, which is not run here: "
            "`git apply` may refuse a patch of the files that it is for."
            for name in filters
        )
        self.notes = self._standing_notes

    def snapshot(self) -> Snapshot:
        top = os.fsencode(self._git.folder)
        untracked = _names(self._git.read("ls-files", "--others", "--exclude-standard", "-z"))
        # A name that ends in a slash is a repository inside this one.
        loose = [Entry(name) for name in untracked if not name.endswith(b"/")]
        nested = [name for name in untracked if name.endswith(b"/")]
        try:
            reading = read_worktree(top, [*self._tracked(), *loose], self._modes)
        except OSError as error:
            raise gitcommand.refusal(self._git.folder, os.strerror(error.errno or 0)) from error
        ignored, inner = [*map(decode_path, self._ignored())], [*map(decode_path, nested)]
        unread: tuple[str, ...] = ()
        if paths := reading.unreadable:
            first = printable(paths[0])
            unread = (f"Files that cannot be read are left out: {len(paths)}, the first of them {first}.",)
        self.notes = (
            *self._standing_notes,
            *unread,
            *_huge_note(reading.huge),
            *_skipped_note(reading.files, inner, ignored),
        )
        absent = {*ignored, *inner, *reading.unreadable, *reading.special, *reading.huge}
        return _snapshot(Path(self._git.folder).name, self._git, self._commit, reading.files, absent)

    def contents(self) -> Contents:
        return of_folder(Path(self._git.folder))

    def accepts(self, diff: bytes) -> Acceptance:
        return _acceptance(gitcommand.verdict(self._git.ask("apply", "--check", "-", stdin=diff)))

    def apply(self, diff: bytes) -> None:
        answer = self._git.ask("apply", "-", stdin=diff)
        if answer.status:
            raise RepositoryError(
                f"git does not apply the patch ({answer.complaint}): run again if the tree has changed."
            )

    def _ignored(self) -> list[bytes]:
        """Return the names that git ignores, folders as one name."""
        listed = self._git.read("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
        # That list also has the folders in which nothing but ignored files lie, and a new file there may be welcome.
        answer = self._git.ask("check-ignore", "-z", "--stdin", stdin=listed)
        if answer.status > 1:
            raise gitcommand.refusal(self._git.folder, answer.complaint)
        return _names(answer.out)

    def _tracked(self) -> Iterable[Entry]:
        """Return each name of the index once: a conflict lists it up to three times."""
        entries = (line.partition(b"\t") for line in _names(self._git.read("ls-files", "--stage", "-z")))
        return {path: Entry(path, head[:6].decode()) for head, _, path in entries}.values()


class _CommitTree:
    """The tree of a commit. Its checks run against a temporary index, which goes when this object does."""

    def __init__(self, name: str, git: GitCommand, commit: str) -> None:
        self._name, self._commit = name, commit
        folder = tempfile.mkdtemp(prefix="amini-index-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._git, _ = gitcommand.without_filters(git, gitcommand.settings(git))
        self._git = self._git.with_variables(f"GIT_INDEX_FILE={folder}/index")
        self._git.read("read-tree", commit)
        self.notes: tuple[str, ...] = ()

    def snapshot(self) -> Snapshot:
        listed = _names(self._git.read("ls-tree", "-r", "-z", "--long", "--full-tree", self._commit))
        rows, huge, read = [], [], set()
        for line in listed:
            head, _, path = line.partition(b"\t")
            mode, _, object_id, said = head.decode().split()
            if said != "-" and not said.isdecimal():
                missing = f"Objects of the commit are missing ({object_id})"
                raise RepositoryError(f"{missing}: fetch them, or see `git fsck`.")
            size = 0 if said == "-" else int(said)
            if size > HUGE_OVER:
                huge.append(decode_path(path))
                continue
            rows.append((path, mode, object_id, size))
            if mode not in _LINKS and size <= LARGE_OVER:
                read.add(object_id)
        contents, files = self._blobs(read), []
        for path, mode, object_id, size in rows:
            if mode not in _LINKS and size <= LARGE_OVER:
                files.append(file_entry(path, mode, contents[object_id], size))
            else:
                kind = _LINKS.get(mode, FileKind.LARGE)
                files.append(SourceFile(decode_path(path), mode, kind, size=size if kind is FileKind.LARGE else 0))
        self.notes = (*_huge_note(huge), *_skipped_note(files, (), ()))
        return _snapshot(self._name, self._git, self._commit, files, huge)

    def contents(self) -> Contents:
        return of_commit(self._git, self._commit)

    def accepts(self, diff: bytes) -> Acceptance:
        return _acceptance(gitcommand.verdict(self._git.ask("apply", "--cached", "--check", "-", stdin=diff)))

    def apply(self, diff: bytes) -> None:
        raise RepositoryError(
            f"A patch of {len(diff)} bytes cannot be applied to a commit: name a working tree and leave out --rev."
        )

    def _blobs(self, ids: set[str]) -> dict[str, bytes]:
        """Read the blobs in one call of git."""
        out = self._git.read("cat-file", "--batch", stdin="".join(f"{name}\n" for name in sorted(ids)).encode())
        contents, at = {}, 0
        while at < len(out):
            end = out.index(b"\n", at)
            name, _, size = out[at:end].decode().split(" ")
            contents[name] = out[end + 1 : end + 1 + int(size)]
            at = end + 1 + int(size) + 1
        return contents


def _snapshot(name: str, git: GitCommand, commit: str, files: Iterable[SourceFile], absent: Iterable[str]) -> Snapshot:
    ordered = tuple(sorted(files, key=lambda file: file.path))
    day = gitcommand.day_of(git, commit)
    return Snapshot(printable(name), commit, worktree.digest(ordered), ordered, tuple(sorted(absent)), day)


def _acceptance(answer: Answer) -> Acceptance:
    return Acceptance(ok=True) if not answer.status else Acceptance(ok=False, message=answer.complaint)


def _names(listed: bytes) -> list[bytes]:
    return listed.split(b"\0")[:-1]


def _is_on(configured: tuple[Setting, ...], key: str) -> bool:
    """Read a switch of git's that is on by default."""
    values = [setting.value for setting in configured if setting.key == key]
    return not values or values[-1].lower() not in {"false", "no", "off", "0", ""}


def _huge_note(paths: Iterable[str]) -> tuple[str, ...]:
    told = _first_of(paths)
    return (f"Files over {HUGE_OVER // 1024**2} MiB are left out, of the tests too: {told}.",) if told else ()


def _skipped_note(files: Iterable[SourceFile], nested: Iterable[str], ignored: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence on the trees that are not looked into."""
    trees = [name for name in ignored if name.endswith("/") and not name[:-1].endswith(_CACHES)]
    submodules = _first_of(file.path for file in files if file.kind is FileKind.SUBMODULE)
    inner, trees_told = _first_of(nested), _first_of(sorted(trees, key=lambda name: (name.count("/"), name)))
    parts = [
        *([f"submodules ({submodules})"] if submodules else []),
        *([f"repositories inside this one ({inner})"] if inner else []),
        *([f"what git ignores ({trees_told})"] if trees_told else []),
    ]
    return (f"Not looked into: {', '.join(parts)}.",) if parts else ()


def _first_of(paths: Iterable[str]) -> str:
    found = [printable(path) for path in paths]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
