"""An image laid out as those of SWE-bench are: a repository in /testbed, conda's names in /opt/miniconda3.

Its conda is a few lines of shell. With pytest in it or, on request, with pip instead.
"""

import ensurepip
import enum
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.gitrepo import commit_all, make_repository
from tests.sandbox.image import PACKAGES, PREFIX, add, add_folder, add_link, as_root, contents, libraries, version

ROOT = "/opt/miniconda3"
BIN = f"{ROOT}/envs/testbed/bin"
ACTIVATE = f"""
conda() {{
    export PATH="{BIN}:$PATH" CONDA_PREFIX={ROOT}/envs/testbed CONDA_DEFAULT_ENV=testbed FROM_CONDA="two
lines"
}}
"""
SOURCES = {
    "calc.py": b"def add(one, other):\n    return one - other\n",
    "tests/test_calc.py": b"from calc import add\n\n\ndef test_add():\n    assert add(1, 1) == 2\n",
    "tests/test_env.py": b"import os\n\n\ndef test_conda():\n    assert os.environ['CONDA_DEFAULT_ENV'] == 'testbed'\n",
    "pytest.ini": b"[pytest]\n",
    ".gitignore": b"built/\n",
}


class Holds(enum.Enum):
    """What an image has to run tests with."""

    PYTEST = "pytest"
    PIP = "pip"
    NOTHING = "nothing"
    NO_CONDA = "no conda"


def instance_image(holds: Holds) -> str:
    """Return the name of the image, made where the daemon does not have it."""
    said = hashlib.sha256(
        f"{ACTIVATE} {SOURCES} {sys.version} {Path(__file__).stat().st_mtime_ns}".encode()
    ).hexdigest()
    name = f"amini-test-testbed:{holds.value.replace(' ', '-')}-{said[:16]}"
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True).returncode:
        _build(holds, name)
    return name


def _build(holds: Holds, name: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        archive = Path(home, "image.tar")
        with tarfile.open(archive, "w") as tar:
            for folder in ("tmp", "proc", "sys", "dev", "etc", "root"):
                add_folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
            add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
            for path, source in _files(holds, Path(home)).items():
                tar.add(source.resolve(), path.lstrip("/"), recursive=False, filter=as_root)
            for link in (f"{ROOT}/bin/python", f"{BIN}/python"):
                add_link(tar, link.lstrip("/"), f"/usr/local/bin/python{version()}")
            if holds is not Holds.NO_CONDA:
                add(tar, f"{ROOT}/bin/activate".lstrip("/"), ACTIVATE.encode())
            tar.add(_checkout(Path(home, "checkout")), "testbed", filter=as_root)
        path = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
        subprocess.run(["docker", "import", "-c", path, "-c", "WORKDIR /testbed", archive, name], check=True)


def _files(holds: Holds, home: Path) -> dict[str, Path]:
    tools = {path: Path(path) for path in ("/bin/bash", "/usr/bin/env", "/bin/mkdir", "/bin/true")}
    files = {**contents(), **tools, **libraries(list(tools.values()))}
    packages = f"{PREFIX}/lib/python{version()}/site-packages"
    if holds is not Holds.PYTEST:
        tops = (*PACKAGES, "py.py")
        files = {
            path: file
            for path, file in files.items()
            if not path.startswith(tuple(f"{packages}/{top}" for top in tops))
        }
    if holds is Holds.PIP:
        (wheel,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
        subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, home / "wheel"], check=True)
        found = (path for path in (home / "wheel").rglob("*") if path.is_file())
        files |= {f"{packages}/{path.relative_to(home / 'wheel')}": path for path in found}
    return files


def _checkout(folder: Path) -> Path:
    make_repository(folder, {"calc.py": b"older\n"})
    for path, data in SOURCES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    commit_all(folder)
    (folder / "built").mkdir()
    (folder / "built/extension.so").write_bytes(b"built in the image")
    return folder
