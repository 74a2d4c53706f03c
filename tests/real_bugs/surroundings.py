"""The virtual environment in which the projects' tests run: pytest and what their tests need, never the projects.

One serves all bugs, so that a machine builds it once. It is kept in the cache, by what is in it.
"""

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.real_bugs.index import CACHE, IndexUnreachable
from tests.real_bugs.recipe import Bug

PYTEST = "pytest==8.4.2"


def environment(bugs: Iterable[Bug], cache: Path = CACHE) -> Path:
    """Return the folder of an environment for the bugs' tests, built where the cache does not have it.

    Raises `IndexUnreachable` where pip cannot install what they need.
    """
    wanted = sorted({PYTEST, *(name for bug in bugs for name in bug.requires)})
    identity = hashlib.sha256("\n".join([sys.version, sys.prefix, *wanted]).encode()).hexdigest()[:16]
    folder = cache / "environments" / identity
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".ready").exists():
            _build(folder, wanted)
            (folder / ".ready").touch()
    return folder


def _build(folder: Path, wanted: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
    command = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise IndexUnreachable(f"pip cannot install {', '.join(wanted)}: {done.stderr.strip()[-300:]}")
