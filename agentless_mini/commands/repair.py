"""`amini repair`: builds the parts of a run, runs the chain, records it, prints the patch."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from agentless_mini.commands.boxes import Yard, plan_boxes
from agentless_mini.commands.chain import chain_of, identity, settled, versions
from agentless_mini.commands.models import ChosenModel, Machine, Surroundings, choose_model
from agentless_mini.commands.scorers import open_scorer
from agentless_mini.commands.terminal import (
    EXIT_BUG,
    EXIT_FOUND,
    EXIT_INTERRUPTED,
    EXIT_NO_PATCH,
    people,
    without_passwords,
)
from agentless_mini.config import Config
from agentless_mini.domain import Issue, Patch, Prediction, Reason, Rejected, Snapshot
from agentless_mini.errors import AminiError, EnvironmentFailed, ModelChanged, boundary
from agentless_mini.pipeline import ChainSettings, resolve
from agentless_mini.ports import PatchCheck
from agentless_mini.prompts import Prompts
from agentless_mini.recorded_scorer import traced_scoring
from agentless_mini.recording import RecordedSampler, TracedSampler
from agentless_mini.report.document import run_document
from agentless_mini.report.progress import LiveProgress
from agentless_mini.report.summary import summary
from agentless_mini.repository import Repository
from agentless_mini.stages.given import GivenSettings
from agentless_mini.stages.score import Scoring
from agentless_mini.stages.session import Session
from agentless_mini.store import RunId, RunStart, RunStatus, Store
from agentless_mini.templates import load_prompts


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be repaired, and the settings that it is done with.

    `files` replaces localization where not empty, `given` has the user's own failing tests.
    """

    issue: Issue
    repository: Repository
    config: Config
    files: tuple[str, ...] = ()
    given: GivenSettings = field(default_factory=GivenSettings)


@dataclass(frozen=True, slots=True)
class Output:
    """Where the result goes: a JSON document or the patch, to a file or stdout; `apply` changes the work tree too."""

    json: bool = False
    file: Path | None = None
    apply: bool = False
    quiet: bool = False


def repair(task: Task, store: Store, output: Output, machine: Machine) -> int:
    """Run the chain on a task, print its result, and return the exit code.

    Whatever happens, the run's end is recorded. Raises `AminiError` and KeyboardInterrupt.
    """
    console = Console(quiet=True) if output.quiet else people()
    began = time.monotonic()
    snapshot = task.repository.snapshot()
    for note in task.repository.notes:
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    with LiveProgress(console) as progress:
        run, prediction = asyncio.run(_run(_Parts(task, store, machine, snapshot, progress)))
    if not output.quiet:
        console.print(summary(store.runs.trace(run), time.monotonic() - began), highlight=False)
    code = EXIT_NO_PATCH if prediction.choice is None else EXIT_FOUND
    _emit(prediction, output, lambda: run_document(store.runs.trace(run)))
    if output.apply and prediction.choice is not None:
        task.repository.apply(prediction.choice.patch.diff)
    return code


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a run is built from."""

    task: Task
    store: Store
    machine: Machine
    snapshot: Snapshot
    progress: LiveProgress


@dataclass(frozen=True, slots=True)
class _Model:
    """Who is asked, and in which words."""

    chosen: ChosenModel
    prompts: Prompts
    scoring: Scoring | None = None


async def _run(parts: _Parts) -> tuple[RunId, Prediction]:
    async with AsyncExitStack() as stack:
        prompts = load_prompts(parts.task.config.prompts)
        around = Surroundings(parts.task.config, parts.machine, parts.store, stack, parts.progress)
        chosen = await choose_model(around)
        scoring, _ = await open_scorer(around.config.scorer, around) if around.config.evolve.scored else (None, None)
        newest = parts.store.runs.newest_generation(chosen.name, parts.task.issue.text)
        parts = replace(parts, task=replace(parts.task, config=settled(parts.task.config, newest)))
        run = parts.store.runs.begin(_start(parts, chosen))
        try:
            prediction = await _predict(parts, _Model(chosen, prompts, scoring), run, stack)
        except BaseException as error:
            status, code = _ending(error)
            parts.store.runs.finish(run, status, code)
            raise
        parts.store.runs.put_prediction(run, prediction)
        code = EXIT_NO_PATCH if prediction.choice is None else EXIT_FOUND
        parts.store.runs.finish(run, RunStatus.DONE, code)
        return run, prediction


async def _predict(parts: _Parts, model: _Model, run: RunId, stack: AsyncExitStack) -> Prediction:
    """Run the chain; once more from the start if the served model turns out to differ from the recorded one."""
    task, chosen = parts.task, model.chosen
    yard = Yard(task.config.sandbox, task.repository, parts.snapshot, parts.machine, stack)
    opening = plan_boxes(yard, parts.store, run)
    for attempt in range(2):
        sampler = TracedSampler(
            RecordedSampler(chosen.sampler, parts.store, identity(chosen, task.config)), parts.store, run
        )
        session = Session(
            sampler,
            model.prompts,
            _check(task.repository),
            parts.progress,
            _instance(parts.snapshot),
            traced_scoring(model.scoring, parts.store, run) if model.scoring else None,
        )
        try:
            return await resolve(task.issue, parts.snapshot, session, _settings(task), opening)
        except ModelChanged:
            if attempt:
                raise
            parts.store.runs.unlink(run)
    raise AssertionError  # the loop returns or raises


def _settings(task: Task) -> ChainSettings:
    return chain_of(task.config).model_copy(update={"given": task.given, "files": task.files})


def _instance(snapshot: Snapshot) -> str:
    return f"{snapshot.name}@{snapshot.commit[:12]}"


def _check(repository: Repository) -> PatchCheck:
    def check(patch: Patch) -> Patch | Rejected:
        verdict = repository.accepts(patch.diff)
        return patch if verdict.ok else Rejected(Reason.REFUSED_BY_GIT, verdict.message)

    return check


def _start(parts: _Parts, chosen: ChosenModel) -> RunStart:
    snapshot = parts.snapshot
    return RunStart(
        model=chosen.name,
        instance=_instance(snapshot),
        repository=snapshot.name,
        commit=snapshot.commit,
        tree=snapshot.digest,
        issue=parts.task.issue,
        command=without_passwords(sys.argv),
        settings=parts.task.config.model_dump_json(),
        versions=versions(chosen),
    )


def _ending(error: BaseException) -> tuple[RunStatus, int]:
    if isinstance(error, AminiError):
        return RunStatus.FAILED, error.exit_code
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return RunStatus.INTERRUPTED, EXIT_INTERRUPTED
    return RunStatus.FAILED, EXIT_BUG


def _emit(prediction: Prediction, output: Output, document: Callable[[], dict[str, Any]]) -> None:
    """Write the result: the patch in its own bytes, or the document. Without a patch stdout stays empty."""
    if output.json:
        data = (json.dumps(document(), ensure_ascii=True, indent=2) + "\n").encode()
    else:
        data = prediction.choice.patch.diff if prediction.choice else b""
    if output.file is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    unwritable = f"The result cannot be written to {output.file}"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{unwritable} ({error}): name another file with -o.")}):
        output.file.write_bytes(data)
