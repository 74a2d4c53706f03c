"""Looks whether a Docker daemon listens, before the SDK is asked: it leaves a socket open where none does."""

import socket

from agentless_mini.errors import EnvironmentFailed, boundary, printable

_DEFAULT = "unix:///var/run/docker.sock"
_SCHEME = "unix://"


def require_daemon() -> None:
    """Raise `EnvironmentFailed` where nothing listens at the socket that DOCKER_HOST names. Other addresses pass."""
    from docker.utils import kwargs_from_env

    address = kwargs_from_env().get("base_url") or _DEFAULT
    if not address.startswith(_SCHEME):
        return
    path = address.removeprefix(_SCHEME)
    with (
        boundary({OSError: lambda error: _absent(path, error), ValueError: lambda error: _absent(path, error)}),
        socket.socket(socket.AF_UNIX) as line,
    ):
        line.connect(path)


def _absent(path: str, error: BaseException) -> EnvironmentFailed:
    if isinstance(error, PermissionError):
        return EnvironmentFailed(f"You may not use the Docker daemon at {printable(path)}: join the group docker.")
    return EnvironmentFailed(
        f"No Docker daemon answers at {printable(path)} ({printable(str(error))}): start it; "
        "--sandbox local does without."
    )
