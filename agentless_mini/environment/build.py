"""The job that builds an environment, what came of it, and the first test run there.

The box of a build reaches the package index (see `proxy`). Everything that it says comes from the code that it
installed: it is bounded and checked here, and a later box without network shows whether the environment works.
"""

import hashlib
import io
import json
import tarfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pydantic
from uv import find_uv_bin

from agentless_mini.domain import (
    MIB,
    BoxLimits,
    BoxUser,
    Ending,
    Environment,
    FileChange,
    Job,
    JobResult,
    PackedTree,
    Place,
    PlacedFile,
    Snapshot,
    Step,
    starting,
)
from agentless_mini.domain.runners import ROWS
from agentless_mini.environment.activated import last_line
from agentless_mini.environment.machine import CERTIFICATES
from agentless_mini.environment.work import BUSY, Guarding, Manifest, Opened, Slot, Work, build_failed, fitting
from agentless_mini.errors import BuildFailed, printable
from agentless_mini.ports import Sandbox
from agentless_mini.sandbox.wire import Pack

PLACE = ".amini-build"
KEEP = "/opt/amini/keep"
"""Where an image has what package managers of other languages fetch."""
OVERLAY_LIMIT = 48 * MIB
_FAILURES_SHOWN = 5
_REPORT, _OVERLAY, _BUNDLE = f"{PLACE}/report.json", f"{PLACE}/overlay.tar", f"{PLACE}/certificates.pem"
VERSION = "99.0.0"
"""What the tools are told that read the version of a project from git, of which there is nothing in the box."""
_TOLD_VERSION = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION")
_PLANNED = ("ways", "members", "best", "others", "alone", "modules", "variables", "module")
_PROBE_SECONDS = 120.0
_PACKAGES_PROBED = 3
_TRIAL = ".amini-probe"
_TRIAL_FILES = (
    PlacedFile(f"{_TRIAL}/pytest.ini", b"[pytest]\n"),
    PlacedFile(f"{_TRIAL}/test_trial.py", b"def test_trial():\n    assert True\n"),
)


@dataclass(frozen=True, slots=True)
class Built:
    """What a build brought: files for the tree, what is installed, and sentences about what is lacking.

    `overlay` is an archive as the box made it: see `overlay_files`. `problem` says why the environment cannot be used,
    "" where nothing is known against it. `lacking` is 1 where the project could not be installed, and one more for each
    module that tests import, the project names and nothing brought.
    """

    problem: str
    overlay: bytes = b""
    frozen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    log: str = ""
    lacking: int = 0


NOTHING = Built("")


def build_job(
    work: Work, base: Environment, tree: PackedTree, python: str, *, make: str = "", fresh: bool = True, path: str = ""
) -> Job:
    """Return the job that fills the environment of `python`, by path or name, in a box of the base environment.

    `make` is a virtual environment to make first, "" where it is there, and `fresh` whether it lacks pip. `path` is the
    PATH in the box, "" for the box's own. Whatever user the base names, a build in an image is root's. The box gets a
    copy of uv's program: no build can change that of another.
    """
    needs, settings, other = work.needs, work.settings, work.needs.ecosystem
    keep = python.rpartition("/bin/")[0] if python.startswith(str(work.request.cache)) else KEEP
    plan = {name: getattr(needs, name) for name in _PLANNED} | {
        "setup": settings.setup,
        "system": work.system() if make else (),
        "commands": other.commands if other else None if needs.of_python else (),
        "keep": keep,
        "until": work.until,
        "seconds": settings.build_seconds,
        "python": python,
        "make": make,
        "fresh": fresh,
        "locked": bool(needs.locked) and not work.until,
        "version": VERSION,
        "versioned": _TOLD_VERSION,
        "options": work.index.options(),
        "certificates": CERTIFICATES if work.index.certificates else (),
        "overlay_limit": OVERLAY_LIMIT,
    }
    files = (
        PlacedFile(f"{PLACE}/plan.json", json.dumps(plan).encode()),
        PlacedFile(f"{PLACE}/locked.txt", "\n".join(needs.locked).encode()),
        PlacedFile(f"{PLACE}/uv", Path(find_uv_bin()).read_bytes(), "100755"),
        *work.index.placed(_BUNDLE),
    )
    mirrors = work.mirrors()
    own = (f"{_TOLD_VERSION[0]}_FOR_{name.upper().replace('-', '_')}" for name in needs.names)
    told = dict.fromkeys((*_TOLD_VERSION, *own, "POETRY_DYNAMIC_VERSIONING_BYPASS"), VERSION)
    variables = {
        **dict(work.index.variables(here=not make)),
        **told,
        "GIT_TERMINAL_PROMPT": "0",
        **({"GIT_CONFIG_COUNT": str(len(mirrors))} if mirrors else {}),
        **{f"GIT_CONFIG_KEY_{at}": f"url.{address}.insteadOf" for at, (_, address) in enumerate(mirrors)},
        **{f"GIT_CONFIG_VALUE_{at}": base for at, (base, _) in enumerate(mirrors)},
        "UV_PYTHON_DOWNLOADS": "never",
        "AMINI_KEEP": keep,
        **{name.removeprefix("AMINI_"): place for name, place in (other.variables_in(keep) if other else ())},
    }
    step = Step(
        (*starting(base.python), "-I", "-c", Path(__file__).with_name("installer.py").read_text("utf-8")),
        seconds=settings.build_seconds,
        results=(_REPORT, _OVERLAY),
        variables=tuple(sorted((variables | ({"PATH": path} if path else {})).items())),
    )
    memory = settings.build_memory_mib * MIB
    limits = BoxLimits(
        memory=memory,
        pids=1024,
        disk=max(1024 * MIB, memory // 2),
        seconds=settings.build_seconds + 5,
        output=4 * MIB,
        result=OVERLAY_LIMIT + 8 * MIB,
    )
    return Job(Environment(base.identity, base.python, BoxUser.ROOT), tree, files, (step,), limits)


class _Report(pydantic.BaseModel):
    """What the installer reports. Only sentences for people and the name of the result depend on it."""

    failed: list[str] = pydantic.Field(max_length=2000)
    editable: bool
    problem: str
    frozen: list[str] = pydantic.Field(max_length=5000)
    left_out: int
    missing: list[tuple[str, int]] = pydantic.Field(default=[], max_length=1000)


def read_build(result: JobResult, work: Work) -> Built:
    """Return what came of the job."""
    if result.refusal:
        return Built(f"files cannot be placed: {result.refusal}")
    (step,) = result.steps
    log = step.output.text()
    found = {file.path: file.data for file in step.results}
    ended = {
        Ending.TIMED_OUT: f"it took longer than {work.settings.build_seconds:g} s",
        Ending.STARVED: BUSY,
        Ending.OUT_OF_MEMORY: f"it used more than {work.settings.build_memory_mib} MiB of memory",
    }.get(step.ending, f"it ended with {step.status}")
    try:
        report = _Report.model_validate_json(found.get(_REPORT, b""))
    except pydantic.ValidationError:
        return Built(ended, log=log)
    if not step.succeeded or report.problem:
        return Built(printable(report.problem[:200]) or ended, log=log)
    named, notes = {name for name, _, way in work.needs.modules if way}, [*work.needs.notes]
    is_bare = work.needs.project and not work.settings.setup and not report.editable
    if is_bare:
        notes.append("The project itself could not be installed; it is imported from its folder.")
    if report.failed:
        shown = ", ".join(printable(name[:60]) for name in report.failed[:_FAILURES_SHOWN])
        more = len(report.failed) - _FAILURES_SHOWN
        notes.append(f"Could not be installed: {shown}{f' and {more} more' if more > 0 else ''}.")
    for name, count in report.missing[:_FAILURES_SHOWN]:
        files = "1 test file" if count == 1 else f"{count} test files"
        notes.append(f"{files} cannot be imported: no {printable(name[:60])}.")
    if report.left_out:
        notes.append(f"What the build wrote into the tree is left out, for it is {report.left_out // MIB} MiB.")
    if work.until:
        notes.append(f"It has the packages of {work.until}, the day of the tree.")
    lacking = is_bare + sum(name in named for name, _ in report.missing)
    return Built("", found.get(_OVERLAY, b""), tuple(report.frozen), tuple(notes), log, lacking)


def overlay_files(archive: bytes, snapshot: Snapshot, guarding: Guarding | None = None) -> tuple[PlacedFile, ...]:
    """Return the files of the archive that can lie beside those of the tree: regular ones, and links to npm's packages.

    The archive is not trusted: a path that is not clean or leads out of the tree is left out, as what is guarded is.
    """
    taken = {file.path for file in snapshot.files}
    above = {folder for path in taken for folder in _parents(path)}
    kept: dict[str, PlacedFile] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                # A sparse one could be of any size.
                is_plain = member.isfile() and not member.issparse() and member.size <= OVERLAY_LIMIT
                is_package = member.issym() and "node_modules" in member.name.split("/")
                if is_package and _is_beside(member.name, taken, above):
                    link = member.linkname.encode("utf-8", "surrogateescape")
                    kept[member.name] = PlacedFile(member.name, link, "120000")
                elif is_plain and _is_beside(member.name, taken, above) and member.name not in kept:
                    file = tar.extractfile(member)
                    mode = "100755" if member.mode & 0o100 else "100644"
                    kept[member.name] = PlacedFile(member.name, file.read() if file else b"", mode)
    except (tarfile.TarError, ValueError, OSError, EOFError):
        return ()
    found = tuple(file for path, file in sorted(kept.items()) if not any(up in kept for up in _parents(path)))
    changes = [FileChange(file.path, None, file.data, file.mode) for file in found]
    guarded = {file.path for file in guarding(changes)} if guarding else set[str]()
    return tuple(file for file in found if file.path not in guarded)


def _is_beside(path: str, taken: set[str], above: set[str]) -> bool:
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


class Way(ABC):
    """How environments are kept and used: as images, or as virtual environments of this machine."""

    sandbox: Sandbox

    @abstractmethod
    def slot(self, work: Work) -> Slot:
        """Return where an environment of this work is kept."""

    @abstractmethod
    async def is_whole(self, slot: Slot, manifest: Manifest) -> bool:
        """Tell whether what is kept can still be used."""

    @abstractmethod
    async def make(self, work: Work, slot: Slot) -> Manifest:
        """Build an environment, try it, and keep it. Raises `EnvironmentFailed`."""

    @abstractmethod
    def place(self, slot: Slot, manifest: Manifest, tree: Pack) -> Place:
        """Return what jobs name to run there, on this tree."""


async def open_in(work: Work, way: Way, notes: tuple[str, ...] = ()) -> Opened:
    """Return a test environment, built where it is not kept yet. Raises `EnvironmentFailed`."""

    async def ready(work: Work) -> Manifest:
        slot = way.slot(work)
        async with slot.locked(lambda: work.note("Another run builds this environment: waiting for it.")):
            manifest = slot.read()
            if manifest is None or not await way.is_whole(slot, manifest):
                slot.clear()
                try:
                    manifest = await way.make(work, slot)
                except BaseException:
                    slot.clear()
                    raise
        return manifest

    work, manifest = await fitting(work, way.slot, ready)
    slot = way.slot(work)
    place = way.place(slot, manifest, await _with_overlay(work, slot.overlay()))
    told = (*notes, *manifest.notes)
    return Opened(way.sandbox, place, work.settings.limits(), told, manifest.program, manifest.variables)


async def _with_overlay(work: Work, overlay: bytes) -> Pack:
    """Copy the tree, with what a build left in it."""
    return await work.pack(overlay_files(overlay, work.request.snapshot, work.request.guarding))


def usable(result: JobResult, work: Work, slot: Slot) -> Built:
    """Return what came of the job, and keep its log. Raises `EnvironmentFailed` where nothing did."""
    built = read_build(result, work)
    slot.write_log(built.log)
    if built.problem:
        raise build_failed(built.problem, slot)
    work.hear("built")
    return built


async def tried(work: Work, way: Way, slot: Slot, made: Manifest, built: Built = NOTHING) -> Manifest:
    """Start what runs the tests in an environment, note what is lacking there, and keep it.

    Raises `BuildFailed` where no test can be started, which is added to the log of the build.
    """

    def refused(problem: str) -> BuildFailed:
        if built.log:
            slot.write_log(f"{built.log}\n\nAfterwards {printable(problem)}\n")
        return build_failed(problem, slot)

    needs, runner, program = work.needs, work.request.runner, made.program
    start: tuple[str, ...] = (program, "-m", needs.module, "--version") if needs.module else (program, "-c", "")
    if not runner.is_python:  # a user's command may need no Python
        start = ROWS[runner].check if runner in ROWS else ("sh", "-c", ":")
    checks: list[tuple[tuple[str, ...], str]] = [
        ((program, "-c", f"import {package}"), f"The package {package} cannot be imported in the environment")
        for package in needs.packages[:_PACKAGES_PROBED]
    ]
    if needs.module == "pytest":  # an old one may start on a newer Python, and yet read no test
        trial = (program, "-m", "pytest", "-p", "no:cacheprovider", "--noconftest", "-c", _TRIAL_FILES[0].path, _TRIAL)
        checks.append((trial, "The simplest test does not pass in the environment"))
    step = partial(Step, seconds=_PROBE_SECONDS, python_path=(".", "src"), variables=made.variables)
    steps = tuple(map(step, (start, *(argv for argv, _ in checks))))
    place = way.place(slot, made, await _with_overlay(work, built.overlay))
    result = await way.sandbox.run(Job(place.environment, place.tree, _TRIAL_FILES, steps, work.settings.limits()))
    if result.refusal:
        raise refused(result.refusal)
    first, *others = result.steps
    if not first.succeeded:
        raise refused(f"the tests cannot be started: {last_line(first)}")
    pairs = zip(checks, others, strict=False)
    lacks = [f"{complaint} ({last_line(said)})." for (_, complaint), said in pairs if not said.succeeded]
    notes, lacking = (*built.notes, *lacks), built.lacking + len(lacks)
    whole = made.model_copy(update={"notes": notes, "lacking": lacking})
    if built.log:  # another way of using it may have failed before
        slot.write_log(built.log)
    slot.keep(whole, built.overlay)
    return whole
