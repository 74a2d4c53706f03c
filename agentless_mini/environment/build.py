"""The job that builds an environment, what came of it, and the first test run there.

The box of a build reaches the package index (see `proxy`). Everything that it says comes from the code that it
installed: it is bounded and checked here, and a later box without network shows whether the environment works.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
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


def build_job(
    work: Work, base: Environment, tree: PackedTree, python: str, *, make: str = "", fresh: bool = True, path: str = ""
) -> Job:
    """Return the job that fills the environment of `python`, by path or name, in a box of the base environment.

    `make` is a virtual environment to make first, "" where it is there, and `fresh` whether it lacks pip. `path` is the
    PATH in the box, "" for the box's own. Whatever user the base names, a build in an image is root's. The box gets a
    copy of uv's program: no build can change that of another.
    """
    needs, settings = work.needs, work.settings
    keep = python.rpartition("/bin/")[0] if python.startswith(str(work.request.cache)) else KEEP
    plan = {
        "setup": settings.setup,
        "system": work.system() if make else (),
        "commands": needs.ecosystem.commands if needs.ecosystem else None if needs.of_python else (),
        "keep": keep,
        "until": work.until,
        "seconds": settings.build_seconds,
        "python": python,
        "make": make,
        "fresh": fresh,
        "ways": needs.ways,
        "members": needs.members,
        "best": needs.best,
        "others": needs.others,
        "alone": needs.alone,
        "locked": bool(needs.locked) and not work.until,
        "modules": needs.modules,
        "variables": needs.variables,
        "version": VERSION,
        "versioned": _TOLD_VERSION,
        "options": work.index.options(),
        "module": needs.module,
        "certificates": CERTIFICATES if work.index.certificates else (),
        "overlay_limit": OVERLAY_LIMIT,
    }
    files = (
        PlacedFile(f"{PLACE}/plan.json", json.dumps(plan).encode()),
        PlacedFile(f"{PLACE}/locked.txt", "\n".join(needs.locked).encode()),
        PlacedFile(f"{PLACE}/uv", Path(find_uv_bin()).read_bytes(), "100755"),
        *work.index.placed(_BUNDLE),
    )
    kept = needs.ecosystem.variables_in(keep) if needs.ecosystem else ()
    own = (f"{_TOLD_VERSION[0]}_FOR_{name.upper().replace('-', '_')}" for name in needs.names)
    told = dict.fromkeys((*_TOLD_VERSION, *own, "POETRY_DYNAMIC_VERSIONING_BYPASS"), VERSION)
    variables = {
        **dict(work.index.variables(here=not make)),
        **told,
        "GIT_TERMINAL_PROMPT": "0",
        **_of_git(work.mirrors()),
        "UV_PYTHON_DOWNLOADS": "never",
        "AMINI_KEEP": keep,
        **{name.removeprefix("AMINI_"): place for name, place in kept},
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


def _of_git(mirrors: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the variables by which git takes mirrors."""
    told = {"GIT_CONFIG_COUNT": str(len(mirrors))} if mirrors else {}
    for at, (base, address) in enumerate(mirrors):
        told |= {f"GIT_CONFIG_KEY_{at}": f"url.{address}.insteadOf", f"GIT_CONFIG_VALUE_{at}": base}
    return told


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
    """Return the files of the archive that can lie beside those of the tree, which are never replaced.

    They are regular, or links to what npm installed.

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
    pack = await work.pack(overlay_files(slot.overlay(), work.request.snapshot, work.request.guarding))
    return Opened(
        way.sandbox,
        way.place(slot, manifest, pack),
        work.settings.limits(),
        (*notes, *manifest.notes),
        manifest.program,
        manifest.variables,
    )


def tell_building(work: Work, what: str, slot: Slot) -> None:
    """Tell people that what follows takes a while."""
    work.note(f"Building {what} for the tests, once for these dependencies (log: {slot.log}).")


def usable(result: JobResult, work: Work, slot: Slot) -> Built:
    """Return what came of the job, and keep its log. Raises `EnvironmentFailed` where nothing did."""
    built = read_build(result, work)
    slot.write_log(built.log)
    if built.problem:
        raise build_failed(built.problem, slot)
    work.hear("built")
    return built


async def probe(
    work: Work, sandbox: Sandbox, place: Place, slot: Slot, log: str = "", made: Manifest | None = None
) -> tuple[str, ...]:
    """Return what is lacking in an environment, as sentences, by a job that starts what runs the tests.

    `made` says how the tests' Python is called, where it is not `python`.

    Raises `BuildFailed` where no test can be started, which is added to the log of the build.
    """

    def refused(problem: str) -> BuildFailed:
        if log:
            slot.write_log(f"{log}\n\nAfterwards {printable(problem)}\n")
        return build_failed(problem, slot)

    program, variables = (made.program, made.variables) if made else ("python", ())
    needs, start = work.needs, tuple[str, ...]((program, "-m", work.needs.module, "--version"))
    if row := ROWS.get(work.request.runner):
        start = row.check
    elif not work.request.runner.is_python:  # it is the user's, and may need no Python
        start = ("sh", "-c", ":")
    elif not needs.module:
        start = (program, "-c", "")
    checks: list[tuple[tuple[str, ...], str]] = [
        ((program, "-c", f"import {package}"), f"The package {package} cannot be imported in the environment")
        for package in needs.packages[:_PACKAGES_PROBED]
    ]
    if needs.module == "pytest":  # an old one may start on a newer Python, and yet read no test
        trial = (program, "-m", "pytest", "-p", "no:cacheprovider", "--noconftest", "-c", _TRIAL_FILES[0].path, _TRIAL)
        checks.append((trial, "The simplest test does not pass in the environment"))
    commands = (start, *(argv for argv, _ in checks))
    steps = tuple(
        Step(argv, seconds=_PROBE_SECONDS, python_path=(".", "src"), variables=variables) for argv in commands
    )
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


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1][:200] if lines else "no output")
