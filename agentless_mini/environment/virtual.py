"""Virtual environments of this machine: built in a box of bubblewrap or Landlock, or without one on the user's word.

The box of a build sees what every box sees, and beside it: the new environment's folder, which alone it can write; the
network of this machine, so that it can also reach what listens on this machine; and folders that pip is configured to
take packages from. How much it writes into its folder is limited for each file, not for all of them.
"""

import asyncio
import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from agentless_mini.domain import Environment, PackedTree, Place
from agentless_mini.environment.build import (
    VERSION,
    Way,
    build_job,
    hand_over,
    identity_of,
    open_in,
    overlay_files,
    probe,
    seal,
    tell_building,
    usable,
)
from agentless_mini.environment.pythons import Interpreter, choose_python
from agentless_mini.environment.work import Manifest, Opened, Slot, Work, build_failed
from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.sandbox.bubblewrap import BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.host import Scratch, boxes_here
from agentless_mini.sandbox.landlock import TREE, LandlockSandbox, find_landlock, is_open
from agentless_mini.sandbox.local import Box, LocalSandbox, UnsafeLocal, VirtualEnvironment
from agentless_mini.sandbox.packs import Pack
from agentless_mini.settings.run import SandboxKind

_SKELETON_SECONDS = 60
_ROOTS_CACHE = Path("/var/cache/agentless-mini")
_LARGEST_LIST = 1024 * 1024
"""Bytes of a list of folders to import from; a larger file is none."""


async def open_virtual(kind: SandboxKind, work: Work, stack: AsyncExitStack) -> Opened:
    """Return a test environment in boxes of this kind. Raises `EnvironmentFailed`.

    Root's environments are kept where other users may go, and have a Python that these may run, where boxes are theirs.
    """
    if sys.platform != "linux":
        raise EnvironmentFailed("Boxes without Docker need Linux: use --sandbox docker.")
    boxes = work.settings.boxes or boxes_here(work.settings.limits())
    scratch, environments = Scratch(), dict[str, VirtualEnvironment]()
    stack.callback(scratch.close)
    suits, name = None, "virtual environment"
    sandbox: LocalSandbox
    if kind is SandboxKind.LOCAL:
        tried = work.settings.kind is not SandboxKind.LOCAL  # where there is no choice, the first box tells
        bubblewrap = await asyncio.to_thread(lambda: find_bubblewrap(work.settings.bubblewrap, tried=tried))
        sandbox = BubblewrapSandbox(bubblewrap, environments, work.packs, boxes)
    elif kind is SandboxKind.LANDLOCK:
        name = "virtual environment for Landlock"
        landlock = await asyncio.to_thread(find_landlock)
        sandbox = LandlockSandbox(landlock, environments, work.packs, boxes, lambda: _entered(scratch))
        if os.geteuid() == 0:
            suits = is_open
            if not is_open(work.request.cache):
                work = replace(work, request=replace(work.request, cache=_ROOTS_CACHE))
    elif kind is SandboxKind.UNSAFE:
        name = "virtual environment without a sandbox"
        sandbox = UnsafeLocal(environments, work.packs, boxes, scratch.file(""), work.note)
    else:  # never without a box because nobody thought of a kind
        raise ValueError(f"no way to open {kind}")
    python, notes = await asyncio.to_thread(choose_python, work.needs.python, work.request.variables, suits)
    return await open_in(work, _Virtual(name, sandbox, environments, python), notes)


def _entered(scratch: Scratch) -> Path:
    """Return a folder for boxes, whose users may go through it."""
    folder = scratch.file("")
    folder.chmod(0o711)
    return folder


@dataclass(frozen=True)
class _Virtual(Way):
    """Virtual environments of one Python, for one kind of box, which `name` tells from others."""

    name: str
    sandbox: LocalSandbox
    environments: dict[str, VirtualEnvironment]
    python: Interpreter

    def slot(self, work: Work) -> Slot:
        version = map(str, self.python.version)
        asked = (work.needs.digest, work.settings.setup, str(self.python.path), *version, VERSION)
        return work.slot(self.name, *asked, work.until)

    async def is_whole(self, slot: Slot, manifest: Manifest) -> bool:
        return _is_intact(slot, manifest.behind)

    async def make(self, work: Work, slot: Slot) -> Manifest:
        tell_building(work, f"a {self.name} (Python {'.'.join(map(str, self.python.version))})", slot)
        await asyncio.to_thread(_make_skeleton, self.python, slot)
        pack, unfinished = await work.pack(), VirtualEnvironment(slot.key, slot.venv)
        job = build_job(work, Environment(slot.key, unfinished.python), PackedTree(pack.digest), unfinished.python)
        readable, folder = work.index.folders(), _box(slot)
        box = Box(unfinished, (slot.venv,), readable, online=True, hear=work.hear, folder=folder)
        if isinstance(self.sandbox, UnsafeLocal):
            box = replace(box, uid=None)
        _hand_over(slot, box.uid)
        result = await self.sandbox.run_in(job, pack, box)
        _hand_over(slot, None if box.uid is None else os.geteuid())
        seal(slot.venv)
        built = usable(result, work, slot)
        if not _is_intact(slot, str(self.python.path)):
            raise build_failed("its Python was replaced by another", slot)
        manifest = Manifest(
            identity=identity_of(slot.key, built), python=unfinished.python, behind=str(self.python.path)
        )
        tree = await work.pack(overlay_files(built.overlay, work.request.snapshot))
        lacks = await probe(work, self.sandbox, self.place(slot, manifest, tree), slot, built.log)
        whole = manifest.model_copy(update={"notes": (*built.notes, *lacks), "lacking": built.lacking + len(lacks)})
        slot.keep(whole, built.overlay)
        return whole

    def place(self, slot: Slot, manifest: Manifest, tree: Pack) -> Place:
        imported = imported_folders(slot.venv, _box(slot) / TREE) if isinstance(self.sandbox, LandlockSandbox) else ()
        environment = VirtualEnvironment(manifest.identity, slot.venv, imported)
        self.environments[manifest.identity] = environment
        return Place(Environment(manifest.identity, environment.python), PackedTree(tree.digest))


def _hand_over(slot: Slot, uid: int | None) -> None:
    """Give a user what is in the environment's folder; None is nobody else."""
    if uid is not None:
        with boundary({OSError: lambda error: build_failed(str(error), slot)}):
            hand_over(slot.venv, uid)


def _box(slot: Slot) -> Path:
    """Return where a build has its box on the disk: always at one place, since the project is installed with it."""
    return slot.venv.parent / "box"


def imported_folders(environment: Path, tree: Path) -> tuple[str, ...]:
    """Return the folders that an environment imports from a tree at this path, relative to it.

    They are read from what an installation for development leaves: lists of folders, and finders for packages. A build
    may have left anything in their place: only plain files are opened.
    """
    found: dict[str, None] = {}
    for path in sorted(environment.glob("lib/python*/site-packages/*")):
        is_finder = path.name.startswith("__editable__") and path.suffix == ".py"
        if not (is_finder or path.suffix == ".pth") or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size > _LARGEST_LIST:
            continue
        text = path.read_text("utf-8", "replace")
        packages = re.findall(rf"'({re.escape(str(tree))}/[^']*)'", text)
        folders = [Path(package).parent for package in packages] if is_finder else map(Path, text.splitlines())
        inside = (folder.relative_to(tree) for folder in folders if folder.is_relative_to(tree))
        found |= {str(folder): None for folder in inside if ".." not in folder.parts}
    return tuple(found)


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
