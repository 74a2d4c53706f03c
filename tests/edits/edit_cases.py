"""What the tests of edits share: answers in short, trees from a mapping, and git as the judge of a patch."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from agentless_mini.domain import (
    Completion,
    FileChange,
    FileKind,
    Finish,
    Matching,
    Patch,
    Rejected,
    Snapshot,
    SourceFile,
)
from agentless_mini.edits import Tree, apply_edits, parse_edits, read_answer
from tests.gitrepo import git, write_files


def snapshot(files: Mapping[str, bytes | SourceFile], *ignored: str) -> Snapshot:
    entries = [
        data if isinstance(data, SourceFile) else SourceFile(path, "100644", FileKind.TEXT, data)
        for path, data in files.items()
    ]
    return Snapshot("repo", "c0", "d0", tuple(sorted(entries, key=lambda entry: entry.path)), ignored)


def change(path: str, before: bytes | None, after: bytes | None) -> FileChange:
    return FileChange(path, before, after, "100644")


def edit(path: str, search: str, replace: str) -> str:
    return f"### {path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def fenced(*edits: str, fence: str = "```", info: str = "") -> str:
    return f"{fence}{info}\n{''.join(edits)}{fence}\n"


def read(
    text: str, files: Mapping[str, bytes | SourceFile] | Tree, matching: Matching = Matching.STRICT
) -> Patch | Rejected:
    tree = files if isinstance(files, Tree) else Tree.of(snapshot(files))
    return read_answer(Completion(0, text, Finish.STOP), tree, matching)


def after(
    text: str, files: Mapping[str, bytes | SourceFile], matching: Matching = Matching.STRICT
) -> dict[str, bytes | None]:
    """Return the changed files' new bytes; the answer must change some."""
    return {change.path: change.after for change in applied(text, files, matching)}


def applied(
    text: str, files: Mapping[str, bytes | SourceFile], matching: Matching = Matching.STRICT
) -> tuple[FileChange, ...]:
    """Return what an answer changes, if only in form."""
    tree = Tree.of(snapshot(files))
    edits = parse_edits(text, tree.paths)
    assert not isinstance(edits, Rejected), edits
    changes = apply_edits(edits, tree, matching)
    assert not isinstance(changes, Rejected), changes
    return changes


def rejected(
    text: str, files: Mapping[str, bytes | SourceFile] | Tree, matching: Matching = Matching.STRICT
) -> Rejected:
    outcome = read(text, files, matching)
    assert isinstance(outcome, Rejected), outcome
    assert "\n" not in outcome.detail
    return outcome


def git_applied(folder: Path, files: Mapping[str, bytes], diff: bytes) -> dict[str, bytes]:
    """Put the files into the working tree, let git check and apply the patch, and return what is there then.

    `folder` is a git repository; what its working tree held is removed.
    """
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != ".git":
            shutil.rmtree(entry)
        elif entry.name != ".git":
            entry.unlink()
    write_files(folder, files)
    git(folder, "apply", "--check", "-", stdin=diff)
    git(folder, "apply", "--whitespace=nowarn", "-", stdin=diff)
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if ".git" not in path.parts}
