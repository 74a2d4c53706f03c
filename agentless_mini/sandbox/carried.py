"""The Python that runs amini, put into images that have none.

Its program, standard library, shared libraries and the loader of its system make one folder, which needs nothing of the
image it lies in: not even a libc. Nothing there is on a path of what the image runs. It fits images for the same
machine alone.
"""

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from agentless_mini.domain import CARRIED
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.sandbox.daemon import Image, commit, engine, find_image, remove, translated
from agentless_mini.sandbox.host import LABEL, OWNER, myself

if TYPE_CHECKING:
    from docker import DockerClient

_HOME = CARRIED.partition("/bin/")[0]
_LEFT_OUT = frozenset(
    {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip"}
    | {"lib2to3", "pydoc_data", "distutils", "curses", "dbm", "sqlite3", "unittest", "venv", "wsgiref", "lib-dynload"}
)
# What the programs that run in boxes import of compiled modules.
_LOOK = (
    "import array, base64, binascii, csv, ctypes, fcntl, glob, hashlib, json, os, random, resource, select, selectors\n"
    "import shutil, signal, socket, struct, subprocess, sys, tarfile, tempfile, threading\n"
    "print(json.dumps([os.__file__, [m.__file__ for m in sys.modules.values()"
    " if getattr(m, '__file__', None) and m.__file__.endswith('.so')]]))"
)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
_INTERPRETER = re.compile(rb"/[\w./-]*ld[\w.-]*\.so[\w.-]*\0")
_HEAD = 4096
_LISTED = re.compile(r"(?:(\S+) => )?(/\S+) \(0x")


def carry(client: "DockerClient", image: Image) -> str:
    """Return the id of an image that has our Python beside what this one has, made once. Raises `EnvironmentFailed`."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    if sys.platform != "linux" or image.machine != machine:
        raise EnvironmentFailed(
            f"The image has no Python 3.7 or newer, and is for another machine ({printable(image.machine)}) than "
            "amini's: add a Python to it, or name another image."
        )
    bundle = _bundle()
    name = f"amini-env:python-{hashlib.sha256(image.id.encode() + bundle).hexdigest()[:32]}"
    if kept := find_image(client, name):
        return kept.id
    with translated():
        api, labels = engine(client), {LABEL: "1", OWNER: myself()}
        container = api.create_container(image.id, ["none"], entrypoint=[], labels=labels)["Id"]
        try:
            api.put_archive(container, "/", bundle)
            return commit(client, container, image, name, image.path or os.defpath)
        finally:
            remove(client, container)


@cache
def _bundle() -> bytes:
    """Return the archive of the folder. Raises `EnvironmentFailed` where this Python cannot be carried."""
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    try:
        said = subprocess.run((python, "-I", "-S", "-c", _LOOK), capture_output=True, check=True, timeout=60)  # noqa: S603 - it runs this
        module, compiled = json.loads(said.stdout)
        with python.open("rb") as file:
            found = _INTERPRETER.search(file.read(_HEAD))
        loader = found[0].rstrip(b"\0").decode() if found else ""
        libraries = dict(_libraries(loader, [str(python), *compiled]))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EnvironmentFailed(
            f"The image has no Python 3.7 or newer, and that of amini cannot be put there ({printable(str(error))}): "
            "add one to it, or name another image."
        ) from error
    library, data = Path(module).parent, io.BytesIO()
    home = f"{_HOME}/{sys.platlibdir}/python3.{sys.version_info.minor}"
    files = {CARRIED: python, f"{_HOME}/so/loader": Path(loader)}
    files |= {f"{_HOME}/so/{name}": Path(path) for name, path in libraries.items()}
    files |= {f"{home}/lib-dynload/{Path(path).name}": Path(path) for path in compiled}
    files |= {f"{home}/{path.relative_to(library)}": path for path in _modules(library)}
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def _libraries(loader: str, programs: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the shared libraries that programs need, by the names that they ask for."""
    for program in programs:
        said = subprocess.run((loader, "--list", program), capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - as above
        for name, path in _LISTED.findall(said.stdout):
            yield name or Path(path).name, path


def _modules(library: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("config-"))
        yield from (Path(folder, name) for name in names if name.endswith(".py"))
