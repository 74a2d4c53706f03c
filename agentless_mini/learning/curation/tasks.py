"""The tasks of a curation: one for each file of events, then one for each part of the owners.

A task is a plain value that any process can do: its files lie where all processes see them. One whose shard is there
has been done. They are done here, in processes of this machine, or on Ray (see `on_ray`).
"""

import multiprocessing
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from agentless_mini.errors import EnvironmentFailed, boundary, printable
from agentless_mini.learning.curation.event_shards import shard_events
from agentless_mini.learning.curation.mirrors import Mirrors
from agentless_mini.learning.curation.part import Tools, shard_part
from agentless_mini.learning.curation.relevance import Finding
from agentless_mini.learning.curation.settings import CurateSettings


class Task(Protocol):
    """Something to be done once, whose result is a file."""

    @property
    def shard(self) -> Path:
        """Return the file that is there once it is done."""
        ...

    def do(self) -> None:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class EventTask:
    """To file the records of one file of events."""

    path: Path
    shard: Path
    parts: int

    def do(self) -> None:
        """Write the shard."""
        shard_events(self.path, self.shard, self.parts)


@dataclass(frozen=True, slots=True)
class PartTask:
    """To make the rows of one part. `listed` names the shards of events; `record` keeps what a model says."""

    part: int
    listed: Path
    shard: Path
    mirrors: Mirrors
    settings: CurateSettings
    finding: Finding
    record: Path

    def do(self) -> None:
        """Write the shard."""
        names = self.listed.read_text("utf-8").split()
        events = (self.listed.parent / "events" / name for name in names)
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with self.finding(self.record) as relevance:
            shard_part(self.part, events, self.shard, Tools(self.mirrors, self.settings, relevance))


Doing = Callable[[Sequence[Task]], Iterator[Path]]
"""Does tasks, in any order, and yields the shard of each as soon as it is there."""


def owed(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks that have not been done."""
    return tuple(task for task in tasks if not task.shard.exists())


def one_by_one(tasks: Sequence[Task]) -> Iterator[Path]:
    """Do tasks in this process."""
    for task in tasks:
        yield done(task)


def in_processes(workers: int) -> Doing:
    """Return what does tasks in so many processes of this machine."""

    def do(tasks: Sequence[Task]) -> Iterator[Path]:
        context = multiprocessing.get_context("spawn")
        with boundary({BrokenProcessPool: _died}), ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
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
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


def done(task: Task) -> Path:
    """Do a task and return its shard. A half-written one has another name: see `forget_partial`."""
    with boundary(dict.fromkeys((OSError, sqlite3.Error), lambda error: _unwritten(task.shard, error))):
        task.shard.parent.mkdir(parents=True, exist_ok=True)
        task.do()
    return task.shard


def forget_partial(tasks: Sequence[Task]) -> None:
    """Delete what killed processes left half-written of shards that are all whole by now."""
    for folder in {task.shard.parent for task in tasks}:
        for left in folder.glob("*.partial"):
            left.unlink(missing_ok=True)


def _unwritten(shard: Path, error: BaseException) -> EnvironmentFailed:
    said, place = printable(str(error)), printable(str(shard))
    return EnvironmentFailed(f"{place} cannot be made ({said}): free some room there and in {tempfile.gettempdir()}.")


def _died(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"A process of the curation died ({error}): give it more memory, or fewer --workers.")
