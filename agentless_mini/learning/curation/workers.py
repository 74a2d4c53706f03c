"""Does the tasks of a curation: in this process, in several of this machine, or on a Ray cluster that is running.

A task is a plain value that any process can do: what it reads and writes lies in files. On a cluster every machine has
the same amini, and sees the folders of events, mirrors and output under the same paths.
"""

import multiprocessing
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agentless_mini.errors import AminiError, EnvironmentFailed, boundary, printable
from agentless_mini.evaluation.connection import ray_connection
from agentless_mini.learning.curation.joined import engine_failures

_QUOTED = 300  # characters of a foreign message
_DIED = "A process of the curation died ({error}): give it more memory, or fewer --workers."
_UNDONE = "The cluster could not do its part ({error}): see `ray status`, and run this again."


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done once: `make` writes a file or folder at a path, which is named `shard` once it is whole."""

    shard: Path
    make: Callable[[Path], None]


Doing = Callable[[Sequence[Task]], Iterator[Path]]
"""Does tasks, in any order, and yields the shard of each as soon as it is there."""


def done(task: Task) -> Path:
    """Do a task and return its shard, which is on the disk: a machine that stops must not leave one that is torn."""
    if task.shard.exists():  # a cluster asks again where the answer was lost
        return task.shard
    half = task.shard.with_name(f"{task.shard.name}.{platform.node()}-{os.getpid()}.partial")
    room = (
        f"{printable(str(task.shard))} cannot be made ({{error}}): free some room there and in {tempfile.gettempdir()}."
    )
    with boundary(dict.fromkeys((OSError, *engine_failures()), partial(_failed, room))):
        task.shard.parent.mkdir(parents=True, exist_ok=True)
        forget(half)
        task.make(half)
        for path in half.iterdir() if half.is_dir() else (half,):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        half.rename(task.shard)
    return task.shard


def forget(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def one_by_one(tasks: Sequence[Task]) -> Iterator[Path]:
    """Do tasks in this process."""
    return map(done, tasks)


def in_processes(workers: int) -> Doing:
    """Return what does tasks in so many processes of this machine."""

    def do(tasks: Sequence[Task]) -> Iterator[Path]:
        context = multiprocessing.get_context("spawn")
        with (
            boundary({BrokenProcessPool: partial(_failed, _DIED)}),
            ProcessPoolExecutor(workers, context, _end_with_parent) as pool,
        ):
            running = [pool.submit(done, task) for task in tasks]
            try:
                for future in as_completed(running):
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    return one_by_one if workers == 1 else do


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, killed too: nobody would ever tell it to."""
    parent = multiprocessing.parent_process()

    def end_after() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_after, daemon=True).start()


@contextmanager
def on_ray(address: str, workers: int) -> Iterator[Doing]:
    """Connect to the cluster at an address; `workers` tasks run at once, as many as there are cores where it is 1.

    Raises `EnvironmentFailed` where there is no Ray or no cluster.
    """
    with ray_connection(address):
        import ray
        from ray.exceptions import RayError

        remote = ray.remote(num_cpus=1)(_answer)  # which is called again where its machine is lost

        def do(tasks: Sequence[Task]) -> Iterator[Path]:
            left, waiting = list(reversed(tasks)), list[Any]()
            with boundary({RayError: partial(_failed, _UNDONE)}):
                while left or waiting:
                    while left and (workers == 1 or len(waiting) < workers):
                        waiting.append(remote.remote(left.pop()))
                    ready, waiting = ray.wait(waiting)
                    for answer in ray.get(ready):
                        if isinstance(answer, AminiError):
                            raise answer
                        yield answer

        yield do


def _answer(task: Task) -> Path | AminiError:
    """Do a task on a machine of the cluster; a failure that has a sentence comes back as a value."""
    try:
        return done(task)
    except AminiError as error:
        return error


def _failed(said: str, error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(said.replace("{error}", printable(str(error).strip().rpartition("\n")[2])[:_QUOTED]))
