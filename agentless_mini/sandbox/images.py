"""Docker images: found, removed, and made from the container in which an environment was built.

The container of a build is less shut in than that of a test, since packages come from the network and are installed as
root: it is on the daemon's default network, its system can be written, and it has those capabilities that package
managers need. It has nothing of this machine, its limits on memory, processes and time, and no new privileges.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentless_mini.domain import JobResult
from agentless_mini.sandbox import owners
from agentless_mini.sandbox.containers import translated
from agentless_mini.sandbox.wire import Hear

if TYPE_CHECKING:
    from docker import DockerClient

_IN_USE = 409
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the daemon has: its id, and what its configuration says. `path` is its PATH, `folder` WORKDIR."""

    id: str
    volumes: tuple[str, ...] = ()
    path: str = ""
    folder: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Making:
    """An image to be made: its name with its tag, its PATH, and whether what came of the build is worth keeping.

    `hear` follows what the build prints, from the thread that serves it.
    """

    name: str
    path: str
    is_worth: Callable[[JobResult], bool]
    hear: Hear | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a build, and the id of the image, "" where it was not worth keeping."""

    result: JobResult
    image: str


def find_image(client: "DockerClient", name: str) -> Image | None:
    """Return the image with a name or id, None where the daemon has none. Raises `EnvironmentFailed`."""
    from docker.errors import ImageNotFound

    with translated():
        try:
            api: Any = client.api  # it is not typed
            found = api.inspect_image(name)
        except ImageNotFound:
            return None
    config = found.get("Config") or {}
    variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    volumes = tuple(sorted(config.get("Volumes") or {}))
    folder, user = config.get("WorkingDir") or "", config.get("User") or ""
    return Image(found["Id"], volumes, variables.get("PATH", ""), folder, user)


def remove_image(client: "DockerClient", name: str) -> bool:
    """Remove an image unless a container uses it, and return whether it is gone. Raises `EnvironmentFailed`."""
    from docker.errors import APIError, ImageNotFound

    with translated():
        try:
            api: Any = client.api  # it is not typed
            api.remove_image(name)
        except ImageNotFound:
            return True
        except APIError as error:
            if error.status_code == _IN_USE:
                return False
            raise
    return True


def data_root(client: "DockerClient") -> str:
    """Return the folder of the daemon's machine that images are kept in. Raises `EnvironmentFailed`."""
    with translated():
        return str(client.info().get("DockerRootDir", ""))


def daemon_name(client: "DockerClient") -> str:
    """Return what tells the daemon from others, fit to name a folder. Raises `EnvironmentFailed`."""
    with translated():
        return hashlib.sha256(str(client.info().get("ID", "")).encode()).hexdigest()[:16]


def build_settings(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the daemon is asked to create for a build, from what it would be asked for a test."""
    host = {**asked["HostConfig"], "NetworkMode": "default", "ReadonlyRootfs": False, "CapAdd": list(_CAPABILITIES)}
    return {**asked, "HostConfig": host}


def commit(client: "DockerClient", container: str, base: Image, making: Making) -> str:
    """Keep a container as an image that starts as its base does, and return its id.

    The image that had the name goes. To be called in `translated`.
    """
    from docker.errors import APIError

    before = find_image(client, making.name)
    repository, _, tag = making.name.rpartition(":")
    changes = [
        "ENTRYPOINT []",
        "CMD []",
        f"WORKDIR {base.folder or '/'}",
        f"USER {base.user or 'root'}",
        f"ENV PATH={making.path}",
        # Not the owner of the container, lest others that are made from the image be swept.
        f'LABEL {owners.LABEL}=1 {owners.OWNER}=""',
    ]
    api: Any = client.api  # it is not typed
    made = str(api.commit(container, repository=repository, tag=tag, changes=changes)["Id"])
    if before is not None and before.id != made:
        with suppress(APIError):  # something of another run still uses it
            api.remove_image(before.id)
    return made
