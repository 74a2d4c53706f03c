"""What the trainers share: rows, the arguments of transformers' trainer, and a run that can be stopped and resumed.

One process for each GPU, started by accelerate, or a single one. What is printed and written is the first process's.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from peft import PeftModel
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from agentless_mini.domain import canonical_json
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.learning import cards, checkpoints
from agentless_mini.learning.policies import in_bfloat16, on_cpu, quiet, rank_of
from agentless_mini.learning.rows import Row, read_rows, require_apart
from agentless_mini.learning.training_settings import Tracker, TrainingSettings
from agentless_mini.prompts import Prompts

Tell = Callable[[str], None]

TRAIN = "train"
OTHER_SPLIT = "of another split"

_PATIENCE = timedelta(hours=6)  # for the others, while the first process turns rows into tokens
_LARGE = "The memory does not suffice for a step: set a smaller batch, or fewer max_tokens."


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained on what, and where the result goes. `tell` is given sentences for people.

    `begun` is when, on the monotonic clock: the minutes that a run may take count from then.
    """

    command: str
    model: str
    data: Path
    out: Path
    prompts: Prompts
    tell: Tell
    begun: float = field(default_factory=time.monotonic)

    def say(self, said: str) -> None:
        """Tell people, once for all processes."""
        if is_first():
            self.tell(said)


@dataclass(slots=True)
class Seen:
    """What became of the rows, and their licences."""

    rows: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended. `loss` is the last that was logged, None where no step was made."""

    out: Path
    steps: int
    finished: bool
    seconds: float
    loss: float | None
    rows: Mapping[str, int]

    def document(self) -> str:
        """Return it as one JSON document."""
        return canonical_json(
            {
                "out": str(self.out),
                "steps": self.steps,
                "finished": self.finished,
                "seconds": round(self.seconds, 2),
                "loss": self.loss,
                "rows": dict(self.rows),
            }
        )


def is_first() -> bool:
    """Return whether this is the process that speaks for all."""
    return bool(PartialState().is_main_process)


def prepare(task: Task, settings: TrainingSettings) -> None:
    """Make the folder this training's, and seed what is drawn. Raises `UsageError` where it is another's."""
    PartialState(cpu=on_cpu(settings), timeout=_PATIENCE)
    quiet()
    require_apart(task.data, task.out)
    values = settings.model_dump(mode="json")
    said = checkpoints.identity(task.command, task.model, task.data, values, task.prompts.digest)
    with PartialState().main_process_first():
        checkpoints.claim(task.out, said)
    transformers.set_seed(settings.seed)


def training_rows(task: Task, seen: Seen) -> Iterator[Row]:
    """Yield the rows of the split `train`; the others are counted."""
    for row in read_rows(task.data):
        if row.split == TRAIN:
            seen.licences[row.licence or "unknown"] += 1
            yield row
        else:
            seen.rows[OTHER_SPLIT] += 1


def arguments(task: Task, settings: TrainingSettings) -> dict[str, Any]:
    """Return what the configurations of all of TRL's trainers are given."""
    cpu = on_cpu(settings)
    return {
        "output_dir": str(task.out),
        "max_steps": settings.steps or -1,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        # Of few steps none is for warming up: the first of these has a learning rate of 0.
        "warmup_steps": int(settings.warmup * settings.steps) if settings.steps else settings.warmup,
        "lr_scheduler_type": "cosine",
        "weight_decay": settings.weight_decay,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulate,
        "save_steps": settings.save_every,
        "save_total_limit": settings.keep,
        "logging_steps": settings.log_every,
        "logging_nan_inf_filter": False,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "report_to": [] if settings.tracker is Tracker.NONE else [settings.tracker.value],
        "disable_tqdm": True,
        "use_cpu": cpu,
        "bf16": in_bfloat16(settings),
        # On a CPU pinned memory is a warning, and memory is not what lacks.
        "gradient_checkpointing": not cpu,
        "dataloader_pin_memory": not cpu,
    }


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Writes metrics down, and stops with a checkpoint when it is time."""

    def __init__(self, task: Task, stop: checkpoints.Stop) -> None:
        self._task, self._stop = task, stop
        self.loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:  # noqa: ANN401 - transformers calls it
        """Let what a training goes on with hold, and not what its checkpoint was made with."""
        state.save_steps, state.logging_steps = args.save_steps, args.logging_steps
        schedule = getattr(found["lr_scheduler"], "scheduler", found["lr_scheduler"])
        groups = zip(found["optimizer"].param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, highest, share in groups:  # at the end of a shorter schedule the rate was 0
            group["lr"] = highest * share(schedule.last_epoch)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:  # noqa: ANN401 - as above
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs or "train_loss" in logs:  # of some steps, and at the end of all
            self.loss = float(logs.get("loss", logs.get("train_loss") if self.loss is None else self.loss))
            if not math.isfinite(self.loss):
                raise EnvironmentFailed(f"The loss is {self.loss}: lower the learning rate and start in another --out.")
        numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        with (self._task.out / checkpoints.METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **numbers}) + "\n")
        self._task.say(f"step {state.global_step} of {state.max_steps}: {_shown(numbers)}")

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ANN401 - as above
        if _agreed(self._stop.wanted):
            control.should_save = True
            control.should_training_stop = True


def _agreed(wanted: bool) -> bool:
    """Return whether any process wants to stop: all must do so at the same step."""
    if PartialState().num_processes == 1:
        return wanted
    flags = torch.tensor([int(wanted)], device=PartialState().device)
    torch.distributed.all_reduce(flags)
    return bool(flags.item())


def _shown(numbers: Mapping[str, float]) -> str:
    wanted = ("loss", "reward", "mean_token_accuracy", "accuracy", "learning_rate", "epoch")
    return ", ".join(f"{name} {numbers[name]:.4g}" for name in wanted if name in numbers)


def run(
    trainer: Any,  # noqa: ANN401 - TRL's trainers
    task: Task,
    settings: TrainingSettings,
    seen: Seen,
    write: Callable[[Any], None] = lambda model: None,
) -> Outcome:
    """Train from the last checkpoint on, write the result with its card, and say how it ended.

    `write` may put another form of the model in place of what the trainer writes. Where a signal stops it there is a
    checkpoint, and `KeyboardInterrupt` is raised.
    """
    stop = checkpoints.Stop(checkpoints.deadline_of(settings.minutes, task.begun))
    watch = _Watch(task, stop)
    for kind in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(kind)
    trainer.add_callback(watch)
    checkpoint = checkpoints.last_checkpoint(task.out)
    if checkpoint is not None:
        task.say(f"Going on from {printable(str(checkpoint))}.")
    made = None if checkpoint is None else TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    if checkpoint is not None and made is not None and _is_at_the_end(made, _owed(trainer)):
        trainer._load_from_checkpoint(str(checkpoint))  # train() would make one step more
        trainer.state = made
        watch.loss = next((line["loss"] for line in reversed(made.log_history) if "loss" in line), None)
    else:
        with stop.on_signals(), boundary({torch.OutOfMemoryError: lambda error: EnvironmentFailed(_LARGE)}):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    state = trainer.state
    finished = state.global_step >= state.max_steps
    if stop.asked and not finished:
        raise KeyboardInterrupt
    outcome = Outcome(task.out, state.global_step, finished, time.monotonic() - task.begun, watch.loss, dict(seen.rows))
    if finished:
        trainer.save_model(str(task.out))
        if is_first():
            write(trainer.model)
            _describe(trainer, task, settings, seen)
            said = {"wanted": _wanted(settings), "outcome": json.loads(outcome.document())}
            (task.out / checkpoints.DONE_FILE).write_text(canonical_json(said) + "\n", encoding="utf-8")
    return outcome


def _owed(trainer: Any) -> int:  # noqa: ANN401 - as above
    """Return the steps of a whole training."""
    steps: int = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
    return steps


def _is_at_the_end(made: TrainerState, owed: int) -> bool:
    """Return whether a checkpoint is of the last step. Raises `UsageError` where it is of a later one."""
    if made.global_step > owed:
        raise UsageError(
            f"This training has made {made.global_step} steps and {owed} are asked for: ask for more, or start in "
            "another --out."
        )
    return bool(made.global_step == owed)


def ended(task: Task, settings: TrainingSettings) -> Outcome | None:
    """Return how this training ended when it was run before, None where there is more to do."""
    try:
        said = json.loads((task.out / checkpoints.DONE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if said["wanted"] != _wanted(settings):
        return None
    return Outcome(**{**said["outcome"], "out": task.out})


def _wanted(settings: TrainingSettings) -> list[float | None]:
    return [settings.steps, settings.epochs]


def _describe(trainer: Any, task: Task, settings: TrainingSettings, seen: Seen) -> None:  # noqa: ANN401 - as above
    said = settings.model_dump(mode="json")
    if isinstance(trainer.model, PeftModel):
        said["rank"] = rank_of(trainer.model)  # of an adapter to start from
    device = "a CPU" if on_cpu(settings) else f"{PartialState().num_processes} x {torch.cuda.get_device_name()}"
    about = (task.command, task.model, _named(task.data), said, seen.rows, seen.licences)
    cards.write_card(task.out, cards.Card(*about, trainer.state.global_step, device))


def _named(data: Path) -> str:
    return f"{data}, SHA-256 {checkpoints.data_digest(data)}"


def require_some(seen: Seen, kept: int) -> None:
    """Raise `UsageError` where no row is left to learn from."""
    if not kept:
        left = ", ".join(f"{number} {reason}" for reason, number in seen.rows.items() if number) or "there are none"
        raise UsageError(f"No row is left to learn from ({left}): name other data, or allow more tokens.")


def written_once(path: Path, write: Callable[[Path], None]) -> None:
    """Let the first process write a file that all will read."""
    with PartialState().main_process_first():
        if is_first():
            write(path)
