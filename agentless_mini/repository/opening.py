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
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from agentless_mini.domain import FileKind, PastCommit, Snapshot, SourceFile
from agentless_mini.errors import RepositoryError, few, printable
from agentless_mini.repository import clones, gitcommand
from agentless_mini.repository.gitcommand import GITLINK, HUGE_OVER, LARGE_OVER, LINK, REGULAR, GitCommand, decode_path
from agentless_mini.sandbox.wire import Contents, of_commit, of_folder

_CACHES = ("__pycache__", ".egg-info", "_cache")
"""How the names of folders end that tools make for themselves: nobody looks for a fault there."""
_LINKS = {LINK: FileKind.SYMLINK, GITLINK: FileKind.SUBMODULE}


class Repository(ABC):
    """A tree of a git repository. All methods may be called from several threads.

    `notes` are sentences for people about what the latest snapshot left out, and what a check cannot foresee.
    """

    notes: tuple[str, ...] = ()
    _applied_to: tuple[str, ...] = ()

    def __init__(self, name: str, git: GitCommand, commit: str) -> None:
        """Take the name for people, git in the repository, and a commit's full id."""
        self._name, self._git, self._commit = name, git, commit

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Read the tree.

        What the disk holds but a snapshot does not give (nested repositories, FIFOs, files that cannot be read) is
        listed in `Snapshot.ignored`, with what git ignores. Raises `RepositoryError` where the tree cannot be read.
        """

    def history(self) -> tuple[PastCommit, ...]:
        """Return the base commit and those before it (see `past_commits`), with a note beside those of `snapshot`."""
        return gitcommand.past_commits(self._git, self._commit, self._note)

    def _note(self, text: str) -> None:
        self.notes = (*self.notes, text)

    @abstractmethod
    def contents(self) -> Contents:
        """Return what reads the files that a snapshot lists without their contents."""

    @abstractmethod
    def apply(self, diff: bytes) -> None:
        """Apply the patch to the working tree. Raises `RepositoryError` where there is none, or git refuses."""

    def refuses(self, diff: bytes) -> str:
        """Return in one line why `git apply` would not take the patch on this tree, "" where it would.

        Raises `EnvironmentFailed` where git comes to no verdict.
        """
        answer = gitcommand.verdict(self._git.ask("apply", *self._applied_to, "--check", "-", stdin=diff))
        return (answer.complaint or f"git ends with status {answer.status}") if answer.status else ""

    def _snapshot(self, files: Iterable[SourceFile], absent: Iterable[str]) -> Snapshot:
        ordered = tuple(sorted(files, key=lambda file: file.path))
        day = gitcommand.day_of(self._git, self._commit)
        name, digest = printable(self._name), gitcommand.digest(ordered)
        return Snapshot(name, self._commit, digest, ordered, tuple(sorted(absent)), day)


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
    git = _bare(str(copy))
    return _CommitTree(remote.name, git, _commit(git, clones.REMOTE_HEAD if rev is None else rev))


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
        git = _bare(git_folder)
        return _CommitTree(name, git, _commit(git, asked))
    top = os.fsdecode(here.read("rev-parse", "--show-toplevel")[:-1])
    _require_own_folder(top, git_folder)
    git = GitCommand(top)
    commit = _commit(git, asked)
    return _WorkingTree(git, commit) if rev is None else _CommitTree(Path(top).name, git, commit)


def _require_own_folder(top: str, git_folder: str) -> None:
    """Refuse a repository whose configuration (`core.worktree`) declares a folder elsewhere to be its working tree."""
    target = Path(top, ".git")
    if target.is_file():
        target = Path(top, os.fsdecode(target.read_bytes().removeprefix(b"gitdir:").strip()))
    if target.resolve() != Path(git_folder).resolve():
        raise RepositoryError(
            f"{printable(git_folder)} declares {printable(top)} to be its working tree, which does not belong to it: "
            "name a commit with --rev, or unset core.worktree."
        )


def _commit(git: GitCommand, rev: str) -> str:
    """Return the full id of the commit that `rev` names."""
    answer = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if not answer.status:
        return answer.out.decode().strip()
    if rev in {"HEAD", clones.REMOTE_HEAD}:
        raise RepositoryError(f"{printable(git.folder)} has no commit yet: commit something, or name a revision.")
    raise RepositoryError(f"There is no commit {printable(rev)}: see what `git log --all` lists, or fetch it first.")


def _bare(git_folder: str) -> GitCommand:
    # Named, because safe.bareRepository=explicit keeps git from finding it.
    return GitCommand(git_folder, variables=(f"GIT_DIR={git_folder}",))


class _WorkingTree(Repository):
    """The working tree as it is at the moment of each call."""

    def __init__(self, git: GitCommand, commit: str) -> None:
        configured = gitcommand.settings(git)
        git, filters = gitcommand.without_filters(git, configured)
        super().__init__(Path(git.folder).name, git, commit)
        switches = {setting.key: setting.value.lower() for setting in configured}  # on by default
        self._executable, self._symlinks = (
            switches.get(key, "true") not in {"false", "no", "off", "0", ""}
            for key in ("core.filemode", "core.symlinks")
        )
        self._standing_notes = self.notes = tuple(
            f"The repository configures the filter {printable(name)!r}, which is not run here: "
            "`git apply` may refuse a patch of the files that it is for."
            for name in filters
        )

    def snapshot(self) -> Snapshot:
        untracked = _names(self._git.read("ls-files", "--others", "--exclude-standard", "-z"))
        # A name that ends in a slash is a repository inside this one.
        loose = {name: REGULAR for name in untracked if not name.endswith(b"/")}
        inner = [decode_path(name) for name in untracked if name.endswith(b"/")]
        try:
            top = os.fsencode(self._git.folder)
            entries = (line.partition(b"\t") for line in _names(self._git.read("ls-files", "--stage", "-z")))
            tracked = {path: head[:6].decode() for head, _, path in entries}  # a conflict is listed up to three times
            reading = gitcommand.read_worktree(top, tracked | loose, self._executable, self._symlinks)
        except OSError as error:
            raise gitcommand.refusal(self._git.folder, os.strerror(error.errno or 0)) from error
        reading.files.extend(self._of_submodules(reading.files))
        ignored = [*map(decode_path, self._ignored())]
        notes = [*self._standing_notes]
        if paths := reading.unreadable:
            first = printable(paths[0])
            notes.append(f"Files that cannot be read are left out: {len(paths)}, the first of them {first}.")
        self.notes = (*notes, *_huge_note(reading.huge), *_skipped_note(reading.files, inner, ignored))
        return self._snapshot(reading.files, {*ignored, *inner, *reading.unreadable, *reading.special, *reading.huge})

    def _of_submodules(self, files: Iterable[SourceFile]) -> list[SourceFile]:
        """Return what lies in submodules that are checked out, for tests: neither shown nor repaired."""
        found = list[SourceFile]()
        for path in [file.path for file in files if file.kind is FileKind.SUBMODULE]:
            folder = Path(self._git.folder, path)
            if os.path.lexists(folder / ".git") and folder.resolve() == Path(self._git.folder).resolve() / path:
                inner = GitCommand(str(folder))
                with suppress(RepositoryError, OSError):  # it is then as if nothing were there
                    modes = dict.fromkeys(_names(inner.read("ls-files", "-z")), REGULAR)
                    read = gitcommand.read_worktree(os.fsencode(folder), modes, True, self._symlinks)
                    kept = (file for file in read.files if file.kind is not FileKind.SUBMODULE)
                    for file in kept:
                        kind = file.kind if file.kind is FileKind.SYMLINK else FileKind.LARGE
                        size = file.size or len(file.data)
                        found.append(SourceFile(f"{path}/{file.path}", file.mode, kind, size=size))
        return found

    def contents(self) -> Contents:
        return of_folder(Path(self._git.folder))

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


class _CommitTree(Repository):
    """The tree of a commit. Its checks run against a temporary index, which goes when this object does."""

    _applied_to = ("--cached",)

    def __init__(self, name: str, git: GitCommand, commit: str) -> None:
        folder = tempfile.mkdtemp(prefix="amini-index-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        git, _ = gitcommand.without_filters(git, gitcommand.settings(git))
        super().__init__(name, git.having(variables=[f"GIT_INDEX_FILE={folder}/index"]), commit)
        self._git.read("read-tree", commit)

    def snapshot(self) -> Snapshot:
        listed = _names(self._git.read("ls-tree", "-r", "-z", "--long", "--full-tree", self._commit))
        files: list[SourceFile] = []
        huge: list[str] = []
        texts: list[tuple[bytes, str, str, int]] = []
        for line in listed:
            head, _, path = line.partition(b"\t")
            mode, _, object_id, said = head.decode().split()
            if said != "-" and not said.isdecimal():
                missing = f"Objects of the commit are missing ({object_id})"
                raise RepositoryError(f"{missing}: fetch them, or see `git fsck`.")
            size = 0 if said == "-" else int(said)
            if size > HUGE_OVER:
                huge.append(decode_path(path))
            elif mode in _LINKS:
                files.append(SourceFile(decode_path(path), mode, _LINKS[mode]))
            elif size > LARGE_OVER:
                files.append(SourceFile(decode_path(path), mode, FileKind.LARGE, size=size))
            else:
                texts.append((path, mode, object_id, size))
        ids = sorted({object_id for _, _, object_id, _ in texts})
        contents = dict(zip(ids, gitcommand.blobs(self._git, ids), strict=True))
        files += [gitcommand.file_entry(path, mode, contents[name], size) for path, mode, name, size in texts]
        self.notes = (*_huge_note(huge), *_skipped_note(files, (), ()))
        return self._snapshot(files, huge)

    def contents(self) -> Contents:
        return of_commit(self._git, self._commit)

    def apply(self, diff: bytes) -> None:
        raise RepositoryError(
            f"A patch of {len(diff)} bytes cannot be applied to a commit: name a working tree and leave out --rev."
        )


def _names(listed: bytes) -> list[bytes]:
    return listed.split(b"\0")[:-1]


def _huge_note(paths: Sequence[str]) -> tuple[str, ...]:
    size = HUGE_OVER // 1024**2
    return (f"Files over {size} MiB are left out, of the tests too: {few(paths)}.",) if paths else ()


def _skipped_note(files: Iterable[SourceFile], nested: Sequence[str], ignored: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence on the trees that are not looked into."""
    trees = [name for name in ignored if name.endswith("/") and not name[:-1].endswith(_CACHES)]
    kinds = {
        "submodules": [file.path for file in files if file.kind is FileKind.SUBMODULE],
        "repositories inside this one": nested,
        "what git ignores": sorted(trees, key=lambda name: (name.count("/"), name)),
    }
    parts = [f"{what} ({few(paths)})" for what, paths in kinds.items() if paths]
    return (f"Not looked into: {', '.join(parts)}.",) if parts else ()
