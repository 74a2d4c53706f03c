"""Real git repositories for tests, independent of the machine's and the user's git configuration.

What it does not do: isolate the code under test. A test that runs such code sets `ISOLATED` in its environment.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ISOLATED = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
IDENTITY = {
    f"GIT_{role}_{item}": value
    for role in ("AUTHOR", "COMMITTER")
    for item, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"), ("DATE", "2024-01-02T03:04:05+00:00"))
}


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git in the folder and return what it prints; a failure raises CalledProcessError, with git's words."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    finished = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**inherited, **ISOLATED, **IDENTITY, "LC_ALL": "C.UTF-8"},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if finished.returncode:
        raise subprocess.CalledProcessError(finished.returncode, finished.args, finished.stdout, finished.stderr)
    return finished.stdout


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files below the folder, making their folders; names may hold surrogate escapes."""
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def commit_all(folder: Path, message: str = "a commit") -> str:
    """Commit everything in the working tree, empty or not, and return the commit's id."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD").decode().strip()


def make_repository(path: Path, files: Mapping[str, bytes]) -> Path:
    """Make a repository with one commit that holds exactly the files, and return its top folder.

    Equal files give equal commit ids: identity and dates are fixed.
    """
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    write_files(path, files)
    commit_all(path)
    return path
