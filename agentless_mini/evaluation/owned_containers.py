"""What the official harness gets as a Docker client, so that no container of it is ever left behind.

swebench gives its containers names and nothing else. The client here is the real one but for their creation: each has a
label that says which process made it, by which `sandboxes.docker.sweep` finds it once that process is dead; a name that
no other evaluation has; and SIGKILL as its signal to stop, because `tail`, which holds it open, waits out the grace of
15 seconds otherwise. Nothing of what runs in a container changes.
"""

import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from agentless_mini.sandbox import host
from agentless_mini.sandbox.containers import remove

if TYPE_CHECKING:
    from docker import DockerClient


class Ending:
    """SIGTERM as an exception in the main thread, so that `finally` is reached; a critical section holds it back."""

    def __init__(self) -> None:
        """Make it; `install` begins."""
        self._held = False
        self._asked = False

    def install(self) -> None:
        """Let SIGTERM raise `SystemExit` in the main thread, once."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def ask(self) -> None:
        """Send the main thread the signal, whatever it waits for. To be called from another thread."""
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it back until the block ends."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._asked:
                self._leave()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if not self._held:
            self._leave()

    def _leave(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(0)


class OwnedClient:
    """A Docker client for `swebench.harness.run_evaluation.run_instance`, which asks for images and containers."""

    def __init__(self, client: "DockerClient", ending: Ending) -> None:
        """Wrap a client that answers."""
        self._client = client
        self._ending = ending
        self._owner = host.myself()
        self.images = client.images
        self.containers = self

    def get(self, name: str) -> Any:  # noqa: ANN401 - the SDK's containers
        """Return the container of this name, as the SDK does."""
        return self._client.containers.get(name)

    def create(self, name: str, **asked: Any) -> Any:  # noqa: ANN401 - the SDK's arguments
        """Create a container with an owner. It is known to the daemon, or was never made, when a signal is heard."""
        labels = {host.LABEL: "1", host.OWNER: self._owner}
        own = f"{name}.{secrets.token_hex(4)}"
        with self._ending.held():
            return self._client.containers.create(name=own, labels=labels, stop_signal="SIGKILL", **asked)

    def remove_all(self) -> None:
        """Remove what this process made and is still there."""
        mine = {"label": f"{host.OWNER}={self._owner}"}
        for found in self._client.api.containers(all=True, filters=mine):
            remove(self._client, found["Id"])
