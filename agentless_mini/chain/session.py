"""What every stage of one issue works with: a model, whose window prompts are made to fit, and boxes that run tests."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.file_roles import is_test_path
from agentless_mini.chain.lexical import Survey
from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import (
    BoxLimits,
    Candidate,
    Case,
    CaseResult,
    Completion,
    Fault,
    Harness,
    Issue,
    Job,
    Message,
    Note,
    Origin,
    Outcome,
    Patch,
    Place,
    PlacedFile,
    Rejected,
    SampleDone,
    SampleRequest,
    SamplingParams,
    ShownFile,
    Snapshot,
    Stage,
    StageStarted,
    Step,
    StepResult,
    placed_files,
)
from agentless_mini.edits import KNOWN, Marks, changed_files
from agentless_mini.errors import ContextTooSmall
from agentless_mini.ports import Derive, PatchCheck, Sampler, Sandbox, Watch, derive_anew
from agentless_mini.settings.run import LocalizeSettings, ReproduceSettings, SetupSettings
from agentless_mini.testing import guards, ran_without
from agentless_mini.testing.plans import STANDARD, Planner, Task, new_modules, support_files
from agentless_mini.testing.records import Record, reached, record_of, settled

# Each round corrects the estimate by the server's own count, so the second or third fits unless nothing can.
MOST_ROUNDS = 8
# An answer may take this share of the window at most, so that small windows keep room for code.
ANSWER_SHARE = 4

Scoring = Callable[[Issue, Sequence[Patch]], Awaitable[Mapping[str, float]]]
"""Scores patches for an issue: the higher, the better, by normal form."""
# The record of all tests of many files; see `BoxLimits.result`.
FILES_RECORD = 16 * 1024 * 1024
ATTEMPT = "AMINI_ATTEMPT"
# So many tests of ours run with the tests of a patch, to tell whether their results can be believed.
CANARIES = 3
FORGED = "its test results are forged"
# So many tests are run alone before the others are: where a patch breaks the runner, it is the same for all.
PROBES = 8
# Prints those of its arguments that are modules. A folder without `__init__.py` is none: what comes later wins.
FINDS = (
    "import sys, importlib.machinery as m\n"
    "print(*(n for n in sys.argv[1:] if getattr(m.PathFinder.find_spec(n), 'origin', None)))"
)

_GIVEN_UP = Fault("", "It was not run: none of those that were run alone came to an end.")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be repaired: the issue as prompts show it, the tree, and what was found in both without a model."""

    issue: Issue
    snapshot: Snapshot
    survey: Survey


def known_by(issue: Issue, snapshot: Snapshot) -> tuple[str, ...]:
    """Return what a ranking of files hangs on: commit and number tell histories apart, of which one may be cut."""
    return (snapshot.digest, snapshot.name, snapshot.commit, str(len(snapshot.history)), issue.text)


@dataclass(frozen=True, slots=True)
class Session:
    """The effects and words that the stages of one issue share. `instance` accounts for the calls (a header).

    `scoring` is there where a reward model is; `marks` are the user's own marks of answers and of thinking. `pool` has
    candidates that were made elsewhere: where it is not empty it is chosen among them, and no repair is sampled.
    `told` is called with the files that the first repair prompt shows, in its order, before a sample is drawn.
    """

    sampler: Sampler
    prompts: Prompts
    check: PatchCheck
    watch: Watch
    instance: str
    scoring: Scoring | None = None
    marks: Marks = KNOWN
    derive: Derive = derive_anew
    pool: tuple[Candidate, ...] = ()
    told: Callable[[tuple[ShownFile, ...]], object] = field(default=lambda _files: None)


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one issue, and how its tests run in them.

    `snapshot` is the tree that every box starts from, `case_seconds` the most that one test may take. `failing` are
    the tests of the user and those that the `issue` names which fail on that tree. The `seed` draws tests of ours.
    """

    sandbox: Sandbox
    place: Place
    harness: Harness
    snapshot: Snapshot
    watch: Watch
    limits: BoxLimits = field(default_factory=BoxLimits)
    case_seconds: float = 60.0
    derive: Derive = derive_anew
    failing: tuple[Case, ...] = ()
    seed: int = 0
    issue: Issue = field(default_factory=lambda: Issue(""))


@dataclass(frozen=True, slots=True)
class NoBoxes:
    """Nothing can be run; `reason` is a sentence that says why, and `log` ends as that of a build that failed did."""

    reason: str
    log: str = ""


Build = Callable[[Watch, str], Coroutine[Any, Any, Boxes | NoBoxes]]
"""Opens boxes whose environment shell commands of a model make."""
Make = Callable[[], Awaitable[str]]


async def made_anew(_what: str, make: Make) -> str:
    """Make it: keeps nothing."""
    return await make()


@dataclass(frozen=True, slots=True)
class Opening:
    """Boxes to be opened: how tests will run is known at once, the boxes may take minutes.

    `build` is there where a model may say how the environment is set up. `kept` returns the text that was made before
    for the same name, else the one that it makes; an empty one is not kept. `near` is there where paths may say
    what is installed, the likeliest first: it returns the opening for them.
    """

    harness: Harness
    open: Callable[[Watch], Coroutine[Any, Any, Boxes | NoBoxes]]
    build: Build | None = None
    kept: Callable[[str, Make], Awaitable[str]] = made_anew
    near: "Callable[[tuple[str, ...]], Opening] | None" = None


Showing = Callable[[], Awaitable[tuple[ShownFile, ...]]]
"""Returns the files that the first repair prompt shows, in its order, as soon as they are known."""
Shown = TypeVar("Shown")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Draft(Generic[Shown]):
    """A prompt and what it shows; `cut` tells whether something was left out of it."""

    messages: tuple[Message, ...]
    shown: Shown
    cut: bool


def answer_room(max_tokens: int, context_window: int) -> int:
    """Return how many tokens an answer may have: what is wanted, but no more than a quarter of the window."""
    return max(1, min(max_tokens, context_window // ANSWER_SHARE))


async def fit_prompt(sampler: Sampler, room: int, draft: Callable[[int, Gauge], Draft[Shown]]) -> Draft[Shown]:
    """Return the fullest draft of at most `room` tokens by the server's count, or raise `ContextTooSmall`.

    `draft` is called with a budget in tokens for the whole prompt and a gauge, and must keep to them. A first draft
    that was cut by an uncalibrated gauge is made again with what its count taught.
    """
    gauge, calibrated = Gauge(), False
    for _ in range(MOST_ROUNDS):
        made = draft(room, gauge)
        counted = await sampler.count_tokens(made.messages)
        if counted <= room and (calibrated or not made.cut):
            return made
        gauge, calibrated = gauge.corrected(gauge.of(made.messages), counted), True
    raise ContextTooSmall(
        f"The prompt does not fit {room} tokens: serve the model with a larger context, or shorten the issue."
    )


async def ask(
    messages: tuple[Message, ...],
    stage: Stage,
    session: Session,
    settings: LocalizeSettings | ReproduceSettings | SetupSettings,
    read: Callable[[Completion], Result | Rejected],
) -> tuple[str, dict[int, Result | Rejected]]:
    """Draw all samples of one prompt; return its key, and what `read` makes of each, in the order of their indices."""
    card = await session.sampler.card()
    room = answer_room(settings.max_tokens, card.context_window)
    params, indices = SamplingParams(room, settings.temperature, seed=settings.seed), tuple(range(settings.samples))
    request = SampleRequest(card.name, messages, params, indices, stage, session.instance)
    session.watch(StageStarted(stage, settings.samples))
    answers: dict[int, Result | Rejected] = {}
    async for completion in session.sampler.sample(request):
        answer = answers[completion.index] = read(completion)
        session.watch(SampleDone(stage, completion, answer if isinstance(answer, Rejected) else None))
    return request.key(), dict(sorted(answers.items()))


@asynccontextmanager
async def side_by_side() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks side by side. The first failure cancels the rest and is raised, by itself and not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from failures


async def together(jobs: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines `side_by_side`; return their results in order."""
    async with side_by_side() as group:
        tasks = [group.create_task(job) for job in jobs]
    return [task.result() for task in tasks]


@dataclass(frozen=True, slots=True)
class Refused:
    """There are no results, since the patch cannot be put over the tree, or they are forged; `detail` says why."""

    detail: str


async def run_cases(
    boxes: Boxes, patch: Patch | None, cases: Sequence[Case], attempt: int = 0, canaries: int = 0
) -> tuple[CaseResult, ...] | Refused:
    """Return what came of each case, in order, on the tree with a patch or as it is.

    All run in one box; what it did not get to runs in a second one, by itself. Where of `PROBES` of these none comes to
    its end, the others are errors; else they run in a third box. Cases of one path must agree in their `data`. With
    another `attempt` they are not found in the record. Raises `EnvironmentFailed` as the sandbox does.
    """
    seed = hashlib.sha256(f"{boxes.seed} {boxes.snapshot.digest} {patch and patch.normal}".encode()).hexdigest()
    planner = replace(_planner(boxes, attempt), canaries=canaries, seed=seed)
    files = await _files(patch, cases, boxes)
    found = await _run(boxes, patch, files, planner.together(cases), reached)
    if isinstance(found, Refused):
        return found
    results = dict(found)
    left = [case for case in cases if case.id not in found]
    probes = left if len(left) <= PROBES else [left[place * len(left) // PROBES] for place in range(PROBES)]
    asked = {case.id for case in probes}
    for some in filter(None, (probes, [case for case in left if case.id not in asked])):
        again = await _run(boxes, patch, files, planner.one_by_one(some), settled)
        if isinstance(again, Refused):
            return again
        results |= again
        if all(result.outcome in {Outcome.ERROR, Outcome.TIMEOUT} for result in again.values()):
            break
    return tuple(results.get(case.id) or CaseResult(case.id, Outcome.ERROR, fault=_GIVEN_UP) for case in cases)


@dataclass(frozen=True, slots=True)
class FilesRun:
    """What came of the tests of files, in the order in which they ended, and the box's seconds by the clock.

    `unread`: none of the reports that the user's command was to leave tells of a test.
    """

    results: tuple[CaseResult, ...] = ()
    seconds: float = 0.0
    unread: bool = False


async def run_files(boxes: Boxes, paths: Sequence[str], budget: float, clock: float) -> FilesRun:
    """Return what came of every test that was found in these files of the tree.

    They run in the order of `paths` in one box until they have used up a `budget` of their own seconds, which reading
    the files does not count for, or the box `clock` seconds: what is not there was not reached. A file that cannot be
    read, is skipped as a whole or has no test stands for itself; with a command for a runner every file does.
    Raises `EnvironmentFailed` as the sandbox does.
    """
    room = max(boxes.limits.result, FILES_RECORD)
    seconds = min(boxes.limits.seconds, clock)
    boxes = replace(boxes, limits=replace(boxes.limits, result=room, seconds=seconds))
    cases = tuple(Case(path, Origin.REGRESSION, path) for path in dict.fromkeys(paths))
    tasks = replace(_planner(boxes), budget=budget).together(cases)
    times = (seconds if task.record else min(seconds, budget) for task in tasks)  # a command is a test
    tasks = tuple(replace(task, step=replace(task.step, seconds=time)) for task, time in zip(tasks, times, strict=True))
    done = await _steps(boxes, None, (), tasks)
    if isinstance(done, Refused):
        return FilesRun()
    found: list[CaseResult] = []
    for task, step, record in done:
        found += record.results if task.record else reached(task, step, record).values()
        told = {result.id.partition("::")[0] for result in found} if record.done else set(paths)
        own = {case.path for case in task.cases}
        found += [CaseResult(path, Outcome.NOT_COLLECTED) for path in paths if path in own - told]
    of_files = tuple(result for result in found if result.id.partition("::")[0] in paths)
    return FilesRun(of_files, sum(step.seconds for _, step, _ in done), any(record.unread for _, _, record in done))


def _planner(boxes: Boxes, attempt: int = 0) -> Planner:
    variables = (*boxes.harness.variables, *(((ATTEMPT, str(attempt)),) if attempt else ()))
    return Planner(boxes.harness, boxes.place.environment.python, boxes.case_seconds, boxes.limits.result, variables)


async def _files(patch: Patch | None, cases: Sequence[Case], boxes: Boxes) -> tuple[PlacedFile, ...]:
    """Return what is put over the tree, the later over the former: the patch, what undoes it, the tests."""
    written: dict[str, bytes] = {case.path: case.data for case in cases if case.data is not None}
    if any(case.data not in {None, written.get(case.path)} for case in cases):
        raise ValueError("two cases of one path have different data")
    tests = tuple(PlacedFile(path, data) for path, data in written.items())
    if patch is None:
        return tests
    changes = changed_files(patch, boxes.snapshot.by_path())
    new = new_modules(boxes.snapshot, changes, boxes.harness)
    taken = STANDARD | await _installed(sorted({*new.values()} - STANDARD), boxes)
    hiding = {path for path, name in new.items() if name in taken}
    guarding = guards(boxes.snapshot, changes, hiding, boxes.harness.runner)
    for file in guarding:
        if not is_test_path(file.path):
            boxes.watch(Note(ran_without(file.path)))
    kept = {case.path or case.id.partition("::")[0] for case in cases if case.data is None}
    undone = (PlacedFile(change.path, change.before, change.mode) for change in changes if change.path in kept)
    return (*placed_files(changes), *guarding, *undone, *tests)


async def _installed(names: Sequence[str], boxes: Boxes) -> frozenset[str]:
    """Return those of the names that the environment can import; none where it has no Python to ask."""
    if not names:
        return frozenset()
    program = next((word for word in boxes.harness.command[:1] if word == "python3"), "python")
    step = Step((program, "-I", "-c", FINDS, *names), variables=boxes.harness.variables)
    result = await boxes.sandbox.run(Job(boxes.place.environment, boxes.place.tree, (), (step,), boxes.limits))
    return frozenset(word for step in result.steps if step.succeeded for word in step.output.text().split())


async def _run(
    boxes: Boxes,
    patch: Patch | None,
    files: tuple[PlacedFile, ...],
    tasks: tuple[Task, ...],
    read: Callable[[Task, StepResult, Record], Mapping[str, CaseResult]],
) -> Mapping[str, CaseResult] | Refused:
    records = await _steps(boxes, patch, files, tasks)
    if isinstance(records, Refused):
        return records
    if forged := next((record.forged for _, _, record in records if record.forged), ""):
        return Refused(f"{FORGED}: {forged}")
    return {name: result for three in records for name, result in read(*three).items()}


async def _steps(
    boxes: Boxes, patch: Patch | None, files: tuple[PlacedFile, ...], tasks: tuple[Task, ...]
) -> list[tuple[Task, StepResult, Record]] | Refused:
    """Run the steps in a box that has time for all of them, but no more than the limit; read their records."""
    steps = tuple(task.step for task in tasks)
    limits = replace(boxes.limits, seconds=min(boxes.limits.seconds, sum(step.seconds for step in steps)))
    placed = (*files, *support_files(tasks))
    result = await boxes.sandbox.run(Job(boxes.place.environment, boxes.place.tree, placed, steps, limits))
    if result.refusal:
        return Refused(result.refusal)
    records = [(task, step, record_of(task, step)) for task, step in zip(tasks, result.steps, strict=True)]
    for unread in {record.unread for _, _, record in records if record.unread and patch is None}:
        boxes.watch(Note(unread))
    return records
