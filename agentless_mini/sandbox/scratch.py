"""A temporary folder for copies of trees, which the next run removes where its own run was killed."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.sandbox import owners

_PREFIX = "amini-trees-"
_OWNER = "owner"


class Scratch:
    """A folder of this run, made when it is first asked for."""

    def __init__(self) -> None:
        """Make nothing yet."""
        self._folder: Path | None = None

    def file(self, name: str) -> Path:
        """Return the path for a file in it. Raises `EnvironmentFailed` where there is no room for temporary files."""
        if self._folder is None:
            with boundary({OSError: _refused}):
                self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
                (self._folder / _OWNER).write_text(owners.myself())
        return self._folder / name

    def close(self) -> None:
        """Remove it. It may be used again."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def sweep_scratch() -> int:
    """Remove the folders of runs that are dead, and return how many."""
    removed = 0
    for owner in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}")):
        with contextlib.suppress(OSError):  # somebody else's, or swept by another run
            if owners.is_dead(owner.read_text()):
                shutil.rmtree(owner.parent)
                removed += 1
    return removed


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"No temporary folder can be made ({error}): make room, or set TMPDIR to another place.")
