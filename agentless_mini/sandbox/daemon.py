"""The Docker daemon: a client for it, what its errors mean, and its images: found, pulled, made, read and removed."""

import enum
import hashlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentless_mini.domain import BoxLimits
from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.sandbox.host import LABEL, OWNER, boxes_for, is_dead, myself

if TYPE_CHECKING:
    from docker import DockerClient

ANSWERING = 120
"""Seconds that the daemon may take to answer."""
STEADY = 3
"""Threads and connections beside those that boxes occupy, so that there is always one to abort a box from."""
_NEEDED = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "CPU time"}
_SEEN = 300
"""Characters of a reason that are told."""
_GONE, _IN_USE, _TOO_MANY = 404, 409, 429
_FINAL = ("manifest unknown", "not found", "access denied", "unauthorized", "no matching manifest", "invalid reference")


def connect(boxes: int, seconds: int = ANSWERING) -> "DockerClient":
    """Return a client for the daemon that the user's environment names, for so many boxes at once.

    The daemon may take `seconds` to answer. Raises `EnvironmentFailed` where none answers, or it cannot limit what a
    box uses.
    """
    import docker

    require_daemon()
    with translated():
        client = docker.from_env(max_pool_size=2 * boxes + STEADY, timeout=seconds)
    try:
        with translated():
            found = client.info()
        lacking = [name for key, name in _NEEDED.items() if found.get(key) is False]
        if lacking:
            raise EnvironmentFailed(
                f"This Docker daemon cannot limit {', '.join(lacking)}: see what `docker info` warns of, or use "
                "--sandbox local."
            )
    except BaseException:
        client.close()
        raise
    return client


def capacity(client: "DockerClient", limits: BoxLimits) -> int:
    """Return how many boxes with these limits fit the daemon's machine. Raises `EnvironmentFailed`."""
    with translated():
        found = client.info()
    return boxes_for(int(found["NCPU"]), int(found["MemTotal"]), limits)


def sweep(client: "DockerClient") -> int:
    """Remove the containers of runs that are dead, and return how many. Raises `EnvironmentFailed`."""
    with translated():
        listed = client.api.containers(all=True, filters={"label": f"{LABEL}=1"})
        dead = [found["Id"] for found in listed if is_dead(found["Labels"].get(OWNER, ""))]
        return sum(remove(client, container) for container in dead)


def translated() -> Any:  # noqa: ANN401 - a context manager
    """Translate what the SDK raises. It derives its errors from those of requests, and lets some of these through."""
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    return boundary(
        {
            ImageNotFound: lambda error: EnvironmentFailed(
                f"Docker does not have the image ({printable(str(error))}): pull or build it."
            ),
            DockerException: _failed,
            RequestException: _failed,
            OSError: _failed,
        }
    )


def _failed(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"Docker does not do what it is asked ({printable(str(error))}): see that the daemon runs and `docker info` "
        "answers; --sandbox local does without."
    )


def require_daemon() -> None:
    """Raise `EnvironmentFailed` where nothing listens at the socket that DOCKER_HOST names. Other addresses pass.

    It is called before the SDK, which leaves a socket open where no daemon listens.
    """
    from docker.utils import kwargs_from_env

    address = kwargs_from_env().get("base_url") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        return
    path = address.removeprefix("unix://")

    def absent(error: BaseException) -> EnvironmentFailed:
        if isinstance(error, PermissionError):
            return EnvironmentFailed(f"You may not use the Docker daemon at {printable(path)}: join the group docker.")
        return EnvironmentFailed(
            f"No Docker daemon answers at {printable(path)} ({printable(str(error))}): start it; "
            "--sandbox local does without."
        )

    with boundary({OSError: absent, ValueError: absent}), socket.socket(socket.AF_UNIX) as line:
        line.connect(path)


def engine(client: "DockerClient") -> Any:  # noqa: ANN401 - it is not typed
    """Return the Engine's API, as the SDK has it."""
    return client.api


def remove(client: "DockerClient", container: str) -> bool:
    """Remove a container, whatever it does, and return whether it was this call that did; another run may have."""
    from docker.errors import APIError

    try:
        engine(client).remove_container(container, v=True, force=True)
    except APIError as error:
        if error.status_code not in {_GONE, _IN_USE}:  # or it is being removed
            raise
        return False
    return True


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the daemon has: its id, and what its configuration says. `path` is its PATH, `folder` WORKDIR.

    `machine` is the kind of machine that it is for, in the words of Docker.
    """

    id: str
    volumes: tuple[str, ...] = ()
    path: str = ""
    folder: str = ""
    user: str = ""
    machine: str = ""


def find_image(client: "DockerClient", name: str) -> Image | None:
    """Return the image with a name or id, None where the daemon has none. Raises `EnvironmentFailed`."""
    from docker.errors import ImageNotFound

    with translated():
        try:
            found = engine(client).inspect_image(name)
        except ImageNotFound:
            return None
    config = found.get("Config") or {}
    variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    volumes = tuple(sorted(config.get("Volumes") or {}))
    folder, user = config.get("WorkingDir") or "", config.get("User") or ""
    return Image(found["Id"], volumes, variables.get("PATH", ""), folder, user, found.get("Architecture") or "")


def require_image(client: "DockerClient", name: str) -> Image:
    """Return the image with a name or id. Raises `EnvironmentFailed`, also where the daemon has none."""
    found = find_image(client, name)
    if found is None:
        raise EnvironmentFailed(f"Docker does not have the image {printable(name)}: pull it.")
    return found


def remove_image(client: "DockerClient", name: str) -> bool:
    """Remove an image unless a container uses it, and return whether it is gone. Raises `EnvironmentFailed`."""
    from docker.errors import APIError

    with translated():
        try:
            engine(client).remove_image(name)
        except APIError as error:
            if error.status_code not in {_GONE, _IN_USE}:
                raise
            return error.status_code == _GONE
    return True


def data_root(client: "DockerClient") -> str:
    """Return the folder of the daemon's machine that images are kept in. Raises `EnvironmentFailed`."""
    with translated():
        return str(client.info().get("DockerRootDir", ""))


def daemon_name(client: "DockerClient") -> str:
    """Return what tells the daemon from others, fit to name a folder. Raises `EnvironmentFailed`."""
    with translated():
        return hashlib.sha256(str(client.info().get("ID", "")).encode()).hexdigest()[:16]


def commit(client: "DockerClient", container: str, base: Image, name: str, path: str) -> str:
    """Keep a container as an image with a name and a PATH that starts as its base does, and return its id.

    The image that had the name goes. To be called in `translated`.
    """
    from docker.errors import APIError

    before = find_image(client, name)
    repository, _, tag = name.rpartition(":")
    changes = [
        "ENTRYPOINT []",
        "CMD []",
        f"WORKDIR {base.folder or '/'}",
        f"USER {base.user or 'root'}",
        f"ENV PATH={path}",
        # Not the owner of the container, lest others that are made from the image be swept.
        f'LABEL {LABEL}=1 {OWNER}=""',
    ]
    api = engine(client)
    made = str(api.commit(container, repository=repository, tag=tag, changes=changes)["Id"])
    if before is not None and before.id != made:
        with suppress(APIError):  # something of another run still uses it
            api.remove_image(before.id)
    return made


@contextmanager
def folder_archive(client: "DockerClient", image: str, folder: str) -> Iterator[Iterator[bytes]]:
    """Give the pieces of a tar file of a folder of the image, below its one top folder. Raises `EnvironmentFailed`.

    Nothing of the image is run: they come out of a container that is never started, and is removed at the end.
    """
    with translated():
        api, labels = engine(client), {LABEL: "1", OWNER: myself()}
        container = api.create_container(image, ["none"], entrypoint=[], labels=labels)["Id"]
        try:
            chunks, _ = api.get_archive(container, folder)
            yield chunks
        finally:
            api.remove_container(container, v=True, force=True)


def has_any(client: "DockerClient", image: str, paths: Iterable[str]) -> bool:
    """Return whether an image has one of these files or folders. Nothing is run. Raises `EnvironmentFailed`."""
    from docker.errors import NotFound

    with translated():
        api, labels = engine(client), {LABEL: "1", OWNER: myself()}
        container = api.create_container(image, ["none"], entrypoint=[], labels=labels)["Id"]
        try:
            for path in paths:
                with suppress(NotFound):
                    api.get_archive(container, path)[0].close()
                    return True
        finally:
            api.remove_container(container, v=True, force=True)
    return False


Tell = Callable[[int, int], None]
"""Told, from the thread that pulls, how many bytes have come and how many are known to be coming."""


class Obstacle(enum.Enum):
    """What keeps an image away."""

    LIMITED = "limited"  # the registry takes no more requests for a while
    UNKNOWN = "unknown"  # the registry has no such image, or not for us
    FULL = "full"  # there is no room for it
    OTHER = "other"  # a connection, a registry in trouble: it may pass


class PullFailed(EnvironmentFailed):
    """An image is not here and was not pulled; `reason` says why in short."""

    def __init__(self, name: str, reason: str, obstacle: Obstacle) -> None:
        """Say so, and what to try."""
        self.reason = printable(reason.strip())[:_SEEN].rstrip(".")
        self.obstacle = obstacle
        super().__init__(
            f"The image {printable(name)} is not here and cannot be pulled ({self.reason}): pull it, or name another "
            "with --image."
        )


def pull_image(client: "DockerClient", name: str, stopped: threading.Event, tell: Tell | None = None) -> Image:
    """Pull an image, until `stopped` is set, which is looked at whenever the daemon says something.

    Raises `PullFailed`, or `EnvironmentFailed` where the daemon does not answer.
    """
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)
    layers: dict[str, tuple[int, int]] = {}
    with translated(), _pulling(name):
        for told in engine(client).pull(repository, tag=tag or "latest", stream=True, decode=True):
            if stopped.is_set():
                raise PullFailed(name, "interrupted", Obstacle.OTHER)
            if "error" in told:
                raise _refused(name, str(told["error"]))
            _count(layers, told)
            if tell:
                tell(sum(came for came, _ in layers.values()), sum(known for _, known in layers.values()))
    found = find_image(client, name)
    if found is None:
        raise PullFailed(name, "it is not there afterwards", Obstacle.OTHER)
    return found


def require_pullable(client: "DockerClient", name: str) -> None:
    """Raise `PullFailed` unless the registry says that it has an image for this machine's user. Nothing is pulled."""
    with translated(), _pulling(name):
        engine(client).inspect_distribution(name)


def _pulling(name: str) -> Any:  # noqa: ANN401 - a context manager
    from docker.errors import APIError

    def refused(error: BaseException) -> PullFailed:
        reason = str(getattr(error, "explanation", "") or error)
        return _refused(name, reason, getattr(error, "status_code", 0) or 0)

    return boundary({APIError: refused})


def _refused(name: str, reason: str, status: int = 0) -> PullFailed:
    said = reason.lower()
    obstacle = Obstacle.OTHER
    if "toomanyrequests" in said or "too many requests" in said or status == _TOO_MANY:
        obstacle = Obstacle.LIMITED
    elif "no space left" in said:
        obstacle = Obstacle.FULL
    elif 400 <= status < 500 or any(sign in said for sign in _FINAL):
        obstacle = Obstacle.UNKNOWN
    return PullFailed(name, reason, obstacle)


def _count(layers: dict[str, tuple[int, int]], told: dict[str, Any]) -> None:
    """Note how many bytes of each layer have come and are known, by what the daemon says of one."""
    detail, layer = told.get("progressDetail") or {}, str(told.get("id", ""))
    if told.get("status") == "Downloading" and isinstance(detail.get("total"), int):
        layers[layer] = (int(detail.get("current", 0)), detail["total"])
    elif told.get("status") in {"Download complete", "Pull complete"} and layer in layers:
        layers[layer] = (layers[layer][1],) * 2
