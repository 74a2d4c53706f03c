"""Runs tests on a checkout with something put over it, each trial in a box of its own. It judges nothing."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.domain import Environment, Job, JobResult, PackedTree, PlacedFile, Step, StepResult
from agentless_mini.repository.opening import open_repository
from agentless_mini.sandbox.bubblewrap import Bubblewrap, BubblewrapSandbox
from agentless_mini.sandbox.host import VirtualEnvironment
from agentless_mini.sandbox.wire import of_folder, pack_snapshot
from tests.real_bugs.checkout import Checkout

BOXES = 2
PYTEST = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


class Outcome(enum.IntEnum):
    """How one run of pytest ended, by its exit status; every other status is OTHER."""

    PASSED = 0
    FAILED = 1
    NOT_COLLECTED = 2
    OTHER = 99


@dataclass(frozen=True, slots=True)
class Trial:
    """Files to put over the tree, and the runs of pytest to make on it, each with its arguments."""

    files: tuple[PlacedFile, ...]
    runs: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where trials run: the environment's folder, bubblewrap, and a folder for what is sent into the boxes."""

    environment: Path
    bubblewrap: Bubblewrap
    scratch: Path


def outcomes(checkout: Checkout, trials: Sequence[Trial], place: Place) -> list[tuple[Outcome, ...]]:
    """Return for each trial how its runs ended."""
    snapshot = open_repository(str(checkout.folder), None, checkout.cache).snapshot()
    pack = pack_snapshot(snapshot, of_folder(checkout.folder), place.scratch / f"{checkout.bug.name}.pack")
    here = VirtualEnvironment("real-bugs", place.environment)

    async def run() -> list[JobResult]:
        sandbox = BubblewrapSandbox(place.bubblewrap, {here.identity: here}, {pack.digest: pack}, BOXES)
        jobs = [_job(trial, checkout, Environment(here.identity), pack.digest) for trial in trials]
        return await asyncio.gather(*(sandbox.run(job) for job in jobs))

    results = asyncio.run(run())
    assert all(result.refusal == "" for result in results)
    return [tuple(_outcome(step) for step in result.steps) for result in results]


def _job(trial: Trial, checkout: Checkout, environment: Environment, digest: str) -> Job:
    paths = (checkout.bug.source,)
    quiet = (("PYTHONDONTWRITEBYTECODE", "1"),)
    steps = tuple(Step((*PYTEST, *run), python_path=paths, variables=quiet) for run in trial.runs)
    return Job(environment, PackedTree(digest), trial.files, steps)


def _outcome(step: StepResult) -> Outcome:
    known = {outcome.value for outcome in Outcome}
    return Outcome(step.status) if step.status in known else Outcome.OTHER
