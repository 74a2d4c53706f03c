"""`amini eval`: builds the parts of an evaluation, attempts its instances, and says where the record is.

The same command again goes on where it was. What is printed on stdout is the folder, which `amini report` reads.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from agentless_mini.chain.evolve import UNSELECTED
from agentless_mini.chain.pipeline import NO_SANDBOX, check_rounds
from agentless_mini.chain.score import Scoring
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.chain import chain_of, identity, settled, versions
from agentless_mini.commands.headline import amount, answerer
from agentless_mini.commands.models import ChosenModel, Machine, Surroundings, choose_model
from agentless_mini.commands.scorers import open_scorer
from agentless_mini.commands.terminal import EXIT_FOUND, noted, people, without_passwords
from agentless_mini.domain import Note, RewardModel
from agentless_mini.errors import EnvironmentFailed, ModelChanged, printable
from agentless_mini.evaluation.attempt import Assignment, EvalContext, attempt, grade_key, row_digest
from agentless_mini.evaluation.attempt import evaluate as attempt_all
from agentless_mini.evaluation.dataset import Dataset, Instance
from agentless_mini.evaluation.grading import Grader
from agentless_mini.evaluation.ports import Testbeds
from agentless_mini.evaluation.submission import write_predictions
from agentless_mini.ports import Watch
from agentless_mini.record import (
    AttemptRecord,
    AttemptState,
    EvalStart,
    InstanceRecord,
    RecordedSampler,
    Store,
    generation_of,
)
from agentless_mini.report.progress import EvaluationProgress
from agentless_mini.settings import Config
from agentless_mini.settings.run import UNTESTED, EvolveSettings, Grading, SandboxKind, Selecting, Until
from agentless_mini.testing.harness import harness_of_command

STORE, PREDICTIONS, OFFICIAL = "store.sqlite", "all_preds.jsonl", "official"
WRITE_EVERY = 10.0
"""Seconds between two writings of the predictions, while instances end."""
_OF_THE_SANDBOX = {"kind", "test_command", "case_seconds", "box_seconds", "memory_mib", "disk_mib", "pids", "cpus"}
"""What a test's outcome hangs on."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated: instances of a dataset, by these settings, kept in `folder`.

    `oracle` shows the model the files that the true fix touches.
    """

    dataset: Dataset
    instances: tuple[Instance, ...]
    folder: Path
    config: Config
    until: Until = Until.TESTS
    oracle: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """Where instances are attempted; `grader` writes the official summary, and there is none where it is None."""

    testbeds: Testbeds
    grader: Grader | None = None


OpenTestbeds = Callable[[Evaluation, str, AsyncExitStack, Watch], Awaitable[Opened]]
"""Opens the testbeds of an evaluation of a model, until the stack is closed."""


def evaluate(
    evaluation: Evaluation, machine: Machine, open_testbeds: OpenTestbeds, console: Console | None = None
) -> int:
    """Attempt the instances, write the predictions and the official summary, and return the exit code.

    Raises `AminiError` and KeyboardInterrupt; whatever was paid for until then is recorded.
    """
    console = console or people()
    with (
        Store.open(evaluation.folder / STORE, noted(console)) as store,
        EvaluationProgress(console, len(evaluation.instances)) as progress,
    ):
        found = store.evals.find()
        config = settled(evaluation.config, generation_of(found.settings) if found else 0)
        parts = _Parts(replace(evaluation, config=config), machine, store, progress, open_testbeds, console)
        try:
            asyncio.run(_run(parts))
        finally:
            _write_predictions(parts)
        asked = {one.id for one in evaluation.instances}
        failed = {one.instance for one in store.evals.attempts() if one.state is AttemptState.INFRASTRUCTURE}
    return EnvironmentFailed.exit_code if failed & asked else EXIT_FOUND


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an evaluation is built from."""

    evaluation: Evaluation
    machine: Machine
    store: Store
    progress: EvaluationProgress
    open_testbeds: OpenTestbeds
    console: Console


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who is asked: the model that repairs, what scores its patches; `settings` are those of `_settings`."""

    chosen: ChosenModel
    scoring: Scoring | None
    settings: str


async def _run(parts: _Parts) -> None:
    evaluation, config = parts.evaluation, parts.evaluation.config
    async with AsyncExitStack() as stack:
        around = Surroundings(config, parts.machine, parts.store, stack, parts.progress)
        chosen = await choose_model(around)
        scored = config.evolve.scored and evaluation.until is not Until.LOCALIZE
        scoring, judge = await open_scorer(config.scorer, around) if scored else (None, None)
        asked = _Asked(chosen, scoring, _settings(evaluation, judge))
        await _check(parts, _context(parts, asked))
        _begin(parts, asked)
        await _tell(parts, asked.chosen)
        testbeds = await parts.open_testbeds(evaluation, chosen.name, stack, parts.progress)
        for again in range(2):
            try:
                await _attempt_all(parts, asked, testbeds.testbeds)
                break
            except ModelChanged:  # planned again once, with the card of the model that is served now
                if again:
                    raise
        if testbeds.grader is not None and config.eval.grade is not Grading.NONE:
            await _summarise(parts, testbeds.grader)


async def _tell(parts: _Parts, chosen: ChosenModel) -> None:
    """Say who answers, before anything is spent."""
    evaluation, config = parts.evaluation, parts.evaluation.config
    tested = evaluation.until is Until.TESTS and config.sandbox.kind is not SandboxKind.NONE
    asked = amount(config, chosen, "tests run in containers of their images" if tested else UNTESTED)
    said = f"{len(evaluation.instances)} instances, {'files alone' if evaluation.until is Until.LOCALIZE else asked}"
    who = await answerer(chosen, config, parts.store)
    line = printable(f"evaluation {evaluation.folder.name}: {who}; {said}; recorded in {evaluation.folder}")
    parts.console.print(Text(line, style="bold"), highlight=False)


async def _attempt_all(parts: _Parts, asked: _Asked, testbeds: Testbeds) -> None:
    context, written = _context(parts, asked), time.monotonic()

    async def attempting(task: Assignment) -> AttemptRecord:
        return await attempt(task, context, testbeds, parts.progress.of(task.instance.id))

    def ended(record: AttemptRecord) -> None:
        nonlocal written
        parts.store.evals.put_attempt(record)
        parts.progress.ended(record, _resolved(parts, record))
        if time.monotonic() - written > WRITE_EVERY:
            _write_predictions(parts)
            written = time.monotonic()

    await attempt_all(_tasks(parts.evaluation), parts.evaluation.config.eval.workers, attempting, ended)


async def _check(parts: _Parts, context: EvalContext) -> None:
    """Refuse what no instance could be attempted with, before any is and before anything is forgotten."""
    sandbox = parts.evaluation.config.sandbox
    if sandbox.test_command:
        harness_of_command(sandbox.test_command, ())
    if context.chain.evolve.rounds > 1 or context.chain.repair.stop_when is not None:
        untested = sandbox.kind is SandboxKind.NONE
        check_rounds(context.chain, await context.sampler.card(), NO_SANDBOX if untested else None)
        _warn(context.chain.evolve, parts.progress)


def _warn(settings: EvolveSettings, watch: Watch) -> None:
    """Tell once what every instance would tell."""
    if settings.rounds > 1 and settings.select is Selecting.RANDOM and not settings.self_evolving:
        watch(Note(UNSELECTED))


def _tasks(evaluation: Evaluation) -> list[Assignment]:
    solutions = evaluation.dataset.solutions
    return [
        Assignment(one, row_digest(solutions[one.id].row), solutions[one.id].files if evaluation.oracle else None)
        for one in evaluation.instances
    ]


def _context(parts: _Parts, asked: _Asked) -> EvalContext:
    config, chosen = parts.evaluation.config, asked.chosen
    return EvalContext(
        store=parts.store,
        sampler=RecordedSampler(chosen.start, parts.store, identity(chosen, config)),
        prompts=load_prompts(config.prompts),
        chain=chain_of(config).model_copy(update={"until": parts.evaluation.until}),
        grading=config.eval.grade,
        model=chosen.name,
        command=without_passwords(sys.argv),
        settings=asked.settings,
        versions=versions(chosen),
        scoring=asked.scoring,
        grade_seconds=config.eval.grade_seconds,
    )


def _settings(evaluation: Evaluation, judge: RewardModel | None) -> str:
    """Return what an answer hangs on, beside the model: another text means that instances are attempted again."""
    config = evaluation.config
    more = {
        "oracle": evaluation.oracle,
        "sandbox": config.sandbox.model_dump(mode="json", include=_OF_THE_SANDBOX),
        "endpoint": config.endpoint.model_dump(mode="json", include={"context_window", "decoding"}),
        "prompts": load_prompts(config.prompts).digest,
    }
    chain = chain_of(config).model_copy(update={"until": evaluation.until}).model_dump(mode="json")
    if config.evolve.rounds == 1:
        del chain["evolve"]
    if config.repair.stop_when is None:
        del chain["repair"]["stop_when"]
    if config.generation:
        more["generation"] = config.generation
    if judge is not None:
        more["scorer"] = asdict(judge)
    return json.dumps({**chain, **more}, sort_keys=True)


def _begin(parts: _Parts, asked: _Asked) -> None:
    evaluation, dataset = parts.evaluation, parts.evaluation.dataset
    parts.store.evals.begin(
        EvalStart(
            name=evaluation.folder.name,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            model=asked.chosen.name,
            settings=asked.settings,
            versions=versions(asked.chosen),
        )
    )
    for one in evaluation.instances:
        answer = dataset.solutions[one.id]
        parts.store.evals.put_instance(
            InstanceRecord(one.id, one.repo, answer.difficulty, one.created, answer.files, one.image)
        )


# --- the results -----------------------------------------------------------------------------------------------------


def _resolved(parts: _Parts, record: AttemptRecord) -> bool | None:
    """Return whether the chosen patch is right, None where that is not known."""
    if record.state is AttemptState.INFRASTRUCTURE:
        return None
    diff = parts.store.evals.submitted(record.instance).get(record.instance, b"")
    row = row_digest(parts.evaluation.dataset.solutions[record.instance].row)
    grade = parts.store.evals.get_grade(grade_key(row, diff))
    return grade.resolved if grade else (None if diff else False)


def _write_predictions(parts: _Parts) -> None:
    found = parts.store.evals.find()
    if found is not None:
        write_predictions(parts.evaluation.folder / PREDICTIONS, found.model, parts.store.evals.submitted())


async def _summarise(parts: _Parts, grader: Grader) -> None:
    """Have the harness write its own summary of all instances that were ever selected."""
    dataset, evals = parts.evaluation.dataset, parts.store.evals
    known = {record.id: dataset.solutions[record.id] for record in evals.instances()}
    submitted = evals.submitted()
    for name, diff in submitted.items():
        grade = evals.get_grade(grade_key(row_digest(known[name].row), diff))
        if grade is not None and name in json.loads(grade.report):  # else swebench wrote none, and to it this is one
            grader.restore(known[name].row, diff, grade.report)
    if submitted:
        await grader.summarise(known, submitted)
