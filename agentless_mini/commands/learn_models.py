"""Who is asked while data for training is made, and what people see of it: a recorded sampler, and plain lines."""

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from agentless_mini.commands.learn_trainer_options import TrainingOptions
from agentless_mini.commands.models import Machine, Surroundings, choose_model
from agentless_mini.commands.terminal import people
from agentless_mini.domain import Event, Note
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable, reason
from agentless_mini.installing import install_command
from agentless_mini.learning.checkpoints import ADAPTER_FILE, find_checkpoint
from agentless_mini.learning.rows import SPLITS, Row, require_apart, require_rows, write_rows
from agentless_mini.ports import Sampler
from agentless_mini.record import RecordedSampler, Store
from agentless_mini.settings import Config
from agentless_mini.settings.learning import Tracker, TrainingSettings

RECORD = "record.sqlite"
PART_ROWS = 256

_STDOUT, _STDERR = 1, 2

_TRAINING = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def console_of(*, quiet: bool) -> Console:
    """Return the console for people, or one that says nothing."""
    return Console(quiet=True) if quiet else people()


class Lines:
    """Tells what a model does in lines on a console. See `models.Progress`."""

    def __init__(self, console: Console) -> None:
        """Tell it on `console`."""
        self._console = console

    def __call__(self, event: Event) -> None:
        """Tell a note."""
        if isinstance(event, Note):
            self.note(event.text)

    def note(self, said: str) -> None:
        """Tell what people should know."""
        self.say(f"note: {said}")

    def say(self, said: str) -> None:
        """Tell a sentence."""
        self._console.print(Text(printable(said)), highlight=False)

    def tokens(self, new: int) -> None:
        """Tell nobody of tokens."""

    def phase(self, what: str, seconds: float) -> None:
        """Tell nobody how a server starts."""


def require_training(settings: TrainingSettings | None = None) -> None:
    """Raise `UsageError` where the libraries of training, or what the settings want beside them, are not installed."""
    missing = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"Training needs {missing[0]}: {install_command('train')}.")
    wants_trackio = settings is not None and settings.tracker is Tracker.TRACKIO
    if wants_trackio and importlib.util.find_spec(Tracker.TRACKIO) is None:
        raise UsageError("Metrics are to go to trackio, which is not here: pip install trackio, or use tensorboard.")


def require_inputs(training: TrainingOptions, settings: TrainingSettings) -> None:
    """Raise `UsageError` where the libraries, the data or a folder that is named cannot be used.

    It comes before the libraries are imported, which takes a minute on a slow machine.
    """
    require_training(settings)
    require_rows(training.data, SPLITS[0])
    require_apart(training.data, training.out)
    if training.out.exists() and not training.out.is_dir():
        raise UsageError(f"{printable(str(training.out))} is no folder: name another --out.")
    if training.model.startswith(("/", ".", "~")) and not Path(training.model).expanduser().is_dir():
        raise UsageError(f"There is no folder {printable(training.model)}: name that of a model, or one of the hub.")
    if settings.adapter is not None and not (settings.adapter / ADAPTER_FILE).is_file():
        raise UsageError(f"There is no LoRA adapter in {printable(str(settings.adapter))}: name its folder.")


def decide_precision() -> None:
    """Let the settings decide the precision, and not accelerate's configuration, which speaks by a variable."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Send what libraries, and what they start, print on stdout to stderr: stdout is for the result."""
    sys.stdout.flush()
    kept = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def named_model(model: str) -> str:
    """Return the path of a model's folder made whole, for adapters keep it; a name on the hub as it is."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


async def recorded_model(
    config: Config, machine: Machine, store: Store, lines: Lines, stack: AsyncExitStack
) -> Sampler:
    """Return the model that the settings choose to write texts, with the store before it."""
    chosen = await choose_model(Surroundings(config, machine, store, stack, lines), to_write=True)
    return RecordedSampler(chosen.start, store, chosen.name)


def recorded_checkpoint(place: str, settings: TrainingSettings, store: Store, stack: AsyncExitStack) -> Sampler:
    """Return the checkpoint in a folder, with the store before it; it is loaded when an answer is owed.

    The settings say on what it computes, and in which precision.
    """
    require_training()
    checkpoint = find_checkpoint(place)
    from agentless_mini.learning.rollouts import TransformersSampler

    async def start() -> Sampler:
        sampler = TransformersSampler(checkpoint, precision=settings.precision, device=settings.device)
        return await stack.enter_async_context(sampler)

    return RecordedSampler(start, store, checkpoint.name())


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


async def write_parts(out: Path, rows: AsyncIterator[Row], counts: Counter[str], lines: Lines) -> list[Path]:
    """Write rows to part-00000.parquet and so on in a folder, and remove what an earlier run left beside them."""
    written: list[Path] = []
    async for part in _parts(rows):
        path = out / f"part-{len(written):05}.parquet"
        write_rows(path, part)
        written.append(path)
        lines.say(f"{sum(counts.values())} rows: {dict(counts)}")
    for left in _left(out, written):
        left.unlink()
    return written


async def _parts(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    part: list[Row] = []
    async for row in rows:
        part.append(row)
        if len(part) == PART_ROWS:
            yield part
            part = []
    if part:
        yield part


def _left(out: Path, written: list[Path]) -> Iterator[Path]:
    return (path for path in sorted(out.glob("part-*.parquet")) if path not in written)
