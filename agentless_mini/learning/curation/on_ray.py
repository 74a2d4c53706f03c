"""Does the tasks of a curation on Ray Data, on a cluster that is running already.

Every machine must have the same amini, and see the folders of events, mirrors and output under the same paths. Only
tasks and the names of shards travel through Ray: what a task reads and writes lies in files.
"""

import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from agentless_mini.errors import AminiError, EnvironmentFailed, boundary, printable
from agentless_mini.installing import install_command
from agentless_mini.learning.curation.tasks import Doing, Task, done

CONNECT_TIMEOUT = 10.0  # seconds
_QUOTED = 300


@contextmanager
def on_ray(address: str, workers: int) -> Iterator[Doing]:
    """Connect to the cluster at an address; `workers` tasks run at once, as many as there are cores where it is 1.

    Raises `EnvironmentFailed` where there is no Ray or no cluster.
    """
    with boundary({ImportError: lambda _: _missing()}):
        import ray
        import ray.data
    _require_answer(address)
    failures = (ConnectionError, RuntimeError, TimeoutError, ValueError, OSError, AssertionError)
    with (
        boundary(dict.fromkeys(failures, lambda error: _no_cluster(address, error))),
        ThreadPoolExecutor(1) as thread,  # where it cannot take over our handling of SIGTERM
    ):
        thread.submit(_connect, address).result()
    try:
        # Ray Data tells its progress on standard output, which is for results.
        with redirect_stdout(sys.stderr):
            yield _Cluster(workers).do
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, namespace="amini")


def _require_answer(address: str) -> None:
    """Raise `EnvironmentFailed` at once where nothing listens: Ray tries for a minute and then ends the process."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        with (
            boundary({OSError: lambda error: _no_cluster(address, error)}),
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT),
        ):
            pass


class _Cluster:
    def __init__(self, workers: int) -> None:
        self._workers = workers

    def do(self, tasks: Sequence[Task]) -> Iterator[Path]:
        """Do the tasks; Ray does one again whose machine is lost."""
        if not tasks:
            return
        import ray

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        rows = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
        strategy = ray.data.TaskPoolStrategy(size=self._workers) if self._workers > 1 else None
        mapped = rows.map(_done, num_cpus=1, compute=strategy)
        with _edge():
            for row in mapped.iter_rows():
                if row["failed"]:
                    raise EnvironmentFailed(row["failed"])
                yield Path(row["shard"])


def _done(row: dict[str, Any]) -> dict[str, Any]:
    """Do a task on a machine of the cluster; a failure that has a sentence comes back as one."""
    try:
        return {"shard": str(done(row["task"])), "failed": ""}
    except AminiError as error:
        return {"shard": "", "failed": str(error)}


def _edge() -> AbstractContextManager[None]:
    from ray.exceptions import RayError

    return boundary({RayError: lambda error: _failed(error)})


def _missing() -> EnvironmentFailed:
    return EnvironmentFailed(f"A cluster needs Ray here and on each node: {install_command('cluster')}.")


def _no_cluster(address: str, error: BaseException) -> EnvironmentFailed:
    said = printable(" ".join(str(error).split()))[:_QUOTED]
    return EnvironmentFailed(f"No Ray cluster can be used at {printable(address)} ({said}): run `ray start` here too.")


def _failed(error: BaseException) -> EnvironmentFailed:
    said = printable(str(error).strip().rpartition("\n")[2])[:_QUOTED]
    return EnvironmentFailed(f"The cluster could not do its part ({said}): see `ray status`, and run this again.")
