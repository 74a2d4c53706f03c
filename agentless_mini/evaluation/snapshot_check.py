"""git's word on patches of a tree that is only there as a snapshot: the image that it came from is on another machine.

Each check puts what git looks at (the files that the patch names, whatever stands in the way of a new one, and
`.gitattributes`) into a scratch folder and runs `git apply --check` there. The rest of the tree, which may have
thousands of files, is never written, and nothing is kept between two checks.
"""

import os
import tempfile
from pathlib import Path, PurePosixPath

from agentless_mini.domain import FileKind, Patch, Reason, Rejected, Snapshot, SourceFile
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary
from agentless_mini.ports import PatchCheck
from agentless_mini.repository.gitcommand import Answer, GitCommand, verdict

_ATTRIBUTES = ".gitattributes"
_NOWHERE = "amini-does-not-know-the-target"  # where a symlink leads makes no difference: git follows none

# As in the copy that a machine with the image makes: what users set for their own repositories says nothing here.
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tautocrlf = false\n\tattributesFile =\n"


def snapshot_check(snapshot: Snapshot) -> PatchCheck:
    """Return the check of patches against this tree, which several threads may call.

    The check raises `EnvironmentFailed` where there is no room for its folder, or no git that answers.
    """
    files = snapshot.by_path()
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    attributes = tuple(file for path, file in files.items() if PurePosixPath(path).name == _ATTRIBUTES)

    def check(patch: Patch) -> Patch | Rejected:
        names = {name for path in patch.paths for name in _way_to(path)}
        with (
            boundary({OSError: _no_scratch}),
            tempfile.TemporaryDirectory(prefix="amini-check-") as scratch,
        ):
            _make_repository(Path(scratch))
            for name in sorted(names & folders):
                Path(scratch, name).mkdir(parents=True, exist_ok=True)
            for file in (*attributes, *(files[name] for name in sorted(names & files.keys()))):
                _write(Path(scratch, file.path), file)
            answer = _asked(scratch, patch.diff)
        return Rejected(Reason.REFUSED_BY_GIT, answer.complaint) if answer.status else patch

    return check


def _way_to(path: str) -> tuple[str, ...]:
    """Return a path and the folders that it lies in."""
    return (path, *(str(folder) for folder in PurePosixPath(path).parents))


def _make_repository(folder: Path) -> None:
    """Make the least that git takes for a repository, so that it looks for none above and heeds attributes."""
    for part in ("objects", "refs"):
        (folder / ".git" / part).mkdir(parents=True)
    (folder / ".git/HEAD").write_text("ref: refs/heads/none\n")
    (folder / ".git/config").write_text(_CONFIG)


def _write(path: Path, file: SourceFile) -> None:
    """Write an entry: a text as it is, and of the others, which no patch can change, what keeps their name taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match file.kind:
        case FileKind.SYMLINK:
            path.symlink_to(_NOWHERE)
        case FileKind.SUBMODULE:
            path.mkdir(exist_ok=True)
        case _:
            path.write_bytes(file.data)
            os.chmod(path, 0o755 if file.mode == "100755" else 0o644)  # noqa: PTH101 - a name may hold any byte


def _asked(folder: str, diff: bytes) -> Answer:
    try:
        return verdict(GitCommand(folder).ask("apply", "--check", "-", stdin=diff))
    except RepositoryError as error:  # the user named no repository: the machine is to blame
        raise EnvironmentFailed(str(error)) from error


def _no_scratch(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"A patch cannot be checked ({error}): free some space in the folder for temporary files.")
