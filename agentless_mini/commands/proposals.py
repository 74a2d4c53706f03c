"""The patches that `amini choose` and `amini eval --predictions` are given: in files, and in runs of the record."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import Candidate, Patch, Proposal
from agentless_mini.errors import UsageError, boundary, printable, reason
from agentless_mini.record import RunId, Store

_PATCHES, _PREDICTIONS = {".patch", ".diff"}, {".json", ".jsonl"}


@dataclass(frozen=True, slots=True)
class Proposed:
    """A row in SWE-bench's format: what a system proposes for an instance, and the file that says so."""

    instance: str
    system: str
    diff: bytes
    file: str


def read_proposals(words: Sequence[str], instance: str | None) -> tuple[Proposal, ...]:
    """Return the patches in these files and folders, in their order; of predictions those of the instance.

    Each file counts once. Raises `UsageError` where a file cannot be read, or does not say which instance is meant.
    """
    found: list[Proposed] = []
    for path in dict.fromkeys(file for word in words for file in _files(Path(word), _PATCHES | _PREDICTIONS)):
        name = str(path)
        if path.suffix not in _PREDICTIONS:
            found.append(Proposed("", name, _read(path), name))
            continue
        rows = list(_predictions(path))
        instances = sorted({row.instance for row in rows})
        if instance is None and len(instances) > 1:
            raise UsageError(
                f"{printable(name)} has predictions of {len(instances)} instances: name one with --instance, such as "
                f"{printable(instances[0])}."
            )
        said = [row for row in rows if instance in {None, row.instance}]
        if not said:
            raise UsageError(f"{printable(name)} has no prediction of {printable(str(instance))}: check --instance.")
        found += said
    return tuple(Proposal(source, row.diff) for source, row in _named_apart(found))


def of_runs(store: Store, runs: str) -> tuple[Proposal, ...]:
    """Return the valid patches of recorded runs, one for each sample that has a vote, in their order.

    `runs` are numbers with commas between them. Raises `UsageError` where one is no run, or has no patch.
    """
    proposals: list[Proposal] = []
    for word in dict.fromkeys(word.strip() for word in runs.split(",")):
        if not word.isascii() or not word.isdecimal() or not 0 < len(word) < 19:
            raise UsageError(f"{printable(repr(word))} is no run: give numbers to --runs, such as 3,5.")
        trace = store.runs.trace(RunId(int(word)))
        made = [one.outcome for one in trace.candidates() if isinstance(one.outcome, Patch) and not one.repeats]
        if not made:
            raise UsageError(f"Run {word} came to no patch: leave it out of --runs; amini show lists the runs.")
        proposals += [Proposal(f"run {word} ({trace.run.start.model})", patch.diff) for patch in made]
    return tuple(proposals)


def read_predictions(places: Sequence[Path]) -> dict[str, tuple[Proposal, ...]]:
    """Return what each system proposes, by instance: nothing (an empty patch) where its file has no row of one.

    A folder stands for the predictions in it and in the folders of submissions below it. Raises `UsageError`.
    """
    files = dict.fromkeys(file for place in places for file in _files(place, _PREDICTIONS))
    rows = [row for file in files for row in _predictions(file)]
    table: dict[str, dict[str, bytes]] = {}
    for system, row in _named_apart(rows):
        if row.instance in table.setdefault(system, {}):
            raise UsageError(f"{printable(row.file)} has {printable(row.instance)} twice: leave one of the rows out.")
        table[system][row.instance] = row.diff
    return {
        name: tuple(Proposal(system, said.get(name, b"")) for system, said in table.items())
        for name in sorted({row.instance for row in rows})
    }


def notes_on(pool: Sequence[Proposal], candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return sentences on the patches that cannot be used, and on those of several sources that say the same."""
    notes = []
    groups: dict[str, list[str]] = {}
    for one, candidate in zip(pool, candidates, strict=True):
        name = printable(one.source)
        if isinstance(candidate.outcome, Patch):
            groups.setdefault(candidate.outcome.normal, []).append(name)
        else:
            notes.append(f"{name} cannot be used: {candidate.outcome.detail}.")
    same = [names for names in groups.values() if len(set(names)) > 1]
    notes += [f"{', '.join(dict.fromkeys(names))} say the same: one change of {len(names)} votes." for names in same]
    return tuple(notes)


def _named_apart(rows: Sequence[Proposed]) -> Iterator[tuple[str, Proposed]]:
    """Yield each with the name of its system, and that of the file too where several files have that system."""
    files = Counter(system for system, _ in {(row.system, row.file) for row in rows})
    for row in rows:
        yield row.system if files[row.system] == 1 else f"{row.system} ({row.file})", row


def _files(place: Path, suffixes: set[str]) -> list[Path]:
    with boundary({OSError: lambda error: _unreadable(place, error)}):
        if not place.exists():
            raise UsageError(f"There is no file {printable(str(place))}: name a patch, a folder, or predictions.")
        if not place.is_dir():
            return [place]
        inside = [path for path in sorted(place.iterdir()) if path.suffix in suffixes and path.is_file()]
        inside += sorted(place.glob("*/*pred*.json*"))  # such as all_preds.jsonl of SWE-bench's submissions
    if not inside:
        raise UsageError(f"The folder {printable(str(place))} has no {', '.join(sorted(suffixes))} file: name another.")
    return inside


def _read(path: Path) -> bytes:
    with boundary({OSError: lambda error: _unreadable(path, error)}):
        return path.read_bytes()


def _unreadable(path: Path, error: BaseException) -> UsageError:
    return UsageError(f"{printable(str(path))} cannot be read ({reason(error)}): check its name and permissions.")


def _predictions(path: Path) -> Iterator[Proposed]:
    """Yield the rows of a file: JSON lines, a list, one row, or rows by instance."""
    shown = printable(str(path))

    def wrong(why: str) -> UsageError:
        return UsageError(f"{shown} has no predictions in SWE-bench's format ({why}): see `amini help choose`.")

    try:
        text = _read(path).decode("utf-8-sig")
        try:
            read = json.loads(text)
        except ValueError:
            read = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise wrong(f"it is neither JSON nor JSON lines: {error}") from error
    if isinstance(read, dict):
        read = [read] if "instance_id" in read else [*read.values()]
    if not isinstance(read, list) or not read:
        raise wrong("it has no rows")
    for row in read:
        given = (row.get("instance_id"), row.get("model_patch", 0) or "") if isinstance(row, dict) else ()
        match given:
            case str(name), str(patch) if "model_patch" in row:
                system = str(row.get("model_name_or_path") or path.stem)
                yield Proposed(name, system, patch.encode("utf-8", "surrogatepass"), shown)
            case _:
                raise wrong("a row lacks instance_id or model_patch, or they are no texts")
