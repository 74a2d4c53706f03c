"""What the commands that run the chain share: settings that go together, names on the record, words, and boxes."""

import json
import platform
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from agentless_mini import __version__
from agentless_mini.chain.pipeline import check_rounds
from agentless_mini.chain.session import Boxes, NoBoxes
from agentless_mini.commands.config import Machine
from agentless_mini.commands.models import ChosenModel
from agentless_mini.commands.options import option_of
from agentless_mini.domain import Decoding, Note, Snapshot
from agentless_mini.errors import BuildFailed, UsageError
from agentless_mini.ports import Watch
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.repository.opening import Repository
from agentless_mini.settings import Config
from agentless_mini.settings.run import UNTESTED, SandboxKind, SandboxSettings, Until

REWRITES = 50
"""Repairs by the carried model where nobody says how many: with 100 its benchmark solved one more of 12 bugs."""
SEEDS = 1_000_000
"""Seeds from one generation of answers to the next."""


def require_together(config: Config, flags: Mapping[str, Any]) -> None:
    """Refuse settings and flags that do not go together, before anything is read or asked. Raises `UsageError`."""
    check_rounds(config, Until.TESTS, None, NoBoxes("") if config.sandbox.kind is SandboxKind.NONE else None)
    if config.sandbox.test_command:
        from agentless_mini.testing.harness import harness_of_command

        harness_of_command(config.sandbox.test_command, ())
    if config.evolve.scored and config.scorer.base_url is None:
        raise UsageError("--select reward-model needs a server that scores: set base_url in [scorer] of the settings.")
    of_rounds = [name for name in flags if name in {"evolve.parents", "evolve.per_round", "evolve.select"}]
    if of_rounds and config.evolve.rounds == 1 and "evolve.rounds" not in flags:
        raise UsageError(f"{option_of(of_rounds[0])} has no effect without several rounds: add --rounds.")
    if "sandbox.image" in flags and config.sandbox.kind not in {SandboxKind.AUTO, SandboxKind.DOCKER}:
        raise UsageError(f"--image is for Docker, and the sandbox is {config.sandbox.kind}: leave one of them out.")


def seeded(config: Config) -> Config:
    """Return the settings as the chain's stages take them: each generation of answers has seeds of its own.

    So a server draws others, and the record keeps them apart.
    """
    shift = SEEDS * (config.generation or 0)
    sections = {name: getattr(config, name) for name in ("localize", "repair", "evolve", "reproduce")}
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
    name = identity(chosen, config)
    card = store.card(name)
    if card is None and not chosen.window:
        card = await RecordedSampler(chosen.start, store, name).card()
    return f"{chosen.name} ({chosen.source}; {f'window of {card.context_window} tokens' if card else chosen.window})"


def choosing(config: Config, chosen: ChosenModel) -> Config:
    """Return the settings of a run that samples no repair; where the model cannot write tests it is not asked for any.

    So it has no rounds and no early end either.
    """
    update = {
        "repair": config.repair.model_copy(update={"stop_when": None}),
        "evolve": config.evolve.model_copy(update={"rounds": 1}),
        "reproduce": config.reproduce if chosen.writes else config.reproduce.model_copy(update={"samples": 0}),
    }
    return config.model_copy(update=update)


def amount(config: Config, chosen: ChosenModel, tests_run: str, given: int = 0, pool: int = 0) -> str:
    """Return how many samples and tests are asked for, `given` of these the user's own; `tests_run` is as `foresee`.

    `pool` are the patches that are chosen among instead of sampling some.
    """
    rounds, each = config.evolve.rounds, config.evolve.per_round
    repairs = f"{'at most ' if config.repair.stop_when else ''}{config.repair.samples} repairs"
    if not chosen.writes and config.repair.samples == REWRITES:
        repairs += " (the embedded model's default)"
    if rounds > 1:
        repairs = f"{rounds} rounds of {each or -(-config.repair.samples // rounds)} repairs"
    repairs = f"{pool} patches to choose among" if pool else repairs
    written = config.reproduce.samples if chosen.writes and not tests_run.startswith(UNTESTED) else 0
    own = f", {given} of yours" if given else ""
    return f"{repairs}, {written} new tests{own}; {tests_run}"


async def foreseen(settings: SandboxSettings, snapshot: Snapshot) -> str:
    """Return in words where tests will run, or why none is run. Raises `UsageError` where settings contradict."""
    if settings.kind is SandboxKind.NONE:
        return f"{UNTESTED} (--sandbox none)"
    from agentless_mini.environment.opening import foresee
    from agentless_mini.testing import harness_of

    return await foresee(settings, snapshot, harness_of(snapshot, settings.test_command).runner)


async def open_boxes(
    settings: SandboxSettings,
    repository: Repository,
    snapshot: Snapshot,
    machine: Machine,
    stack: AsyncExitStack,
    watch: Watch,
) -> Boxes | NoBoxes:
    """Open the boxes of a tree, unrecorded, until the stack is closed.

    A project whose needs cannot be installed has none; the vote is left then. Raises as `open_environment` where the
    sandbox that was asked for does not work.
    """
    from agentless_mini.environment.opening import open_environment
    from agentless_mini.environment.work import EnvironmentRequest, Unavailable
    from agentless_mini.testing import harness_of

    harness, contents = harness_of(snapshot, settings.test_command), repository.contents()
    request = EnvironmentRequest(
        snapshot, contents, machine.cache, machine.environment, harness.runner, until=snapshot.day
    )
    try:
        opened = await open_environment(request, settings, watch, stack)
    except BuildFailed as error:
        return NoBoxes(str(error))
    if isinstance(opened, Unavailable):
        return NoBoxes(opened.reason)
    for note in opened.notes:
        watch(Note(note))
    return Boxes(opened.sandbox, opened.place, harness, snapshot, watch, opened.limits, settings.case_seconds)
