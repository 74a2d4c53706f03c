"""`amini learn sft`: supervised fine-tuning on rows; for the kind mutation, parents are sampled first where wanted."""

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.learn_models import (
    RECORD,
    Lines,
    console_of,
    decide_precision,
    made_folder,
    named_model,
    recorded_checkpoint,
    recorded_model,
    require_inputs,
    stdout_kept,
    write_parts,
)
from agentless_mini.commands.learn_trainer_options import SftOptions, TrainingOptions
from agentless_mini.commands.models import Machine
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.domain import canonical_json
from agentless_mini.errors import UsageError, printable
from agentless_mini.learning.asking import with_parents
from agentless_mini.learning.checkpoints import PARENTS_FILE, claim, data_digest
from agentless_mini.learning.rows import SPLITS, read_rows, require_apart
from agentless_mini.ports import Sampler
from agentless_mini.record import Store
from agentless_mini.settings import Config
from agentless_mini.settings.learning import SftKind, SftSettings

PARENTS = "parents"


def run_sft(training: TrainingOptions, options: SftOptions, config: Config, machine: Machine) -> None:
    """Train, and print one JSON document: where the model is, steps, loss, and what became of the rows."""
    require_stdout()
    require_inputs(training, config.sft)
    decide_precision()
    begun, lines, data = monotonic(), Lines(console_of(quiet=training.quiet)), training.data
    if options.parents_from is not None:
        if config.sft.kind is not SftKind.MUTATION:
            raise UsageError("Parents are used only with --kind mutation: add it.")
        if int(machine.environment.get("WORLD_SIZE", "1")) > 1:
            parents = printable(str(training.out / PARENTS))
            raise UsageError(
                "Parents are sampled by one process: run this once with --steps 1 and without accelerate launch, then "
                f"without --parents-from on {parents}."
            )
        data = asyncio.run(_bred(training, options.parents_from, config, machine, lines))
    from agentless_mini.learning.sft import train_sft
    from agentless_mini.learning.training import Task, is_first

    prompts = load_prompts(config.prompts)
    task = Task("sft", named_model(training.model), data, training.out, prompts, lines.say, begun)
    with stdout_kept():
        outcome = train_sft(task, config.sft)
    if is_first():
        sys.stdout.write(outcome.document() + "\n")


async def _source(sampler: Sampler, training: TrainingOptions, settings: SftSettings, prompts: str) -> str:
    """Return where parents come from, as canonical JSON: others are not put in their place under a trained model."""
    asked = [settings.parent_samples, settings.parent_tokens, settings.seed]
    model = (await sampler.card()).name
    return canonical_json({"model": model, "data": data_digest(training.data), "prompts": prompts, "asked": asked})


async def _bred(training: TrainingOptions, place: str, config: Config, machine: Machine, lines: Lines) -> Path:
    """Write the rows with parents sampled from a checkpoint or an endpoint, and return their folder."""
    require_apart(training.data, training.out)
    out = made_folder(training.out / PARENTS)
    counts: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store.open(training.out / RECORD, lines.note))
        if place.startswith(("http://", "https://")):
            endpoint = config.endpoint.model_copy(update={"base_url": place})
            asked = config.model_copy(update={"endpoint": endpoint})
            sampler = await recorded_model(asked, machine, store, lines, stack)
        else:
            sampler = recorded_checkpoint(place, config.sft, store, stack)
        settings, prompts = config.sft, load_prompts(config.prompts)
        claim(training.out, await _source(sampler, training, settings, prompts.digest), PARENTS_FILE)
        learned = (row for row in read_rows(training.data) if row.split == SPLITS[0])
        how = (settings.parent_samples, settings.parent_tokens, settings.seed)
        await write_parts(out, with_parents(learned, sampler, prompts, counts, *how), counts, lines)
    return out
