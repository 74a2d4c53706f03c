"""Ray clusters on this machine, one process group for each node, so that a node can be killed as a machine dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_RAY = str(Path(sys.executable).with_name("ray"))
_EACH = ("--num-cpus=1", "--disable-usage-stats", "--object-store-memory=80000000")
START_TIMEOUT = 120.0  # seconds: a busy machine may need half of them
# How soon the head takes a node for dead. Ray's own numbers come to some 15 seconds.
_IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "2",
}


class RayNode:
    """A node. `kill` ends all of its processes at once, as a power cut does."""

    def __init__(self, *arguments: str) -> None:
        started = subprocess.Popen(
            [_RAY, "start", *arguments, *_EACH],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **_IMPATIENT},
        )
        self._group = started.pid
        try:
            said, _ = started.communicate(timeout=START_TIMEOUT)
            assert started.returncode == 0, said.decode()
        except BaseException:
            self.kill()
            started.wait()
            raise

    def processes(self) -> set[int]:
        return _with_descendants(self._group)

    def kill(self) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _with_descendants(group: int) -> set[int]:
    """Return the processes of a group and all that they have started, which leave it."""
    parents, found = {}, set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            if int(fields[2]) == group:
                found.add(int(stat.parent.name))
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@contextmanager
def ray_nodes(count: int) -> Iterator[tuple[str, list[RayNode]]]:
    """Start a cluster of so many nodes; give its address and the nodes, its head first."""
    # A short path: the names of sockets lie below it and may have 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = f"127.0.0.1:{port}"
        places: list[tuple[str, ...]] = [
            ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        ]
        places += [(f"--address={address}",)] * (count - 1)
        nodes: list[RayNode] = []
        for place in places:
            nodes.append(RayNode(*place))
            stack.callback(nodes[-1].kill)
        yield address, nodes
