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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable
from agentless_mini.learning.curation.collecting import collect, families_of, shard_part
from agentless_mini.learning.curation.events import part_of, shard_events
from agentless_mini.learning.curation.filters import funnel
from agentless_mini.learning.curation.history import Mirrors
from agentless_mini.learning.curation.joined import engine, engine_failures
from agentless_mini.learning.curation.relevance import Finding
from agentless_mini.learning.curation.workers import Doing, Task, forget
from agentless_mini.learning.rows import SPLITS
from agentless_mini.settings.learning import CurateSettings

SHARDS = "4"  # the version of what shards hold: another one means that they are made again

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
    failures: Translation = dict.fromkeys((json.JSONDecodeError, *engine_failures()), partial(_damaged, curation.out))
    with boundary({OSError: _no_room, **failures}), _alone(curation.out):
        events, parts = _plan(curation)
        for name, tasks in (("events", events), ("parts", parts)):
            left = [task for task in tasks if not task.shard.exists()]
            done = len(tasks) - len(left)
            progress(name, done, len(tasks))
            for done, _ in enumerate(doing(left), done + 1):  # noqa: B020
                progress(name, done, len(tasks))
            for folder in {task.shard.parent for task in tasks}:
                for half in folder.glob("*.partial"):  # of killed processes; all shards are whole by now
                    forget(half)
        progress("splits", 0, 1)
        found = _collected(curation, [task.shard for task in events], [task.shard for task in parts])
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


def _plan(curation: Curation) -> tuple[list[Task], list[Task]]:
    """Return the tasks. Shards are named by all that they hang on; the list of those of events is written."""
    work, settings = curation.out.absolute() / "work", curation.settings
    events = []
    for path in _found(curation.events):
        facts = path.stat()
        name = _digest(SHARDS, str(path), str(facts.st_size), str(facts.st_mtime_ns), str(settings.partitions))
        events.append(Task(work / "events" / f"{name}.parquet", partial(shard_events, path, settings.partitions)))
    if not curation.mirrors.is_dir():
        raise UsageError(f"{printable(str(curation.mirrors))} is no folder of mirrors: check --mirrors.")
    names = "\n".join(sorted({task.shard.name for task in events}))
    place = work / f"parts-{_digest(SHARDS, names, _settings(curation), str(curation.mirrors.absolute()))}"
    place.mkdir(parents=True, exist_ok=True)
    listed = work / f"{place.name}.txt"
    listed.write_text(names, "utf-8")
    mirrors = Mirrors(curation.mirrors.absolute(), work / "clones", settings.clone_from)
    states: dict[int, list[str]] = {part: [] for part in range(settings.partitions)}
    for owner, state in mirrors.states():
        states[part_of(owner, settings.partitions)].append(state)
    answers = work / f"answers-{settings.partitions}"
    return events, [
        Task(
            place / f"{part:05}-{_digest(*states[part])}",
            partial(shard_part, part, listed, mirrors, settings, curation.finding, answers / f"{part:05}.sqlite"),
        )
        for part in range(settings.partitions)
    ]


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
    families = families_of((kin for one in told for kin in one["kin"].items()), events)
    became = collect(parts, families, curation.out, curation.settings)
    left_out = sum((Counter(one["left_out"]) for one in told), became)
    pulls = sum(one["pulls"] for one in told)
    with engine() as database:
        asked = "SELECT repo, uid, body, number FROM read_parquet($1) WHERE kind = $2 ORDER BY ALL"
        shards = [str(shard) for shard in events]
        seen: Counter[str] = Counter()
        for _, kind, _, count in database.execute(asked, [shards, "seen"]).fetchall():
            seen[kind] += count
        aside = [row[:3] for row in database.execute(asked, [shards, "rejected"]).fetchall()]
    aside += [one for each in told for one in each["rejected"]]
    lines = (dict(zip(("place", "reason", "start"), one, strict=True)) for one in aside)
    _write(curation.out / "rejected.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    document = {
        "events": dict(sorted(seen.items())),
        "rejected": dict(sorted(Counter(one[1] for one in aside).items())),
        "pulls": pulls,
        "steps": funnel(pulls, left_out),
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


def _damaged(out: Path, error: BaseException) -> EnvironmentFailed:
    work, said = printable(str(out / "work")), printable(str(error))
    return EnvironmentFailed(f"A shard cannot be used ({said}): free some room, or delete {work} and run this again.")


def _no_room(error: BaseException) -> EnvironmentFailed:
    return EnvironmentFailed(f"The output cannot be written ({error}): free some room, or name another --out.")
