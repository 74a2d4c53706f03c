"""`amini eval`: builds the parts of an evaluation, attempts its instances, and says where the record is.

The same command again goes on where it was. What is printed on stdout is the folder, which `amini report` reads.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from agentless_mini.chain.evolve import UNSELECTED
from agentless_mini.chain.pipeline import NO_SANDBOX, check_rounds
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.config import STORE, Machine
from agentless_mini.commands.models import Models
from agentless_mini.commands.terminal import EXIT_FOUND, noted, people, without_passwords
from agentless_mini.domain import Note, Proposal, RewardModel, canonical_json, plain
from agentless_mini.errors import EnvironmentFailed, ModelChanged, UsageError, counted, printable
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
from agentless_mini.run import ChosenModel, amount, answerer, choosing, identity, seeded, settled, versions
from agentless_mini.settings import Config
from agentless_mini.settings.run import UNTESTED, Grading, SandboxKind, Selecting, Until
from agentless_mini.testing.plans import harness_of_command

PREDICTIONS, OFFICIAL = "all_preds.jsonl", "official"
WRITE_EVERY = 10.0
"""Seconds between two writings of the predictions, while instances end."""
_OF_THE_CHAIN = {"localize", "repair", "evolve", "reproduce", "regress", "answer", "think", "rank"}
_OF_THE_SANDBOX = {"kind", "test_command", "case_seconds", "box_seconds", "memory_mib", "disk_mib", "pids", "cpus"}
"""What a test's outcome hangs on."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated: instances of a dataset, by these settings, kept in `folder`.

    `oracle` shows the model the files that the true fix touches. With a `pool` it is chosen among what systems propose
    for each instance, by id: the same number for each.
    """

    dataset: Dataset
    instances: tuple[Instance, ...]
    folder: Path
    config: Config
    until: Until = Until.TESTS
    oracle: bool = False
    pool: Mapping[str, tuple[Proposal, ...]] = field(default_factory=dict)

    @property
    def systems(self) -> int:
        """Return how many systems it is chosen among, 0 where repairs are sampled."""
        return max(map(len, self.pool.values()), default=0)

    def submitter(self, chosen: ChosenModel) -> str:
        """Return the name that predictions are submitted under."""
        return f"choice among {counted(self.systems, 'system')}" if self.pool else chosen.name


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
        evaluation = replace(evaluation, config=config)
        try:
            asyncio.run(_run(evaluation, machine, open_testbeds, store, progress, console))
        finally:
            _write_predictions(evaluation, store)
        asked = {one.id for one in evaluation.instances}
        failed = {one.instance for one in store.evals.attempts() if one.state is AttemptState.INFRASTRUCTURE}
    return EnvironmentFailed.exit_code if failed & asked else EXIT_FOUND


async def _run(
    evaluation: Evaluation,
    machine: Machine,
    open_testbeds: OpenTestbeds,
    store: Store,
    progress: EvaluationProgress,
    console: Console,
) -> None:
    config = evaluation.config
    async with AsyncExitStack() as stack:
        models = Models(config, machine, store, stack, progress)
        chosen = await models.choose(optional=bool(evaluation.pool))
        config = choosing(config, chosen) if evaluation.pool else config
        evaluation = replace(evaluation, config=config)
        scored = config.evolve.scored and evaluation.until is not Until.LOCALIZE
        scoring, judge = await models.open_scorer(config.scorer) if scored else (None, None)
        settings = _settings(evaluation, judge)

        def context() -> EvalContext:
            return EvalContext(
                store=store,
                sampler=RecordedSampler(chosen.start, store, identity(chosen, config)),
                prompts=load_prompts(config.prompts),
                config=seeded(config),
                grading=config.eval.grade,
                model=evaluation.submitter(chosen),
                command=without_passwords(sys.argv),
                settings=settings,
                versions=versions(chosen),
                scoring=scoring,
                grade_seconds=config.eval.grade_seconds,
                until=evaluation.until,
            )

        await _check(context(), evaluation, progress)
        model, dataset = evaluation.submitter(chosen), evaluation.dataset
        name, tasks = evaluation.folder.name, []
        store.evals.begin(EvalStart(name, dataset.name, dataset.fingerprint, model, settings, versions(chosen)))
        for one in evaluation.instances:
            known = dataset.solutions[one.id]
            instance = InstanceRecord(one.id, one.repo, known.difficulty, one.created, known.files, one.image)
            store.evals.put_instance(instance)
            files = known.files if evaluation.oracle else None
            tasks.append(Assignment(one, row_digest(known.row), files, evaluation.pool.get(one.id, ())))
        tested = evaluation.until is Until.TESTS and config.sandbox.kind is not SandboxKind.NONE
        ways = "tests run in containers of their images" if tested else UNTESTED
        asked = amount(config, chosen, ways, pool=evaluation.systems)
        asked = "files alone" if evaluation.until is Until.LOCALIZE else asked
        line = f"evaluation {name}: {await answerer(chosen, config, store)}; "
        line += f"{counted(len(evaluation.instances), 'instance')}, {asked}; recorded in {evaluation.folder}"
        console.print(Text(printable(line), style="bold"))
        opened = await open_testbeds(evaluation, model, stack, progress)
        for again in range(2):
            try:
                await _attempt_all(tasks, evaluation, context(), opened.testbeds, progress)
                break
            except ModelChanged:  # planned again once, with the card of the model that is served now
                if again:
                    raise
        if opened.grader and config.eval.grade is not Grading.NONE and evaluation.until is not Until.LOCALIZE:
            await _summarise(evaluation, store, opened.grader)


async def _attempt_all(
    tasks: list[Assignment],
    evaluation: Evaluation,
    context: EvalContext,
    testbeds: Testbeds,
    progress: EvaluationProgress,
) -> None:
    written = time.monotonic()

    async def attempting(task: Assignment) -> AttemptRecord:
        return await attempt(task, context, testbeds, progress.of(task.instance.id))

    def ended(record: AttemptRecord) -> None:
        nonlocal written
        evals, name = context.store.evals, record.instance
        evals.put_attempt(record)
        ungraded = record.state is AttemptState.INFRASTRUCTURE or evaluation.until is Until.LOCALIZE
        diff = evals.submitted(name).get(name, b"")
        progress.ended(record, None if ungraded else resolved(evaluation, context.store, name, diff))
        if time.monotonic() - written > WRITE_EVERY:
            _write_predictions(evaluation, context.store)
            written = time.monotonic()

    await attempt_all(tasks, evaluation.config.eval.workers, attempting, ended)


async def _check(context: EvalContext, evaluation: Evaluation, watch: Watch) -> None:
    """Refuse what no instance could be attempted or graded with, before any is and before anything is forgotten."""
    config, sandbox = context.config, context.config.sandbox
    if sandbox.test_command:
        harness_of_command(sandbox.test_command, ())
    if config.evolve.rounds > 1 or config.repair.stop_when is not None:
        untested = NO_SANDBOX if sandbox.kind is SandboxKind.NONE else None
        check_rounds(config, context.until, await context.sampler.card(), untested)
        if config.evolve.rounds > 1 and config.evolve.select is Selecting.RANDOM and not config.evolve.self_evolving:
            watch(Note(UNSELECTED))  # told once, which every instance would tell
    strange = [one.id for one in evaluation.instances if not evaluation.dataset.solutions[one.id].gradable]
    if strange and config.eval.grade is not Grading.NONE and context.until is not Until.LOCALIZE:
        raise UsageError(
            f"swebench does not grade {counted(len(strange), 'instance')} of the dataset, such as "
            f"{printable(strange[0])}: give --grade none, and the predictions to the dataset's own harness."
        )


def _settings(evaluation: Evaluation, judge: RewardModel | None) -> str:
    """Return what an answer hangs on, beside the model: another text means that instances are attempted again."""
    config = evaluation.config
    said = seeded(config).model_dump(mode="json", include=_OF_THE_CHAIN)
    said |= {
        "files": [],
        "given": {"tests": [], "commands": []},
        "until": evaluation.until.value,
        "oracle": evaluation.oracle,
        "sandbox": config.sandbox.model_dump(mode="json", include=_OF_THE_SANDBOX),
        "endpoint": config.endpoint.model_dump(mode="json", include={"context_window", "decoding"}),
        "prompts": load_prompts(config.prompts).digest,
    }
    if config.evolve.rounds == 1:
        del said["evolve"]
    if config.repair.stop_when is None:
        del said["repair"]["stop_when"]
    for section, name in (("repair", "greedy_first"), ("regress", "expect_broken")):  # added later: evaluations go on
        if not said[section][name]:
            del said[section][name]
    if config.generation:
        said["generation"] = config.generation
    if evaluation.pool:
        pool = [(name, one.source, one.request().key()) for name, said in evaluation.pool.items() for one in said]
        said["pool"] = hashlib.sha256(canonical_json(plain(tuple(pool))).encode()).hexdigest()
    if judge is not None:
        said["scorer"] = asdict(judge)
    return json.dumps(said, sort_keys=True)


# --- the results -----------------------------------------------------------------------------------------------------


def resolved(evaluation: Evaluation, store: Store, instance: str, diff: bytes) -> bool | None:
    """Return whether a patch of an instance is right, None where that is not known."""
    grade = store.evals.get_grade(grade_key(row_digest(evaluation.dataset.solutions[instance].row), diff))
    return grade.resolved if grade else None if diff else False


def _write_predictions(evaluation: Evaluation, store: Store) -> None:
    found = store.evals.find()
    if found is not None:
        write_predictions(evaluation.folder / PREDICTIONS, found.model, store.evals.submitted())


async def _summarise(evaluation: Evaluation, store: Store, grader: Grader) -> None:
    """Have the harness write its own summary of all instances that were ever selected."""
    dataset, evals = evaluation.dataset, store.evals
    known = {record.id: dataset.solutions[record.id] for record in evals.instances()}
    submitted = evals.submitted()
    for name, diff in submitted.items():
        grade = evals.get_grade(grade_key(row_digest(known[name].row), diff))
        if grade is not None and name in json.loads(grade.report):  # else swebench wrote none, and to it this is one
            grader.restore(known[name].row, diff, grade.report)
    if submitted:
        await grader.summarise(known, submitted)
