"""Virtual environments of this machine: built in a box of bubblewrap or Landlock, or without one on the user's word.

The box of a build sees what every box sees, and beside it: the new environment's folder, which alone it can write; the
network of this machine, so that it can also reach what listens on this machine; and folders that pip is configured to
take packages from. How much it writes into its folder is limited for each file, not for all of them.
"""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from agentless_mini.domain import Environment, Job, JobResult, PackedTree, Place
from agentless_mini.domain.sampling import canonical_json
from agentless_mini.environment.build import (
    Manifest,
    Slot,
    build_job,
    hand_over,
    identity_of,
    overlay_files,
    read_build,
    seal,
)
from agentless_mini.environment.pythons import Interpreter, choose_python
from agentless_mini.environment.work import Opened, Work, build_failed, fitting, probe, require_usable
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.ports import Sandbox
from agentless_mini.sandbox.bubblewrap import Bubblewrap, BubblewrapSandbox, find_bubblewrap, run_in_bubblewrap
from agentless_mini.sandbox.host import Scratch, boxes_here
from agentless_mini.sandbox.landlock import (
    TREE,
    Landlock,
    LandlockSandbox,
    find_landlock,
    is_open,
    run_in_landlock,
)
from agentless_mini.sandbox.local import Box, UnsafeLocal, VirtualEnvironment, room_for
from agentless_mini.sandbox.packs import Pack
from agentless_mini.settings.run import SandboxKind

_SKELETON_SECONDS = 60
_ROOTS_CACHE = Path("/var/cache/agentless-mini")


@dataclass(frozen=True)
class _Way(ABC):
    """How code of the environment is run: in boxes or not. `name` keeps the environments of different ways apart."""

    work: Work
    name: str

    @abstractmethod
    async def build(self, job: Job, pack: Pack, environment: VirtualEnvironment) -> JobResult: ...

    @abstractmethod
    def sandbox(self, environments: Mapping[str, VirtualEnvironment], packs: Mapping[str, Pack]) -> Sandbox: ...

    def built(self, identity: str, folder: Path) -> VirtualEnvironment:
        """Return what jobs name; in their boxes the tree lies where it lay in the build."""
        return VirtualEnvironment(identity, folder)

    @property
    def boxes(self) -> int:
        return self.work.settings.boxes or boxes_here(self.work.settings.limits())


@dataclass(frozen=True)
class _Bubblewrap(_Way):
    bubblewrap: Bubblewrap

    async def build(self, job: Job, pack: Pack, environment: VirtualEnvironment) -> JobResult:
        run = partial(run_in_bubblewrap, self.bubblewrap, job, pack)
        return await _build_in_box(self.work, job, environment, run)

    def sandbox(self, environments: Mapping[str, VirtualEnvironment], packs: Mapping[str, Pack]) -> Sandbox:
        return BubblewrapSandbox(self.bubblewrap, environments, packs, self.boxes)


@dataclass(frozen=True)
class _Landlock(_Way):
    landlock: Landlock
    scratch: Scratch

    async def build(self, job: Job, pack: Pack, environment: VirtualEnvironment) -> JobResult:
        run = partial(run_in_landlock, self.landlock, job, pack, folder=_builds(environment.folder))
        return await _build_in_box(self.work, job, environment, run)

    def sandbox(self, environments: Mapping[str, VirtualEnvironment], packs: Mapping[str, Pack]) -> Sandbox:
        return LandlockSandbox(self.landlock, environments, packs, self.boxes, self._folder)

    def built(self, identity: str, folder: Path) -> VirtualEnvironment:
        return VirtualEnvironment(identity, folder, imported_folders(folder, _builds(folder) / TREE))

    def _folder(self) -> Path:
        """Return a folder for boxes, whose users may go through it."""
        folder = self.scratch.file("")
        folder.chmod(0o711)
        return folder


@dataclass(frozen=True)
class _Unsafe(_Way):
    folder: Path

    async def build(self, job: Job, pack: Pack, environment: VirtualEnvironment) -> JobResult:
        return await self.sandbox({job.environment.identity: environment}, {pack.digest: pack}).run(job)

    def sandbox(self, environments: Mapping[str, VirtualEnvironment], packs: Mapping[str, Pack]) -> Sandbox:
        return UnsafeLocal(environments, packs, self.boxes, self.folder, self.work.note)


async def _build_in_box(
    work: Work, job: Job, environment: VirtualEnvironment, run: Callable[[Box], Awaitable[JobResult]]
) -> JobResult:
    """Run a build in a box that can write the environment alone, and reach the network."""
    room = replace(room_for(job, environment), hear=work.hear)
    if room.uid is not None:
        hand_over(environment.folder, room.uid)
    result = await run(Box(room, environment, (environment.folder,), work.index.folders(), online=True))
    if room.uid is not None:
        hand_over(environment.folder, os.geteuid())
    seal(environment.folder)
    return result


def _builds(environment: Path) -> Path:
    """Return where the box of a build is: always at one place, since the project is installed with its path."""
    return environment.parent / "box"


def imported_folders(environment: Path, tree: Path) -> tuple[str, ...]:
    """Return the folders that an environment imports from a tree at this path, relative to it.

    They are read from what an installation for development leaves: lists of folders, and finders for packages.
    """
    found: dict[str, None] = {}
    for path in sorted(environment.glob("lib/python*/site-packages/*")):
        if path.suffix == ".pth":
            folders = [Path(line) for line in path.read_text("utf-8", "replace").splitlines()]
        elif path.name.startswith("__editable__") and path.suffix == ".py":
            packages = re.findall(rf"'({re.escape(str(tree))}/[^']*)'", path.read_text("utf-8", "replace"))
            folders = [Path(package).parent for package in packages]
        else:
            continue
        inside = (folder.relative_to(tree) for folder in folders if folder.is_relative_to(tree))
        found |= {str(folder): None for folder in inside if ".." not in folder.parts}
    return tuple(found)


async def open_bubblewrap(work: Work) -> Opened:
    """Return a test environment in boxes of bubblewrap. Raises `EnvironmentFailed`."""
    if sys.platform != "linux":
        raise EnvironmentFailed("Bubblewrap needs Linux: use --sandbox docker.")
    tried = work.settings.kind is not SandboxKind.LOCAL  # where there is no choice, the first box tells
    bubblewrap = await asyncio.to_thread(lambda: find_bubblewrap(work.settings.bubblewrap, tried=tried))
    return await _open(work, _Bubblewrap(work, "virtual environment", bubblewrap))


async def open_landlock(work: Work, stack: AsyncExitStack) -> Opened:
    """Return a test environment in boxes of Landlock. Raises `EnvironmentFailed`.

    Root's environments are kept where other users may go.
    """
    landlock = await asyncio.to_thread(find_landlock)
    scratch = Scratch()
    stack.callback(scratch.close)
    if os.geteuid() == 0 and not is_open(work.request.cache):
        work = replace(work, request=replace(work.request, cache=_ROOTS_CACHE))
    way = _Landlock(work, "virtual environment for Landlock", landlock, scratch)
    return await _open(work, way, usable=is_open if os.geteuid() == 0 else None)


async def open_unsafe(work: Work, stack: AsyncExitStack) -> Opened:
    """Return a test environment without any box, which warns of each job. Raises `EnvironmentFailed`."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="amini-unsafe-", ignore_cleanup_errors=True)))
    return await _open(work, _Unsafe(work, "virtual environment without a sandbox", folder))


async def _open(work: Work, way: _Way, usable: Callable[[Path], bool] | None = None) -> Opened:
    interpreter, notes = await asyncio.to_thread(choose_python, work.needs.python, work.request.variables, usable)

    def slot_of(work: Work) -> Slot:
        return work.slot(_key(work, way, interpreter))

    work, manifest = await fitting(work, slot_of, lambda work: _ready(work, way, slot_of(work), interpreter))
    slot = slot_of(work)
    environment = way.built(manifest.identity, slot.venv)
    pack = await work.pack(overlay_files(slot.overlay(), work.request.snapshot))
    place = Place(Environment(manifest.identity, environment.python), PackedTree(pack.digest))
    sandbox = way.sandbox({manifest.identity: environment}, work.packs)
    return Opened(sandbox, place, work.settings.limits(), (*notes, *manifest.notes))


async def _ready(work: Work, way: _Way, slot: Slot, interpreter: Interpreter) -> Manifest:
    async with slot.locked(work.note_waiting):
        manifest = slot.read()
        if manifest is None or not _is_intact(slot, manifest.behind):
            async with work.building(f"a {way.name} (Python {'.'.join(map(str, interpreter.version))})", slot):
                slot.clear()
                try:
                    await asyncio.to_thread(_make_skeleton, interpreter, slot)
                    return await _fill(work, way, slot, interpreter)
                except BaseException:
                    slot.clear()
                    raise
    return manifest


def _key(work: Work, way: _Way, interpreter: Interpreter) -> str:
    asked = [way.name, work.needs.digest, work.settings.setup, str(interpreter.path), *map(str, interpreter.version)]
    return hashlib.sha256(canonical_json([*asked, work.request.version, work.until]).encode()).hexdigest()


def _is_intact(slot: Slot, behind: str) -> bool:
    """Tell whether its Python is the one that it was made from: else a box would be shown another folder."""
    python = slot.venv / "bin" / "python"
    return os.access(python, os.X_OK) and str(python.resolve()) == behind


def _make_skeleton(interpreter: Interpreter, slot: Slot) -> None:
    """Make the folders and links of a virtual environment, in which nothing foreign takes part."""
    command = (interpreter.path, "-I", "-m", "venv", "--without-pip", slot.venv)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SKELETON_SECONDS)  # noqa: S603 - it is a Python of the user's
    except (OSError, subprocess.TimeoutExpired) as error:
        raise build_failed(str(error), slot) from error
    if done.returncode:
        slot.write_log(done.stdout + done.stderr)
        raise build_failed(f"{interpreter.path} -m venv exited with {done.returncode}", slot)


async def _fill(work: Work, way: _Way, slot: Slot, interpreter: Interpreter) -> Manifest:
    pack = await work.pack()
    key = _key(work, way, interpreter)
    unfinished = VirtualEnvironment(key, slot.venv)
    recipe = work.recipe(unfinished.python)
    job = build_job(recipe, Environment(key, unfinished.python), PackedTree(pack.digest))
    built = read_build(await way.build(job, pack, unfinished), recipe)
    require_usable(built, slot)
    if not _is_intact(slot, str(interpreter.path)):
        raise build_failed("its Python was replaced by another", slot)
    identity = identity_of(key, built)
    environment = way.built(identity, slot.venv)
    overlaid = await work.pack(overlay_files(built.overlay, work.request.snapshot))
    place = Place(Environment(identity, environment.python), PackedTree(overlaid.digest))
    sandbox = way.sandbox({identity: environment}, work.packs)

    def unusable(problem: str) -> EnvironmentFailed:
        slot.write_log(f"{built.log}\n\nAfterwards {printable(problem)}\n")
        return build_failed(problem, slot)

    notes = await probe(work, sandbox, place, unusable)
    manifest = Manifest(
        identity=identity,
        python=environment.python,
        behind=str(interpreter.path),
        notes=(*work.needs.notes, *built.notes, *work.dated_notes(), *notes),
        lacking=built.lacking + len(notes),
    )
    slot.keep(manifest, built.overlay)
    return manifest
