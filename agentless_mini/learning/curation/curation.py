"""A whole curation: its tasks, in order, and what came of it.

    OUT/train, OUT/valid, OUT/test    parquet files of rows
    OUT/funnel.json                   how many pull requests each step left out
    OUT/rejected.jsonl                what could not be read, and why
    OUT/work                          shards: kept so that a killed run goes on; may be deleted at the end

Of other settings, events or mirrors those shards are made anew that hang on them. A task is a plain value: what it
reads and writes lies in files. Tasks are done in this process, in several, or on a Ray cluster whose machines have the
same amini and see all folders under the same paths.
"""

import fcntl
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from agentless_mini.errors import AminiError, EnvironmentFailed, Translation, UsageError, boundary, printable
from agentless_mini.evaluation.connection import ray_connection
from agentless_mini.learning.curation.collecting import collect, families_of, forks_of, shard_part
from agentless_mini.learning.curation.events import part_of, shard_events
from agentless_mini.learning.curation.filters import funnel
from agentless_mini.learning.curation.history import Mirrors
from agentless_mini.learning.curation.joined import engine, engine_failures
from agentless_mini.learning.curation.pulls import Finding
from agentless_mini.learning.rows import SPLITS
from agentless_mini.settings.learning import CurateSettings

_DIED = "A process of the curation died ({error}): give it more memory, or fewer --workers."
_UNDONE = "The cluster could not do its part ({error}): see `ray status`, and run this again."
_NO_ROOM = "The output cannot be written ({error}): free some room, or name another --out."
SHARDS = "6"  # the version of what shards hold: another one means that they are made again
_ENDS = (".json.gz", ".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done once: `make` writes a file or folder at a path, which is named `shard` once it is whole."""

    shard: Path
    make: Callable[[Path], None]


Doing = Callable[[Sequence[Task]], Iterator[Path]]
"""Does tasks, in any order, and yields the shard of each as soon as it is there."""

Tell = Callable[[str, int, int], None]
"""Told which step a curation is at, how many of its tasks are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Curation:
    """What is curated: files of events, in any order, and mirrors. `model` says who finds relevant files, if one."""

    events: tuple[Path, ...]
    mirrors: Path
    out: Path
    settings: CurateSettings
    finding: Finding
    model: str = ""


def curate(curation: Curation, doing: Doing, tell: Tell) -> dict[str, Any]:
    """Make the rows, and return the funnel, which is also kept in the folder.

    Raises `UsageError` where events or mirrors cannot be read, or another curation has the folder, `EnvironmentFailed`
    where the output cannot be written.
    """
    again = f"A shard cannot be used ({{error}}): free some room, or delete {curation.out / 'work'} and run this again."
    failures: Translation = dict.fromkeys((json.JSONDecodeError, *engine_failures()), partial(_failed, again))
    with boundary({OSError: partial(_failed, _NO_ROOM), **failures}), _alone(curation.out):
        events, parts = _plan(curation)
        for name, tasks in (("events", events), ("parts", parts)):
            left = [task for task in tasks if not task.shard.exists()]
            done = len(tasks) - len(left)
            tell(name, done, len(tasks))
            for done, _ in enumerate(doing(left), done + 1):  # noqa: B020
                tell(name, done, len(tasks))
            for folder in {task.shard.parent for task in tasks}:
                for half in folder.glob("*.partial"):  # of killed processes; all shards are whole by now
                    forget(half)
        tell("splits", 0, 1)
        found = _collected(curation, *([task.shard for task in tasks] for tasks in (events, parts)))
        tell("splits", 1, 1)
        return found


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other curations out of the folder; the system lets them in again however this process ends."""
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    taken = f"Another curation writes to {printable(str(out))}: wait for it, or name another --out."
    with (work / "lock").open("ab") as file:
        with boundary({BlockingIOError: lambda _: UsageError(taken)}):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _plan(curation: Curation) -> tuple[list[Task], list[Task]]:
    """Return the tasks. Shards are named by all that they hang on; the list of those of events is written."""
    work, settings, folder = curation.out.absolute() / "work", curation.settings, curation.mirrors.absolute()
    events, states = [], [list[str]() for _ in range(settings.partitions)]
    for path in _found(curation.events):
        facts = path.stat()
        name = _digest(SHARDS, str(path), str(facts.st_size), str(facts.st_mtime_ns), str(settings.partitions))
        events.append(Task(work / "events" / f"{name}.parquet", partial(shard_events, path, settings.partitions)))
    if not folder.is_dir():
        raise UsageError(f"{printable(str(curation.mirrors))} is no folder of mirrors: check --mirrors.")
    names = "\n".join(sorted({task.shard.name for task in events}))
    place = work / f"parts-{_digest(SHARDS, names, _settings(curation), str(folder))}"
    place.mkdir(parents=True, exist_ok=True)
    listed = work / f"{place.name}.txt"
    listed.write_text(names, "utf-8")
    mirrors = Mirrors(folder, work / "clones", settings.clone_from)
    for owner, state in mirrors.states():
        states[part_of(owner, settings.partitions)].append(state)

    parts = []
    for number, owned in enumerate(states):
        answers = work / f"answers-{settings.partitions}" / f"{number:05}.sqlite"
        make = partial(shard_part, number, listed, mirrors, settings, curation.finding, answers)
        parts.append(Task(place / f"{number:05}-{_digest(*owned)}", make))
    return events, parts


def _found(paths: Sequence[Path]) -> list[Path]:
    """Return the files of events, of folders all that are called so, each once, sorted."""
    found: set[Path] = set()
    for path in paths:
        inside = [one for end in _ENDS for one in path.rglob(f"*{end}")] if path.is_dir() else [path]
        inside = [one for one in inside if one.is_file()]
        if not inside:
            raise UsageError(f"There are no events at {printable(str(path))}: name files (.json.gz) or a folder.")
        found.update(one.absolute() for one in inside)
    return sorted(found)


def _settings(curation: Curation) -> str:
    """Return what rows hang on, of the settings: not what only says how the work is done, or comes after it."""
    later = {"workers", "rows_per_file", "valid", "test", "seed", "similar"}
    return json.dumps({**curation.settings.model_dump(mode="json", exclude=later), "model": curation.model})


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _collected(curation: Curation, events: Sequence[Path], parts: Sequence[Path]) -> dict[str, Any]:
    told = [json.loads((part / "told.json").read_text("utf-8")) for part in parts]
    pairs = [(repo, other) for one in told for repo, kin in one["kin"].items() for other in kin]
    names = {name for one in told for name in one["kin"]} | {other for _, other in pairs if "/" in other}
    became = collect(parts, families_of(pairs + forks_of(names, events)), curation.out, curation.settings)
    with engine() as database:
        counts = "SELECT uid, sum(number)::BIGINT FROM read_parquet($1) WHERE kind = 'seen' GROUP BY uid ORDER BY uid"
        lines = "SELECT repo, uid, body FROM read_parquet($1) WHERE kind = 'rejected' ORDER BY repo, uid, body, number"
        seen, aside = (database.execute(asked, [list(map(str, events))]).fetchall() for asked in (counts, lines))
    aside += [one for each in told for one in each["rejected"]]
    rejected = (dict(zip(("place", "reason", "start"), one, strict=True)) for one in aside)
    _write(curation.out / "rejected.jsonl", "".join(json.dumps(line) + "\n" for line in rejected))
    found = sum((Counter(one["left_out"]) for one in told), became)
    document = {
        "events": dict(seen),
        "rejected": dict(sorted(Counter(one[1] for one in aside).items())),
        "pulls": found.total(),
        "steps": funnel(found.total(), found),
        "rows": {split: became[split] for split in SPLITS},
        "settings": json.loads(_settings(curation)),
    }
    _write(curation.out / "funnel.json", json.dumps(document, indent=2) + "\n")
    return document


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    half = path.with_name(f".{path.name}.partial")
    half.write_text(text, "utf-8")
    half.rename(path)


# --- where tasks are done ----------------------------------------------------------------------------------------


def finished(task: Task) -> Path:
    """Do a task and return its shard, which is on the disk: a machine that stops must not leave one that is torn."""
    if task.shard.exists():  # a cluster asks again where the answer was lost
        return task.shard
    half = task.shard.with_name(f"{task.shard.name}.{platform.node()}-{os.getpid()}.partial")
    room = f"{task.shard} cannot be made ({{error}}): free some room there and in {tempfile.gettempdir()}."
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
    return map(finished, tasks)


def in_processes(workers: int) -> Doing:
    """Return what does tasks in so many processes of this machine."""

    def do(tasks: Sequence[Task]) -> Iterator[Path]:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)
        with boundary({BrokenProcessPool: partial(_failed, _DIED)}), pool:
            try:
                for future in as_completed([pool.submit(finished, task) for task in tasks]):
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    return one_by_one if workers == 1 else do


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, killed too: nobody would ever tell it to."""

    def end_after(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_after, args=(multiprocessing.parent_process(),), daemon=True).start()


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
                    (ready,), waiting = ray.wait(waiting)
                    answer = ray.get(ready)
                    if isinstance(answer, AminiError):
                        raise answer
                    yield answer

        yield do


def _answer(task: Task) -> Path | AminiError:
    """Do a task on a machine of the cluster; a failure that has a sentence comes back as a value."""
    try:
        return finished(task)
    except AminiError as error:
        return error


def _failed(said: str, error: BaseException) -> EnvironmentFailed:
    line = str(error).strip().rpartition("\n")[2]
    return EnvironmentFailed(printable(said.replace("{error}", line[:300])))
