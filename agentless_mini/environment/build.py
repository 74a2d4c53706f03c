"""The job that builds an environment, and what came of it. It moves no bytes: a builder runs the job in a box.

The box has the network, since packages come from there. Everything that it says comes from the code that it installed:
it is bounded and checked here, and a later box without network shows whether the environment works.
"""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass

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
from agentless_mini.environment.inside import program
from agentless_mini.environment.needs import Needs
from agentless_mini.errors import printable

PLACE = ".amini-build"
OVERLAY_LIMIT = 24 * MIB
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
    """What the program in the box says of its work. Nothing hangs on it but sentences and the name of the result."""

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
        (environment.python, "-I", "-c", program()),
        seconds=recipe.seconds,
        results=(_REPORT, _OVERLAY),
        variables=_variables(recipe),
    )
    environment = Environment(environment.identity, environment.python, BoxUser.ROOT)
    return Job(environment, tree, files, (step,), _limits(recipe))


def _limits(recipe: Recipe) -> BoxLimits:
    return BoxLimits(
        memory=recipe.memory,
        pids=1024,
        disk=max(1024 * MIB, recipe.memory // 2),
        seconds=recipe.seconds + 5,
        output=4 * MIB,
        result=OVERLAY_LIMIT + 8 * MIB,
    )


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
    lacking = _is_bare(report, recipe) + (bool(wanted) and wanted <= set(report.failed))
    return Built("", found.get(_OVERLAY, b""), tuple(report.frozen), _notes(report, recipe), log, lacking)


def _is_bare(report: _Report, recipe: Recipe) -> bool:
    return recipe.needs.project and not recipe.setup and not report.editable


def _notes(report: _Report, recipe: Recipe) -> tuple[str, ...]:
    notes = []
    if _is_bare(report, recipe):
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
