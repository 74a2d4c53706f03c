"""`--dry-run`: what a run would ask and run, as far as settings and record tell; nothing is asked or run."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from agentless_mini.chain.context import Gauge
from agentless_mini.chain.pipeline import resolve
from agentless_mini.chain.session import NoBoxes, Opening, Session
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.terminal import EXIT_FOUND
from agentless_mini.domain import Completion, Message, ModelCard, SampleRequest, Snapshot
from agentless_mini.errors import printable
from agentless_mini.ports import Watch
from agentless_mini.record import Store, recorded_derive
from agentless_mini.record.effects import chat_key, token_counts
from agentless_mini.report.console import row, table
from agentless_mini.repository.patches import read_pool, snapshot_check
from agentless_mini.run import foreseen, seeded, settled
from agentless_mini.settings.run import SandboxKind

if TYPE_CHECKING:
    from agentless_mini.commands.repair import Task

ASSUMED = 32_768
"""The window, in tokens, of a model of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, its tokens, how many samples are wanted of it, and how many of these the record has."""

    request: SampleRequest
    tokens: int
    wanted: int
    recorded: int

    @property
    def owed(self) -> int:
        """Return how many samples would be paid for."""
        return self.wanted - self.recorded


class Foreseeing:
    """A `Sampler` that answers from the record alone, and keeps what it is asked for."""

    def __init__(self, store: Store, card: ModelCard) -> None:
        """Stand for the model of this card."""
        self.asked: list[Asked] = []
        self._store, self._card = store, card

    async def card(self) -> ModelCard:
        """Return the card."""
        return self._card

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the recorded count, else an estimate."""
        name = self._card.name
        counted = self._store.value(token_counts(name), chat_key(name, messages))
        return Gauge().of(messages) if counted is None else counted

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield what is recorded."""
        found = [one for index in request.indices if (one := self._store.get_sample(request.key(), index))]
        tokens = await self.count_tokens(request.messages)
        self.asked.append(Asked(request, tokens, len(request.indices), len(found)))
        for one in found:
            yield one


def plan(task: "Task", snapshot: Snapshot, store: Store, as_json: bool) -> int:
    """Write to stdout what a run of the task would ask and run, and return the exit code. Raises as `resolve`."""
    endpoint, latest = task.config.endpoint, store.runs.latest()
    served = store.endpoint_model(endpoint.base_url) if endpoint.base_url else latest and latest.start.model
    name = printable(endpoint.model or served or "not named yet")
    config = settled(task.config, store.runs.newest_generation(name, task.issue.text))
    size, rounds = config.evolve.size(config.repair.samples), config.evolve.rounds
    repair = config.repair.model_copy(update={"samples": size, "stop_when": None})
    once = config.model_copy(update={"repair": repair, "evolve": config.evolve.model_copy(update={"rounds": 1})})
    known = store.card(name)
    window = endpoint.context_window or (known.context_window if known else ASSUMED)
    sampler = Foreseeing(store, replace(known or ModelCard(name, window), context_window=window))
    opening: Opening | NoBoxes = NoBoxes("")
    if config.sandbox.kind is not SandboxKind.NONE:
        from agentless_mini.testing import harness_of

        async def closed(watch: Watch) -> NoBoxes:
            return NoBoxes(f"{watch} is told of no box")

        opening = Opening(harness_of(snapshot, config.sandbox.test_command), closed)
    check = snapshot_check(snapshot)
    pool = read_pool(task.pool, snapshot, check)
    derive = recorded_derive(store)
    session = Session(sampler, load_prompts(config.prompts), check, lambda _: None, "", derive=derive, pool=pool)

    async def foreseeing() -> str:
        given = replace(task.given, required=False)
        await resolve(task.issue, snapshot, session, seeded(once), opening, given, task.files)
        return await foreseen(config.sandbox, snapshot)

    where = asyncio.run(foreseeing())
    values = _values(sampler.asked)
    patches = len(pool) or size * rounds
    tests = sum(stage["samples"] for stage in values if stage["stage"] == "reproduce")
    boxes = {"new_tests": tests, "patches": patches if isinstance(opening, Opening) else 0, "where": where}
    told = "" if known or endpoint.context_window else " is assumed: that of the model is not known (--context says it)"
    later = (rounds - 1) * size if not pool else 0
    if as_json:
        document = {"schema": 1, "model": name, "window": window, "known": not told, "stages": values}
        prompts = [asdict(message) for one in sampler.asked for message in one.request.messages]
        document |= {"later_rounds": later, "boxes": boxes, "prompts": prompts}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return EXIT_FOUND
    shown = table("stage", "prompts", "samples", "recorded", "prompt tokens", "answer tokens, at most")
    for stage in values:
        row(shown, *(str(value) for value in stage.values()))
    out = Console(file=sys.stdout)
    out.print(f"model      {name}; a window of {window} tokens{told}", markup=False, soft_wrap=True)
    out.print(shown)
    lines = [f"rounds     {later} more repairs, whose prompts show earlier patches too"] * bool(later)
    lines.append("tokens     of what is not recorded, each prompt once; estimated where the model has not counted them")
    by_each = f"{tests} to prove new tests, {boxes['patches']} or more to test patches, some to find regression tests"
    lines.append(f"boxes      {where}" + (f"; at most {by_each}" if isinstance(opening, Opening) else ""))
    out.print("\n".join(lines), markup=False, soft_wrap=True)
    return EXIT_FOUND


def _values(asked: list[Asked]) -> list[dict[str, Any]]:
    """Return what each stage asks; tokens are those of what is owed."""
    return [
        {
            "stage": stage.value,
            "prompts": len(of),
            "samples": sum(one.wanted for one in of),
            "recorded": sum(one.recorded for one in of),
            "prompt_tokens": sum(one.tokens for one in of if one.owed),
            "answer_tokens": sum(one.owed * one.request.params.max_tokens for one in of),
        }
        for stage in dict.fromkeys(one.request.stage for one in asked)
        if (of := [one for one in asked if one.request.stage is stage])
    ]
