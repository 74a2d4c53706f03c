"""Docker images in which tests run: built on a base image, or the user's own, as it is or after a setup command.

A built one is kept by the daemon as `amini-env:<key>`, with the label `amini=1`. It is the base image with a virtual
environment in /opt/amini; the tree is not in it, for every box gets its own.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from agentless_mini.domain import CARRIED, BoxUser, Environment, Job, PackedTree, Place, Step, starting
from agentless_mini.environment.activated import COPIED, PLAIN_PATH, USUAL, Activated, find_environment
from agentless_mini.environment.build import (
    KEEP,
    NOTHING,
    VERSION,
    Built,
    Way,
    build_job,
    open_in,
    read_build,
    tried,
    usable,
)
from agentless_mini.environment.machine import OLDEST, Index
from agentless_mini.environment.needs import Needs
from agentless_mini.environment.proxy import IndexProxy
from agentless_mini.environment.work import Manifest, Opened, Slot, Work
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.sandbox import daemon
from agentless_mini.sandbox.carried import carry
from agentless_mini.sandbox.docker import DockerSandbox
from agentless_mini.sandbox.wire import Pack
from agentless_mini.settings.run import SandboxSettings

if TYPE_CHECKING:
    from docker import DockerClient

VENV = "/opt/amini/venv"
_FOLDER = "/repo"
"""Where trees are put in an image that names no folder."""
_NEWEST = 14
"""The newest minor version of Python 3 that is sure to have an image."""
_COPY = """
import os, shutil, sys
source, copy = sys.argv[1:]
shutil.copytree(source, copy, symlinks=True)
for entry in os.scandir(copy + "/bin") if os.path.isdir(copy + "/bin") else ():
    data = open(entry.path, "rb").read() if entry.is_file(follow_symlinks=False) else b""
    if data.startswith(b"#!" + source.encode()):
        open(entry.path, "wb").write(data.replace(source.encode(), copy.encode(), 1))
"""


async def open_docker(work: Work, stack: AsyncExitStack) -> Opened:
    """Return a test environment in containers. Raises `EnvironmentFailed`."""
    client = await _connected(work.settings.boxes or os.cpu_count() or 1)
    room = await asyncio.to_thread(daemon.capacity, client, work.settings.limits())
    sandbox = DockerSandbox(client, work.packs, work.settings.boxes or room)
    stack.push_async_callback(sandbox.aclose)
    await sandbox.sweep()
    return await open_in(work, _Images(client, sandbox, await _base(work, client)))


async def check_docker(settings: SandboxSettings, needs: Needs, seconds: int = daemon.ANSWERING) -> None:
    """Raise `EnvironmentFailed` where no daemon answers, or the image to start from is nowhere to be had.

    Each question to the daemon may take so many seconds.
    """
    name = base_image(settings, needs)
    with closing(await _connected(1, seconds)) as client:
        if await asyncio.to_thread(daemon.find_image, client, name) is None:
            await asyncio.to_thread(daemon.require_pullable, client, name)


def base_image(settings: SandboxSettings, needs: Needs) -> str:
    """Return the name of the image to start from. Raises `EnvironmentFailed` where none is known for the language."""
    if (other := needs.ecosystem) and not settings.image:
        if other.image:
            return other.image
        if not settings.setup and "{version}" in settings.base_image:  # it is one of Python's
            raise EnvironmentFailed(
                f"No image is known for the tests of a tree with {other.root}: name one with --image, or use --sandbox "
                "local."
            )
    here = sys.version_info.minor
    suitable = needs.python.ordered(range(OLDEST, max(_NEWEST, here) + 1), here)
    return settings.image or settings.base_image.replace("{version}", f"3.{suitable[0] if suitable else here}")


async def _connected(boxes: int, seconds: int = daemon.ANSWERING) -> "DockerClient":
    connecting = asyncio.ensure_future(asyncio.to_thread(daemon.connect, boxes, seconds))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_let_go)
        raise


def _let_go(connecting: "asyncio.Future[DockerClient]") -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


async def _base(work: Work, client: "DockerClient") -> daemon.Image:
    """Return the image to start from, pulled if need be."""
    name = base_image(work.settings, work.needs)
    found = await asyncio.to_thread(daemon.find_image, client, name)
    if found is not None:
        return found
    work.note(f"Pulling the image {printable(name)}.")
    stopped = threading.Event()

    def tell(came: int, known: int) -> None:
        work.hear(f"pulling, {came / 1e6:.0f} of {known / 1e6:.0f} MB")

    try:
        return await asyncio.to_thread(daemon.pull_image, client, name, stopped, tell)
    finally:
        stopped.set()


def _as_found(found: Activated, made: Manifest | None = None) -> Manifest:
    """Return what is known of an image in which the tests' environment was found."""
    image, python, user = found.environment.identity, found.environment.python, found.environment.user
    how = {"python": python, "user": user, "program": found.program, "variables": found.variables}
    return (made or Manifest(identity=image, image=image, python=python)).model_copy(update=how)


@asynccontextmanager
async def network(
    sandbox: DockerSandbox,
    base: Environment,
    index: Index,
    proxy: Callable[[], AbstractAsyncContextManager[IndexProxy]],
    note: Callable[[str], None],
) -> AsyncIterator[tuple[Index, str | None]]:
    """Give what a build in a container is told of its index, and what `DockerSandbox.build` is told of its network."""
    async with proxy() as trial, proxy() as used:
        if await sandbox.reaches(base, str(trial.path)):
            yield used.index, str(used.path)
        else:
            note("The Docker daemon cannot be given the proxy's socket: the build has all of its network.")
            yield index, None


@dataclass(frozen=True)
class _Images(Way):
    """Images made on a base, which is the user's own where the settings name one."""

    client: "DockerClient"
    sandbox: DockerSandbox
    base: daemon.Image

    @property
    def folder(self) -> str:
        """Return where trees are put."""
        return self.base.folder if self.base.folder not in {"", "/"} else _FOLDER

    def slot(self, work: Work) -> Slot:
        own, setup = work.settings.image, work.settings.setup
        # A user's own image has what it has, whatever the tree says.
        asked: tuple[str, ...] = ("image", self.base.id, str(work.request.runner))
        if not own:
            asked = ("built image", self.base.id, work.needs.digest, *work.system())
        return work.slot(*asked, setup, VERSION, self.folder, work.until, *work.settings.build_hosts)

    async def is_whole(self, slot: Slot, manifest: Manifest) -> bool:
        return await asyncio.to_thread(daemon.find_image, self.client, manifest.image) is not None

    async def make(self, work: Work, slot: Slot) -> Manifest:
        own, setup = work.settings.image, work.settings.setup
        found = Activated(Environment(self.base.id, "python3"))
        if own or work.needs.ecosystem:
            found = await self._found_or_carried(work)
        if not own or setup:
            more = f" with {', '.join(work.system())} of the system's packages" if work.system() else ""
            work.tell_building(f"an image on {printable(own or 'a base image')}{printable(more)}", slot)
            return await self._built(work, slot, found)
        return await self._tried(work, slot, (_as_found(found),), NOTHING)

    async def _found_or_carried(self, work: Work) -> Activated:
        """Return how tests run in the user's image, with a Python of ours beside its own files if it has none."""
        on_path = (f"{place}/{name}" for place in self.base.path.split(":") for name in ("python3", "python"))
        own = (f"{self.folder}/{name}/bin/python" for name in (".venv", "venv"))
        usual = [path for path in (*USUAL, *on_path, *own) if path.startswith("/")]
        if await asyncio.to_thread(daemon.has_any, self.client, self.base.id, usual):
            with suppress(EnvironmentFailed):  # it may be too old, or lack ctypes
                return await self._found(work, await self._with_own(work, self.base.id))
        lent = await asyncio.to_thread(carry, self.client, self.base)
        return await self._found(work, await self._with_own(work, lent), (CARRIED,))

    async def _with_own(self, work: Work, own_image: str) -> str:
        """Return the user's image, with a copy of the virtual environment or npm's packages that a tree would hide."""
        folder = self.base.folder.rstrip("/")
        places = {f"{folder}/{name}": (COPIED, f"{folder}/{name}/bin/python") for name in (".venv", "venv")}
        places[f"{folder}/node_modules"] = ("/node_modules", CARRIED)
        for own, (copy, python_there) in places.items() if folder else ():
            mark = python_there if copy == COPIED else own
            if not await asyncio.to_thread(daemon.has_any, self.client, own_image, (mark,)):
                continue
            name = f"amini-env:own-{own_image[-32:]}"
            if kept := await asyncio.to_thread(daemon.find_image, self.client, name):
                return kept.id
            tree = PackedTree((await work.pack()).digest, f"{COPIED}-tree")
            limits = replace(work.settings.limits(), seconds=work.settings.build_seconds)
            for python in ("python3", python_there):
                step = Step((*starting(python), "-I", "-c", _COPY, own, copy), seconds=limits.seconds)
                job = Job(Environment(own_image, python, BoxUser.ROOT), tree, (), (step,), limits)
                with suppress(EnvironmentFailed):  # the other Python may start a box
                    path = self.base.path or PLAIN_PATH
                    _, image = await self.sandbox.build(
                        job, name, path, lambda done: not done.refusal and done.steps[0].succeeded
                    )
                    if image:
                        return image
        return own_image

    async def _found(self, work: Work, image: str, pythons: tuple[str, ...] = ()) -> Activated:
        tree = PackedTree((await work.pack()).digest, self.folder)
        job = Job(Environment(image), tree, (), (), work.settings.limits())
        return await find_environment(self.sandbox, job, work.request.runner, self.base.path, pythons)

    async def _built(self, work: Work, slot: Slot, found: Activated) -> Manifest:
        path, own, base = self.base.path or PLAIN_PATH, work.settings.image, found.environment
        python, make = (found.program, "") if own else (f"{VENV}/bin/python", VENV)
        path = dict(found.variables).get("PATH", path) if own else f"{VENV}/bin:{path}"
        if other := work.needs.ecosystem:
            python, make, path = base.python, "", self.base.path or PLAIN_PATH
        tree = PackedTree((await work.pack()).digest, self.folder)
        async with network(self.sandbox, base, work.index, work.proxy, work.note) as (index, door):
            job = build_job(replace(work, index=index), base, tree, python, make=make, fresh=not own, path=path)
            result, image = await self.sandbox.build(
                job,
                f"amini-env:{slot.key[:32]}",
                path,
                lambda result: not read_build(result, work).problem,
                work.hear,
                door,
            )
        built = usable(result, work, slot)
        made = Manifest(identity=image, image=image, python=python)
        if other:
            made.variables, made.user = other.variables_in(KEEP), found.environment.user
            ways = [made]
        elif own:
            pythons = (base.python,) if base.python == CARRIED else ()
            ways = [_as_found(await self._found(work, image, pythons), made)]
        else:
            by = product((BoxUser.NOBODY, BoxUser.ROOT), dict.fromkeys((python, "python3", "python")))
            ways = [made.model_copy(update={"python": python, "user": user}) for user, python in by]
        return await self._tried(work, slot, ways, built)

    async def _tried(self, work: Work, slot: Slot, ways: Iterable[Manifest], built: Built) -> Manifest:
        """Keep the environment as the first of several ways to use it in which the tests can be started."""
        failures = list[EnvironmentFailed]()
        for way in ways:
            try:
                return await tried(work, self, slot, way, built)
            except EnvironmentFailed as error:
                failures.append(error)
        if (own := work.settings.image) and not work.settings.setup:
            said = str(failures[0]).partition("(")[2].partition("; see ")[0]
            raise EnvironmentFailed(
                f"The tests cannot be run in the image {printable(own)} ({said}): install what they need with --setup, "
                "such as --setup 'python3 -m pip install pytest', or name another image."
            )
        raise failures[0]

    def place(self, slot: Slot, manifest: Manifest, tree: Pack) -> Place:
        environment = Environment(manifest.image, manifest.python, BoxUser(manifest.user))
        return Place(environment, PackedTree(tree.digest, self.folder))
