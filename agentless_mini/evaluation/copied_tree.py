"""Copies the tree of an instance out of its image, without its history, and opens the copy as a repository.

Nothing of the image's `.git` is taken but the index, which says what is tracked, and `info/exclude`: the copy is a
repository of its own with one empty commit. Where git cannot use that index, all files count that are not ignored.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentless_mini.domain import Patch, Reason, Rejected
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, printable
from agentless_mini.evaluation.extracting import Parts, extract
from agentless_mini.evaluation.instances import Instance
from agentless_mini.evaluation.ports import Tree
from agentless_mini.ports import PatchCheck
from agentless_mini.repository.gitcommand import GitCommand
from agentless_mini.repository.opening import Repository, open_repository
from agentless_mini.sandbox.images import folder_archive

if TYPE_CHECKING:
    from docker import DockerClient

FOLDER = "/testbed"
"""Where an image has its tree."""
_GIT = b".git"
_KEPT = {(_GIT, b"index"), (_GIT, b"info", b"exclude")}
# What the user has set for their own repositories does not decide what belongs to this one.
_CONFIG = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfilemode = true\n\tsymlinks = true\n"
    "\tautocrlf = false\n\texcludesFile =\n\tattributesFile =\n[user]\n\tname = amini\n\temail = amini@localhost\n"
    "[commit]\n\tgpgSign = false\n"
)
_NO_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's own name for a tree without a file


def copy_tree(client: "DockerClient", image: str, instance: Instance, top: Path) -> Tree:
    """Copy the tree of an instance out of its image to `top`, which is made. The tree's check needs the copy.

    Raises `EnvironmentFailed` where it cannot be copied, or git cannot read the copy.
    """
    with folder_archive(client, image, FOLDER) as chunks:
        extract(chunks, top, is_of_tree)
    return read_copy(top, instance)


def is_of_tree(parts: Parts) -> bool:
    """Tell whether an entry belongs to a copy: nothing that git keeps does, but what tells which files it tracks."""
    return _GIT not in parts or parts in _KEPT


def read_copy(top: Path, instance: Instance) -> Tree:
    """Return the tree of an instance from its extracted files. Raises `EnvironmentFailed`."""
    try:
        with boundary({OSError: _refused}):
            _make_repository(top)
        repository = open_repository(str(top), None, top)
        found = repository.snapshot()
    except RepositoryError as error:  # the user named no repository: the machine or the image is to blame
        raise _refused(error) from error
    snapshot = replace(found, name=instance.repo, commit=instance.base_commit, day=instance.created[:10])
    return Tree(snapshot, _check(repository))


def _make_repository(top: Path) -> None:
    """Make `.git` what git needs to take the index, which is let go where it cannot be used."""
    home = top / ".git"
    for kept in (home / "index", home / "info" / "exclude"):
        if kept.is_symlink():  # git would follow it
            kept.unlink()
    for folder in ("objects", "refs", "info"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "config").write_text(_CONFIG)
    (home / "HEAD").write_text("ref: refs/heads/main\n")
    git = GitCommand(str(top))
    git.read("hash-object", "-w", "-t", "tree", "--stdin")
    commit = git.read("commit-tree", "-m", "The files of an image", _NO_TREE).decode().strip()
    git.read("update-ref", "refs/heads/main", commit)
    if git.ask("ls-files", "--stage").status:
        with suppress(FileNotFoundError):
            (home / "index").unlink()


def _check(repository: Repository) -> PatchCheck:
    def check(patch: Patch) -> Patch | Rejected:
        try:
            verdict = repository.accepts(patch.diff)
        except RepositoryError as error:
            raise _refused(error) from error
        return patch if verdict.ok else Rejected(Reason.REFUSED_BY_GIT, verdict.message)

    return check


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The copy of the tree cannot be used ({printable(str(error))}): see that there is room on the disk, and that "
        "git is not older than 2.31."
    )
