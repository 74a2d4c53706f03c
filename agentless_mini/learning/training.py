"""What the trainers share: data, arguments, a run that can be stopped and resumed, and the card of what came of it.

One process for each GPU, started by accelerate, or a single one. What is printed and written is the first process's.
"""

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import accelerate.utils
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter
from peft import PeftModel
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from agentless_mini import __version__
from agentless_mini.chain.prompts import Prompts
from agentless_mini.domain import canonical_json
from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, counted, printable
from agentless_mini.learning import checkpoints
from agentless_mini.learning.policies import in_bfloat16, on_cpu, quiet
from agentless_mini.learning.rows import SPLITS, Row, read_rows, require_apart
from agentless_mini.settings.learning import Tracker, TrainingSettings

Tell = Callable[[str], None]
Config = TypeVar("Config", bound=transformers.TrainingArguments)

# Fields of TRL's configurations that are settings of ours, and their names here.
OURS = {
    "output_dir": "--out", "max_steps": "steps", "num_train_epochs": "epochs", "learning_rate": "learning_rate",
    "weight_decay": "weight_decay", "per_device_train_batch_size": "batch", "save_steps": "save_every", "seed": "seed",
    "gradient_accumulation_steps": "accumulate", "save_total_limit": "keep", "logging_steps": "log_every",
    "use_cpu": "device", "bf16": "precision", "max_length": "max_tokens", "num_generations": "group",
    "max_completion_length": "answer_tokens", "beta": "beta", "temperature": "temperature", "epsilon": "clip_low",
    "epsilon_high": "clip_high", "use_vllm": "generation", "vllm_mode": "generation",
    "vllm_server_base_url": "server", "vllm_gpu_memory_utilization": "gpu_share",
    "vllm_max_model_length": "max_tokens",
}  # fmt: skip

_REFUSALS = (ValueError, TypeError, ArithmeticError, RuntimeError, ImportError, OSError)
_AT_ONCE = 256  # examples in memory while they are written
_PATIENCE = timedelta(hours=6)  # for the others, while the first process turns rows into tokens
_LARGE = "The memory does not suffice for a step: set a smaller batch, or fewer max_tokens."
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm")


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained on what, and where the result goes. `tell` is given sentences for people.

    The minutes that a run may take count from `begun`, on the monotonic clock.
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
        return canonical_json({**asdict(self), "out": str(self.out), "seconds": round(self.seconds, 2)})


def is_first() -> bool:
    """Tell whether this is the process that speaks for all."""
    return bool(PartialState().is_main_process)


def prepare(task: Task, settings: TrainingSettings) -> Outcome | None:
    """Make the folder this training's, and seed what is drawn; return how it ended before, None if there is more to do.

    Raises `UsageError` where the folder is another's.
    """
    PartialState(cpu=on_cpu(settings), timeout=_PATIENCE)
    quiet()
    require_apart(task.data, task.out)
    values = settings.model_dump(mode="json")
    said = checkpoints.identity(task.command, task.model, task.data, values, task.prompts.digest)
    with PartialState().main_process_first():
        checkpoints.claim(task.out, said)
    transformers.set_seed(settings.seed)
    done = _noted(task.out / checkpoints.DONE_FILE)
    if done is None or done["wanted"] != [settings.steps, settings.epochs]:
        return None
    return Outcome(**{**done["outcome"], "out": task.out})


def _noted(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Return what a file holds, None where it is not there or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def training_rows(task: Task, seen: Seen) -> Iterator[Row]:
    """Yield the rows of the split for training; the others are counted."""
    for row in read_rows(task.data):
        if row.split == SPLITS[0]:
            seen.licences[row.licence or "unknown"] += 1
            yield row
        else:
            seen.rows["of another split"] += 1


def dataset(task: Task, seen: Seen, found: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Dataset:
    """Return the examples, mapped into memory: the first process writes what all will read, and once.

    A "row" is text, a "prompt" a chat, a "label" numbers, every other column tokens. Raises `UsageError` where no row
    is left to learn from, `EnvironmentFailed` where they cannot be written.
    """
    path = task.out / checkpoints.EXAMPLES_FILE
    chat = [{"role": Value("string"), "content": Value("string")}]
    kinds = {"row": Value("string"), "prompt": chat, "label": [Value("float32")]}
    features = Features({column: kinds.get(column, [Value("int32")]) for column in columns})
    full = f"{printable(str(path))} cannot be written"
    with (
        PartialState().main_process_first(),
        boundary({OSError: lambda error: EnvironmentFailed(f"{full} ({error}): free some room.")}),
    ):
        before = _noted(task.out / checkpoints.COUNTS_FILE) if is_first() else None
        if before is not None:  # the folder is of these very data
            seen.rows.update(before["rows"])
            seen.licences.update(before["licences"])
        elif is_first():
            with ArrowWriter(features=features, path=str(path), writer_batch_size=_AT_ONCE) as writer:
                for example in found:
                    writer.write(dict(example))
                writer.finalize()
            counts = canonical_json({"rows": dict(seen.rows), "licences": dict(seen.licences)})
            (task.out / checkpoints.COUNTS_FILE).write_text(counts, encoding="utf-8")
    data = Dataset.from_file(str(path))
    if not len(data):
        left = ", ".join(f"{number} {reason}" for reason, number in seen.rows.items() if number) or "there are none"
        raise UsageError(f"No row is left to learn from ({left}): name other data, or allow more tokens.")
    task.say(f"{counted(len(data), 'example')}; {dict(seen.rows)}")
    return data


def arguments(task: Task, settings: TrainingSettings) -> dict[str, Any]:
    """Return what the configurations of all of TRL's trainers are given."""
    cpu = on_cpu(settings)
    return {
        "output_dir": str(task.out),
        "max_steps": settings.steps or -1,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.rate,
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


def configured(kind: type[Config], task: Task, house: dict[str, Any], settings: TrainingSettings) -> Config:
    """Return a configuration: what the house sets, and over it what the settings hand on to TRL.

    Raises `UsageError` for a field that is none, or a setting of ours, and for a value that TRL refuses.
    """
    fields = {field.name for field in dataclasses.fields(kind) if field.init}
    kinds, section = get_type_hints(kind), task.command.replace("-", "_")
    for name, value in settings.trl.items():
        where, known = f"{section}.trl.{printable(name)}", kind.__name__
        if name not in fields:
            near = difflib.get_close_matches(name, sorted(fields), 1, 0)[0]
            raise UsageError(f"TRL's {known} has no field {printable(name)!r}: correct {where}, as {near!r}.")
        if name in OURS:
            raise UsageError(f"{where} is a setting of amini's own: set {OURS[name]} in [{section}] instead.")
        if name.endswith("hub_token"):  # run.json and the model's card have the settings
            raise UsageError(f"{where} would be written down with the settings: give it as the variable HF_TOKEN.")
        if isinstance(value, str) and not any(_is_text(one) for one in (kinds[name], *get_args(kinds[name]))):
            raise UsageError(f"{where} must not be a text ({printable(value)!r}): see {known} of TRL.")
    with boundary(dict.fromkeys(_REFUSALS, lambda error: _refused(task, error))):
        made: Config = kind(**{**house, **settings.trl})
    return made


@contextmanager
def handing_on(task: Task, settings: TrainingSettings, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Raise `UsageError` for what TRL refuses late of fields handed on; without these, or after a step, it is a bug."""
    try:
        yield
    except _REFUSALS as error:
        if not settings.trl or begun():
            raise
        raise _refused(task, error) from error


def _refused(task: Task, error: BaseException) -> UsageError:
    said, section = printable(" ".join(str(error).split())), task.command.replace("-", "_")
    return UsageError(f"TRL refuses its settings ({said}): correct [{section}.trl].")


def _is_text(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, str)


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
        wanted = ("loss", "reward", "mean_token_accuracy", "accuracy", "learning_rate", "epoch")
        shown = ", ".join(f"{name} {numbers[name]:.4g}" for name in wanted if name in numbers)
        self._task.say(f"step {state.global_step} of {state.max_steps}: {shown}")

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ANN401 - as above
        wanted = torch.tensor(int(self._stop.wanted), device=PartialState().device)
        if accelerate.utils.reduce(wanted, "max").item():  # all must stop at the same step, whichever wants to
            control.should_save = True
            control.should_training_stop = True


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
    stop = checkpoints.Stop(None if settings.minutes is None else task.begun + 60 * settings.minutes)
    watch = _Watch(task, stop)
    for kind in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(kind)
    trainer.add_callback(watch)
    checkpoint = checkpoints.last_checkpoint(task.out)
    if checkpoint is not None:
        task.say(f"Going on from {printable(str(checkpoint))}.")
    made = None if checkpoint is None else TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    steps = made and trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
    if made is not None and made.global_step > steps:
        raise UsageError(
            f"This training has made {counted(made.global_step, 'step')} and {steps} are asked for: ask for more, or "
            "start in another --out."
        )
    if made is not None and made.global_step == steps:
        trainer._load_from_checkpoint(str(checkpoint))  # train() would make one step more
        trainer.state = made
        watch.loss = next((line["loss"] for line in reversed(made.log_history) if "loss" in line), None)
    else:
        handing = handing_on(task, settings, lambda: trainer.state.global_step > 0)
        with stop.on_signals(), handing, boundary({torch.OutOfMemoryError: lambda error: EnvironmentFailed(_LARGE)}):
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
            said = {"wanted": [settings.steps, settings.epochs], "outcome": json.loads(outcome.document())}
            (task.out / checkpoints.DONE_FILE).write_text(canonical_json(said) + "\n", encoding="utf-8")
    return outcome


def _describe(trainer: Any, task: Task, settings: TrainingSettings, seen: Seen) -> None:  # noqa: ANN401 - as above
    """Write the card of the model: from what and how it was made, and what it must not be taken for.

    Scores are added by whoever measures them.
    """
    said = {**settings.model_dump(mode="json"), "learning_rate": settings.rate}
    if isinstance(trainer.model, PeftModel):
        said["rank"] = trainer.model.peft_config["default"].r  # of an adapter to start from
    device = "a CPU" if on_cpu(settings) else f"{PartialState().num_processes} x {torch.cuda.get_device_name()}"
    is_reward_model = task.command == "reward-model"  # which is written whole
    library = "peft" if said.get("tuning") == "lora" and not is_reward_model else "transformers"
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES if importlib.util.find_spec(name)}
    about = {
        "data": f"{task.data}, SHA-256 {checkpoints.data_digest(task.data)}",
        "rows": seen.rows,
        "licences of the rows": seen.licences,
        "settings": said,
        "versions": {"agentless-mini": __version__, **versions},
    }
    (task.out / "README.md").write_text(
        f"---\nbase_model: {json.dumps(task.model)}\nlibrary_name: {library}\n"
        f"tags: [agentless-mini, {task.command}]\n---\n\n"
        f"# {printable(Path(task.model).name)} after `amini learn {task.command}`\n\n"
        f"Base model: {printable(task.model)}, whose licence holds as well. "
        f"{counted(trainer.state.global_step, 'step')} on {printable(device)}.\n\n"
        f"{_SCORES if is_reward_model else _REPAIRS}\nResults: none are stated here.\n\n"
        f"```json\n{json.dumps(about, indent=2)}\n```\n",
        encoding="utf-8",
    )


_REPAIRS = (
    "It proposes patches; it does not know whether they are right. It was trained on the prompts of\n"
    "agentless-mini and answers in its edit format."
)
_SCORES = (
    "It scores patches that it is shown with an issue; it sees neither code nor tests. It was trained on the prompt\n"
    "of agentless-mini and on patches of one model: of others its scores may mean less."
)
