"""Where an environment is kept between runs: a folder for each, named by what went into it.

<folder>/environment.json   what was built; written last, so that what has none is half-built
<folder>/overlay.tar        files that the build brought into the tree
<folder>/venv/              the virtual environment, where it is one
<folder>/build.log          what the build said, kept where it failed too
<folder>.lock               held while one run builds, so that another waits instead of building as well
"""

import asyncio
import fcntl
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pydantic

from agentless_mini.errors import EnvironmentFailed, boundary, printable

_LOOK_AGAIN = 0.2  # seconds


class Manifest(pydantic.BaseModel):
    """What was built: the identity that jobs give it, and how its Python is called and which one is behind it.

    `image` is the id of the image and `user` who runs tests in it, where it is one. `lacking` counts what tests
    will miss there, and `tried` is the day for whose trees it was chosen over another, with other packages.
    """

    identity: str
    python: str
    behind: str = ""
    image: str = ""
    user: str = ""
    notes: tuple[str, ...] = ()
    lacking: int = 0
    tried: str = ""


class Slot:
    """The place of one environment. What it is asked to write raises `EnvironmentFailed` where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self.venv = folder / "venv"
        self.log = folder / "build.log"

    @asynccontextmanager
    async def locked(self, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Keep other runs away; `waiting` is called once where another one has to finish first."""
        with boundary({OSError: _refused}):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = self._folder.with_suffix(".lock").open("ab")
        with lock:
            if not _taken(lock.fileno()):
                waiting()
                while not _taken(lock.fileno()):  # noqa: ASYNC110 - another process tells nothing
                    await asyncio.sleep(_LOOK_AGAIN)
            yield

    def read(self) -> Manifest | None:
        """Return what is here; None where it is nothing whole."""
        try:
            return Manifest.model_validate_json((self._folder / "environment.json").read_bytes())
        except (OSError, pydantic.ValidationError):
            return None

    def overlay(self) -> bytes:
        """Return the archive of the files that the build brought into the tree."""
        with boundary({OSError: _refused}):
            return (self._folder / "overlay.tar").read_bytes()

    def clear(self) -> None:
        """Remove what is here, save the log."""
        (self._folder / "environment.json").unlink(missing_ok=True)
        shutil.rmtree(self.venv, ignore_errors=True)

    def write_log(self, text: str) -> None:
        """Keep what the build said."""
        with boundary({OSError: _refused}):
            self.log.write_text(text, "utf-8", errors="replace")

    def keep(self, manifest: Manifest, overlay: bytes) -> None:
        """Take note that the environment is whole."""
        with boundary({OSError: _refused}):
            (self._folder / "overlay.tar").write_bytes(overlay)
            half = self._folder / "environment.json.half"
            half.write_text(manifest.model_dump_json(), "utf-8")
            half.replace(self._folder / "environment.json")


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The folder of environments cannot be used ({printable(str(error))}): make room, or set XDG_CACHE_HOME to "
        "another place."
    )


def hand_over(folder: Path, uid: int) -> None:
    """Make all below a folder, and itself, another user's. No box may be writing there."""
    for _, folders, files, top in os.fwalk(folder):
        os.chown(top, uid, uid)
        for name in (*folders, *files):
            os.chown(name, uid, uid, dir_fd=top, follow_symlinks=False)


def seal(folder: Path) -> None:
    """Take from the programs below a folder, which a box has written, the right to run as their owner."""
    for _, _, files, top in os.fwalk(folder):
        for name in files:
            mode = os.stat(name, dir_fd=top, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                os.chmod(name, stat.S_IMODE(mode) & 0o777, dir_fd=top)
