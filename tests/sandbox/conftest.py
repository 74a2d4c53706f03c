"""The adapters on the real thing, where this machine has it; a reason to skip where not."""

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentless_mini.domain import Environment
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.ports import Sandbox
from agentless_mini.sandbox.bubblewrap import Bubblewrap, BubblewrapSandbox, find_bubblewrap
from agentless_mini.sandbox.daemon import connect
from agentless_mini.sandbox.docker import DockerSandbox
from agentless_mini.sandbox.host import UnsafeLocal, VirtualEnvironment
from agentless_mini.sandbox.landlock import Landlock, LandlockSandbox, find_landlock
from agentless_mini.sandbox.wire import Pack
from tests.sandbox.adapter import Adapter, children_left
from tests.sandbox.image import image_id

HERE = VirtualEnvironment("here", Path(sys.prefix))


@pytest.fixture(scope="session")
def image() -> str:
    return image_id()


@pytest.fixture(scope="session")
def bubblewrap() -> Bubblewrap:
    try:
        return find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))


def containers(pid: int, *states: str) -> list[str]:
    """Return the boxes that a process made, in these states or any; other runs may be using the daemon."""
    filters = {"label": "amini=1", "status": list(states)}
    client = connect(1)
    try:
        listed = client.api.containers(all=True, filters=filters)
        return [found["Id"] for found in listed if f" {pid} " in found["Labels"]["amini.owner"]]
    finally:
        client.close()


def copies(pid: int) -> list[str]:
    """Return the folders of copied trees that a process made; other runs make and remove theirs meanwhile."""
    found = []
    for owner in Path(tempfile.gettempdir()).glob("amini-trees-*/owner"):
        with contextlib.suppress(FileNotFoundError):
            if f" {pid} " in owner.read_text():
                found.append(str(owner.parent))
    return found


@asynccontextmanager
async def open_docker(packs: Mapping[str, Pack], boxes: int) -> AsyncIterator[Sandbox]:
    sandbox = DockerSandbox(connect(boxes), packs, boxes)
    try:
        yield sandbox
    finally:
        await sandbox.aclose()


@pytest.fixture
def docker_adapter(image: str, tmp_path: Path) -> Iterator[Adapter]:
    def left() -> list[str]:
        return containers(os.getpid())

    yield Adapter(open_docker, Environment(image), tmp_path, left)
    assert left() == []


@pytest.fixture
def local_adapter(bubblewrap: Bubblewrap, tmp_path: Path) -> Iterator[Adapter]:
    @asynccontextmanager
    async def open_local(packs: Mapping[str, Pack], boxes: int) -> AsyncIterator[Sandbox]:
        yield BubblewrapSandbox(bubblewrap, {"here": HERE}, packs, boxes)

    before = set(children_left())

    def left() -> list[str]:
        return [name for name in children_left() if name not in before]

    yield Adapter(open_local, Environment("here"), tmp_path, left)
    assert left() == []


@pytest.fixture(scope="session")
def landlock() -> Landlock:
    try:
        return find_landlock()
    except EnvironmentFailed as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def entered_environment(tmp_path_factory: pytest.TempPathFactory) -> VirtualEnvironment:
    """Return an environment that every user can enter: that of these tests, or one of the system's Python."""
    behind = Path(sys.executable).resolve()
    if os.geteuid() or all(folder.stat().st_mode & 0o001 for folder in behind.parents):
        return HERE
    python = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    if not python.exists():
        pytest.skip(f"needs {python}, which other users than root can run")
    venv = Path(tempfile.mkdtemp(prefix="amini-test-venv-", dir="/var/tmp"))
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    site = Path(pytest.__file__).parents[1]
    there = next(venv.glob("lib/python*/site-packages"))
    shutil.copy(site / "py.py", there)
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        shutil.copytree(site / name, there / name)
    subprocess.run(["chmod", "-R", "a+rX", venv], check=True)
    atexit.register(shutil.rmtree, venv)
    return VirtualEnvironment("here", venv)


@pytest.fixture
def landlock_adapter(landlock: Landlock, entered_environment: VirtualEnvironment, tmp_path: Path) -> Iterator[Adapter]:
    folder = Path(tempfile.mkdtemp(prefix="amini-test-boxes-"))
    folder.chmod(0o711)

    @asynccontextmanager
    async def open_landlock(packs: Mapping[str, Pack], boxes: int) -> AsyncIterator[Sandbox]:
        yield LandlockSandbox(landlock, {"here": entered_environment}, packs, boxes, lambda: folder)

    before = set(children_left())

    def left() -> list[str]:
        return [name for name in children_left() if name not in before] + [path.name for path in folder.iterdir()]

    yield Adapter(open_landlock, Environment("here"), tmp_path, left)
    assert left() == []
    folder.rmdir()


@pytest.fixture
def warnings_given() -> list[str]:
    return []


@pytest.fixture
def unsafe_adapter(tmp_path: Path, warnings_given: list[str]) -> Iterator[Adapter]:
    @asynccontextmanager
    async def open_unsafe(packs: Mapping[str, Pack], boxes: int) -> AsyncIterator[Sandbox]:
        yield UnsafeLocal({"here": HERE}, packs, boxes, tmp_path, warnings_given.append)

    before = set(children_left())

    def left() -> list[str]:
        new = [name for name in children_left() if name not in before]
        return new + [str(path) for path in tmp_path.glob("amini-unsafe-*")]

    yield Adapter(open_unsafe, Environment("here"), tmp_path, left)
    assert left() == []
