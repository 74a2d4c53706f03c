"""A small Docker image made from the running system, for a machine that can pull none: Python, a shell, pytest.

It is imported once, under a name made from what goes into it, and kept by the daemon.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.daemon import connect

LEFT_OUT = {"test", "tests", "__pycache__", "site-packages", "dist-packages", "idlelib", "turtledemo", "ensurepip"}
PACKAGES = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
PYTHON = "/usr/local/bin/python3"
PREFIX = Path("/usr/local")


def image_id() -> str:
    """Return the id of the image, built where the daemon does not have it; skip the test where no daemon answers."""
    from docker.errors import DockerException, ImageNotFound

    try:
        client = connect(1)
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    try:
        files = dict(sorted(contents().items()))
        told = "\n".join(f"{name} {path} {path.stat().st_mtime_ns}" for name, path in files.items())
        name = f"amini-test:{hashlib.sha256((told + MADE).encode()).hexdigest()[:16]}"
        try:
            return str(client.images.get(name).id)
        except ImageNotFound:
            build(client, files, name)
            return str(client.images.get(name).id)
    except DockerException as error:
        pytest.skip(f"no Docker daemon answers: {error}")
    finally:
        client.close()


MADE = "4"


def build(client: object, files: dict[str, Path], name: str) -> None:
    changes = ["ENV PATH=/usr/local/bin:/usr/bin:/bin", "VOLUME /data", 'HEALTHCHECK CMD ["false"]']
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        with tarfile.open(archive.name, "w") as tar:
            # Folders too that files imply: a daemon without root makes these so that nobody can enter them.
            implied = {str(above) for path in files for above in Path(path.lstrip("/")).parents} - {"."}
            for folder in sorted({"tmp", "proc", "sys", "dev", "etc", "testbed", "root", *implied}):
                add_folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
            add(tar, "testbed/inside.py", b"VALUE = 41\n")
            add(tar, "testbed/.git/config", b"[core]\n")
            add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
            for path, source in files.items():
                tar.add(source.resolve(), path.lstrip("/"), recursive=False, filter=as_root)
            for link in ("python", "python3"):
                add_link(tar, f"usr/local/bin/{link}", f"python{version()}")
        done = subprocess.run(
            ["docker", "import", *(part for change in changes for part in ("-c", change)), archive.name, name],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def contents() -> dict[str, Path]:
    """Return the files of the image by their place in it."""
    executable = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    found = {f"/usr/local/bin/python{version()}": executable, "/bin/sh": Path("/bin/sh")}
    home = PREFIX / "lib" / f"python{version()}"
    for path in walk(library):
        found[str(home / path.relative_to(library))] = path
    purelib = Path(pytest.__file__).parent.parent
    for package in PACKAGES:
        for path in walk(purelib / package):
            found[str(home / "site-packages" / path.relative_to(purelib))] = path
    found[str(home / "site-packages" / "py.py")] = purelib / "py.py"
    programs = [path for path in found.values() if path.suffix == ".so" or path in {executable, Path("/bin/sh")}]
    return found | libraries(programs)


def walk(top: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        yield from (Path(folder, file) for file in sorted(files) if not file.endswith((".a", ".pyc")))


def libraries(programs: list[Path]) -> dict[str, Path]:
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True).stdout
    return {path: Path(path) for path in re.findall(r"(/\S+\.so\S*) \(0x", listed)}


def as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.mode |= 0o444
    return entry


def add(tar: tarfile.TarFile, path: str, data: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


def add_folder(tar: tarfile.TarFile, path: str, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def add_link(tar: tarfile.TarFile, path: str, target: str) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)
