"""One instance, from its image to its grades. Reads like what it does: predict, then have the patches graded.

What is recorded is not paid for again: an instance that is predicted and graded does not even need its image.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from agentless_mini.chain.bench import Bench, NoBench, Opening
from agentless_mini.chain.lexical import is_sayable
from agentless_mini.chain.measures import Replay, choices, curves
from agentless_mini.chain.pipeline import resolve
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.score import Scoring
from agentless_mini.chain.session import Session, together
from agentless_mini.domain import Event, FileKind, Method, Patch, Phase, PhaseStarted, Prediction, StageStarted
from agentless_mini.domain.canonical import canonical_json
from agentless_mini.errors import (
    AminiError,
    ContextTooSmall,
    EnvironmentFailed,
    ImageUnavailable,
    NodeLost,
    NothingToEdit,
    ServerFailed,
    StoreBusy,
    StoreError,
)
from agentless_mini.evaluation.instances import Instance
from agentless_mini.evaluation.ports import Grade, Testbed, Testbeds, Tree
from agentless_mini.ports import Watch
from agentless_mini.record import (
    AttemptRecord,
    AttemptState,
    GradeRecord,
    RecordedSampler,
    RecordedSandbox,
    RunId,
    RunStart,
    RunStatus,
    Store,
    recorded_derive,
    traced_scoring,
)
from agentless_mini.settings.run import ChainSettings, Grading

GRADE_VERSION = "1"
IMAGE, CONTEXT = "image", "context"
"""Where an attempt can fail, beside the stages and phases of the chain."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the attempts of an evaluation share.

    `sampler` and `scoring` record in `store` what they are asked. `settings` are those of the chain as text, for the
    record.
    """

    store: Store
    sampler: RecordedSampler
    prompts: Prompts
    chain: ChainSettings
    grading: Grading
    model: str
    command: tuple[str, ...] = ()
    settings: str = "{}"
    versions: str = "{}"
    scoring: Scoring | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """An instance to be attempted. `row` is the digest of its whole row.

    `files` replace localization, unless they are None, or none of them can be shown.
    """

    instance: Instance
    row: str
    files: tuple[str, ...] | None = None


async def attempt(task: Assignment, desk: Desk, beds: Testbeds, watch: Watch) -> AttemptRecord:
    """Bring an instance to its end and return how far it came, which the caller records.

    What keeps the whole evaluation from going on is raised: a store that cannot be written, a model server that is
    gone (`ModelError`, but for a server that fails at this instance), what the user gave and nothing can be done with
    (`UsageError`), a node that was lost (`NodeLost`: try again). The seconds of earlier attempts count where this one
    goes on from their prediction.
    """
    progress = _Progress(watch, _spent(task, desk))
    try:
        run = await _brought_to_its_end(task, desk, beds, progress)
        record = AttemptRecord(task.instance.id, run, AttemptState.DONE)
    except (NodeLost, StoreError, StoreBusy):
        raise
    except (EnvironmentFailed, ServerFailed) as error:
        record = _failed(task, AttemptState.INFRASTRUCTURE, progress, error)
        # Where its grades alone failed, the prediction stays.
        record = replace(record, run=desk.store.evals.decided(task.instance.id))
    except (ContextTooSmall, NothingToEdit) as error:  # the chain cannot do it
        record = _failed(task, AttemptState.FAILED, progress, error)
    return replace(record, seconds=progress.seconds)


def _spent(task: Assignment, desk: Desk) -> float:
    found = desk.store.evals.attempt(task.instance.id)
    return found.seconds if found is not None and found.run is not None else 0.0


def row_digest(row: str) -> str:
    """Return the digest of an instance's whole row, which its grades hang on."""
    return hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest()


def grade_key(row: str, diff: bytes) -> str:
    """Return the identity of a graded patch: of the row's digest and the patch's bytes."""
    return hashlib.sha256(canonical_json([GRADE_VERSION, row, _digest(diff)]).encode()).hexdigest()


def wanted_grades(prediction: Prediction, grading: Grading, method: Method) -> tuple[Patch, ...]:
    """Return the patches to be graded, one for each normal form, the chosen one first."""
    if grading is Grading.NONE or prediction.choice is None:
        return ()
    chosen = prediction.choice.patch
    more: Iterable[Patch] = ()
    if grading is Grading.CURVE:
        more = choices(curves(Replay.of(prediction), method))
    elif grading is Grading.ALL:
        more = (one.outcome for one in prediction.candidates if isinstance(one.outcome, Patch))
    distinct: dict[str, Patch] = {}
    for patch in (chosen, *more):
        distinct.setdefault(patch.normal, patch)
    return tuple(distinct.values())


class _Progress:
    """Passes on what happens, and remembers in which stage and since when: it is told where the attempt fails."""

    def __init__(self, watch: Watch, spent: float) -> None:
        self._watch = watch
        self._began = time.monotonic() - spent
        self.stage = IMAGE

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage):
                self.stage = stage.value
            case PhaseStarted(phase):
                self.stage = phase.value
        self._watch(event)


def _failed(task: Assignment, state: AttemptState, progress: _Progress, error: AminiError) -> AttemptRecord:
    stage = {ContextTooSmall: CONTEXT, ImageUnavailable: IMAGE}.get(type(error), progress.stage)
    return AttemptRecord(task.instance.id, None, state, stage, str(error))


async def _brought_to_its_end(task: Assignment, desk: Desk, beds: Testbeds, progress: _Progress) -> RunId:
    known = _predicted(task, desk)
    if known is not None and not _owed(known[1], task, desk):
        return known[0]
    async with beds.open(task.instance, progress) as bed:
        run, prediction = known or await _predict(task, desk, bed, progress)
        progress(PhaseStarted(Phase.GRADING))
        await together([_grade(patch, task, desk, bed) for patch in _owed(prediction, task, desk)])
    return run


def _predicted(task: Assignment, desk: Desk) -> tuple[RunId, Prediction] | None:
    """Return the run that decided the instance in this evaluation, with what it decided, where there is one."""
    run = desk.store.evals.decided(task.instance.id)
    found = desk.store.runs.trace(run).prediction if run is not None else None
    return None if run is None or found is None else (run, found)


# --- the prediction --------------------------------------------------------------------------------------------------


async def _predict(task: Assignment, desk: Desk, bed: Testbed, progress: _Progress) -> tuple[RunId, Prediction]:
    tree = await bed.tree()
    run = desk.store.runs.begin(_start(task, desk, tree))
    with _ended(desk.store, run):
        scoring = traced_scoring(desk.scoring, desk.store, run) if desk.scoring else None
        session = Session(
            desk.sampler.of(run),
            desk.prompts,
            tree.check,
            progress,
            task.instance.id,
            scoring,
            derive=recorded_derive(desk.store),
        )
        opening = _recorded(bed.opening(tree.snapshot), desk.store, run)
        chain, notes = _chain(task, desk, tree)
        prediction = await resolve(task.instance.issue, tree.snapshot, session, chain, opening)
        prediction = replace(prediction, notes=(*notes, *prediction.notes))
        desk.store.runs.put_prediction(run, prediction)
    # Before the grades, which may fail: the prediction is paid for.
    predicted = AttemptRecord(task.instance.id, run, AttemptState.PREDICTED, seconds=progress.seconds)
    desk.store.evals.put_attempt(predicted)
    return run, prediction


def _chain(task: Assignment, desk: Desk, tree: Tree) -> tuple[ChainSettings, tuple[str, ...]]:
    """Return the settings for this tree, and notes on files that were named for it and cannot be shown."""
    if task.files is None:
        return desk.chain, ()
    texts = {file.path for file in tree.snapshot.files if file.kind is FileKind.TEXT and is_sayable(file.path)}
    files = tuple(path for path in task.files if path in texts)
    if not files:
        return desk.chain, ("No file that was named can be shown as text: the model was asked for files.",)
    less = len(task.files) - len(files)
    notes = (f"Files that were named and cannot be shown as text were left out: {less}.",) if less else ()
    return desk.chain.model_copy(update={"files": files}), notes


def _start(task: Assignment, desk: Desk, tree: Tree) -> RunStart:
    return RunStart(
        model=desk.model,
        instance=task.instance.id,
        repository=task.instance.repo,
        commit=task.instance.base_commit,
        tree=tree.snapshot.digest,
        issue=task.instance.issue,
        command=desk.command,
        settings=desk.settings,
        versions=desk.versions,
    )


@contextmanager
def _ended(store: Store, run: RunId) -> Iterator[None]:
    """Record how the run ended, whatever happens."""
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError | NodeLost)
        code = error.exit_code if isinstance(error, AminiError) else 130 if interrupted else 70
        store.runs.finish(run, RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED, code)
        raise
    store.runs.finish(run, RunStatus.DONE, 0)


def _recorded(opening: Opening | NoBench, store: Store, run: RunId) -> Opening | NoBench:
    if isinstance(opening, NoBench):
        return opening
    inner = opening.open

    async def opened(watch: Watch) -> Bench | NoBench:
        bench = await inner(watch)
        if isinstance(bench, NoBench):
            return bench
        return replace(bench, sandbox=RecordedSandbox(bench.sandbox, store, run))

    return Opening(opening.harness, opened)


# --- the grades ------------------------------------------------------------------------------------------------------


def _owed(prediction: Prediction, task: Assignment, desk: Desk) -> tuple[Patch, ...]:
    wanted = wanted_grades(prediction, desk.grading, desk.chain.rank)
    return tuple(patch for patch in wanted if desk.store.evals.get_grade(grade_key(task.row, patch.diff)) is None)


async def _grade(patch: Patch, task: Assignment, desk: Desk, bed: Testbed) -> None:
    grade: Grade = await bed.grade(patch.diff)
    desk.store.evals.put_grade(
        GradeRecord(
            key=grade_key(task.row, patch.diff),
            instance=task.instance.id,
            normal=patch.normal,
            diff=_digest(patch.diff),
            resolved=grade.resolved,
            applied=grade.applied,
            report=grade.report,
            version=grade.version,
            seconds=grade.seconds,
        )
    )


def _digest(diff: bytes) -> str:
    return hashlib.sha256(diff).hexdigest()
