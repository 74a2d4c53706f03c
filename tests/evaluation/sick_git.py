"""A git that does not come to a verdict on patches, in the place of the real one."""

import os
import shutil
from pathlib import Path

import pytest

DEATHS = {
    "killed": "kill -9 $$",
    "killed below a shell": "exit 137",
    "the disk is full": "echo 'error: unable to write file x: No space left on device' >&2; exit 1",
    "no memory": "echo 'fatal: Out of memory, malloc failed' >&2; exit 128",
    "the folder is gone": "echo \"fatal: cannot change to '/gone': No such file or directory\" >&2; exit 128",
}


def sick_git(folder: Path, death: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every `git apply` end like this."""
    real = shutil.which("git")
    folder.mkdir()
    program = folder / "git"
    program.write_text(
        f'#!/bin/sh\nfor word in "$@"; do [ "$word" != apply ] || {{ {DEATHS[death]}; }}; done\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no git."""
    monkeypatch.setenv("PATH", "/nowhere")
