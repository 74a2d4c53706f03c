"""The job that builds an environment, what came of it, and where that is kept between runs.

The box of a build has the network, since packages come from there. Everything that it says comes from the code that it
installed: it is bounded and checked here, and a later box without network shows whether the environment works.

What is built is kept in a folder named by what went into it, below the cache's folder of environments:

<folder>/environment.json   what was built; written last, so that what has none is half-built
<folder>/overlay.tar        files that the build brought into the tree
<folder>/venv/              the virtual environment, where it is one
<folder>/build.log          what the build printed, kept where it failed too
<folder>.lock               held while one run builds, so that another waits instead of building as well
"""

import asyncio
import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pydantic

from agentless_mini.domain import (
    MIB,
    BoxLimits,
    BoxUser,
    Ending,
    Environment,
    Job,
    JobResult,
    PackedTree,
    PlacedFile,
    Snapshot,
    Step,
)
from agentless_mini.environment.index import CERTIFICATES, Index
from agentless_mini.environment.needs import Needs
from agentless_mini.errors import EnvironmentFailed, boundary, printable

PLACE = ".amini-build"
OVERLAY_LIMIT = 24 * MIB
_LOOK_AGAIN = 0.2  # seconds
_FAILURES_SHOWN = 5
_REPORT, _OVERLAY, _BUNDLE = f"{PLACE}/report.json", f"{PLACE}/overlay.tar", f"{PLACE}/certificates.pem"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an environment is built.

    `setup` replaces the installation where it is not empty. `python` is that of the environment, by path or name;
    `make` a virtual environment to make first, "" where it is there, and `is_fresh` whether it lacks pip. `version` is
    told to tools that read the version of a project from git, of which there is nothing in the box. `path` is the PATH
    in the box, "" for the box's own. No package is taken that came after the day `until` (ISO), where it is not empty.
    """

    needs: Needs
    setup: str
    index: Index
    python: str
    make: str = ""
    is_fresh: bool = True
    version: str = "99.0.0"
    path: str = ""
    until: str = ""
    memory: int = 4096 * MIB
    seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Built:
    """What a build brought: files for the tree, what is installed, and sentences about what is lacking.

    `overlay` is an archive as the box made it: see `overlay_files`. `problem` says why the environment cannot be used,
    "" where nothing is known against it. `lacking` is 1 where the project could not be installed, and one more where
    nothing of what it wants could.
    """

    problem: str
    overlay: bytes = b""
    frozen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    log: str = ""
    lacking: int = 0


class _Report(pydantic.BaseModel):
    """What the installer reports. Only sentences for people and the name of the result depend on it."""

    failed: list[str] = pydantic.Field(max_length=2000)
    editable: bool
    problem: str
    frozen: list[str] = pydantic.Field(max_length=5000)
    left_out: int


def build_job(recipe: Recipe, environment: Environment, tree: PackedTree) -> Job:
    """Return the job. Whatever user the environment names, a build in an image is root's."""
    needs = recipe.needs
    plan = {
        "setup": recipe.setup,
        "until": recipe.until,
        "python": recipe.python,
        "make": recipe.make,
        "fresh": recipe.is_fresh,
        "project": needs.project,
        "extras": needs.extras,
        "install": needs.install,
        "alone": needs.alone,
        "constraints": bool(needs.constraints),
        "options": needs.options,
        "module": needs.module,
        "certificates": CERTIFICATES if recipe.index.certificates else (),
        "overlay_limit": OVERLAY_LIMIT,
    }
    files = (
        PlacedFile(f"{PLACE}/plan.json", json.dumps(plan).encode()),
        PlacedFile(f"{PLACE}/constraints.txt", "\n".join(needs.constraints).encode()),
        *recipe.index.placed(_BUNDLE),
    )
    step = Step(
        (environment.python, "-I", "-c", Path(__file__).with_name("installer.py").read_text("utf-8")),
        seconds=recipe.seconds,
        results=(_REPORT, _OVERLAY),
        variables=_variables(recipe),
    )
    limits = BoxLimits(
        memory=recipe.memory,
        pids=1024,
        disk=max(1024 * MIB, recipe.memory // 2),
        seconds=recipe.seconds + 5,
        output=4 * MIB,
        result=OVERLAY_LIMIT + 8 * MIB,
    )
    environment = Environment(environment.identity, environment.python, BoxUser.ROOT)
    return Job(environment, tree, files, (step,), limits)


def _variables(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    version = recipe.version
    told = {
        **dict(recipe.index.variables()),
        "SETUPTOOLS_SCM_PRETEND_VERSION": version,
        "PBR_VERSION": version,
        "PDM_BUILD_SCM_VERSION": version,
        "POETRY_DYNAMIC_VERSIONING_BYPASS": version,
        "GIT_TERMINAL_PROMPT": "0",
        **({"PATH": recipe.path} if recipe.path else {}),
    }
    return tuple(sorted(told.items()))


def read_build(result: JobResult, recipe: Recipe) -> Built:
    """Return what came of the job."""
    if result.refusal:
        return Built(f"files cannot be placed: {result.refusal}")
    (step,) = result.steps
    log = step.output.text()
    found = {file.path: file.data for file in step.results}
    ended = {
        Ending.TIMED_OUT: f"it took longer than {recipe.seconds:g} s",
        Ending.STARVED: "the machine was too busy for it",
        Ending.OUT_OF_MEMORY: f"it used more than {recipe.memory // MIB} MiB of memory",
    }.get(step.ending, f"it ended with {step.status}")
    try:
        report = _Report.model_validate_json(found.get(_REPORT, b""))
    except pydantic.ValidationError:
        return Built(ended, log=log)
    if not step.succeeded or report.problem:
        return Built(printable(report.problem[:200]) or ended, log=log)
    wanted = set(recipe.needs.install)
    is_bare = recipe.needs.project and not recipe.setup and not report.editable
    lacking = is_bare + (bool(wanted) and wanted <= set(report.failed))
    return Built("", found.get(_OVERLAY, b""), tuple(report.frozen), _notes(report, is_bare), log, lacking)


def _notes(report: _Report, is_bare: bool) -> tuple[str, ...]:
    notes = []
    if is_bare:
        notes.append("The project itself could not be installed; it is imported from its folder.")
    if report.failed:
        shown = ", ".join(printable(name[:60]) for name in report.failed[:_FAILURES_SHOWN])
        more = len(report.failed) - _FAILURES_SHOWN
        notes.append(f"Could not be installed: {shown}{f' and {more} more' if more > 0 else ''}.")
    if report.left_out:
        notes.append(f"What the build wrote into the tree is left out, for it is {report.left_out // MIB} MiB.")
    return tuple(notes)


def overlay_files(archive: bytes, snapshot: Snapshot) -> tuple[PlacedFile, ...]:
    """Return the regular files of the archive that can lie beside those of the tree, which are never replaced.

    The archive is not trusted: a path that is not clean or leads out of the tree is left out.
    """
    taken = {file.path for file in snapshot.files}
    above = set[str]()
    for path in taken:
        while (path := path.rpartition("/")[0]) and path not in above:
            above.add(path)
    kept: dict[str, PlacedFile] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                if _is_plain(member) and is_beside(member.name, taken, above) and member.name not in kept:
                    file = tar.extractfile(member)
                    mode = "100755" if member.mode & 0o100 else "100644"
                    kept[member.name] = PlacedFile(member.name, file.read() if file else b"", mode)
    except (tarfile.TarError, ValueError, OSError, EOFError):
        return ()
    return tuple(file for path, file in sorted(kept.items()) if not any(up in kept for up in _parents(path)))


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Tell whether it is a file of the size that it has in the archive: a sparse one could be of any size."""
    return member.isfile() and not member.issparse() and member.size <= OVERLAY_LIMIT


def is_beside(path: str, taken: set[str], above: set[str]) -> bool:
    """Tell whether a path is clean, in the tree, free, and below no file or link of the tree (nor PLACE)."""
    parts = path.split("/")
    if any(part in {"", ".", "..", PLACE} or part.lower() == ".git" or "\0" in part for part in parts):
        return False
    return path not in taken and path not in above and taken.isdisjoint(_parents(path))


def _parents(path: str) -> set[str]:
    return {path[:at] for at, char in enumerate(path) if char == "/"}


def identity_of(key: str, built: Built) -> str:
    """Return the name of what was built: the same packages and files for the same needs are the same environment."""
    parts = [key, built.frozen, hashlib.sha256(built.overlay).hexdigest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
    """Where one environment is kept. What it is asked to write raises `EnvironmentFailed` where the disk refuses."""

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
