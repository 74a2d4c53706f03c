"""`amini learn curate`: from events and mirrors to rows, here or on a cluster; the funnel is printed."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.learn_models import Lines, console_of
from agentless_mini.commands.learn_options import CurateOptions
from agentless_mini.commands.models import Machine, Surroundings, choose_model
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.learning.curation.curation import Curation, Doing, curate, in_processes, on_ray
from agentless_mini.learning.curation.pulls import Relevance, sampled, without_model
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings import Config
from agentless_mini.settings.learning import Relevant

_STEPS = {"events": "Reading events", "parts": "Making rows", "splits": "Collecting rows"}


def run_curate(options: CurateOptions, config: Config, machine: Machine) -> None:
    """Curate, tell people how far it is, and print one JSON document: where the rows are, and the funnel."""
    require_stdout()
    begun, settings = time.monotonic(), config.curate
    asks = settings.relevant is Relevant.MODEL
    most = settings.most_relevant if settings.relevant is Relevant.LEXICAL else 0
    curation = Curation(
        events=tuple(options.events),
        mirrors=options.mirrors,
        out=options.out,
        settings=settings,
        finding=partial(with_model, config, machine) if asks else partial(without_model, most),
        model=_identity(config) if asks else "",
    )
    with _doing(options, settings.workers) as doing, _Told(console_of(quiet=options.quiet)) as told:
        found = curate(curation, doing, told)
    document = {"out": str(options.out), "seconds": round(time.monotonic() - begun, 1), **found}
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _doing(options: CurateOptions, workers: int) -> AbstractContextManager[Doing]:
    return on_ray(options.cluster, workers) if options.cluster else nullcontext(in_processes(workers))


def _identity(config: Config) -> str:
    """Return what the answers of a model hang on, as far as the settings tell."""
    asked = config.endpoint.model or config.endpoint.base_url or config.engine.value
    return f"{asked} {config.localize.model_dump_json()}"


@contextmanager
def with_model(config: Config, machine: Machine, record: Path) -> Iterator[Relevance]:
    """Open localization by a model, recorded in the store at `record`. See `relevance.Finding`."""
    with Store.open(record) as store, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            chosen = runner.run(choose_model(Surroundings(config, machine, store, stack, Lines(Console(quiet=True)))))
            sampler = RecordedSampler(chosen.start, store, chosen.name)
            yield sampled(sampler, load_prompts(config.prompts), config.localize, config.curate.most_relevant, runner)
        finally:
            runner.run(stack.aclose())


class _Told:
    """Bars of the steps on a console, one below the other."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._bars: dict[str, Any] = {}

    def __enter__(self) -> "_Told":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars:  # it would leave an empty line of what never began
            self._progress.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        if not self._bars:
            self._progress.start()
        if step not in self._bars:
            self._bars[step] = self._progress.add_task(_STEPS[step], total=total)
        self._progress.update(self._bars[step], completed=done, total=total)
