"""What the tests of repositories share: opening one, looking at what was read, and writing small patches."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agentless_mini.domain import FileKind, Snapshot
from agentless_mini.errors import AminiError, RepositoryError
from agentless_mini.repository.opening import Repository, open_repository

CACHE = Path("/nonexistent/cache")
FILES = {"README.md": b"hello\n", "src/a.py": b"a = 1\n", "src/b.py": b"b = 2\n"}


def opened(path: Path, rev: str | None = None) -> Repository:
    return open_repository(str(path), rev, CACHE)


def contents(snapshot: Snapshot) -> dict[str, bytes]:
    return {file.path: file.data for file in snapshot.files}


def kinds(snapshot: Snapshot) -> dict[str, tuple[str, FileKind]]:
    return {file.path: (file.mode, file.kind) for file in snapshot.files}


def error_of(call: Callable[[], object], kind: type[AminiError] = RepositoryError) -> str:
    with pytest.raises(kind) as caught:
        call()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def everything_below(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Take down every file with its times and bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        # Whatever reads a split index, `git log` too, sets the time of its shared half, lest another git removes it.
        time = 0 if path.name.startswith("sharedindex.") else info.st_mtime_ns
        found[os.fspath(path)] = (info.st_mode, time, data)
    return found


def changing(path: str, before: bytes, after: bytes) -> bytes:
    """Build the patch that replaces a file's only line."""
    name = path.encode()
    return b"diff --git a/%b b/%b\n--- a/%b\n+++ b/%b\n@@ -1 +1 @@\n-%b+%b" % (name, name, name, name, before, after)


def creating(path: str) -> bytes:
    name = path.encode()
    head = b"diff --git a/%b b/%b\nnew file mode 100644\n--- /dev/null\n+++ b/%b\n" % (name, name, name)
    return head + b"@@ -0,0 +1 @@\n+x\n"
