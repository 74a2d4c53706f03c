"""Round trip on real history: commit -> written answer -> read answer -> the commit's exact bytes, and git agrees.

Runs on the repositories named in AMINI_HISTORY_REPOS (paths, separated by colons), AMINI_HISTORY_COMMITS of each (200
unless told), evenly spread over its history. Nothing is written to the repositories.

A commit counts by its text files. Left out, and counted apart: binary files, symbolic links, submodules, changes of a
mode alone, and files that the applier refuses by rule: Python that does not parse on this interpreter.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.domain import Completion, FileChange, FileKind, Finish, Patch, Snapshot, SourceFile
from agentless_mini.edits import Forms, Tree, changed_files, read_answer, write_answer
from agentless_mini.repository.gitcommand import GitCommand, blobs

REPOSITORIES = [Path(path) for path in os.environ.get("AMINI_HISTORY_REPOS", "").split(":") if path]
COMMITS = int(os.environ.get("AMINI_HISTORY_COMMITS", "200"))
REGULAR = {"100644", "100755"}
ABSENT = "000000"

log = logging.getLogger(__name__)


def history_of(repository: Path, scratch: Path) -> GitCommand:
    """Return git that reads a repository, and applies patches to an index and an object folder of its own."""
    inside = repository / ".git"
    folder = inside if inside.exists() else repository
    own = (f"GIT_INDEX_FILE={scratch}/index", f"GIT_OBJECT_DIRECTORY={scratch}/objects")
    theirs = (f"GIT_DIR={folder}", f"GIT_ALTERNATE_OBJECT_DIRECTORIES={folder}/objects")
    return GitCommand(str(repository), variables=(*own, *theirs))


def touched(history: GitCommand, commit: str) -> Iterator[tuple[str, tuple[str, str], tuple[str, str]]]:
    """Yield the files that a commit touches: their paths, modes and blobs, those before and after."""
    fields = history.read("diff-tree", "-r", "-z", "--no-renames", f"{commit}^1", commit).decode(
        errors="surrogateescape"
    )
    parts = fields.split("\0")[:-1]
    for meta, path in zip(parts[::2], parts[1::2], strict=True):
        old_mode, new_mode, old_blob, new_blob, _ = meta[1:].split()
        yield path, (old_mode, new_mode), (old_blob, new_blob)


def changes_of(history: GitCommand, commit: str, left_out: Counter[str]) -> list[FileChange]:
    """Return the commit's changes of text files."""
    changes = []
    for path, modes, ids in touched(history, commit):
        if not {*modes} <= REGULAR | {ABSENT}:
            left_out["links and submodules"] += 1
        elif ids[0] == ids[1]:
            left_out["mode only"] += 1
        else:
            before, after = (
                next(blobs(history, [one])) if mode != ABSENT else None for mode, one in zip(modes, ids, strict=True)
            )
            change = FileChange(path, before, after, max(modes))
            reason = why_left_out(change)
            left_out[reason] += 1
            changes += [] if reason else [change]
    return changes


def why_left_out(change: FileChange) -> str:
    if any(b"\0" in (data or b"")[:8192] for data in (change.before, change.after)):
        return "binary"
    forms = Forms()
    broken = change.after is not None and forms.of(change.path, change.after).problem
    if broken and not (change.before is not None and forms.of(change.path, change.before).problem):
        return "Python that does not parse"
    return ""


def snapshot_of(history: GitCommand, commit: str, changes: list[FileChange]) -> Snapshot:
    """Return the parent's tree: all of its names, and the contents of the files that the commit touches."""
    data = {change.path: change.before for change in changes}
    kinds = {"120000": FileKind.SYMLINK, "160000": FileKind.SUBMODULE}
    files = []
    for row in history.read("ls-tree", "-r", "-z", f"{commit}^1").decode(errors="surrogateescape").split("\0")[:-1]:
        meta, _, path = row.partition("\t")
        mode = meta.split()[0]
        files.append(SourceFile(path, mode, kinds.get(mode, FileKind.TEXT), data.get(path) or b""))
    return Snapshot(Path(history.folder).name, commit, "", tuple(sorted(files, key=lambda file: file.path)))


def fault_of(history: GitCommand, commit: str, changes: list[FileChange]) -> str:
    """Return what is wrong with the round trip of a commit, "" for nothing."""
    answer = write_answer(changes)
    if not isinstance(answer, str):
        return f"not written: {answer}"
    tree = Tree.of(snapshot_of(history, commit, changes))
    outcome = read_answer(Completion(0, answer, Finish.STOP), tree)
    if not isinstance(outcome, Patch):
        return f"not read: {outcome}"
    expected = {change.path: (change.before, change.after) for change in changes}
    made = changed_files(outcome, tree.entries)
    if {change.path: (change.before, change.after) for change in made} != expected:
        return "other bytes"
    history.read("read-tree", f"{commit}^1")
    history.read("apply", "--cached", "--check", "-", stdin=outcome.diff)
    history.read("apply", "--cached", "--whitespace=nowarn", "-", stdin=outcome.diff)
    left = [change for change in changes if change.after is not None]
    kept = [*blobs(history, [f":0:{change.path}" for change in left if "\n" not in change.path])]
    return "" if kept == [change.after for change in left if "\n" not in change.path] else "git made other bytes"


@pytest.mark.slow
@pytest.mark.skipif(not REPOSITORIES, reason="AMINI_HISTORY_REPOS names no git repository")
@pytest.mark.parametrize("repository", REPOSITORIES, ids=str)
def test_the_commits_of_a_real_history_come_back_byte_for_byte(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    history = history_of(repository, tmp_path)
    commits = history.read("rev-list", "--no-merges", "--min-parents=1", "HEAD").decode().split()
    faults: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    done = 0
    for commit in commits[:: max(1, len(commits) * 9 // (COMMITS * 10))]:
        changes = changes_of(history, commit, left_out)
        if not changes:
            left_out["commits without text"] += 1
            continue
        if fault := fault_of(history, commit, changes):
            faults[commit] = fault
        done += 1
        if done == COMMITS:
            break
    files = left_out.pop("")
    log.info("%s: %d commits, %d text files, left out: %s", repository, done, files, dict(left_out))
    assert faults == {}
    assert done
