"""One instance, from its image to its grades, and many of them: which comes next, and what is tried again.

What is recorded is not paid for again: an instance that is predicted and graded does not even need its image. The
sampling of one instance overlaps the tests and gradings of others.
"""

import hashlib
import json
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from agentless_mini.chain.file_roles import is_sayable
from agentless_mini.chain.measures import Replay, choices, curves
from agentless_mini.chain.pipeline import resolve
from agentless_mini.chain.prompts import Prompts
from agentless_mini.chain.session import NoBoxes, Opening, Scoring, Session, together
from agentless_mini.domain import (
    Event,
    FileKind,
    Method,
    Patch,
    Phase,
    PhaseStarted,
    Prediction,
    Proposal,
    Snapshot,
    StageStarted,
)
from agentless_mini.domain.sampling import canonical_json
from agentless_mini.errors import (
    ContextTooSmall,
    EnvironmentFailed,
    ImageUnavailable,
    NodeLost,
    NothingToEdit,
    ServerFailed,
    StoreBusy,
    StoreError,
    printable,
)
from agentless_mini.evaluation.dataset import Instance
from agentless_mini.evaluation.ports import Testbed, Testbeds
from agentless_mini.ports import Watch
from agentless_mini.record import (
    AttemptRecord,
    AttemptState,
    GradeRecord,
    RecordedSampler,
    RunId,
    RunStart,
    Store,
    recorded_derive,
    traced_scoring,
)
from agentless_mini.repository.patches import read_pool, record_pool, snapshot_check
from agentless_mini.run import recorded_run
from agentless_mini.settings import Config
from agentless_mini.settings.run import Grading, Until

GRADE_VERSION = "1"
IMAGE, CONTEXT = "image", "context"
"""Where an attempt can fail, beside the stages and phases of the chain."""


@dataclass(frozen=True, slots=True)
class EvalContext:
    """What the attempts of an evaluation share. `sampler` and `scoring` record in `store` what they are asked.

    `config` has the seeds of the wanted generation of answers; `settings` are the chain's as text, for the record.
    """

    store: Store
    sampler: RecordedSampler
    prompts: Prompts
    config: Config
    grading: Grading
    model: str
    command: tuple[str, ...] = ()
    settings: str = "{}"
    versions: str = "{}"
    scoring: Scoring | None = None
    grade_seconds: int = 1800
    until: Until = Until.TESTS


@dataclass(frozen=True, slots=True)
class Assignment:
    """An instance to be attempted; `row` is the digest of its row. Where there is a `pool`, it is chosen among that.

    `files` replace localization, unless they are None, or none of them can be shown.
    """

    instance: Instance
    row: str
    files: tuple[str, ...] | None = None
    pool: tuple[Proposal, ...] = ()


async def attempt(task: Assignment, context: EvalContext, testbeds: Testbeds, watch: Watch) -> AttemptRecord:
    """Attempt an instance and return how far it came; the caller records that. Earlier seconds are added.

    Raises what ends the whole evaluation: a record that cannot be written, a model server that is gone (`ModelError`,
    but not one that fails at this instance alone), unusable input (`UsageError`); and `NodeLost`: the caller tries
    again.
    """
    store, name = context.store, task.instance.id
    found = store.evals.attempt(name)
    progress = _Progress(watch, found.seconds if found is not None and found.run is not None else 0.0)
    try:
        run = await _brought_to_its_end(task, context, testbeds, progress)
        record = AttemptRecord(name, run, AttemptState.DONE)
    except (NodeLost, StoreError, StoreBusy):
        raise
    except (EnvironmentFailed, ServerFailed) as error:  # where its grades alone failed, the prediction stays
        stage = IMAGE if isinstance(error, ImageUnavailable) else progress.stage
        record = AttemptRecord(name, store.evals.decided(name), AttemptState.INFRASTRUCTURE, stage, str(error))
    except (ContextTooSmall, NothingToEdit) as error:  # the chain cannot do it
        stage = CONTEXT if isinstance(error, ContextTooSmall) else progress.stage
        record = AttemptRecord(name, None, AttemptState.FAILED, stage, str(error))
    return replace(record, seconds=progress.seconds)


def row_digest(row: str) -> str:
    """Return the digest of an instance's whole row, which its grades depend on."""
    return hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest()


def grade_key(row: str, diff: bytes) -> str:
    """Return the identity of a graded patch: of the row's digest and the patch's bytes."""
    key = [GRADE_VERSION, row, hashlib.sha256(diff).hexdigest()]
    return hashlib.sha256(canonical_json(key).encode()).hexdigest()


def wanted_grades(prediction: Prediction, grading: Grading, method: Method) -> tuple[Patch, ...]:
    """Return the patches to be graded, one for each normal form, the chosen one first."""
    if grading is Grading.NONE or prediction.choice is None:
        return ()
    patches = [prediction.choice.patch]
    if grading is Grading.CURVE:
        patches += choices(curves(Replay(prediction), method))
    elif grading is Grading.ALL:
        patches += [one.outcome for one in prediction.candidates if isinstance(one.outcome, Patch)]
    distinct: dict[str, Patch] = {}
    for patch in patches:
        distinct.setdefault(patch.normal, patch)
    return tuple(distinct.values())


class _Progress:
    """Passes events on and keeps the current stage and the seconds, for the record of the attempt."""

    def __init__(self, watch: Watch, spent: float) -> None:
        self._watch = watch
        self._began = time.monotonic() - spent
        self.stage = IMAGE

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage) | PhaseStarted(stage):
                self.stage = stage.value
        self._watch(event)


async def _brought_to_its_end(task: Assignment, context: EvalContext, testbeds: Testbeds, progress: _Progress) -> RunId:
    run = context.store.evals.decided(task.instance.id)
    prediction = context.store.runs.trace(run).prediction if run is not None else None
    if run is not None and prediction and not _owed(prediction, task, context):
        return run
    async with testbeds.open(task.instance, progress) as testbed:
        if run is None or prediction is None:
            run, prediction = await _predict(task, context, testbed, progress)
        progress(PhaseStarted(Phase.GRADING))
        await together([_grade(patch, task, context, testbed) for patch in _owed(prediction, task, context)])
    return run


# --- the prediction --------------------------------------------------------------------------------------------------


async def _predict(
    task: Assignment, context: EvalContext, testbed: Testbed, progress: _Progress
) -> tuple[RunId, Prediction]:
    tree = await testbed.tree()
    start = RunStart(
        model=context.model,
        instance=task.instance.id,
        repository=task.instance.repo,
        commit=task.instance.base_commit,
        tree=tree.digest,
        issue=task.instance.issue,
        command=context.command,
        settings=context.settings,
        versions=context.versions,
    )
    store = context.store
    files, notes = _files(task, tree)
    check = snapshot_check(tree)
    pool = await read_pool(task.pool, tree, check, progress)

    async def chain(run: RunId, boxes: Opening | NoBoxes) -> Prediction:
        record_pool(store, run, task.pool, pool)
        session = Session(
            context.sampler.of(run),
            context.prompts,
            check,
            progress,
            task.instance.id,
            traced_scoring(context.scoring, store, run) if context.scoring else None,
            derive=recorded_derive(store),
            pool=pool,
        )
        issue, config = task.instance.issue, context.config
        return await resolve(issue, tree, session, config, boxes, files=files, until=context.until)

    async def begun(_run: RunId) -> tuple[str, ...]:
        return notes

    run, prediction = await recorded_run(store, start, testbed.opening(tree), begun, chain, lambda _: 0)
    # Before the grades, which may fail: the prediction is paid for.
    predicted = AttemptRecord(task.instance.id, run, AttemptState.PREDICTED, seconds=progress.seconds)
    store.evals.put_attempt(predicted)
    return run, prediction


def _files(task: Assignment, tree: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of this tree that replace localization, and notes on those that cannot be shown."""
    if task.files is None:
        return (), ()
    texts = {file.path for file in tree.files if file.kind is FileKind.TEXT and is_sayable(file.path)}
    files = tuple(path for path in task.files if path in texts)
    if not files:
        return (), ("No file that was named can be shown as text: the model was asked for files.",)
    less = len(task.files) - len(files)
    return files, ((f"Files that were named and cannot be shown as text were left out: {less}.",) if less else ())


# --- the grades ------------------------------------------------------------------------------------------------------


def _owed(prediction: Prediction, task: Assignment, context: EvalContext) -> tuple[Patch, ...]:
    """Return what is still to be graded: what never was, and what timed out when its tests were given less time."""

    def is_owed(patch: Patch) -> bool:
        grade = context.store.evals.get_grade(grade_key(task.row, patch.diff))
        return grade is None or json.loads(grade.report).get("timeout", context.grade_seconds) < context.grade_seconds

    return tuple(filter(is_owed, wanted_grades(prediction, context.grading, context.config.rank)))


async def _grade(patch: Patch, task: Assignment, context: EvalContext, testbed: Testbed) -> None:
    grade = await testbed.grade(patch.diff)
    context.store.evals.put_grade(
        GradeRecord(
            key=grade_key(task.row, patch.diff),
            instance=task.instance.id,
            normal=patch.normal,
            diff=hashlib.sha256(patch.diff).hexdigest(),
            **asdict(grade),
        )
    )


# --- many instances ----------------------------------------------------------------------------------------------

NODE_TRIES = 3
"""How often an instance is tried whose node is lost: the instance itself may be what crashes nodes."""
SICK = 5
"""After this many failures of the infrastructure in a row, all for one reason, the evaluation ends."""

Attempting = Callable[[Assignment], Awaitable[AttemptRecord]]
Told = Callable[[AttemptRecord], None]


async def evaluate(tasks: Sequence[Assignment], workers: int, attempting: Attempting, told: Told) -> None:
    """Attempt all, `workers` at once, those that are expected to take longest first. `told` is given each record.

    Expected is the mean of the repository so far. Repositories without one come first, each with its longest issue,
    because their costs differ tenfold. Raises `EnvironmentFailed` after `SICK` equal failures in a row, and what
    `attempting` raises except `NodeLost`, once all others are cancelled.
    """
    left = sorted(tasks, key=lambda task: (-len(task.instance.issue.text), task.instance.id))
    count = Counter(task.instance.repo for task in left)
    begun: set[str] = set()
    taken: defaultdict[str, list[float]] = defaultdict(list)
    expected: dict[str, float] = {}
    reasons: deque[str] = deque(maxlen=SICK)

    def urgency(task: Assignment) -> tuple[bool, float, int]:
        repo = task.instance.repo
        return repo not in begun, expected.get(repo, 0.0), count[repo]

    def learn(task: Assignment, record: AttemptRecord) -> None:
        if record.state is AttemptState.INFRASTRUCTURE:
            reasons.append(_reason(task.instance, record))
            if reasons.count(reasons[-1]) == SICK:
                raise EnvironmentFailed(f"{SICK} instances in a row failed for one reason: {record.failure}")
        else:
            reasons.clear()
            taken[task.instance.repo].append(record.seconds)
            expected[task.instance.repo] = fmean(taken[task.instance.repo])

    async def work() -> None:
        while left:
            task = max(left, key=urgency)
            left.remove(task)
            begun.add(task.instance.repo)
            count[task.instance.repo] -= 1
            record = await _tried(task, attempting)
            told(record)
            learn(task, record)

    await together([work() for _ in range(min(workers, len(tasks)))])


async def _tried(task: Assignment, attempting: Attempting) -> AttemptRecord:
    lost = ""
    for _ in range(NODE_TRIES):
        try:
            return await attempting(task)
        except NodeLost as error:
            lost = str(error)
    return AttemptRecord(task.instance.id, None, AttemptState.INFRASTRUCTURE, "node", lost)


def _reason(instance: Instance, record: AttemptRecord) -> str:
    """Return the failure without the instance's names and without numbers, so that like failures are equal."""
    image, text = printable(instance.image), record.failure
    untagged = image.rpartition(":")[0]
    for name in filter(None, (image, untagged, untagged.partition("/")[2], instance.id)):
        text = text.replace(name, "*")
    return f"{record.stage} {re.sub('[0-9]+', '*', text)}"
