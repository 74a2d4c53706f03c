"""A test environment in the making: what is asked for, where environments are kept, and which of two serves.

What is built is kept in a folder named by what went into it, below the cache's folder of environments:

<folder>/environment.json   what was built; written last, so that what has none is half-built
<folder>/overlay.tar        files that the build brought into the tree
<folder>/venv/              the virtual environment, where it is one
<folder>/box/               where its build has its box: always there, since the project is installed with the path
<folder>/build.log          what the build printed, kept where it failed too
<folder>.lock               held while one run builds, so that another waits instead of building as well

An old tree seldom says below which versions of its dependencies it works, and later ones may fail half of its tests. So
the packages of its time come first. Those of today stand in where the others cannot be had or lack more, which is
decided by what was built, never by guessing at versions.
"""

import asyncio
import fcntl
import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pydantic

from agentless_mini.domain import (
    BoxLimits,
    FileChange,
    Note,
    Phase,
    PhaseSaid,
    Place,
    PlacedFile,
    Runner,
    Snapshot,
    canonical_json,
)
from agentless_mini.environment.machine import Index
from agentless_mini.environment.needs import Needs
from agentless_mini.environment.proxy import IndexProxy, open_proxy
from agentless_mini.errors import BuildFailed, EnvironmentFailed, boundary, printable
from agentless_mini.ports import Sandbox, Watch
from agentless_mini.sandbox.host import Scratch
from agentless_mini.sandbox.wire import Contents, Pack, pack_snapshot
from agentless_mini.settings.run import SandboxSettings

CRATES = ("index.crates.io:443", "static.crates.io:443")
"""The index of Rust's packages, which a build reaches where the tree has a Cargo.toml."""
_DEBIAN = ("deb.debian.org:80", "security.debian.org:80", "archive.ubuntu.com:80", "security.ubuntu.com:80")
_LOOK_AGAIN = 0.2  # seconds
_LOG_END = 20_000  # letters
BUSY = "the machine was too busy for it"
"""Why a build failed that says nothing of what it builds."""
Guarding = Callable[[Sequence[FileChange]], Sequence[PlacedFile]]
_OLD = timedelta(days=180)
"""A younger tree is taken to work with what its authors have today."""


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """A tree whose tests are to be run.

    `contents` reads the files of which the snapshot has no contents. Environments are kept in `cache`. `variables` are
    the user's: where Pythons and packages are found. `until` is the day of the tree (ISO, a time may follow): if it is
    long ago, packages as of then are preferred to those of today. Empty, those of today are all. Where a model wrote
    the setup command, `guarding` tells which files of its build say how tests are run, and are left out.
    """

    snapshot: Snapshot
    contents: Contents
    cache: Path
    variables: Mapping[str, str]
    runner: Runner
    until: str = ""
    guarding: "Guarding | None" = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A test environment that is ready. `notes` are sentences for people on what it lacks.

    Its Python is called `program`, with these `variables`.
    """

    sandbox: Sandbox
    place: Place
    limits: BoxLimits
    notes: tuple[str, ...] = ()
    program: str = "python"
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """Return the name of the environment, for the record of a run."""
        return self.place.environment.identity


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No tests are run; `reason` is a sentence that says why, and `log` the end of that of a build that failed."""

    reason: str
    log: str = ""


class Manifest(pydantic.BaseModel):
    """What was built: the identity that jobs give it, and how its Python is called and which one is behind it.

    `image` is the id of the image and `user` who runs tests in it, where it is one. There the tests' Python may have
    another name, `program`, and need `variables`. `lacking` counts what tests will miss, and `tried` is the day for
    whose trees it was chosen over another, with other packages.
    """

    identity: str
    python: str
    behind: str = ""
    image: str = ""
    user: str = ""
    program: str = "python"
    variables: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    lacking: int = 0
    tried: str = ""


class Slot:
    """Where one environment is kept. What it is asked to write raises `EnvironmentFailed` where the disk refuses."""

    def __init__(self, folder: Path, key: str) -> None:
        """Touch nothing yet. `key` is the name of all that the environment is made of."""
        self._folder = folder
        self.key = key
        self.venv, self.box = folder / "venv", folder / "box"
        self.log = folder / "build.log"

    @asynccontextmanager
    async def locked(self, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Keep other runs away; `waiting` is called once where another one has to finish first."""
        with boundary({OSError: _refused}):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = self._folder.with_suffix(".lock").open("ab")
        with lock:
            is_told = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not is_told:
                        waiting()
                    is_told = True
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

    def log_end(self) -> str:
        """Return the last of what the build said, "" where it said nothing."""
        try:
            return self.log.read_text("utf-8", errors="replace")[-_LOG_END:]
        except OSError:
            return ""

    def keep(self, manifest: Manifest, overlay: bytes) -> None:
        """Take note that the environment is whole."""
        with boundary({OSError: _refused}):
            (self._folder / "overlay.tar").write_bytes(overlay)
            half = self._folder / "environment.json.half"
            half.write_text(manifest.model_dump_json(), "utf-8")
            half.replace(self._folder / "environment.json")


def _refused(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The folder of environments cannot be used ({printable(str(error))}): make room, or set XDG_CACHE_HOME to "
        "another place."
    )


@dataclass(frozen=True, slots=True)
class Work:
    """One request while its test environment is made, with the copies of its tree by digest.

    No package is taken that came after the day `until`, where it is not empty.
    """

    request: EnvironmentRequest
    settings: SandboxSettings
    watch: Watch
    needs: Needs
    index: Index
    scratch: Scratch
    packs: dict[str, Pack] = field(default_factory=dict)
    until: str = ""

    @property
    def is_bare(self) -> bool:
        """Tell whether nothing is to be installed for a Python, which runs boxes alone."""
        return not self.needs.of_python and not self.settings.setup

    async def pack(self, overlay: tuple[PlacedFile, ...] = ()) -> Pack:
        """Copy the tree, with files that a build brought into it."""
        body = self.scratch.file(f"tree-{len(self.packs)}")
        asked = self.request
        pack = await asyncio.to_thread(lambda: pack_snapshot(asked.snapshot, asked.contents, body, overlay))
        return self.packs.setdefault(pack.digest, pack)

    def mirrors(self) -> tuple[tuple[str, str], ...]:
        """Return where addresses of git begin, each with what stands for it."""
        pairs = (text.partition("=") for text in self.settings.git_mirrors)
        return tuple((base, address) for base, _, address in pairs)

    def system(self) -> tuple[str, ...]:
        """Return the packages of Debian that an image gets: none where the user says how it is set up."""
        said, own = self.settings.system_packages, self.settings.setup or self.settings.image
        return said if said is not None else () if own else self.needs.system

    def slot(self, *made_of: str) -> Slot:
        """Return where the environment is kept that is made of this."""
        key = hashlib.sha256(canonical_json([*made_of, *self.settings.git_mirrors]).encode()).hexdigest()
        return Slot(self.request.cache / "environments" / key[:32], key)

    def proxy(self) -> AbstractAsyncContextManager[IndexProxy]:
        """Give the network of one build, and tell people what it was kept from. Raises `EnvironmentFailed`."""
        other = self.needs.ecosystem.hosts if self.needs.ecosystem else ()
        hosts = (*self.settings.build_hosts, *other, *(CRATES if self.needs.rust else ()))
        hosts += tuple(urlsplit(address).netloc.rpartition("@")[2] for _, address in self.mirrors())
        hosts += _DEBIAN if self.system() else ()
        return open_proxy(self.index, hosts, self.scratch.file(""), self.note)

    def note(self, text: str) -> None:
        """Tell people."""
        self.watch(Note(text))

    def tell_building(self, what: str, slot: Slot) -> None:
        """Tell people that what follows takes a while."""
        self.note(f"Building {what} for the tests, once for these dependencies (log: {slot.log}).")

    def hear(self, line: str) -> None:
        """Show people what the preparation is at."""
        self.watch(PhaseSaid(Phase.ENVIRONMENT, line))


def build_failed(problem: str, slot: Slot) -> BuildFailed:
    """Return the error for an environment that could not be built, or in which no test can be started."""
    return BuildFailed(
        f"The environment could not be built ({printable(problem)}; see {printable(str(slot.log))}): give --image, "
        "--setup or --test-cmd, or go on with --sandbox none.",
        "" if problem == BUSY else slot.log_end(),
    )


async def fitting(
    work: Work, slot: Callable[[Work], Slot], ready: Callable[[Work], Awaitable[Manifest]]
) -> tuple[Work, Manifest]:
    """Return the environment that serves, and what it was made for: with packages of the tree's time, or of today.

    `slot` says where one is kept, `ready` builds it where it is not there. What came of a comparison is kept, and
    nothing is built for it twice. Raises what `ready` raises for packages of today where it makes neither.
    """
    until = last_day(work, date.today())
    if not until:
        return work, await ready(work)
    dated, then = replace(work, until=until), None
    if _has_won(slot(work), until):
        return work, _told(await ready(work), until)
    try:
        then = await ready(dated)
        problem = f"Something is missing with the packages of {until}, the day of the tree"
    except BuildFailed:
        problem = f"The packages of {until}, the day of the tree, do not work (log: {printable(str(slot(dated).log))})"
    if then is not None and (not then.lacking or _has_won(slot(dated), until)):
        return dated, then
    work.note(f"{problem}: trying today's.")
    try:
        today = await ready(work)
    except BuildFailed:
        if then is None:
            raise
        today = then
    serves, manifest = (work, today) if then is None or today.lacking < then.lacking else (dated, then)
    manifest = manifest.model_copy(update={"tried": until})
    slot(serves).keep(manifest, slot(serves).overlay())
    if serves is dated:
        return dated, manifest
    slot(dated).clear()
    return work, _told(manifest, until)


def last_day(work: Work, today: date) -> str:
    """Return the day of the tree in ISO form, "" where the tree is young or what is installed is not chosen here."""
    if work.settings.image or work.settings.setup or work.needs.ecosystem:
        return ""
    try:
        day = date.fromisoformat(work.request.until[:10])
    except ValueError:  # none is given, or the commit was dated by a clock that was wrong
        return ""
    return day.isoformat() if today - day > _OLD else ""


def _has_won(slot: Slot, until: str) -> bool:
    return (kept := slot.read()) is not None and kept.tried == until


def _told(manifest: Manifest, until: str) -> Manifest:
    """Return it with a sentence for people; it is not kept, since younger trees may share the environment."""
    sentence = f"It has today's packages, for those of {until}, the day of the tree, do not work."
    return manifest.model_copy(update={"notes": (*manifest.notes, sentence)})
