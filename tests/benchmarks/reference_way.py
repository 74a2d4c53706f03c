"""The peer of execution: the way of Agentless and its harness, one new container for every patch and test.

A container is made from an image that holds the project, the patch and a script are copied into it, and the script
activates the environment, applies the patch with git and runs the one test. What the harness does beyond this is left
out in its favour: waiting for the container to stop, reading the log with regular expressions, limits.
"""

import io
import shlex
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from docker import DockerClient

from agentless_mini.domain import Patch
from tests.sandbox import image

FOLDER, ENVIRONMENT = "/testbed", "/opt/venv"
ACTIVATE = f"""\
VIRTUAL_ENV={ENVIRONMENT}
PATH="$VIRTUAL_ENV/bin:$PATH"
export VIRTUAL_ENV PATH
unset PYTHONHOME
hash -r
"""
SCRIPT = f"""\
. {ENVIRONMENT}/bin/activate
cd {FOLDER}
git apply --verbose /patch.diff || exit 99
exec python -m pytest -rA -p no:cacheprovider
"""
LABELS = {"amini-benchmark": "1"}


def derived_image(client: DockerClient, base: str, tree: Mapping[str, bytes], programs: Mapping[str, Path]) -> str:
    """Return the id of a new image: the base with the project, an environment and more programs in it."""
    container = client.containers.create(base, ["none"], labels=LABELS)
    try:
        container.put_archive("/", _archive(_environment() | {f"{FOLDER}/{name}": data for name, data in tree.items()}))
        container.put_archive("/", _copies(programs))
        container.put_archive("/", _link(f"{ENVIRONMENT}/bin/python", image.PYTHON))
        return str(container.commit().id)
    finally:
        container.remove(force=True)


def _environment() -> dict[str, bytes]:
    settings = f"home = /usr/local/bin\ninclude-system-site-packages = true\nversion = {sys.version.split()[0]}\n"
    return {f"{ENVIRONMENT}/bin/activate": ACTIVATE.encode(), f"{ENVIRONMENT}/pyvenv.cfg": settings.encode()}


def programs() -> dict[str, Path]:
    """Return what the image of the tests lacks: git, and the compiled modules and metadata that others have."""
    git = Path("/usr/bin/git")
    found = {str(git): git}
    for place, source in image.contents().items():
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        if source.suffix == ".py" and compiled.is_file():
            found[f"{place.rpartition('/')[0]}/__pycache__/{compiled.name}"] = compiled
    site = Path(pytest.__file__).parent.parent
    for note in (note for name in image.PACKAGES for note in site.glob(f"{name}-*.dist-info/METADATA")):
        found[f"{image.PREFIX}/lib/python{image.version()}/site-packages/{note.relative_to(site)}"] = note
    return found | image.libraries([git])


def _archive(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in files.items():
            image.add(tar, path.lstrip("/"), data)
    return out.getvalue()


def _copies(files: Mapping[str, Path]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, source in files.items():
            tar.add(source.resolve(), path.lstrip("/"), filter=image.as_root)
    return out.getvalue()


def _link(path: str, target: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        image.add_link(tar, path.lstrip("/"), target)
    return out.getvalue()


def run_all(
    client: DockerClient, image_id: str, patches: Sequence[Patch], tests: Sequence[str], workers: int
) -> list[list[bool]]:
    """Return for each patch which tests pass, each pair run in a container of its own."""
    pairs = [(patch, test) for patch in patches for test in tests]
    with ThreadPoolExecutor(workers) as threads:
        passed: Iterator[bool] = threads.map(lambda pair: _run(client, image_id, *pair), pairs)
        return [[next(passed) for _ in tests] for _ in patches]


def _run(client: DockerClient, image_id: str, patch: Patch, test: str) -> bool:
    container = client.containers.create(
        image_id, ["sh", "-c", "read line"], stdin_open=True, network_mode="none", labels=LABELS
    )
    try:
        container.start()
        script = SCRIPT.rstrip("\n") + " " + shlex.quote(test) + "\n"
        container.put_archive("/", _archive({"patch.diff": patch.diff, "eval.sh": script.encode()}))
        status, output = container.exec_run(["sh", "/eval.sh"])
    finally:
        container.remove(force=True)
    if status not in {0, 1, 2, 4}:  # of pytest: passed, failed, not imported, not found
        raise SystemExit(f"The reference's way does not work here: status {status}\n{output!r}")
    return bool(status == 0)
