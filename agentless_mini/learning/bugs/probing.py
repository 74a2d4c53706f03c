"""Runs foreign files in boxes, many files in each, and reads what came of their calls.

A file cannot hurt what is not in its batch, and a batch is of one package. One that loses its box, or the program in
it, is cut in two until the file that does it is alone: that one comes to nothing. What a box says is foreign input.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources

from agentless_mini.domain import MIB, Ending, Job, JobResult, PlacedFile, Step
from agentless_mini.environments import Opened
from agentless_mini.errors import EnvironmentFailed, printable
from agentless_mini.learning.bugs.observations import Outcome

BOX = ".amini-bugs"
_PROGRAM, _PLAN, _RESULT = f"{BOX}/main.py", f"{BOX}/plan.json", f"{BOX}/result.json"
_INSIDE = "agentless_mini.learning.bugs.inside"
_MAIN = f"import sys\nfrom {_INSIDE}.batch import main\n\nmain(*sys.argv[1:])\n"
_LARGEST = 32 * MIB
_FILE_SECONDS = 8.5  # what a file may take in the box at most, and a little
_TRIAL_SECONDS = 8.5
_STARTUP = 20.0


@dataclass(frozen=True, slots=True)
class Probe:
    """A file and the calls to be made on it."""

    source: str
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """A check to be run on a file, which lies at `path`."""

    path: str
    source: str
    check: str


Seen = tuple[Outcome, ...] | None
"""The outcomes of a probe's calls; None where its box was lost."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Boxes in which files are probed, `batch` at a time."""

    opened: Opened
    batch: int

    async def observe(self, probes: Sequence[Probe], hash_seed: int) -> list[Seen]:
        """Return what came of each probe, sets and hashes in the order of a seed. Raises as the sandbox does."""
        batches = [probes[at : at + self.batch] for at in range(0, len(probes), self.batch)]
        found = await asyncio.gather(*(self._observed(batch, hash_seed) for batch in batches))
        return [seen for batch in found for seen in batch]

    async def passed(self, trials: Sequence[Trial]) -> list[bool | None]:
        """Return of each check whether it passed; None where its box was lost, or it did not end by itself."""
        batches = [trials[at : at + self.batch] for at in range(0, len(trials), self.batch)]
        found = await asyncio.gather(*(self._tried(batch) for batch in batches))
        return [passed for batch in found for passed in batch]

    async def _observed(self, probes: Sequence[Probe], hash_seed: int) -> list[Seen]:
        plan = {"probes": [asdict(probe) for probe in probes], "trials": []}
        told = await self._run(plan, hash_seed, _STARTUP + _FILE_SECONDS * len(probes))
        seen = _read_seen(told.get("seen"), probes)
        if seen is not None:
            return list(seen)
        if len(probes) == 1:
            return [None]
        half = len(probes) // 2
        return [*await self._observed(probes[:half], hash_seed), *await self._observed(probes[half:], hash_seed)]

    async def _tried(self, trials: Sequence[Trial]) -> list[bool | None]:
        plan = {"probes": [], "trials": [asdict(trial) for trial in trials]}
        told = await self._run(plan, 0, _STARTUP + _TRIAL_SECONDS * len(trials))
        passed = told.get("passed")
        if isinstance(passed, list) and len(passed) == len(trials):
            return [{0: True, 1: False}.get(status) if isinstance(status, int) else None for status in passed]
        if len(trials) == 1:
            return [None]
        half = len(trials) // 2
        return [*await self._tried(trials[:half]), *await self._tried(trials[half:])]

    async def _run(self, plan: Mapping[str, object], hash_seed: int, seconds: float) -> dict[str, object]:
        """Return what the program in the box tells, nothing where it came to nothing."""
        place, limits = self.opened.place, self.opened.limits
        files = (*_programs(), PlacedFile(_PLAN, json.dumps(plan).encode()))
        step = Step(
            ("python", "-s", "-B", _PROGRAM, _PLAN, _RESULT),
            seconds=seconds,
            results=(_RESULT,),
            variables=(("PYTHONHASHSEED", str(hash_seed)),),
        )
        limits = replace(limits, result=_LARGEST, seconds=max(limits.seconds, seconds))
        return _told(await self.opened.sandbox.run(Job(place.environment, place.tree, files, (step,), limits)))


@cache
def _programs() -> tuple[PlacedFile, ...]:
    """Return what runs in boxes, as the package that it is here."""
    folder = f"{BOX}/{_INSIDE.replace('.', '/')}"
    own = (PlacedFile(f"{folder}/{name}.py", _inside(name).encode()) for name in ("observe", "batch"))
    return (PlacedFile(_PROGRAM, _MAIN.encode()), *own)


@cache
def observing() -> str:
    """Return the part of it that every check begins with."""
    return _inside("observe")


def _inside(name: str) -> str:
    return (resources.files(_INSIDE) / f"{name}.py").read_text("utf-8")


def _told(result: JobResult) -> dict[str, object]:
    if result.refusal:
        raise EnvironmentFailed(f"A box refuses a plain file ({printable(result.refusal)}): report it as a bug.")
    if any(step.ending is Ending.NOT_RUN for step in result.steps):
        return {}
    for file in result.steps[0].results:
        try:
            told = json.loads(file.data)
        except (ValueError, RecursionError):
            return {}
        return told if isinstance(told, dict) else {}
    return {}


def _read_seen(told: object, probes: Sequence[Probe]) -> list[Seen] | None:
    """Return the outcomes, None where what was told is not of the form that our program gives it."""
    if not isinstance(told, list) or len(told) != len(probes):
        return None
    found: list[Seen] = []
    for outcomes, probe in zip(told, probes, strict=True):
        if not isinstance(outcomes, list) or len(outcomes) != len(probe.calls):
            return None
        if not all(isinstance(outcome, list) and _is_outcome(outcome) for outcome in outcomes):
            return None
        found.append(tuple(tuple(outcome) for outcome in outcomes))
    return found


_LENGTHS = {"returns": 2, "raises": 3, "hangs": 1, "dies": 1, "unfit": 1, "unloadable": 2}


def _is_outcome(parts: list[object]) -> bool:
    return all(isinstance(part, str) for part in parts) and bool(parts) and _LENGTHS.get(str(parts[0])) == len(parts)
