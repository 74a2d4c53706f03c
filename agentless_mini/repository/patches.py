"""git's word on patches of a snapshot: whether it takes one, and what one that was made elsewhere makes of the files.

What git looks at (the files that the patch names, whatever stands in the way of a new one, and `.gitattributes`) is
put into a scratch folder, where `git apply` runs. The rest of the tree, which may have thousands of files, is never
written, and nothing is kept between two patches.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from agentless_mini.domain import (
    Candidate,
    Completion,
    FileChange,
    FileKind,
    Finish,
    Patch,
    Proposal,
    Reason,
    Rejected,
    Snapshot,
    SourceFile,
)
from agentless_mini.edits import Forms, candidate_patch
from agentless_mini.errors import EnvironmentFailed, RepositoryError, boundary, printable
from agentless_mini.ports import PatchCheck
from agentless_mini.record import RunId, Store
from agentless_mini.repository.gitcommand import EXECUTABLE, REGULAR, Answer, GitCommand, decode_path, verdict

# What users have set for their own repositories does not decide what belongs to this one.
CONFIG = (
    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfilemode = true\n\tsymlinks = true\n"
    "\tautocrlf = false\n\texcludesFile =\n\tattributesFile =\n[user]\n\tname = amini\n\temail = amini@localhost\n"
    "[commit]\n\tgpgSign = false\n"
)
_BINARY = re.compile(rb"^(?:GIT binary patch|Binary files .* differ)\r?$", re.MULTILINE)
_MOVED = re.compile(rb"^(?:rename|copy) from (.+)$", re.MULTILINE)


class _Scratch:
    """Makes scratch folders of a snapshot; several threads may ask for some."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.files = snapshot.by_path()
        self._folders = {str(folder) for path in self.files for folder in PurePosixPath(path).parents}
        named = self.files.items()
        self._attributes = tuple(file for path, file in named if PurePosixPath(path).name == ".gitattributes")

    @contextmanager
    def holding(self, paths: Collection[str]) -> Iterator[GitCommand]:
        """Give git in a folder with what it looks at of a patch of these paths."""
        names = {name for path in paths for name in (path, *map(str, PurePosixPath(path).parents))}
        with boundary({OSError: _no_scratch}), tempfile.TemporaryDirectory(prefix="amini-check-") as scratch:
            # The least that git takes for a repository, so that it looks for none above and heeds attributes.
            for part in ("objects", "refs"):
                (Path(scratch) / ".git" / part).mkdir(parents=True)
            (Path(scratch) / ".git/HEAD").write_text("ref: refs/heads/none\n")
            (Path(scratch) / ".git/config").write_text(CONFIG)
            for name in sorted(names & self._folders):
                Path(scratch, name).mkdir(parents=True, exist_ok=True)
            for file in (*self._attributes, *(self.files[name] for name in sorted(names & self.files.keys()))):
                _write_source(Path(scratch, file.path), file)
            yield GitCommand(scratch)


def snapshot_check(snapshot: Snapshot) -> PatchCheck:
    """Return the check of patches against this tree, which several threads may call.

    It raises `EnvironmentFailed` where there is no room for its folder, or no git that answers.
    """
    scratch = _Scratch(snapshot)

    def check(patch: Patch) -> Patch | Rejected:
        with scratch.holding(patch.paths) as git:
            answer = _applied(git, patch.diff, "--check")
        return Rejected(Reason.REFUSED_BY_GIT, answer.complaint) if answer.status else patch

    return check


def _applied(git: GitCommand, diff: bytes, *options: str) -> Answer:
    try:
        return verdict(git.ask("apply", *options, "-", stdin=diff))
    except RepositoryError as error:  # the user named no repository: the machine is to blame
        raise EnvironmentFailed(str(error)) from error


# --- patches that were made elsewhere --------------------------------------------------------------------------------


def patch_reader(snapshot: Snapshot) -> Callable[[bytes], Patch | Rejected]:
    """Return what reads a patch by any tool, as `git apply` does, into a patch of this tree; for one thread at a time.

    A rename becomes a deleted and a new file, and a change of a mode is left out. Raises as `snapshot_check`.
    """
    scratch, forms = _Scratch(snapshot), Forms()

    def read(diff: bytes) -> Patch | Rejected:
        if not diff.strip():
            return Rejected(Reason.NO_CHANGE, "it is empty")
        if _BINARY.search(diff):
            return Rejected(Reason.NOT_EDITABLE, "it changes a binary file")
        whole = diff if diff.endswith(b"\n") else diff + b"\n"
        found = made(whole)
        bare = made(whole, "-p0") if isinstance(found, Rejected) and found.reason is Reason.REFUSED_BY_GIT else found
        return found if isinstance(bare, Rejected) else bare

    def made(diff: bytes, *level: str) -> Patch | Rejected:
        with scratch.holding(()) as git:
            listed = _applied(git, diff, "--numstat", "-z", *level)
        if listed.status:
            return Rejected(Reason.REFUSED_BY_GIT, f"it is no patch that git can read ({listed.complaint})")
        names = [entry.split(b"\t", 2)[2] for entry in listed.out.split(b"\0")[:-1]] + _MOVED.findall(diff)
        paths = sorted({decode_path(name) for name in names})
        for path in paths:
            entry = scratch.files.get(path)
            if not {"", ".", "..", ".git"}.isdisjoint(path.split("/")):
                return Rejected(Reason.BAD_PATH, f"it leads out of the tree ({printable(path)})")
            if entry is not None and entry.kind is not FileKind.TEXT:
                return Rejected(Reason.NOT_EDITABLE, f"{printable(path)} is no text file here ({entry.kind})")
        with scratch.holding(paths) as git:
            answer = _applied(git, diff, *level)
            if answer.status:
                hint = "its lines end in CRLF: do the files'?" if b"\r\n" in diff else "is it of another base?"
                return Rejected(Reason.REFUSED_BY_GIT, f"git does not apply it ({answer.complaint}); {hint}")
            changes = [_change(Path(git.folder, path), path, scratch.files.get(path)) for path in paths]
        refused = next((one for one in changes if isinstance(one, Rejected)), None)
        differing = [one for one in changes if isinstance(one, FileChange) and one.before != one.after]
        unchanged = Rejected(Reason.NO_CHANGE, "it changes no line")
        return refused or (candidate_patch(differing, forms) if differing else unchanged)

    return read


def _change(now: Path, path: str, entry: SourceFile | None) -> FileChange | Rejected:
    is_there = now.is_file()
    after = now.read_bytes() if is_there and not now.is_symlink() else None
    if now.is_symlink() or (after and b"\0" in after):
        kind = "symbolic link" if now.is_symlink() else "binary file"
        return Rejected(Reason.NOT_EDITABLE, f"it makes a {kind} ({printable(path)})")
    made = EXECUTABLE if is_there and os.access(now, os.X_OK) else REGULAR
    return FileChange(path, entry.data if entry else None, after, entry.mode if entry else made)


def read_pool(pool: Sequence[Proposal], snapshot: Snapshot, check: PatchCheck) -> tuple[Candidate, ...]:
    """Return what became of each patch on this tree, in order. Raises as `snapshot_check`."""
    read = patch_reader(snapshot)
    known: dict[bytes, Patch | Rejected] = {}
    candidates: list[Candidate] = []
    seen: Counter[Proposal] = Counter()
    for order, one in enumerate(pool):
        if one.diff not in known:
            found = read(one.diff)
            known[one.diff] = found if isinstance(found, Rejected) else check(found)
        candidates.append(Candidate(one.request().key(), seen[one], order, known[one.diff]))
        seen[one] += 1
    return tuple(candidates)


def record_pool(store: Store, run: RunId, pool: Sequence[Proposal], candidates: Sequence[Candidate]) -> None:
    """Record the patches as what a run uses, as samples of their sources."""
    for one, candidate in zip(pool, candidates, strict=True):
        text = one.diff.decode("utf-8", "surrogateescape")
        key = store.put_request(request := one.request())
        store.put_sample(key, request, Completion(candidate.index, text, Finish.STOP))
        store.runs.link(run, key, candidate.index)


def _write_source(path: Path, file: SourceFile) -> None:
    """Write a text as it is; of other files, which no patch can change, write what keeps their name taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match file.kind:
        case FileKind.SYMLINK:
            path.symlink_to("amini-does-not-know-the-target")  # git follows none
        case FileKind.SUBMODULE:
            path.mkdir(exist_ok=True)
        case _:
            path.write_bytes(file.data)
            os.chmod(path, 0o755 if file.mode == "100755" else 0o644)  # noqa: PTH101 - a name may hold any byte


def _no_scratch(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"A patch cannot be checked ({error}): free some space in the folder for temporary files.")
