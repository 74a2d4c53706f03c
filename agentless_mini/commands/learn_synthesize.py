"""`amini learn synthesize`: a teacher writes the reasoning of rows. What it answered is recorded in the folder."""

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from time import monotonic

from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.learn_models import (
    RECORD,
    Lines,
    console_of,
    made_folder,
    recorded_model,
    write_parts,
)
from agentless_mini.commands.learn_trainer_options import SynthesizeOptions
from agentless_mini.commands.models import Machine
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.domain import canonical_json
from agentless_mini.learning.asking import synthesize
from agentless_mini.learning.rows import read_rows, require_apart, require_rows
from agentless_mini.record import Store
from agentless_mini.settings import Config


def run_synthesize(options: SynthesizeOptions, config: Config, machine: Machine) -> None:
    """Write all rows, with a reasoning where one is kept, and print one JSON document of what became of them."""
    require_stdout()
    begun = monotonic()
    counts: Counter[str] = Counter()
    asyncio.run(_run(options, config, machine, counts))
    document = {"out": str(options.out), "rows": dict(counts), "seconds": round(monotonic() - begun, 2)}
    sys.stdout.write(canonical_json(document) + "\n")


async def _run(options: SynthesizeOptions, config: Config, machine: Machine, counts: Counter[str]) -> None:
    lines = Lines(console_of(quiet=options.quiet))
    require_apart(options.data, options.out)
    require_rows(options.data)
    made_folder(options.out)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store.open(options.out / RECORD, lines.note))
        sampler = await recorded_model(config, machine, store, lines, stack)
        prompts = load_prompts(config.prompts)
        explained = synthesize(read_rows(options.data), sampler, prompts, config.synthesize, counts)
        await write_parts(options.out, explained, counts, lines)
