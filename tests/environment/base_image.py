"""A base image that has what `python:3.x-slim` has for a build: the running system's Python, with what makes a pip."""

import hashlib
import sysconfig
from pathlib import Path

import pytest
from uv import find_uv_bin

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.daemon import connect
from tests.sandbox.image import PREFIX, build, contents, libraries, version, walk


def base_image() -> str:
    """Return the name of the image, made where the daemon does not have it; skip the test where no daemon answers."""
    from docker.errors import ImageNotFound

    try:
        client = connect(1)
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    try:
        files = dict(sorted((contents() | _ensurepip() | libraries([Path(find_uv_bin())])).items()))
        told = "\n".join(f"{name} {path} {path.stat().st_mtime_ns}" for name, path in files.items())
        name = f"amini-test-base:{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        try:
            client.images.get(name)
        except ImageNotFound:
            build(client, files, name)
        return name
    finally:
        client.close()


def _ensurepip() -> dict[str, Path]:
    library = Path(sysconfig.get_path("stdlib"))
    home = PREFIX / "lib" / f"python{version()}"
    return {str(home / path.relative_to(library)): path for path in walk(library / "ensurepip")}
