"""`amini learn curate`, `rows`, `synthesize` and `export-rows`: the data that models learn from."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.config import Machine
from agentless_mini.commands.models import Models
from agentless_mini.commands.terminal import people, require_stdout
from agentless_mini.domain import Event, Note, Stage, canonical_json
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, counted, printable, reason
from agentless_mini.evaluation.dataset import rows_of
from agentless_mini.learning.asking import synthesize
from agentless_mini.learning.curation.curation import Curation, Tell, curate, in_processes, on_ray
from agentless_mini.learning.curation.history import Mirrors
from agentless_mini.learning.curation.pulls import Relevance, sampled, without_model
from agentless_mini.learning.rows import SPLITS, Row, read_rows, require_apart, require_rows, write_rows, write_table
from agentless_mini.learning.tasks import hub_tasks
from agentless_mini.learning.tasks import rows as rows_of_tasks
from agentless_mini.learning.trainers import TRAINERS, exported
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings import Config
from agentless_mini.settings.learning import Relevant

if TYPE_CHECKING:
    from agentless_mini.commands.learn import CurateOptions, ExportRowsOptions, RowsOptions, SynthesizeOptions

RECORD = "record.sqlite"
PART_ROWS = 256
_EDITED_ALONE = (
    "no model is named, so that rows show no file but those that change, and who learns from them learns to edit all "
    "that is shown, and issues that ask for no change are kept: give --base-url or --model, or --relevant lexical."
)
_STEPS = {"events": "Reading events", "parts": "Making rows", "splits": "Collecting rows"}


class Lines:
    """Tells what a model does in lines on a console. See `models.Progress`."""

    def __init__(self, *, quiet: bool) -> None:
        """Tell it to people, or to nobody."""
        self.console = people(quiet=quiet)

    def __call__(self, event: Event) -> None:
        """Tell a note."""
        if isinstance(event, Note):
            self.note(event.text)

    def note(self, said: str) -> None:
        """Tell what people should know."""
        self.say(f"note: {said}")

    def say(self, said: str) -> None:
        """Tell a sentence."""
        self.console.print(Text(printable(said)))

    def tokens(self, new: int, stage: Stage) -> None:
        """Tell nobody of tokens."""

    def phase(self, what: str, seconds: float) -> None:
        """Tell nobody how a server starts."""


# --- rows from pull requests -----------------------------------------------------------------------------------------


def run_curate(options: "CurateOptions", config: Config, machine: Machine) -> None:
    """Curate, tell people how far it is, and print one JSON document: where the rows are, and the funnel."""
    require_stdout()
    begun, settings, lines = time.monotonic(), config.curate, Lines(quiet=options.quiet)
    is_named = bool(config.endpoint.base_url or config.endpoint.model)
    warning = "" if settings.relevant or is_named else _EDITED_ALONE
    if settings.relevant is None:
        settings = settings.model_copy(update={"relevant": Relevant.MODEL if is_named else Relevant.NONE})
    asks = settings.relevant is Relevant.MODEL
    asked = config.endpoint.model or config.endpoint.base_url or config.engine.value
    curation = Curation(
        events=tuple(options.events),
        mirrors=options.mirrors,
        out=options.out,
        settings=settings,
        finding=partial(with_model, config, machine) if asks else without_model,
        model=f"{asked} {config.localize.model_dump_json()}" if asks else "",  # what its answers hang on
    )
    workers = settings.workers
    doing = on_ray(options.cluster, workers) if options.cluster else nullcontext(in_processes(workers))
    with doing as work, _told(lines, warning) as told:
        found = curate(curation, work, told)
    if empty := [split for split, number in found["rows"].items() if not number]:
        lines.note(f"no row is in {' and '.join(empty)}.")
    document = {"out": str(options.out), "seconds": round(time.monotonic() - begun, 1), **found}
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def run_rows(options: "RowsOptions", config: Config) -> None:
    """Write the rows of a task set, and print one JSON document of what became of its tasks."""
    require_stdout()
    counts, lines = Counter[str](), Lines(quiet=False)
    try:
        options.images.format(id="", id_s="")
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError("--images has more in braces than {id} and {id_s}: leave that out.") from error
    mirrors = Mirrors(options.mirrors, options.out / "work" / "clones", config.curate.clone_from)
    path = Path(options.tasks)
    is_file = path.exists() or path.suffix in {".parquet", ".json", ".jsonl"}
    tasks = rows_of(path) if is_file else hub_tasks(options.tasks, options.split)
    found = rows_of_tasks(tasks, mirrors, options.images, config.curate.most_bytes, counts)
    number = write_rows(options.out / f"{SPLITS[0]}.parquet", found)
    if not counts["with a check"]:
        lines.note("no row has a check, which --reward tests needs.")
    document = {"out": str(options.out), "rows": number, "tasks": dict(counts)}
    sys.stdout.write(canonical_json(document) + "\n")


@contextmanager
def with_model(config: Config, machine: Machine, record: Path) -> Iterator[Relevance]:
    """Open localization by a model, recorded in the store at `record`. See `pulls.Finding`."""
    with Store.open(record) as store, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            chosen = runner.run(Models(config, machine, store, stack, Lines(quiet=True)).choose())
            sampler = RecordedSampler(chosen.start, store, chosen.name)
            yield sampled(sampler, load_prompts(config.prompts), config.localize, runner)
        finally:
            runner.run(stack.aclose())


@contextmanager
def _told(lines: Lines, warning: str) -> Iterator[Tell]:
    """Show bars of the steps once there is something to do; before them a warning."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress, bars = Progress(*columns, console=lines.console), dict[str, TaskID]()

    def tell(step: str, done: int, total: int) -> None:
        if not bars and warning:
            lines.note(warning)
        progress.start()
        if step not in bars:
            bars[step] = progress.add_task(_STEPS[step], total=total)
        progress.update(bars[step], completed=done, total=total)

    try:
        yield tell
    finally:
        if bars:  # it would leave an empty line of what never began
            progress.stop()


# --- reasoning -------------------------------------------------------------------------------------------------------


def run_synthesize(options: "SynthesizeOptions", config: Config, machine: Machine) -> None:
    """Write all rows, with a reasoning where one is kept, and print one JSON document of what became of them."""
    require_stdout()
    begun, counts, lines = time.monotonic(), Counter[str](), Lines(quiet=options.quiet)

    async def run() -> None:
        require_apart(options.data, options.out)
        require_rows(options.data)
        made_folder(options.out)
        async with AsyncExitStack() as stack:
            store = stack.enter_context(Store.open(options.out / RECORD, lines.note))
            sampler = await recorded_model(config, machine, store, lines, stack)
            prompts = load_prompts(config.prompts)
            explained = synthesize(read_rows(options.data), sampler, prompts, config.synthesize, counts)
            await write_parts(options.out, explained, counts, lines)

    asyncio.run(run())
    document = {"out": str(options.out), "rows": dict(counts), "seconds": round(time.monotonic() - begun, 2)}
    sys.stdout.write(canonical_json(document) + "\n")


def run_export_rows(options: "ExportRowsOptions", config: Config) -> None:
    """Write a file for each split that has rows, and print one JSON document of what became of them."""
    require_stdout()
    if options.to not in TRAINERS:
        raise UsageError(f"There is no trainer {printable(options.to)!r} to write for: use {', '.join(TRAINERS)}.")
    require_apart(options.data, options.out)
    require_rows(options.data)
    prompts, counts, written = load_prompts(config.prompts), Counter[str](), dict[str, int]()
    for split in SPLITS:
        rows = (row for row in read_rows(options.data) if row.split == split)
        path = options.out / f"{split}.parquet"
        written[split] = write_table(path, exported(rows, prompts, options.to, counts))
        if not written[split]:
            path.unlink(missing_ok=True)  # of an earlier export
    document = {"out": str(options.out), "rows": dict(counts), "splits": written}
    sys.stdout.write(canonical_json(document) + "\n")


async def recorded_model(
    config: Config, machine: Machine, store: Store, lines: Lines, stack: AsyncExitStack
) -> Sampler:
    """Return the model that the settings choose to write texts, with the store before it."""
    chosen = await Models(config, machine, store, stack, lines).choose(to_write=True)
    return RecordedSampler(chosen.start, store, chosen.name)


def made_folder(out: Path) -> Path:
    """Make a folder and return it. Raises `EnvironmentFailed`."""
    name = printable(str(out))
    cannot: Translation = {
        FileExistsError: lambda _: UsageError(f"{name} is a file: name a folder with --out."),
        OSError: lambda error: EnvironmentFailed(f"The folder {name} cannot be made ({reason(error)}): correct --out."),
    }
    with boundary(cannot):
        out.mkdir(parents=True, exist_ok=True)
    return out


async def write_parts(out: Path, rows: AsyncIterator[Row], counts: Counter[str], lines: Lines) -> None:
    """Write rows to part-00000.parquet and so on in a folder, and remove what an earlier run left beside them."""
    written, part = list[Path](), list[Row]()

    def write() -> None:
        written.append(out / f"part-{len(written):05}.parquet")
        write_rows(written[-1], part)
        lines.say(f"{counted(sum(counts.values()), 'row')}: {dict(counts)}")
        part.clear()

    async for row in rows:
        part.append(row)
        if len(part) == PART_ROWS:
            write()
    if part:
        write()
    _remove_others(out, written)


def _remove_others(out: Path, written: list[Path]) -> None:
    for path in set(out.glob("part-*.parquet")).difference(written):
        path.unlink()
