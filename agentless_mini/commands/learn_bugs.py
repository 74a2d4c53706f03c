"""`amini learn bugs`: from installed packages, or a checkout, to single-file repair tasks in parquet.

What boxes are run for is recorded in the folder, so that the same command goes on where it was interrupted.
"""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agentless_mini.commands.learn_models import made_folder
from agentless_mini.commands.learn_options import BugsOptions
from agentless_mini.commands.models import Machine
from agentless_mini.commands.terminal import noted, people, require_stdout
from agentless_mini.config import Config
from agentless_mini.domain import Event, Note
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.learning.bugs.funnel import Funnel
from agentless_mini.learning.bugs.making import Maker, Task
from agentless_mini.learning.bugs.packages import Package, read_packages
from agentless_mini.learning.bugs.place import PlainRequest, open_plain
from agentless_mini.learning.bugs.probing import Prober
from agentless_mini.learning.bugs.splits import held_out_first, unmatched
from agentless_mini.learning.rows import SPLITS, write_rows
from agentless_mini.record import RecordedSandbox, Store

RECORD = "record.sqlite"
FUNNEL = "funnel.json"


def run_bugs(options: BugsOptions, config: Config, machine: Machine) -> None:
    """Make the tasks, write them, and print one JSON document that says where they are and how many."""
    require_stdout()
    console = Console(quiet=True) if options.quiet else people()
    begun = time.monotonic()
    packages = read_packages(options.sources, options.python or sys.executable)
    made_folder(options.out)
    funnel = Funnel()
    tasks = asyncio.run(_made(packages, options, (config, machine), funnel, console))
    if not tasks:
        raise UsageError("No task could be made of these sources: name others, or larger ones, or raise max_bytes.")
    document = _written(tasks, options.out, funnel)
    document["seconds"] = round(time.monotonic() - begun, 1)
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


async def _made(
    packages: tuple[Package, ...],
    options: BugsOptions,
    around: tuple[Config, Machine],
    funnel: Funnel,
    console: Console,
) -> list[Task]:
    config, machine = around

    def tell(event: Event) -> None:
        if isinstance(event, Note):
            console.print(Text(f"note: {event.text}"))

    async with AsyncExitStack() as stack:
        request = PlainRequest(config.sandbox, machine.cache, machine.environment)
        opened = await open_plain(request, tell, stack)
        store = stack.enter_context(Store.open(options.out / RECORD, noted(console)))
        recorded = replace(opened, sandbox=RecordedSandbox(opened.sandbox, store))
        maker = Maker(config.bugs, Prober(recorded, config.bugs.batch), funnel)
        found: list[Task] = []
        for name in unmatched(packages, config.bugs):
            console.print(Text(f"note: {printable(name)} is held out, but no source is of its family"))
        for package in held_out_first(packages, config.bugs):
            begun = time.monotonic()
            made = await maker.tasks(package)
            said = f"{printable(package.name)}: {len(made)} tasks in {time.monotonic() - begun:.1f} s"
            console.print(Text(said))
            found += made
    return found


def _written(tasks: list[Task], out: Path, funnel: Funnel) -> dict[str, Any]:
    """Write what was made, and return what is told of it."""
    files = {split: out / f"{split}.parquet" for split in SPLITS}
    counts = {
        split: write_rows(path, (task.row for task in tasks if task.row.split == split))
        for split, path in files.items()
    }
    kinds = {task.row.id: [kind.value for kind in task.kinds] for task in tasks}
    told = {**funnel.document(), "splits": counts, "tasks": kinds}
    with boundary({OSError: lambda error: EnvironmentFailed(f"{FUNNEL} cannot be written ({error}): make room.")}):
        (out / FUNNEL).write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return {
        "files": {split: str(path) for split, path in files.items()},
        "funnel": str(out / FUNNEL),
        "tasks": counts,
        "kinds": {kind: counted.get("kept", 0) for kind, counted in told["kinds"].items()},
        "steps": told["steps"],
    }
