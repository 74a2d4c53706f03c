"""Reads a folder out of an image, without running anything of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentless_mini.sandbox import owners
from agentless_mini.sandbox.containers import translated

if TYPE_CHECKING:
    from docker import DockerClient


@contextmanager
def folder_archive(client: "DockerClient", image: str, folder: str) -> Iterator[Iterator[bytes]]:
    """Give the pieces of a tar file of the folder, below its one top folder. Raises `EnvironmentFailed`.

    They come out of a container that is never started, and is removed at the end.
    """
    with translated():
        labels = {owners.LABEL: "1", owners.OWNER: owners.myself()}
        container = client.api.create_container(image, ["none"], entrypoint=[], labels=labels)["Id"]
        try:
            chunks, _ = client.api.get_archive(container, folder)
            yield chunks
        finally:
            client.api.remove_container(container, v=True, force=True)
