"""A whole curation: its tasks, in order, and what came of it.

    OUT/train, OUT/valid, OUT/test    parquet files of rows
    OUT/funnel.json                   how many pull requests each step left out
    OUT/rejected.jsonl                what could not be read, and why
    OUT/work                          shards: kept so that a killed run goes on; may be deleted at the end

The same command again goes on where it was. Other settings, events or mirrors need other shards: those of files of
events that are the same are used again, and with the same settings and events those of parts whose mirrors are.
Nothing here is distributed but the tasks.
"""

import fcntl
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.learning.curation.collecting import Collector, write_aside
from agentless_mini.learning.curation.event_shards import part_of
from agentless_mini.learning.curation.mirrors import Mirrors
from agentless_mini.learning.curation.relevance import Finding
from agentless_mini.learning.curation.row_shards import PULLS, counts_of
from agentless_mini.learning.curation.settings import CurateSettings
from agentless_mini.learning.curation.steps import Step, counted, funnel
from agentless_mini.learning.curation.tasks import Doing, EventTask, PartTask, Task, forget_partial, owed
from agentless_mini.learning.rows import SPLITS

SHARDS = "2"  # the version of what shards hold: another one means that they are made again

_ENDS = (".json.gz", ".json", ".jsonl")

Progress = Callable[[str, int, int], None]
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


def curate(curation: Curation, doing: Doing, progress: Progress) -> dict[str, Any]:
    """Make the rows, and return the funnel, which is also kept in the folder.

    Raises `UsageError` where events or mirrors cannot be read, or another curation has the folder, `EnvironmentFailed`
    where the output cannot be written.
    """
    with (
        boundary({OSError: _no_room, sqlite3.Error: lambda error: _damaged(curation.out, error)}),
        _alone(curation.out),
    ):
        plan = _Plan.of(curation)
        _do("events", plan.events, doing, progress)
        _do("parts", plan.parts, doing, progress)
        progress("splits", 0, 1)
        found = _collected(curation, plan)
        progress("splits", 1, 1)
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


@dataclass(frozen=True, slots=True)
class _Plan:
    """The tasks of a curation."""

    events: tuple[EventTask, ...]
    parts: tuple[PartTask, ...]

    @classmethod
    def of(cls, curation: Curation) -> "_Plan":
        """Name the shards by all that they hang on, and write the list of those of events."""
        work, settings = curation.out.absolute() / "work", curation.settings
        events = tuple(_event_task(path, work, settings.partitions) for path in _found(curation.events))
        if not curation.mirrors.is_dir():
            raise UsageError(f"{printable(str(curation.mirrors))} is no folder of mirrors: check --mirrors.")
        names = "\n".join(sorted({task.shard.name for task in events}))
        place = work / f"parts-{_digest(SHARDS, names, _settings(curation), str(curation.mirrors.absolute()))}"
        place.mkdir(parents=True, exist_ok=True)
        listed = work / f"{place.name}.txt"
        listed.write_text(names, "utf-8")
        mirrors = Mirrors(curation.mirrors.absolute(), work / "clones", settings.clone_from)
        answers = work / f"answers-{settings.partitions}"
        states = _states(mirrors, settings.partitions)
        parts = (
            PartTask(part, listed, place / name, mirrors, settings, curation.finding, answers / f"{part:05}.sqlite")
            for part in range(settings.partitions)
            for name in (f"{part:05}-{_digest(*states[part])}.sqlite",)
        )
        return cls(events, tuple(parts))


def _states(mirrors: Mirrors, parts: int) -> dict[int, list[str]]:
    """Return what is known of the mirrors of each part without opening them."""
    states: dict[int, list[str]] = {part: [] for part in range(parts)}
    for owner, state in mirrors.states():
        states[part_of(owner, parts)].append(state)
    return states


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


def _event_task(path: Path, work: Path, parts: int) -> EventTask:
    facts = path.stat()
    name = _digest(SHARDS, str(path), str(facts.st_size), str(facts.st_mtime_ns), str(parts))
    return EventTask(path, work / "events" / f"{name}.sqlite", parts)


def _settings(curation: Curation) -> str:
    """Return what rows hang on, of the settings: not what only says how the work is done, or comes after it."""
    later = {"workers", "rows_per_file", "valid", "test", "seed", "similar"}
    return json.dumps({**curation.settings.model_dump(mode="json", exclude=later), "model": curation.model})


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _do(name: str, tasks: Sequence[Task], doing: Doing, progress: Progress) -> None:
    left = owed(tasks)
    done = len(tasks) - len(left)
    progress(name, done, len(tasks))
    for _ in doing(left):
        done += 1
        progress(name, done, len(tasks))
    forget_partial(tasks)


def _collected(curation: Curation, plan: _Plan) -> dict[str, Any]:
    shards = [task.shard for task in plan.parts]
    events = [task.shard for task in plan.events]
    left_out = sum((counts_of(shard) for shard in shards), Counter[str]())
    pulls = left_out.pop(PULLS, 0)
    rows = Collector(shards, curation.out, curation.settings).collect()
    for step in (Step.BENCHMARK_FORK, Step.DUPLICATE):
        left_out[step] += rows.pop(step, 0)
    document = {
        "events": counted(sum((counts_of(shard, "seen") for shard in events), Counter[str]())),
        "rejected": counted(write_aside([*events, *shards], curation.out / "rejected.jsonl")),
        "pulls": pulls,
        "steps": funnel(pulls, left_out),
        "rows": {split: rows[split] for split in SPLITS},
        "settings": json.loads(_settings(curation)),
    }
    partial = curation.out / ".funnel.json.partial"
    partial.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    partial.rename(curation.out / "funnel.json")
    return document


def _damaged(out: Path, error: BaseException) -> EnvironmentFailed:
    work = printable(str(out / "work"))
    return EnvironmentFailed(f"A shard cannot be used ({error}): free some room, or delete {work} and run this again.")


def _no_room(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"The output cannot be written ({error}): free some room, or name another --out.")
