"""The folder of a training: whether it is this training's, from where it goes on, and how it stops with a checkpoint.

OUT/run.json              what is trained on what: another command must not go on here
OUT/parents.json          where its parents come from, where it sampled them itself
OUT/done.json             how it ended, once it has: the same command again says so and does nothing
OUT/checkpoint-N/         as transformers' trainer writes them; the last whole one is resumed
OUT/metrics.jsonl         one line of metrics for every few steps; OUT/runs/ is for tensorboard
OUT/rollouts.jsonl        a few rollouts of each batch (reinforcement learning)
OUT/                      the trained model or adapter itself, with its card README.md
"""

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from agentless_mini.domain import canonical_json
from agentless_mini.errors import EnvironmentFailed, Translation, UsageError, boundary, printable
from agentless_mini.learning.rows import row_files

RUN_FILE, PARENTS_FILE, DONE_FILE = "run.json", "parents.json", "done.json"
METRICS_FILE, ROLLOUTS_FILE = "metrics.jsonl", "rollouts.jsonl"
EXAMPLES_FILE, COUNTS_FILE = "examples.arrow", "examples.json"
# Settings that a training may be continued with another value of.
FREE = frozenset(
    {"steps", "epochs", "minutes", "save_every", "keep", "log_every", "log_rollouts", "tracker", "device"}
    | {"generation", "server", "gpu_share"}  # who writes rollouts, and where: the policy is the same
)
FOLDERS = frozenset({"adapter", "scorer"})  # settings that name a folder of weights
ADAPTER_FILE = "adapter_config.json"
_WHOLE, _BLOCKS, _BLOCK = 2**26, 1024, 2**16
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*config.json", "tokenizer.*", "vocab.*", "merges.txt", "*.jinja")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def identity(command: str, model: str, data: Path, settings: Mapping[str, Any], prompts: str) -> str:
    """Return what a training is, as canonical JSON: its command, model, data, settings, and the digest of its prompts.

    Data, models and adapters on this machine are known by what they hold, wherever they lie.
    """
    kept = {name: value for name, value in settings.items() if name not in FREE}
    kept |= {name: _held(str(kept[name])) for name in FOLDERS if kept.get(name) is not None}
    said = {"command": command, "model": _held(model), "data": data_digest(data), "settings": kept, "prompts": prompts}
    return canonical_json(said)


def _held(place: str) -> str:
    folder = Path(place).expanduser()
    return weights_digest([folder]) if folder.is_dir() else place


def weights_digest(folders: Sequence[Path]) -> str:
    """Return a digest of the models and adapters in folders, in hex.

    Of files over 64 MiB it reads `_BLOCKS` blocks at even distances: of weights that are trained all change.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(file for kind in _WEIGHTS for file in folder.glob(kind)):
            size = file.stat().st_size
            digest.update(f"{file.name} {size}\n".encode())
            step = max(size // _BLOCKS, _BLOCK) if size > _WHOLE else _BLOCK
            with file.open("rb") as source:
                for at in range(0, size, step):
                    source.seek(at)
                    digest.update(source.read(_BLOCK))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on the hub or in a folder, with a LoRA adapter or without."""

    model: str
    adapter: Path | None = None

    def name(self) -> str:
        """Return a name that changes with the weights of what lies on this machine: answers are recorded under it."""
        folders = [folder for folder in (Path(self.model), self.adapter) if folder is not None and folder.is_dir()]
        last = Path(self.model).name if self.adapter is None else self.adapter.resolve().name
        return f"{last}@{weights_digest(folders)[:12]}" if folders else self.model


def find_checkpoint(place: str) -> Checkpoint:
    """Return the checkpoint in a folder: an adapter with the base model that it names, or a whole model.

    Raises `UsageError` for a folder that holds neither.
    """
    folder = Path(place)
    if (folder / ADAPTER_FILE).is_file():
        unreadable = f"The adapter in {printable(place)} names no base model: check its {ADAPTER_FILE}."
        with boundary(dict.fromkeys((OSError, ValueError, KeyError), lambda error: UsageError(unreadable))):
            base = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"]
        return Checkpoint(str(base), folder)
    if (folder / "config.json").is_file():
        return Checkpoint(place)
    raise UsageError(f"{printable(place)} holds no checkpoint: name a folder that amini learn has made, or an address.")


def data_digest(data: Path) -> str:
    """Return the SHA-256 of a parquet file, or of all below a folder, in hex."""
    digest = hashlib.sha256()
    name = printable(str(data))
    with boundary({OSError: lambda error: UsageError(f"{name} cannot be read ({error}): name rows in parquet.")}):
        for file in row_files(data):
            with file.open("rb") as source:
                while chunk := source.read(2**20):
                    digest.update(chunk)
    return digest.hexdigest()


def claim(out: Path, said: str, run_file: str = RUN_FILE) -> None:
    """Make the folder this training's. Raises `UsageError` where it is another's, or holds a model already.

    A training that did not come to its first checkpoint has no folder yet: one with corrected settings may have it.
    """
    name = printable(str(out))
    full: Translation = {
        OSError: lambda error: EnvironmentFailed(f"{name} cannot be written ({error}): name another --out.")
    }
    with boundary(full):
        out.mkdir(parents=True, exist_ok=True)
        file = out / run_file
        if file.exists() and file.read_text(encoding="utf-8").strip() == said:
            return
        taken = ("config.json", ADAPTER_FILE, "checkpoint-*")  # it would be overwritten, or trained on
        if any(next(out.glob(name), None) for name in taken):
            another = "another training (model, data, settings or prompts differ)"
            held = another if file.exists() else "a model that is not of this training"
            raise UsageError(f"{name} holds {held}: name another --out.")
        (out / COUNTS_FILE).unlink(missing_ok=True)  # with other settings the examples are others
        partial = file.with_name(f".{file.name}.partial")  # a torn one would make the folder another training's
        partial.write_text(said + "\n", encoding="utf-8")
        partial.replace(file)


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest whole checkpoint; one that was cut off while it was written is passed over."""
    steps = [path.name.removeprefix("checkpoint-") for path in out.glob("checkpoint-*")]
    for step in sorted((step for step in steps if step.isdigit()), key=int, reverse=True):
        path = out / f"checkpoint-{step}"
        with contextlib.suppress(OSError, ValueError):  # its state is written last
            if "global_step" in json.loads((path / "trainer_state.json").read_text(encoding="utf-8")):
                return path
    return None


@dataclass(slots=True)
class Stop:
    """Whether a training should stop after the step under way: at the deadline, or as somebody asks.

    The deadline is on the monotonic clock.
    """

    deadline: float | None = None
    asked: bool = False

    @property
    def wanted(self) -> bool:
        """Return whether to stop now."""
        return self.asked or (self.deadline is not None and time.monotonic() >= self.deadline)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let Ctrl-C, SIGTERM and SIGHUP ask for it; the second time they end the block at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _ENDING}
        heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in heeded:
            signal.signal(number, self._ask)
        try:
            yield
        finally:
            for number in heeded:
                signal.signal(number, before[number])

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
