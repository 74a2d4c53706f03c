"""What Docker and virtual environments share: what is asked for, the copies of the tree, the first test run there.

An old tree seldom says below which versions of its dependencies it works, and one that meets later releases may well
start and fail in half of its tests. So the packages of its time come first. Those of today stand in where the others
cannot be had (no uv for this machine, an index that does not say when a package came) or lack more. Both are decided by
what was built, never by guessing at versions.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from agentless_mini.domain import (
    MIB,
    BoxLimits,
    Job,
    Note,
    Phase,
    PhaseSaid,
    Place,
    PlacedFile,
    Runner,
    Snapshot,
    Step,
)
from agentless_mini.environment.build import Built, Manifest, Recipe, Slot
from agentless_mini.environment.index import Index
from agentless_mini.environment.needs import Needs
from agentless_mini.errors import BuildFailed, EnvironmentFailed, printable
from agentless_mini.ports import Sandbox, Watch
from agentless_mini.sandbox.host import Scratch
from agentless_mini.sandbox.packs import Contents, Pack, pack_snapshot
from agentless_mini.settings.run import SandboxSettings

FOLDER = "/repo"
_OLD = timedelta(days=180)
"""A younger tree is taken to work with what its authors have today."""
_PROBE_SECONDS = 120.0
_PACKAGES_PROBED = 3
_TRIAL = ".amini-probe"
_TRIAL_FILES = (
    PlacedFile(f"{_TRIAL}/pytest.ini", b"[pytest]\n"),
    PlacedFile(f"{_TRIAL}/test_trial.py", b"def test_trial():\n    assert True\n"),
)


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """A tree whose tests are to be run.

    `contents` reads the files of which the snapshot has no contents. Environments are kept in `cache`. `variables` are
    the user's: where Pythons and packages are found. `version` is what builds are told that read theirs from git.
    `until` is the day of the tree (ISO, a time may follow): if it is long ago, packages as of then are preferred to
    those of today. Empty, those of today are all.
    """

    snapshot: Snapshot
    contents: Contents
    cache: Path
    variables: Mapping[str, str]
    runner: Runner
    version: str = "99.0.0"
    until: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A test environment that is ready. `notes` are sentences for people on what it lacks."""

    sandbox: Sandbox
    place: Place
    limits: BoxLimits
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Return the name of the environment, for the record of a run."""
        return self.place.environment.identity


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No tests are run; `reason` is a sentence that says why."""

    reason: str


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

    async def pack(self, overlay: tuple[PlacedFile, ...] = ()) -> Pack:
        """Copy the tree, with files that a build brought into it."""
        body = self.scratch.file(f"tree-{len(self.packs)}")
        asked = self.request
        pack = await asyncio.to_thread(lambda: pack_snapshot(asked.snapshot, asked.contents, body, overlay))
        return self.packs.setdefault(pack.digest, pack)

    def slot(self, key: str) -> Slot:
        """Return where the environment with this key is kept."""
        return Slot(self.request.cache / "environments" / key[:32])

    def recipe(self, python: str) -> Recipe:
        """Return how a virtual environment is filled that is there."""
        return Recipe(
            self.needs,
            self.settings.setup,
            self.index,
            python,
            version=self.request.version,
            until=self.until,
            memory=self.settings.build_memory_mib * MIB,
            seconds=self.settings.build_seconds,
        )

    def dated_notes(self) -> tuple[str, ...]:
        """Return a sentence for people on the day of the packages, where they are not those of today."""
        return (f"It has the packages of {self.until}, the day of the tree.",) if self.until else ()

    def note(self, text: str) -> None:
        """Tell people."""
        self.watch(Note(text))

    def hear(self, line: str) -> None:
        """Show people what the preparation is at."""
        self.watch(PhaseSaid(Phase.ENVIRONMENT, line))

    def note_waiting(self) -> None:
        """Tell people that somebody else builds."""
        self.note("Another run builds this environment: waiting for it.")

    @asynccontextmanager
    async def building(self, what: str, slot: Slot) -> AsyncIterator[None]:
        """Tell people that what is done meanwhile takes a while."""
        self.note(f"Building {what} for the tests, once for these dependencies (log: {slot.log}).")
        yield
        self.hear("built")


def require_usable(built: Built, slot: Slot) -> None:
    """Keep the log of a build. Raises `EnvironmentFailed` where it failed."""
    slot.write_log(built.log)
    if built.problem:
        raise build_failed(built.problem, slot)


def build_failed(problem: str, slot: Slot) -> BuildFailed:
    """Return the error for an environment that could not be built, or in which no test can be started."""
    return BuildFailed(
        f"The environment could not be built ({printable(problem)}; see {printable(str(slot.log))}): give --image, "
        "--setup or --test-cmd, or go on with --sandbox none."
    )


async def probe(
    work: Work, sandbox: Sandbox, place: Place, refused: Callable[[str], EnvironmentFailed]
) -> tuple[str, ...]:
    """Return what is lacking in an environment, as sentences, by a job that starts what runs the tests.

    Raises what `refused` makes where no test can be started.
    """
    checks = _checks(work.needs)
    commands = (_start(work), *(argv for argv, _ in checks))
    steps = tuple(Step(argv, seconds=_PROBE_SECONDS, python_path=(".", "src")) for argv in commands)
    result = await sandbox.run(Job(place.environment, place.tree, _TRIAL_FILES, steps, work.settings.limits()))
    if result.refusal:
        raise refused(result.refusal)
    first, *others = result.steps
    if not first.succeeded:
        raise refused(f"the tests cannot be started: {_last_line(first.output.text())}")
    return tuple(
        f"{complaint} ({_last_line(step.output.text())})."
        for (_, complaint), step in zip(checks, others, strict=False)
        if not step.succeeded
    )


def _start(work: Work) -> tuple[str, ...]:
    if work.request.runner is Runner.COMMAND:  # it is the user's, and may need no Python
        return ("sh", "-c", ":")
    module = work.needs.module
    return ("python", "-m", module, "--version") if module else ("python", "-c", "")


def _checks(needs: Needs) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return commands that succeed in a whole environment, and what it means where one does not."""
    checks: list[tuple[tuple[str, ...], str]] = [
        (("python", "-c", f"import {package}"), f"The package {package} cannot be imported in the environment")
        for package in needs.packages[:_PACKAGES_PROBED]
    ]
    if needs.module == "pytest":  # an old one may start on a newer Python, and yet read no test
        trial = ("python", "-m", "pytest", "-p", "no:cacheprovider", "--noconftest", "-c", _TRIAL_FILES[0].path, _TRIAL)
        checks.append((trial, "The simplest test does not pass in the environment"))
    return tuple(checks)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1][:200] if lines else "no output")


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
    dated = replace(work, until=until)
    if _has_won(slot(work), until):
        return work, _told(await ready(work), until)
    try:
        then = await ready(dated)
    except BuildFailed:
        log = printable(str(slot(dated).log))
        dated.note(f"The packages of {until}, the day of the tree, do not work (log: {log}): trying today's.")
        return work, _told(_won(slot(work), await ready(work), until), until)
    if not then.lacking or _has_won(slot(dated), until):
        return dated, then
    dated.note(f"Something is missing with the packages of {until}, the day of the tree: trying today's.")
    try:
        today = await ready(work)
    except BuildFailed:
        today = then
    if today.lacking >= then.lacking:
        return dated, _won(slot(dated), then, until)
    slot(dated).clear()
    return work, _told(_won(slot(work), today, until), until)


def last_day(work: Work, today: date) -> str:
    """Return the day of the tree in ISO form, "" where the tree is young or what is installed is not chosen here."""
    if work.settings.image or work.settings.setup:
        return ""
    try:
        day = date.fromisoformat(work.request.until[:10])
    except ValueError:  # none is given, or the commit was dated by a clock that was wrong
        return ""
    return day.isoformat() if today - day > _OLD else ""


def _has_won(slot: Slot, until: str) -> bool:
    kept = slot.read()
    return kept is not None and kept.tried == until


def _won(slot: Slot, manifest: Manifest, until: str) -> Manifest:
    """Keep that this one serves the trees of a day."""
    won = manifest.model_copy(update={"tried": until})
    slot.keep(won, slot.overlay())
    return won


def _told(manifest: Manifest, until: str) -> Manifest:
    """Return it with a sentence for people; it is not kept, since younger trees may share the environment."""
    sentence = f"It has today's packages, for those of {until}, the day of the tree, do not work."
    return manifest.model_copy(update={"notes": (*manifest.notes, sentence)})
