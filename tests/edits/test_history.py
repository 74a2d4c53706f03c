"""Round trip on real history: commit -> written answer -> read answer -> the commit's exact bytes, and git agrees.

Runs on the repositories named in AMINI_HISTORY_REPOS (paths, separated by colons), AMINI_HISTORY_COMMITS of each (200
unless told), evenly spread over its history. Nothing is written to the repositories.

A commit counts by its text files. Left out, and counted apart: binary files, symbolic links, submodules, changes of a
mode alone, and files that the applier refuses by rule: Python that does not parse on this interpreter.
"""

import logging
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentless_mini.domain import Completion, FileChange, FileKind, Finish, Patch, Snapshot, SourceFile
from agentless_mini.edits import Forms, Tree, changed_files, read_answer, write_answer

REPOSITORIES = [Path(path) for path in os.environ.get("AMINI_HISTORY_REPOS", "").split(":") if path]
COMMITS = int(os.environ.get("AMINI_HISTORY_COMMITS", "200"))
REGULAR = {"100644", "100755"}
ABSENT = "000000"

log = logging.getLogger(__name__)


@dataclass
class History:
    """Reads a repository through git, and applies patches to an index and an object folder of its own."""

    repository: Path
    scratch: Path

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
            "GIT_DIR": self.folder,
            "GIT_INDEX_FILE": str(self.scratch / "index"),
            "GIT_OBJECT_DIRECTORY": str(self.scratch / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{self.folder}/objects",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        done = subprocess.run(["git", *arguments], env=environment, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")[:2000]
        return done.stdout

    @property
    def folder(self) -> str:
        inside = self.repository / ".git"
        return str(inside if inside.exists() else self.repository)

    def commits(self) -> list[str]:
        return self.git("rev-list", "--no-merges", "--min-parents=1", "HEAD").decode().split()

    def blobs(self, names: list[str]) -> list[bytes]:
        out = self.git("cat-file", "--batch", stdin="".join(name + "\n" for name in names).encode())
        blobs = []
        at = 0
        for _ in names:
            head, _, _ = out[at:].partition(b"\n")
            start = at + len(head) + 1
            size = int(head.split()[2])
            blobs.append(out[start : start + size])
            at = start + size + 1
        return blobs


@dataclass(frozen=True)
class Touched:
    path: str
    modes: tuple[str, str]
    blobs: tuple[str, str]


def touched(history: History, commit: str) -> Iterator[Touched]:
    fields = history.git("diff-tree", "-r", "-z", "--no-renames", f"{commit}^1", commit).decode(
        errors="surrogateescape"
    )
    parts = fields.split("\0")[:-1]
    for meta, path in zip(parts[::2], parts[1::2], strict=True):
        old_mode, new_mode, old_blob, new_blob, _ = meta[1:].split()
        yield Touched(path, (old_mode, new_mode), (old_blob, new_blob))


def changes_of(history: History, commit: str, left_out: Counter[str]) -> list[FileChange]:
    """Return the commit's changes of text files."""
    regular = []
    for file in touched(history, commit):
        if not {*file.modes} <= REGULAR | {ABSENT}:
            left_out["links and submodules"] += 1
        elif file.blobs[0] == file.blobs[1]:
            left_out["mode only"] += 1
        else:
            regular.append(file)
    names = [blob for file in regular for blob, mode in zip(file.blobs, file.modes, strict=True) if mode != ABSENT]
    data = dict(zip(names, history.blobs(names), strict=True))
    changes = []
    for file in regular:
        change = FileChange(file.path, data.get(file.blobs[0]), data.get(file.blobs[1]), max(file.modes))
        reason = why_left_out(change)
        left_out[reason] += 1
        if not reason:
            changes.append(change)
    return changes


def why_left_out(change: FileChange) -> str:
    if any(b"\0" in (data or b"")[:8192] for data in (change.before, change.after)):
        return "binary"
    forms = Forms()
    broken = change.after is not None and forms.of(change.path, change.after).problem
    if broken and not (change.before is not None and forms.of(change.path, change.before).problem):
        return "Python that does not parse"
    return ""


def snapshot_of(history: History, commit: str, changes: list[FileChange]) -> Snapshot:
    """Return the parent's tree: all of its names, and the contents of the files that the commit touches."""
    data = {change.path: change.before for change in changes}
    kinds = {"120000": FileKind.SYMLINK, "160000": FileKind.SUBMODULE}
    files = []
    for row in history.git("ls-tree", "-r", "-z", f"{commit}^1").decode(errors="surrogateescape").split("\0")[:-1]:
        meta, _, path = row.partition("\t")
        mode = meta.split()[0]
        files.append(SourceFile(path, mode, kinds.get(mode, FileKind.TEXT), data.get(path) or b""))
    return Snapshot(history.repository.name, commit, "", tuple(sorted(files, key=lambda file: file.path)))


def fault_of(history: History, commit: str, changes: list[FileChange]) -> str:
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
    history.git("read-tree", f"{commit}^1")
    history.git("apply", "--cached", "--check", "-", stdin=outcome.diff)
    history.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=outcome.diff)
    left = [change for change in changes if change.after is not None]
    kept = history.blobs([f":0:{change.path}" for change in left if "\n" not in change.path])
    return "" if kept == [change.after for change in left if "\n" not in change.path] else "git made other bytes"


@pytest.mark.slow
@pytest.mark.skipif(not REPOSITORIES, reason="AMINI_HISTORY_REPOS names no git repository")
@pytest.mark.parametrize("repository", REPOSITORIES, ids=str)
def test_the_commits_of_a_real_history_come_back_byte_for_byte(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    history = History(repository, tmp_path)
    commits = history.commits()
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
