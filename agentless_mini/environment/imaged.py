"""Docker images in which tests run: built on a base image, or the user's own, as it is or after a setup command.

A built one is kept by the daemon as `amini-env:<key>`, with the label `amini=1`. It is the base image with a virtual
environment in /opt/amini; the tree is not in it, for every box gets its own.
"""

import asyncio
import hashlib
import os
import sys
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from agentless_mini.domain import BoxUser, Environment, JobResult, PackedTree, Place
from agentless_mini.domain.canonical import canonical_json
from agentless_mini.environment.build import Manifest, Slot, build_job, overlay_files, read_build
from agentless_mini.environment.needs import Needs
from agentless_mini.environment.pythons import OLDEST
from agentless_mini.environment.work import FOLDER, Opened, Work, build_failed, fitting, probe, require_usable
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.sandbox.docker import ANSWERING, DockerSandbox, capacity, connect
from agentless_mini.sandbox.images import Image, find_image, pull_image, require_pullable
from agentless_mini.sandbox.wire import Hear
from agentless_mini.settings.run import SandboxSettings

if TYPE_CHECKING:
    from docker import DockerClient

VENV = "/opt/amini/venv"
_NEWEST = 14
"""The newest minor version of Python 3 that is sure to have an image."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class _Daemon:
    """What a test environment is made with: a client, the boxes on it, and the image to start from."""

    client: "DockerClient"
    sandbox: DockerSandbox
    base: Image

    @property
    def folder(self) -> str:
        """Return where trees are put."""
        return self.base.folder if self.base.folder not in {"", "/"} else FOLDER


async def open_docker(work: Work, stack: AsyncExitStack) -> Opened:
    """Return a test environment in containers. Raises `EnvironmentFailed`."""
    limits = work.settings.limits()
    client = await _connected(work.settings.boxes or os.cpu_count() or 1)
    room = await asyncio.to_thread(capacity, client, limits)
    sandbox = DockerSandbox(client, work.packs, work.settings.boxes or room)
    stack.push_async_callback(sandbox.aclose)
    await sandbox.sweep()
    daemon = _Daemon(client, sandbox, await _base(work, client))
    work, manifest = await fitting(work, lambda work: _slot(work, daemon), lambda work: _ready(work, daemon))
    pack = await work.pack(overlay_files(_slot(work, daemon).overlay(), work.request.snapshot))
    place = Place(_environment(manifest), PackedTree(pack.digest, daemon.folder))
    return Opened(sandbox, place, limits, manifest.notes)


async def check_docker(settings: SandboxSettings, needs: Needs, seconds: int = ANSWERING) -> None:
    """Raise `EnvironmentFailed` where no daemon answers, or the image to start from is nowhere to be had.

    Each question to the daemon may take so many seconds.
    """
    client = await _connected(1, seconds)
    name = base_image(settings, needs)
    try:
        if await asyncio.to_thread(find_image, client, name) is None:
            await asyncio.to_thread(require_pullable, client, name)
    finally:
        client.close()


def _slot(work: Work, daemon: _Daemon) -> Slot:
    return work.slot(_key(work, daemon))


async def _ready(work: Work, daemon: _Daemon) -> Manifest:
    slot = _slot(work, daemon)
    async with slot.locked(work.note_waiting):
        manifest = slot.read()
        if manifest is None or await asyncio.to_thread(find_image, daemon.client, manifest.image) is None:
            manifest = await _prepare(work, daemon, slot)
    return manifest


async def _connected(boxes: int, seconds: int = ANSWERING) -> "DockerClient":
    connecting = asyncio.ensure_future(asyncio.to_thread(connect, boxes, seconds))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_let_go)
        raise


def _let_go(connecting: "asyncio.Future[DockerClient]") -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


async def _base(work: Work, client: "DockerClient") -> Image:
    """Return the image to start from, pulled if need be."""
    name = base_image(work.settings, work.needs)
    found = await asyncio.to_thread(find_image, client, name)
    if found is not None:
        return found
    work.note(f"Pulling the image {printable(name)}.")
    stopped, hear = threading.Event(), _in_loop(work.hear)

    def tell(came: int, known: int) -> None:
        hear(f"pulling, {came / 1e6:.0f} of {known / 1e6:.0f} MB")

    try:
        return await asyncio.to_thread(pull_image, client, name, stopped, tell)
    finally:
        stopped.set()


def _in_loop(hear: Hear) -> Hear:
    """Return what other threads may call, to be heard in this one."""
    loop = asyncio.get_running_loop()

    def heard(line: str) -> None:
        loop.call_soon_threadsafe(hear, line)

    return heard


def base_image(settings: SandboxSettings, needs: Needs) -> str:
    """Return the name of the image to start from."""
    here = sys.version_info.minor
    suitable = needs.python.ordered(range(OLDEST, max(_NEWEST, here) + 1), here)
    return settings.image or settings.base_image.replace("{version}", f"3.{suitable[0] if suitable else here}")


def _key(work: Work, daemon: _Daemon) -> str:
    settings = work.settings
    kind = "image" if settings.image else "built image"
    # A user's own image has what it has, whatever the tree says.
    needs = str(work.request.runner) if settings.image else work.needs.digest
    asked = [kind, daemon.base.id, needs, settings.setup, work.request.version, daemon.folder, work.until]
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()


async def _prepare(work: Work, daemon: _Daemon, slot: Slot) -> Manifest:
    slot.clear()
    if work.settings.image and not work.settings.setup:
        candidate = Manifest(identity=daemon.base.id, image=daemon.base.id, python="python3", user=BoxUser.NOBODY)
        return await _probed(work, daemon, slot, candidate, b"")
    async with work.building(f"an image on {printable(work.settings.image or 'a base image')}", slot):
        return await _probed(work, daemon, slot, *await _built(work, daemon, slot))


async def _built(work: Work, daemon: _Daemon, slot: Slot) -> tuple[Manifest, bytes]:
    path = daemon.base.path or _PATH
    if work.settings.image:
        recipe = replace(work.recipe("python3"), is_fresh=False, path=path)
    else:
        recipe = replace(work.recipe(f"{VENV}/bin/python"), make=VENV, path=f"{VENV}/bin:{path}")
    base = Environment(daemon.base.id, "python3")
    job = build_job(recipe, base, PackedTree((await work.pack()).digest, daemon.folder))

    def is_worth(result: JobResult) -> bool:
        return not read_build(result, recipe).problem

    name = f"amini-env:{_key(work, daemon)[:32]}"
    result, image = await daemon.sandbox.build(job, name, recipe.path, is_worth, _in_loop(work.hear))
    built = read_build(result, recipe)
    require_usable(built, slot)
    manifest = Manifest(
        identity=image,
        image=image,
        python=recipe.python,
        user=BoxUser.NOBODY,
        notes=(*work.needs.notes, *built.notes, *work.dated_notes()),
        lacking=built.lacking,
    )
    return manifest, built.overlay


async def _probed(work: Work, daemon: _Daemon, slot: Slot, manifest: Manifest, overlay: bytes) -> Manifest:
    """Keep the environment as the first of several ways to use it in which the tests can be started.

    Who runs the tests in an image, and by which name of Python, is tried in this order.
    """
    pack = await work.pack(overlay_files(overlay, work.request.snapshot))
    pythons = dict.fromkeys((manifest.python, "python3", "python"))
    first: EnvironmentFailed | None = None
    for user, python in product((BoxUser.NOBODY, BoxUser.ROOT), pythons):
        way = manifest.model_copy(update={"python": python, "user": user})
        place = Place(_environment(way), PackedTree(pack.digest, daemon.folder))
        try:
            notes = await probe(work, daemon.sandbox, place, lambda problem: build_failed(problem, slot))
        except EnvironmentFailed as error:
            first = first or error
            continue
        whole = way.model_copy(update={"notes": (*way.notes, *notes), "lacking": way.lacking + len(notes)})
        slot.keep(whole, overlay)
        return whole
    assert first is not None  # noqa: S101 - nothing was tried else
    if work.settings.image and not work.settings.setup:
        raise EnvironmentFailed(
            f"The tests cannot be run in the image {printable(work.settings.image)}: install what they need there with "
            f"--setup, or name another image. ({first})"
        )
    raise first


def _environment(manifest: Manifest) -> Environment:
    return Environment(manifest.image, manifest.python, BoxUser(manifest.user))
