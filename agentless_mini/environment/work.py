"""What the ways to an environment share: what is asked for, what it needs, and the copies of the tree."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agentless_mini.domain import (
    MIB,
    BoxLimits,
    Job,
    JobResult,
    Note,
    PackedTree,
    Phase,
    PhaseSaid,
    Place,
    PlacedFile,
    Runner,
    Snapshot,
    Step,
)
from agentless_mini.environment.build import Built, Recipe
from agentless_mini.environment.index import Index
from agentless_mini.environment.needs import Needs
from agentless_mini.environment.shelf import Slot
from agentless_mini.errors import BuildFailed, EnvironmentFailed, printable
from agentless_mini.ports import Sandbox, Watch
from agentless_mini.sandbox.packs import Contents, Pack, pack_snapshot
from agentless_mini.sandbox.scratch import Scratch
from agentless_mini.settings.run import SandboxSettings

FOLDER = "/repo"
_PROBE_SECONDS = 120.0
_PACKAGES_PROBED = 3
_TRIAL = ".amini-probe"
_TRIAL_FILES = (
    PlacedFile(f"{_TRIAL}/pytest.ini", b"[pytest]\n"),
    PlacedFile(f"{_TRIAL}/test_trial.py", b"def test_trial():\n    assert True\n"),
)


@dataclass(frozen=True, slots=True)
class PlaceRequest:
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
    """A place for tests. `notes` are sentences for people on what it lacks."""

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
    """One request on its way to a place, with the copies of its tree by digest.

    No package is taken that came after the day `until`, where it is not empty.
    """

    request: PlaceRequest
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
        return (f"Its packages are those of {self.until}, the day of the tree.",) if self.until else ()

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


def probe_job(work: Work, place: Place) -> Job:
    """Return a job that starts what runs the tests, by the name that it has on the PATH, and makes the checks."""
    commands = (_start(work), *(argv for argv, _ in _checks(work.needs)))
    steps = (Step(argv, seconds=_PROBE_SECONDS, python_path=(".", "src")) for argv in commands)
    return Job(place.environment, place.tree, _TRIAL_FILES, tuple(steps), work.settings.limits())


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


def probe_problem(result: JobResult) -> str:
    """Return why tests cannot be run there, "" where they can."""
    if result.refusal:
        return result.refusal
    first = result.steps[0]
    return "" if first.succeeded else f"the tests cannot be started: {_last_line(first.output.text())}"


def probe_notes(result: JobResult, needs: Needs) -> tuple[str, ...]:
    """Return sentences on what is lacking there."""
    return tuple(
        f"{complaint} ({_last_line(step.output.text())})."
        for (_, complaint), step in zip(_checks(needs), result.steps[1:], strict=False)
        if not step.succeeded
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1][:200] if lines else "it says nothing")


async def probe(
    work: Work, sandbox: Sandbox, place: Place, refused: Callable[[str], EnvironmentFailed]
) -> tuple[str, ...]:
    """Return what is lacking in a place, as sentences. Raises what `refused` makes where no test can be started."""
    result = await sandbox.run(probe_job(work, place))
    if problem := probe_problem(result):
        raise refused(problem)
    return probe_notes(result, work.needs)


def packed(pack: Pack, folder: str = FOLDER) -> PackedTree:
    """Return the tree of a copy as jobs name it."""
    return PackedTree(pack.digest, folder)
