"""The tree of an instance, read out of its image, whose tar file is foreign: no path leads out of the copy.

Nothing of the image's `.git` is taken but the index, which says what is tracked, `info/exclude`, and the objects that
its history is read from: the copy is a repository of its own with one empty commit. Where git cannot use that index,
all files count that are not ignored.
"""

import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentless_mini.domain import MIB, Snapshot
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, printable
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.repository.gitcommand import GitCommand, past_commits
from agentless_mini.repository.opening import open_repository
from agentless_mini.repository.patches import CONFIG
from agentless_mini.sandbox.daemon import folder_archive
from agentless_mini.sandbox.host import Scratch

if TYPE_CHECKING:
    from docker import DockerClient

LIMIT = 8192 * MIB
"""Bytes of all files of a tree together."""
_KEPT = re.compile(
    r"index|shallow|info/exclude|objects/(?:[0-9a-f]{2}/[0-9a-f]{38,62}|pack/pack-[0-9a-f]{40,64}\.(?:pack|idx))"
)
"""What is kept of `.git`."""
_NO_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's own name for a tree without a file


def read_tree(client: "DockerClient", image: str, instance: Instance) -> Snapshot:
    """Return the tree of an instance, from a copy that is removed again. Raises `EnvironmentFailed`."""
    with closing(Scratch()) as scratch, folder_archive(client, image, instance.folder) as chunks:
        top = scratch.file("tree")
        extract(chunks, top)
        return read_copy(top, instance)


def read_copy(top: Path, instance: Instance) -> Snapshot:
    """Return the tree of an instance from its extracted files. Raises `EnvironmentFailed`."""
    try:
        with boundary({OSError: _refused}):
            _make_repository(top)
        found = open_repository(str(top), None, top).snapshot()
        history = past_commits(GitCommand(str(top)), instance.base_commit)
    except RepositoryError as error:  # the user named no repository: the machine or the image is to blame
        raise _refused(error) from error
    known = replace(found, name=instance.repo, commit=instance.base_commit, day=instance.created[:10])
    return replace(known, history=history)


def _make_repository(top: Path) -> None:
    """Make of `.git` the least that git needs to read the index; an index that git cannot read is removed."""
    home = top / ".git"
    for folder in ("objects", "refs", "info"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "config").write_text(CONFIG)
    (home / "HEAD").write_text("ref: refs/heads/main\n")
    git = GitCommand(str(top))
    git.read("hash-object", "-w", "-t", "tree", "--stdin")
    commit = git.read("commit-tree", "-m", "The files of an image", _NO_TREE).decode().strip()
    git.read("update-ref", "refs/heads/main", commit)
    if git.ask("ls-files", "--stage").status:
        with suppress(FileNotFoundError):
            (home / "index").unlink()


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The copy of the tree cannot be used ({printable(str(error))}): see that there is room on the disk, and that "
        "git is not older than 2.31."
    )


# --- the archive of an image -----------------------------------------------------------------------------------------


def extract(chunks: Iterator[bytes], top: Path) -> None:
    """Write the entries of a tar file that belong to a tree, less its one top folder, below `top`, which is made.

    Files, symlinks and hard links are made, folders where something lies in them; no devices, FIFOs and sockets, nor
    what git keeps, but what tells which files it tracks. Of two entries with one path the later one counts. Of the
    permissions "may be executed" alone is taken over. Symlinks are made last: while files are written there is none
    that could lead elsewhere. Raises `EnvironmentFailed`.
    """
    links: dict[Path, str] = {}
    with (
        boundary(dict.fromkeys((tarfile.TarError, OSError, EOFError), _failed)),
        tarfile.open(fileobj=cast("Any", _Stream(chunks)), mode="r|", errors="surrogateescape") as archive,
    ):
        top.mkdir(parents=True, exist_ok=True)
        size = 0
        for entry in archive:
            path = _place(top, entry.name)
            if path is None or not links.keys().isdisjoint(path.parents):
                continue
            size += entry.size if entry.isfile() else 0
            if size > LIMIT:
                raise _failed(ValueError(f"its files are larger than {LIMIT // MIB} MiB"))
            source = _place(top, entry.linkname) if entry.islnk() else None
            if entry.issym() or source in links:
                links[path] = links[source] if source else entry.linkname
            elif entry.isfile() or (source not in {None, path} and source.is_file()):
                with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # in the way of another entry
                    _write_file(path, archive, entry, source)
                    links.pop(path, None)
        home = top / ".git"  # git would follow what is in it
        outside = (path for path in links if home not in path.parents)
        for path in sorted(outside, key=lambda path: -len(path.parts)):  # the inner ones first: none is ever followed
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError, ValueError):  # a NUL in the target
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.symlink_to(links[path])


def _place(top: Path, name: str) -> Path | None:
    """Return where an entry goes; None where there is no such place, it leads elsewhere, or is git's own."""
    parts = tuple(part for part in name.split("/")[1:] if part not in {"", "."})
    is_gits = ".git" in parts and not (parts[0] == ".git" and _KEPT.fullmatch("/".join(parts[1:])))
    if not parts or ".." in parts or "\0" in name or is_gits:
        return None
    return top.joinpath(*parts)


def _write_file(path: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo, source: Path | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if source is not None:
        path.hardlink_to(source)
    elif data := archive.extractfile(entry):
        with path.open("xb") as file:
            shutil.copyfileobj(data, file, MIB)
        path.chmod(0o755 if entry.mode & stat.S_IXUSR else 0o644)


@dataclass(frozen=True, slots=True)
class _Stream:
    """The pieces as a file that can only be read on: all that a tar file of mode "r|" needs."""

    chunks: Iterator[bytes]

    def read(self, _wanted: int) -> bytes:
        return next(filter(None, self.chunks), b"")


def _failed(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The tree cannot be copied out of the image ({printable(str(error))}): make room on the disk, or see that the "
        "image is whole."
    )
