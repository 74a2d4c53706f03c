"""What real builds need of the machine, or a reason to skip."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.sandbox.bubblewrap import find_bubblewrap
from agentless_mini.sandbox.daemon import connect
from agentless_mini.sandbox.landlock import find_landlock
from tests.environment.base_image import base_image
from tests.sandbox.adapter import children_left


@pytest.fixture(scope="session")
def package_index() -> None:
    """Skip where no package can be had."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "iniconfig"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1:]}")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    before = set(children_left())
    yield
    assert set(children_left()) <= before


@pytest.fixture
def boxes(nothing_left: None) -> None:
    """Skip where bubblewrap is missing."""
    try:
        find_bubblewrap("bwrap")
    except EnvironmentFailed as error:
        pytest.skip(str(error))


@pytest.fixture
def open_cache(nothing_left: None) -> Iterator[Path]:
    """Return a folder for environments that every user may go to, as root's boxes need it."""
    try:
        find_landlock()
    except EnvironmentFailed as error:
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="amini-test-cache-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def base() -> Iterator[str]:
    """Return a base image for builds; what is built on it is removed, and no container may be left."""
    name = base_image()
    client = connect(1)
    try:
        before = {image["Id"] for image in client.api.images("amini-env")}
        yield name
        listed = client.api.containers(all=True, filters={"label": "amini=1"})
        assert [found for found in listed if f" {os.getpid()} " in found["Labels"]["amini.owner"]] == []
        for image in client.api.images("amini-env"):
            if image["Id"] not in before:
                client.api.remove_image(image["Id"], force=True)
    finally:
        client.close()
