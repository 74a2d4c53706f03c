"""Pulls a Docker image from its registry, and says what kept it away. It does not try again: who asks decides that."""

import enum
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.sandbox.containers import translated
from agentless_mini.sandbox.images import Image, find_image

if TYPE_CHECKING:
    from docker import DockerClient

_SEEN = 300
"""Characters of a reason that are told."""
_TOO_MANY = 429

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


def _nobody(_came: int, _known: int) -> None:
    """Tell nobody."""


def pull_image(client: "DockerClient", name: str, stopped: threading.Event, tell: Tell = _nobody) -> Image:
    """Pull an image, until `stopped` is set, which is looked at whenever the daemon says something.

    Raises `PullFailed`, or `EnvironmentFailed` where the daemon does not answer.
    """
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)
    layers = _Layers()
    with translated():
        try:
            api: Any = client.api  # it is not typed
            for told in api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if stopped.is_set():
                    raise PullFailed(name, "interrupted", Obstacle.OTHER)
                if "error" in told:
                    raise _refused(name, str(told["error"]))
                layers.take(told)
                tell(layers.came, layers.known)
        except APIError as error:
            raise _refused(name, str(error.explanation or error), error.status_code or 0) from error
    found = find_image(client, name)
    if found is None:
        raise PullFailed(name, "it is not there afterwards", Obstacle.OTHER)
    return found


def require_pullable(client: "DockerClient", name: str) -> None:
    """Raise `PullFailed` unless the registry says that it has an image for this machine's user. Nothing is pulled."""
    from docker.errors import APIError

    with translated():
        try:
            api: Any = client.api  # it is not typed
            api.inspect_distribution(name)
        except APIError as error:
            raise _refused(name, str(error.explanation or error), error.status_code or 0) from error


def _refused(name: str, reason: str, status: int = 0) -> PullFailed:
    said = reason.lower()
    if "toomanyrequests" in said or "too many requests" in said or status == _TOO_MANY:
        obstacle = Obstacle.LIMITED
    elif "no space left" in said:
        obstacle = Obstacle.FULL
    elif 400 <= status < 500 or any(sign in said for sign in _FINAL):
        obstacle = Obstacle.UNKNOWN
    else:
        obstacle = Obstacle.OTHER
    return PullFailed(name, reason, obstacle)


_FINAL = ("manifest unknown", "not found", "access denied", "unauthorized", "no matching manifest", "invalid reference")


class _Layers:
    """How much of the layers has come, by what the daemon says of each."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def take(self, told: dict[str, Any]) -> None:
        detail, layer = told.get("progressDetail") or {}, str(told.get("id", ""))
        if told.get("status") == "Downloading" and isinstance(detail.get("total"), int):
            self._layers[layer] = (int(detail.get("current", 0)), detail["total"])
        elif told.get("status") in {"Download complete", "Pull complete"} and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1],) * 2

    @property
    def came(self) -> int:
        return sum(came for came, _ in self._layers.values())

    @property
    def known(self) -> int:
        return sum(known for _, known in self._layers.values())
