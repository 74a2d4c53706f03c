"""Chooses where tests run, and makes it ready: Docker (`imaged`), or a virtual environment of this machine.

A virtual environment is built in a box of bubblewrap or Landlock, or without one on the user's word. That box sees what
every box sees, and beside it the new environment's folder, which alone it can write, folders that pip is configured to
take packages from, and the proxy. How much it writes is limited for each file, not for all of them.
"""

import asyncio
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from uv import find_uv_bin

from agentless_mini.domain import (
    MIB,
    Environment,
    Event,
    Note,
    PackedTree,
    Phase,
    PhaseStarted,
    Place,
    Runner,
    Snapshot,
)
from agentless_mini.environment.build import VERSION, Way, build_job, identity_of, open_in, tried, usable
from agentless_mini.environment.ecosystems import tools, unreadable
from agentless_mini.environment.imaged import base_image, check_docker, open_docker
from agentless_mini.environment.machine import Interpreter, choose_python, find_index, find_rust
from agentless_mini.environment.needs import needs_of
from agentless_mini.environment.work import EnvironmentRequest, Manifest, Opened, Slot, Unavailable, Work, build_failed
from agentless_mini.errors import BuildFailed, EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.ports import Watch
from agentless_mini.sandbox.bubblewrap import BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.daemon import require_daemon
from agentless_mini.sandbox.host import (
    Box,
    LocalSandbox,
    Scratch,
    UnsafeLocal,
    VirtualEnvironment,
    boxes_here,
    sweep_scratch,
)
from agentless_mini.sandbox.wire import Pack, no_room
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings

_PAGE = 4096
"""What a file in a box takes is counted in pages of at least this size."""
_GLANCE = 1
"""Seconds that Docker and a registry may take to say whether there is an image, before the first line of a run."""


def _look_for_landlock(_: SandboxSettings) -> object:
    from agentless_mini.sandbox.landlock import find_landlock

    return find_landlock()


_WAYS: dict[SandboxKind, tuple[str, Callable[[SandboxSettings], object]]] = {
    SandboxKind.DOCKER: ("Docker", lambda _: require_daemon()),
    SandboxKind.LOCAL: ("bubblewrap", lambda settings: find_bubblewrap(settings.bubblewrap)),
    SandboxKind.LANDLOCK: ("Landlock", _look_for_landlock),
}
"""The sandboxes in the order in which they are tried, each with its name and a look that starts nothing."""
_SKELETON_SECONDS = 60
_ROOTS_CACHE = Path("/var/cache/agentless-mini")
_LARGEST_LIST = 1024 * 1024
"""Bytes of a list of folders to import from; a larger file is none."""


async def foresee(settings: SandboxSettings, snapshot: Snapshot, runner: Runner) -> str:
    """Return in words where tests will run, or why none is run, by a look that starts nothing and takes a moment.

    Raises `UsageError` as `open_environment`.
    """
    kind = _kind(settings)
    if kind is SandboxKind.NONE:
        return f"{UNTESTED} (--sandbox none)"
    if kind is not SandboxKind.AUTO:
        return f"tests run in {_WAYS[kind][0] if kind in _WAYS else 'no sandbox at all'}"
    needs = await asyncio.to_thread(needs_of, snapshot, runner)
    reasons, image = list[str](), ""
    for way, (name, look) in _WAYS.items():
        try:
            await asyncio.to_thread(look, settings)
            if way is SandboxKind.DOCKER:
                await asyncio.wait_for(check_docker(settings, needs, 2 * _GLANCE), _GLANCE)
        except EnvironmentFailed as error:
            reasons.append(str(error))
        except TimeoutError:
            image = printable(base_image(settings, needs))
        else:
            return f"tests run in {f'Docker, or in {name} if the image {image} cannot be pulled' if image else name}"
    if image:
        return f"tests run in Docker if the image {image} can be pulled"
    return f"{UNTESTED}, for there is no sandbox: {' '.join(reasons)}"


async def open_environment(
    request: EnvironmentRequest, settings: SandboxSettings, watch: Watch, stack: AsyncExitStack
) -> Opened | Unavailable:
    """Return the test environment of a tree, ready to be used until `stack` is closed.

    It is built where it is not there yet, which can take minutes. What dead runs left behind is removed first. Where
    the settings leave the choice, the first way that works is taken, and `Unavailable` is the answer where none does.
    Raises `EnvironmentFailed` where the way that was asked for does not work, `UsageError` where settings contradict
    each other, and `RepositoryError` where the tree cannot be read any more.
    """
    if settings.kind is SandboxKind.NONE:
        return Unavailable("No test is run because of --sandbox none.")
    kind = _kind(settings)
    watch(PhaseStarted(Phase.ENVIRONMENT))
    await asyncio.to_thread(sweep_scratch)
    scratch = Scratch()
    stack.callback(scratch.close)
    needs = await asyncio.to_thread(needs_of, request.snapshot, request.runner, settings.members, settings.from_git())
    if needs.ecosystem and needs.ecosystem.root == "package.json" and (problem := unreadable(request.snapshot)):
        watch(Note(f"{problem}: what it says of tests and packages is not known."))
    index = await asyncio.to_thread(find_index, request.variables)
    loop, here = asyncio.get_running_loop(), threading.get_ident()

    def watched(event: Event) -> None:
        watch(event) if threading.get_ident() == here else loop.call_soon_threadsafe(watch, event)

    work = Work(request, settings, watched, needs, index, scratch)
    return await (_first_that_works(work, stack) if kind is SandboxKind.AUTO else _open(kind, work, stack))


async def check_environment(snapshot: Snapshot, runner: Runner, settings: SandboxSettings) -> None:
    """Raise as `open_environment` where the sandbox that was asked for cannot work, or the tree fits into no box.

    Nothing is built or pulled. Where the settings leave the choice of the sandbox, nothing is checked.
    """
    kind = _kind(settings)
    if kind in _WAYS:
        pages = sum(-(-max(file.size, len(file.data)) // _PAGE) for file in snapshot.files)
        if (needed := -(-pages * _PAGE // MIB)) > settings.disk_mib:
            raise no_room(f"{needed} MiB of files, and room for {settings.disk_mib} MiB")
    if kind is SandboxKind.DOCKER:
        await check_docker(settings, needs_of(snapshot, runner))
    elif kind in _WAYS:
        await asyncio.to_thread(_WAYS[kind][1], settings)


def _kind(settings: SandboxSettings) -> SandboxKind:
    """Return what is asked for: an image leaves no choice."""
    if not settings.image:
        return settings.kind
    if settings.kind in {SandboxKind.AUTO, SandboxKind.DOCKER}:
        return SandboxKind.DOCKER
    raise UsageError(f"An image needs Docker: leave out --image, or --sandbox {settings.kind}.")


async def _open(kind: SandboxKind, work: Work, stack: AsyncExitStack) -> Opened:
    async with AsyncExitStack() as own:
        opening = open_docker(work, own) if kind is SandboxKind.DOCKER else open_virtual(kind, work, own)
        opened = await opening
        stack.push_async_exit(own.pop_all())
        return opened


async def _first_that_works(work: Work, stack: AsyncExitStack) -> Opened | Unavailable:
    """Open the first way that works. A build that failed without Docker would fail behind Landlock just so."""
    failed, reasons, log = "", list[str](), ""
    for kind, (name, _) in _WAYS.items():
        if failed:
            work.note(f"Trying {name} instead of {failed}. {reasons[-1]}")
        try:
            return await _open(kind, work, stack)
        except EnvironmentFailed as error:
            failed = name
            reasons.append(str(error))
            log = error.log if isinstance(error, BuildFailed) else log
            if kind is SandboxKind.LOCAL and isinstance(error, BuildFailed):
                break
    return Unavailable(f"No test is run, for there is no environment. {' '.join(dict.fromkeys(reasons))}", log)


async def open_virtual(kind: SandboxKind, work: Work, stack: AsyncExitStack) -> Opened:
    """Return a test environment in boxes of this kind. Raises `EnvironmentFailed`.

    Root's environments are kept where other users may go, and have a Python that these may run, where boxes are theirs.
    """
    if sys.platform != "linux":
        raise EnvironmentFailed("Boxes without Docker need Linux: use --sandbox docker.")
    boxes = work.settings.boxes or boxes_here(work.settings.limits())
    scratch, environments = Scratch(), dict[str, VirtualEnvironment]()
    stack.callback(scratch.close)
    suits, name, moved = None, "virtual environment", ""
    sandbox: LocalSandbox
    if kind is SandboxKind.LOCAL:
        probed = work.settings.kind is not SandboxKind.LOCAL  # where there is no choice, the first box tells
        bubblewrap = await asyncio.to_thread(lambda: find_bubblewrap(work.settings.bubblewrap, tried=probed))
        sandbox = BubblewrapSandbox(bubblewrap, environments, work.packs, boxes)
    elif kind is SandboxKind.LANDLOCK:
        from agentless_mini.sandbox.landlock import TREE, LandlockSandbox, find_landlock, is_open

        name, moved = "virtual environment for Landlock", TREE
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
    wish, variables = work.needs.python, work.request.variables
    python, notes = await asyncio.to_thread(choose_python, wish, variables, suits, is_bare=work.is_bare)
    seen = tools(work.request.runner, work.request.variables.get("PATH", os.defpath))
    return await open_in(work, _Virtual(name, sandbox, environments, python, moved, seen), notes)


def _entered(scratch: Scratch) -> Path:
    """Return a folder for boxes, whose users may go through it."""
    folder = scratch.file("")
    folder.chmod(0o711)
    return folder


@dataclass(frozen=True)
class _Virtual(Way):
    """Virtual environments of one Python, for one kind of box, which `name` tells from others.

    `moved` is where in its folder a box has the tree, "" where it always has it at one path.
    """

    name: str
    sandbox: LocalSandbox
    environments: dict[str, VirtualEnvironment]
    python: Interpreter
    moved: str = ""
    tools: tuple[Path, ...] = ()

    def slot(self, work: Work) -> Slot:
        version = map(str, self.python.version)
        asked = (work.needs.digest, work.settings.setup, str(self.python.path), *version, VERSION)
        bare = ("bare",) if work.is_bare else ()
        return work.slot(self.name, *asked, work.until, *work.settings.build_hosts, *bare)

    async def is_whole(self, slot: Slot, manifest: Manifest) -> bool:
        return _is_intact(slot, manifest.behind)

    async def make(self, work: Work, slot: Slot) -> Manifest:
        version = ".".join(map(str, self.python.version))
        work.tell_building("the environment" if work.is_bare else f"a {self.name} (Python {version})", slot)
        await asyncio.to_thread(_make_skeleton, self.python, slot, work.is_bare)
        if not (work.settings.setup or work.is_bare):  # a bare one has no packages of its own: they would be the user's
            await asyncio.to_thread(_fetch, work, slot)
        pack, unfinished = await work.pack(), VirtualEnvironment(slot.key, slot.venv, tools=self.tools)
        rust = find_rust(work.request.variables) if work.needs.rust else ()
        readable = (*work.index.folders(), *rust)
        box = Box(unfinished, (slot.venv,), readable, hear=work.hear, folder=slot.box)
        if isinstance(self.sandbox, UnsafeLocal):
            box = replace(box, uid=None)
        _hand_over(slot, box.uid)
        async with work.proxy() as proxy:
            told = work if isinstance(self.sandbox, UnsafeLocal) else replace(work, index=proxy.index)
            base, tree = Environment(slot.key, unfinished.python), PackedTree(pack.digest)
            path = f"{slot.venv}/bin:{rust[0]}/bin:/usr/local/bin:/usr/bin:/bin" if rust else ""
            job = build_job(told, base, tree, unfinished.python, path=path)
            result = await self.sandbox.run_in(job, pack, replace(box, proxy=proxy.path))
        _hand_over(slot, None if box.uid is None else os.geteuid())
        seal(slot.venv)
        built = usable(result, work, slot)
        if not _is_intact(slot, str(self.python.path)):
            raise build_failed("its Python was replaced by another", slot)
        manifest = Manifest(
            identity=identity_of(slot.key, built), python=unfinished.python, behind=str(self.python.path)
        )
        if work.needs.ecosystem:
            manifest.variables = work.needs.ecosystem.variables_in(str(slot.venv))
        return await tried(work, self, slot, manifest, built)

    def place(self, slot: Slot, manifest: Manifest, tree: Pack) -> Place:
        imported = imported_folders(slot.venv, slot.box / self.moved) if self.moved else ()
        environment = VirtualEnvironment(manifest.identity, slot.venv, imported, self.tools)
        self.environments[manifest.identity] = environment
        return Place(Environment(manifest.identity, environment.python), PackedTree(tree.digest))


def _fetch(work: Work, slot: Slot) -> None:
    """Install from the index, as this user, what needs no code to be run: wheels, by names and versions that were read.

    They come out of a cache that all environments of this machine share. Only this step writes there, and it runs
    nothing that it fetches. The environment gets copies, since the build may write to them. Where it fails, the build
    fetches all.
    """
    needs, cache = work.needs, work.request.cache / "uv"
    if not needs.simple:
        return
    dated = ("--exclude-newer", work.until) if work.until else ()
    locked, bundle = work.scratch.file("locked.txt"), work.scratch.file("certificates.pem")
    locked.write_text("\n".join(() if work.until else needs.locked), "utf-8")
    bundle.write_bytes(work.index.certificates)
    options = ("--no-config", "--no-progress", "--no-build", "--link-mode=clone", "--index-strategy=unsafe-best-match")
    place = ("--cache-dir", cache, "--python", slot.venv / "bin" / "python", "--constraint", locked)
    wanted = (*needs.simple, *filter(None, (needs.module,)))
    trusted = {"SSL_CERT_FILE": str(bundle)} if work.index.certificates else {}
    variables = {**dict(work.index.variables()), **trusted, "UV_PYTHON_DOWNLOADS": "never", "PATH": os.defpath}
    work.hear("fetching packages")
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - uv, which comes with amini
            (find_uv_bin(), "pip", "install", *work.index.options(), *options, *dated, *place, *wanted),
            env=variables,
            cwd=work.scratch.file(""),
            capture_output=True,
            timeout=work.settings.build_seconds,
            check=False,
        )


def _hand_over(slot: Slot, uid: int | None) -> None:
    """Give a user what is in the environment's folder, where no box may be writing; None is nobody else."""
    if uid is None:
        return
    with boundary({OSError: lambda error: build_failed(str(error), slot)}):
        for _, folders, files, top in os.fwalk(slot.venv):
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


def _make_skeleton(interpreter: Interpreter, slot: Slot, is_bare: bool) -> None:
    """Make the folders and links of a virtual environment, in which nothing foreign takes part.

    A bare one only names the Python by which boxes are run.
    """
    command = (interpreter.path, "-I", "-m", "venv", "--without-pip", slot.venv)
    try:
        if is_bare:
            (slot.venv / "bin").mkdir(parents=True)
            (slot.venv / "bin" / "python").symlink_to(interpreter.path)
            return
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SKELETON_SECONDS)  # noqa: S603 - it is a Python of the user's
    except (OSError, subprocess.TimeoutExpired) as error:
        raise build_failed(str(error), slot) from error
    if done.returncode:
        slot.write_log(done.stdout + done.stderr)
        raise build_failed(f"{interpreter.path} -m venv exited with {done.returncode}", slot)
