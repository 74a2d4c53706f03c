"""One recorded run of the chain, for `repair` and `eval` alike: begun, resolved, and ended whatever happens.

With what it takes for one: the model by its name in the record, the settings that it leads to, words, and boxes.
"""

import asyncio
import functools
import json
import platform
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agentless_mini import __version__
from agentless_mini.chain.session import Boxes, NoBoxes, Opening
from agentless_mini.domain import Decoding, Note, Prediction, Runner, Snapshot
from agentless_mini.errors import EXIT_BUG, EXIT_INTERRUPTED, AminiError, BuildFailed, ModelChanged, NodeLost, counted
from agentless_mini.ports import Sampler, Watch
from agentless_mini.record import Once, RecordedSampler, RecordedSandbox, RunId, RunStart, RunStatus, Store, kept_texts
from agentless_mini.repository.opening import Repository
from agentless_mini.settings import Config
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings

REWRITES = 50
"""Repairs by the carried model where nobody says how many: with 100 its benchmark solved one more of 12 bugs."""
SEEDS = 1_000_000
"""Seeds from one generation of answers to the next."""
NOBODY = "no model"
"""The model of a run that asks none."""


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model by the name that identifies it in the store. `source` says for people where it runs; "": nobody is asked.

    `start` returns what can be asked. Where that would start the model `window` says what is known of its context
    window before, else it is "". `writes` is False where it can write no test.
    """

    name: str
    source: str
    start: Once[Sampler]
    window: str = ""
    writes: bool = True


async def recorded_run(
    store: Store,
    start: RunStart,
    opening: Opening | NoBoxes,
    begun: Callable[[RunId], Awaitable[tuple[str, ...]]],
    chain: Callable[[RunId, Opening | NoBoxes], Awaitable[Prediction]],
    exit_code: Callable[[Prediction], int],
) -> tuple[RunId, Prediction]:
    """Run the chain as `start` says and record how it is decided and how it ends.

    `begun` is told the run before anything is paid for, and returns notes that the prediction's begin with. `chain`
    resolves the issue with effects that record what they are asked in `store`, and with boxes that do; it is called
    once more where the served model turns out to differ from the recorded one, for then the run is planned again.
    Raises what `chain` raises.
    """
    run = store.runs.begin(start)
    try:
        notes = await begun(run)
        boxes = opening if isinstance(opening, NoBoxes) else _recorded(opening, store, run, start)
        try:
            prediction = await chain(run, boxes)
        except ModelChanged:
            store.runs.unlink(run)
            prediction = await chain(run, boxes)
        prediction = replace(prediction, notes=(*notes, *prediction.notes))
        store.runs.put_prediction(run, prediction)
        store.runs.finish(run, RunStatus.DONE, exit_code(prediction))
        return run, prediction
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError | NodeLost)
        code = error.exit_code if isinstance(error, AminiError) else EXIT_INTERRUPTED if interrupted else EXIT_BUG
        told = "" if interrupted else str(error) if isinstance(error, AminiError) else repr(error)
        store.runs.finish(run, RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED, code, told)
        raise


def _recorded(opening: Opening, store: Store, run: RunId, start: RunStart) -> Opening:
    """Record what the boxes say; they are opened once, though the run be planned again.

    What is kept of setups belongs to the settings that say where and how tests run.
    """
    found: dict[str, Boxes | NoBoxes] = {}
    lock = asyncio.Lock()
    kept = kept_texts(store, json.dumps(json.loads(start.settings).get("sandbox")))

    async def opened(watch: Watch, command: str = "") -> Boxes | NoBoxes:
        async with lock:
            if command not in found:
                build = opening.build if command else None
                found[command] = await (build(watch, command) if build else opening.open(watch))
        boxes = found[command]
        if isinstance(boxes, NoBoxes):
            return boxes
        return replace(boxes, sandbox=RecordedSandbox(boxes.sandbox, store, run), watch=watch)

    near = opening.near
    nearer = functools.cache(lambda paths: _recorded(near(paths), store, run, start)) if near else None
    return Opening(opening.harness, opened, opened if opening.build else None, kept, nearer)


def seeded(config: Config) -> Config:
    """Return the settings as stages take them: seeds of a generation's own let a server draw others, kept apart."""
    shift = SEEDS * (config.generation or 0)
    sections = {name: getattr(config, name) for name in ("localize", "repair", "evolve", "reproduce", "setup")}
    changed = {name: one.model_copy(update={"seed": (one.seed + shift) % 2**31}) for name, one in sections.items()}
    return config.model_copy(update=changed)


def settled(config: Config, newest: int, chosen: ChosenModel | None = None) -> Config:
    """Return the settings with the number of the generation, where `newest` is the newest that is recorded.

    Where nobody said how many repairs are sampled, a model that rewrites lines has a default of its own.
    """
    named = newest if config.generation is None else config.generation
    update: dict[str, object] = {"generation": newest + 1 if config.fresh else named}
    if chosen is not None and not chosen.writes and "samples" not in config.repair.model_fields_set:
        update["repair"] = config.repair.model_copy(update={"samples": REWRITES})
    return config.model_copy(update=update)


def identity(chosen: ChosenModel, config: Config) -> str:
    """Return the name under which a model's card is recorded: what the user says of a model makes it another one."""
    said = config.endpoint
    if said.context_window is None and said.decoding is Decoding.FREE:
        return chosen.name
    return f"{chosen.name} (context {said.context_window}, {said.decoding})"


def versions(chosen: ChosenModel) -> str:
    """Return the versions that matter for what a run gave, as JSON."""
    return json.dumps({"amini": __version__, "python": platform.python_version(), "model": chosen.source})


async def answerer(chosen: ChosenModel, config: Config, store: Store) -> str:
    """Return the model, where it runs, and its window, for the first line of a run.

    A server that is there is asked for its window where that is not in the record; none is started for it. Raises what
    the server raises.
    """
    if not chosen.source:
        return chosen.name
    name = identity(chosen, config)
    card = store.card(name)
    if card is None and not chosen.window:
        card = await RecordedSampler(chosen.start, store, name).card()
    return f"{chosen.name} ({chosen.source}; {f'window of {card.context_window} tokens' if card else chosen.window})"


def choosing(config: Config, chosen: ChosenModel) -> Config:
    """Return the settings of a run that samples no repair, and no test where the model can write none."""
    update = {
        "repair": config.repair.model_copy(update={"stop_when": None}),
        "evolve": config.evolve.model_copy(update={"rounds": 1}),
        "regress": config.regress.model_copy(update={"expect_broken": config.regress.expect_broken and chosen.writes}),
        "setup": config.setup if chosen.writes else config.setup.model_copy(update={"samples": 0}),
        "reproduce": config.reproduce if chosen.writes else config.reproduce.model_copy(update={"samples": 0}),
    }
    return config.model_copy(update=update)


def amount(config: Config, chosen: ChosenModel, tests_run: str, given: int = 0, pool: int = 0) -> str:
    """Return how many samples and tests are asked for, `given` of these the user's own; `tests_run` is as `foresee`.

    `pool` are the patches that are chosen among instead of sampling some.
    """
    rounds, each = config.evolve.rounds, config.evolve.per_round
    repairs = f"{'at most ' if config.repair.stop_when else ''}{counted(config.repair.samples, 'repair')}"
    if not chosen.writes and config.repair.samples == REWRITES:
        repairs += " (the embedded model's default)"
    if rounds > 1:
        repairs = f"{rounds} rounds of {counted(each or -(-config.repair.samples // rounds), 'repair')}"
    repairs = f"{counted(pool, 'patch')} to choose among" if pool else repairs
    written = config.reproduce.samples if chosen.writes and not tests_run.startswith(UNTESTED) else 0
    own = f", {given} of yours" if given else ""
    return f"{repairs}, {counted(written, 'new test')}{own}; {tests_run}"


async def foreseen(settings: SandboxSettings, snapshot: Snapshot, commanded: bool = False) -> str:
    """Return in words where tests will run, or why none is run. Raises `UsageError` where settings contradict.

    A user who has `commanded` gave a command of their own.
    """
    if settings.kind is SandboxKind.NONE:
        return f"{UNTESTED} (--sandbox none)"
    from agentless_mini.environment.opening import foresee
    from agentless_mini.testing import harness_of

    runner = harness_of(snapshot, settings.test_command, settings.test_report).runner
    if reason := _untested(settings, snapshot, runner, commanded):
        return f"{UNTESTED}, for {reason}"
    return await foresee(settings, snapshot, runner)


def _untested(settings: SandboxSettings, snapshot: Snapshot, runner: Runner, commanded: bool) -> str:
    """Return why there are no tests that could run, "" where there may be, or the user says how they run."""
    from agentless_mini.environment.ecosystems import without_tests

    is_said = commanded or settings.test_command or settings.setup or settings.image
    return "" if is_said else without_tests(snapshot, runner)


def opening_of(
    settings: SandboxSettings,
    repository: Repository,
    snapshot: Snapshot,
    cache: Path,
    variables: Mapping[str, str],
    stack: AsyncExitStack,
    commanded: bool = False,
) -> Opening | NoBoxes:
    """Return the boxes of a tree, to be opened as `open_boxes` does it; none where it has no test that could run.

    A model's commands set none up where the user said how, and never without a sandbox. A user who has `commanded` gave
    a command of their own.
    """
    if settings.kind is SandboxKind.NONE:
        return NoBoxes("No test was run because of --sandbox none.")
    from agentless_mini.testing import harness_of

    harness = harness_of(snapshot, settings.test_command, settings.test_report)
    if reason := _untested(settings, snapshot, harness.runner, commanded):
        return NoBoxes(f"No test is run, for {reason}.")
    is_said = bool(settings.setup or settings.image) or settings.kind is SandboxKind.UNSAFE

    def near(paths: tuple[str, ...]) -> Opening:
        told = settings.model_copy(update={"members": paths})
        opened = partial(open_boxes, told, repository, snapshot, cache, variables, stack)
        return Opening(harness, opened, None if is_said else opened)

    return replace(near(settings.members), near=None if settings.members else near)


async def open_boxes(
    settings: SandboxSettings,
    repository: Repository,
    snapshot: Snapshot,
    cache: Path,
    variables: Mapping[str, str],
    stack: AsyncExitStack,
    watch: Watch,
    proposed: str = "",
) -> Boxes | NoBoxes:
    """Open the boxes of a tree, unrecorded, until the stack is closed.

    `cache` is where environments are kept, `variables` are those of the process, `proposed` are commands of a model
    that set the environment up. A project whose needs cannot be installed has none; the vote is left then. Raises as
    `open_environment` where the sandbox that was asked for does not work.
    """
    from agentless_mini.environment.opening import open_environment
    from agentless_mini.environment.work import EnvironmentRequest, Unavailable
    from agentless_mini.testing import guards, harness_of

    harness, contents = harness_of(snapshot, settings.test_command, settings.test_report), repository.contents()
    guarding = None
    if proposed:
        settings, guarding = settings.model_copy(update={"setup": proposed}), partial(guards, snapshot)
    request = EnvironmentRequest(snapshot, contents, cache, variables, harness.runner, snapshot.day, guarding)
    try:
        opened = await open_environment(request, settings, watch, stack)
    except BuildFailed as error:
        return NoBoxes(str(error), error.log)
    if isinstance(opened, Unavailable):
        return NoBoxes(opened.reason, opened.log)
    for note in opened.notes:
        watch(Note(note))
    command = tuple(opened.program if word == "python" else word for word in harness.command[:1])
    told = (*harness.variables, *opened.variables)
    harness = replace(harness, command=(*command, *harness.command[1:]), variables=told)
    return Boxes(opened.sandbox, opened.place, harness, snapshot, watch, opened.limits, settings.case_seconds)
