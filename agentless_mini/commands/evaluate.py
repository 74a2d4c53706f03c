"""`amini eval`: builds the parts of an evaluation, attempts its instances, and says where the record is.

The same command again goes on where it was. What is printed on stdout is the folder, which `amini report` reads.
"""

import asyncio
import json
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from agentless_mini import __version__
from agentless_mini.commands.models import ChosenModel, Machine, Surroundings, choose_model, more_endpoints
from agentless_mini.commands.terminal import EXIT_FOUND, people, without_passwords
from agentless_mini.config import Config
from agentless_mini.domain import Decoding
from agentless_mini.errors import EnvironmentFailed, ModelChanged
from agentless_mini.evaluation.attempt import Assignment, Desk, attempt, grade_key, row_digest
from agentless_mini.evaluation.grading import Grader
from agentless_mini.evaluation.instances import Dataset, Instance
from agentless_mini.evaluation.ports import Testbeds
from agentless_mini.evaluation.predictions import write_predictions
from agentless_mini.evaluation.schedule import evaluate as attempt_all
from agentless_mini.evaluation.settings import Grading
from agentless_mini.pipeline import ChainSettings, Until
from agentless_mini.ports import Watch
from agentless_mini.recording import RecordedSampler
from agentless_mini.report.evaluation_progress import EvaluationProgress
from agentless_mini.store import AttemptRecord, AttemptState, EvalStart, InstanceRecord, Store
from agentless_mini.templates import load_prompts

STORE, PREDICTIONS, OFFICIAL = "store.sqlite", "all_preds.jsonl", "official"
WRITE_EVERY = 10.0
"""Seconds between two writings of the predictions, while instances end."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated: instances of a dataset, by these settings, kept in `folder`.

    `oracle` shows the model the files that the true fix touches, `endpoints` are more servers of the same model.
    """

    dataset: Dataset
    instances: tuple[Instance, ...]
    folder: Path
    config: Config
    until: Until = Until.TESTS
    oracle: bool = False
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beds:
    """Where instances are attempted; `grader` writes the official summary, and there is none where it is None."""

    testbeds: Testbeds
    grader: Grader | None = None


Bedding = Callable[[Evaluation, str, AsyncExitStack, Watch], Awaitable[Beds]]
"""Opens the beds of an evaluation of a model, until the stack is closed."""


def evaluate(evaluation: Evaluation, machine: Machine, bedding: Bedding, console: Console | None = None) -> int:
    """Attempt the instances, write the predictions and the official summary, and return the exit code.

    Raises `AminiError` and KeyboardInterrupt; whatever was paid for until then is recorded.
    """
    with (
        Store.open(evaluation.folder / STORE) as store,
        EvaluationProgress(console or people(), len(evaluation.instances)) as progress,
    ):
        parts = _Parts(evaluation, machine, store, progress, bedding)
        try:
            asyncio.run(_run(parts))
        finally:
            _write_predictions(parts)
        failed = [one for one in store.evals.attempts() if one.state is AttemptState.INFRASTRUCTURE]
    return EnvironmentFailed.exit_code if failed else EXIT_FOUND


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an evaluation is built from."""

    evaluation: Evaluation
    machine: Machine
    store: Store
    progress: EvaluationProgress
    bedding: Bedding


async def _run(parts: _Parts) -> None:
    evaluation, config = parts.evaluation, parts.evaluation.config
    async with AsyncExitStack() as stack:
        around = Surroundings(config, parts.machine, parts.store, stack, parts.progress)
        chosen = await choose_model(around)
        chosen = await more_endpoints(chosen, evaluation.endpoints, around)
        _begin(parts, chosen)
        beds = await parts.bedding(evaluation, chosen.name, stack, parts.progress)
        for again in range(2):
            try:
                await _attempt_all(parts, chosen, beds.testbeds)
                break
            except ModelChanged:  # planned again once, with the card of the model that is served now
                if again:
                    raise
        if beds.grader is not None and config.eval.grade is not Grading.NONE:
            await _summarise(parts, beds.grader)


async def _attempt_all(parts: _Parts, chosen: ChosenModel, beds: Testbeds) -> None:
    desk, written = _desk(parts, chosen), time.monotonic()

    async def attempting(task: Assignment) -> AttemptRecord:
        return await attempt(task, desk, beds, parts.progress.of(task.instance.id))

    def ended(record: AttemptRecord) -> None:
        nonlocal written
        parts.store.evals.put_attempt(record)
        parts.progress.ended(record, _resolved(parts, record))
        if time.monotonic() - written > WRITE_EVERY:
            _write_predictions(parts)
            written = time.monotonic()

    await attempt_all(_tasks(parts.evaluation), parts.evaluation.config.eval.workers, attempting, ended)


def _tasks(evaluation: Evaluation) -> list[Assignment]:
    answers = evaluation.dataset.answers
    return [
        Assignment(one, row_digest(answers[one.id].row), answers[one.id].files if evaluation.oracle else ())
        for one in evaluation.instances
    ]


def _desk(parts: _Parts, chosen: ChosenModel) -> Desk:
    config = parts.evaluation.config
    return Desk(
        store=parts.store,
        sampler=RecordedSampler(chosen.sampler, parts.store, _identity(chosen, config)),
        prompts=load_prompts(config.prompts),
        chain=_chain(parts.evaluation),
        grading=config.eval.grade,
        model=chosen.name,
        command=without_passwords(sys.argv),
        settings=_settings(parts.evaluation),
        versions=_versions(chosen),
    )


def _chain(evaluation: Evaluation) -> ChainSettings:
    config = evaluation.config
    return ChainSettings(
        localize=config.localize,
        repair=config.repair,
        reproduce=config.reproduce,
        regress=config.regress,
        rank=config.rank,
        until=evaluation.until,
    )


def _settings(evaluation: Evaluation) -> str:
    """Return what an answer hangs on, beside the model: another text means that instances are attempted again."""
    config = evaluation.config
    limits = config.sandbox.model_dump(mode="json", include={"case_seconds", "memory_mib", "kind"})
    prompts = str(config.prompts) if config.prompts else ""
    more = {"oracle": evaluation.oracle, "sandbox": limits, "prompts": prompts}
    return json.dumps({**_chain(evaluation).model_dump(mode="json"), **more}, sort_keys=True)


def _versions(chosen: ChosenModel) -> str:
    return json.dumps({"amini": __version__, "python": platform.python_version(), "model": chosen.source})


def _identity(chosen: ChosenModel, config: Config) -> str:
    said = config.endpoint
    if said.context_window is None and said.decoding is Decoding.FREE:
        return chosen.name
    return f"{chosen.name} (context {said.context_window}, {said.decoding})"


def _begin(parts: _Parts, chosen: ChosenModel) -> None:
    evaluation, dataset = parts.evaluation, parts.evaluation.dataset
    parts.store.evals.begin(
        EvalStart(
            name=evaluation.folder.name,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            model=chosen.name,
            settings=_settings(evaluation),
            versions=_versions(chosen),
        )
    )
    for one in evaluation.instances:
        answer = dataset.answers[one.id]
        parts.store.evals.put_instance(
            InstanceRecord(one.id, one.repo, answer.difficulty, one.created, answer.files, one.image)
        )


# --- the results -----------------------------------------------------------------------------------------------------


def _resolved(parts: _Parts, record: AttemptRecord) -> bool | None:
    """Return whether the chosen patch is right, None where that is not known."""
    if record.state is AttemptState.INFRASTRUCTURE:
        return None
    diff = parts.store.evals.submitted(record.instance).get(record.instance, b"")
    row = row_digest(parts.evaluation.dataset.answers[record.instance].row)
    grade = parts.store.evals.get_grade(grade_key(row, diff))
    return grade.resolved if grade else (None if diff else False)


def _write_predictions(parts: _Parts) -> None:
    found = parts.store.evals.find()
    if found is not None:
        write_predictions(parts.evaluation.folder / PREDICTIONS, found.model, parts.store.evals.submitted())


async def _summarise(parts: _Parts, grader: Grader) -> None:
    """Have the harness write its own summary of all instances that were ever selected."""
    dataset, evals = parts.evaluation.dataset, parts.store.evals
    known = {record.id: dataset.answers[record.id] for record in evals.instances()}
    submitted = evals.submitted()
    for name, diff in submitted.items():
        grade = evals.get_grade(grade_key(row_digest(known[name].row), diff))
        if grade is not None and grade.applied:
            grader.restore(known[name].row, diff, grade.report)
    await grader.summarise(known, submitted)
