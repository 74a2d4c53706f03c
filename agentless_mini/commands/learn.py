"""`amini learn`: data to learn from, and training. What a command needs is imported when it runs, as in `cli`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini.commands.options import ConfigFile, Flags, ModelOptions, Offer, Panel, Quiet
from agentless_mini.commands.usage import Commands
from agentless_mini.errors import UsageError, printable

learn = Commands("learn", "Makes training data and trains models, with the prompts and the edit format of repairs.")

_CONSTANTS = {"True": "true", "False": "false", "None": "null"}  # as TRL's own command line is told
Data = Annotated[Path, typer.Argument(metavar="DATA", help="Rows: a parquet file, or a folder of them.")]


@learn.typer.callback()
def common() -> None:
    """Makes training data and trains models, with the prompts and the edit format of repairs."""


@dataclass(frozen=True)
class CurateOptions(Panel):
    """What is curated, and how."""

    events: Annotated[
        list[Path], typer.Argument(metavar="EVENTS", help="Files of GH Archive (.json.gz), or folders of them.")
    ]
    mirrors: Annotated[Path, typer.Option(help="Folder of clones: owner+name, owner/name or owner__name.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the rows.")]
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on this Ray cluster: HOST:PORT, or auto.")
    ] = None
    quiet: Quiet = False
    offers = (
        Offer(("curate.clone_from",), ("--clone",), "Clone missing repositories from GitHub.", value="https://github.com"),
        "curate.relevant",
        "curate.oracle",
        "curate.seed",
        "curate.workers",
    )  # fmt: skip


@learn.add("Make rows from merged pull requests.")
def curate(options: CurateOptions, model: ModelOptions, flags: Flags) -> None:
    """Make rows from merged pull requests: GH Archive's events, joined with clones.

    The same command again continues where it stopped. The result on stdout is a JSON document.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.learn_data import run_curate

    run_curate(options, read_config(model.config, flags), this_machine())


@dataclass(frozen=True)
class RowsOptions(Panel):
    """Which task set becomes rows, and where the contents are."""

    tasks: Annotated[
        str, typer.Argument(metavar="TASKS", help="A task set: a parquet or JSON lines file, or a name on the hub.")
    ]
    mirrors: Annotated[Path, typer.Option(help="Folder of clones, as for curate.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the rows.")]
    split: Annotated[str, typer.Option(help="Split of a set on the hub.")] = "train"
    images: Annotated[
        str,
        typer.Option(metavar="NAME", help="Image where a task names none, with {id} (a_1776_b) or {id_s} (a_s_b)."),
    ] = "swebench/sweb.eval.x86_64.{id}:latest"
    config: ConfigFile = None
    offers = (
        Offer(("curate.clone_from",), ("--clone",), "Clone missing repositories from GitHub.", value="https://github.com"),
    )  # fmt: skip


@learn.add("Make rows from a public task set.")
def rows(options: RowsOptions, flags: Flags) -> None:
    """Make rows from a public task set, such as SWE-Gym, SWE-smith, SWE-rebench, R2E-Gym or SWE-bench's train split."""
    from agentless_mini.commands.config import read_config
    from agentless_mini.commands.learn_data import run_rows

    run_rows(options, read_config(options.config, flags))


@dataclass(frozen=True)
class SynthesizeOptions(Panel):
    """Which rows a teacher explains, and how often it may try."""

    data: Data
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the rows with reasoning.")]
    quiet: Quiet = False
    offers = ("synthesize.samples", "synthesize.temperature", "synthesize.max_tokens", "synthesize.seed")


@learn.add("Let a teacher write the reasoning of rows.")
def synthesize(options: SynthesizeOptions, model: ModelOptions, flags: Flags) -> None:
    """Let a teacher write the reasoning of rows, kept only if its edits make the known repair.

    Its answers are recorded in the folder: the same command again continues where it stopped.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.learn_data import run_synthesize

    run_synthesize(options, read_config(model.config, flags), this_machine())


@dataclass(frozen=True)
class TrainingOptions(Panel):
    """What is trained on what, and how: what all trainers have in common."""

    data: Data
    model: Annotated[str, typer.Option("--model", "-m", help="Base model: a folder, or a name on the hub.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the training and of what it makes.")]
    trl: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A field of TRL's own configuration, handed on to it.")
    ] = None
    dry_run: Annotated[
        int | None,
        typer.Option(metavar="DEVICES", min=1, help="Train nothing: say what a step on so many devices takes."),
    ] = None
    quiet: Quiet = False
    config: ConfigFile = None
    offers = (
        *(f"trainers.{name}" for name in ("adapter", "tuning", "rank", "upper_layers", "precision", "steps", "epochs")),
        *(f"trainers.{name}" for name in ("learning_rate", "batch", "accumulate", "max_tokens", "save_every")),
        *(f"trainers.{name}" for name in ("minutes", "tracker", "device", "seed")),
        "prompts",
    )

    def over(self, section: str, flags: Flags) -> Flags:
        """Return the flags of a trainer with what is handed on to TRL: JSON, or else a text. Raises `UsageError`."""
        handed: Flags = {}
        for said in self.trl or ():
            key, equals, value = said.partition("=")
            if not key or not equals:
                raise UsageError(f"--trl {printable(said)} is no KEY=VALUE: write it as --trl loss_type=dr_grpo.")
            try:
                handed[f"{section}.trl.{key}"] = json.loads(_CONSTANTS.get(value, value))
            except ValueError:
                handed[f"{section}.trl.{key}"] = value
        return {**flags, **handed}


@dataclass(frozen=True)
class SftOptions(Panel):
    """What an example of supervised fine-tuning shows."""

    parents_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Sample the parents from it: a checkpoint's folder, or an endpoint's address."
        ),
    ] = None
    offers = ("sft.kind",)


@learn.add("Fine-tune a model on rows.")
def sft(training: TrainingOptions, options: SftOptions, flags: Flags) -> None:
    """Fine-tune a model on rows: from issue and code, and earlier patches if wanted, to the true repair.

    The same command again continues from the last checkpoint; Ctrl-C and SIGTERM write one.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.learn_training import run_sft

    run_sft(training, options, read_config(training.config, training.over("sft", flags)), this_machine())


@dataclass(frozen=True)
class RlOptions(Panel):
    """What rollouts are rewarded for, and who writes them."""

    offers = (
        *(f"rl.{name}" for name in ("preset", "reward", "potential", "scorer", "shown_parents", "compared", "group")),
        *(f"rl.{name}" for name in ("rollouts", "answer_tokens", "generation", "server")),
        Offer(
            ("sandbox.kind",), help="Where checks run, for the reward or potential tests: auto, docker or local [auto]."
        ),
    )


@learn.add("Train a model on its own answers to rows (GRPO).")
def rl(training: TrainingOptions, options: RlOptions, flags: Flags) -> None:
    """Train a model on its own answers to rows (GRPO), rewarded by similarity, equality, tests or shaping.

    The same command again continues from the last checkpoint; Ctrl-C and SIGTERM write one.
    """
    from agentless_mini.commands.config import read_config, this_machine
    from agentless_mini.commands.learn_training import run_rl

    run_rl(training, read_config(training.config, training.over("rl", flags)), this_machine())


@dataclass(frozen=True)
class RewardModelOptions(Panel):
    """What a reward model is trained on."""

    offers = ("reward_model.kind",)


@learn.add("Train a model that scores patches.", name="reward-model")
def reward_model(training: TrainingOptions, options: RewardModelOptions, flags: Flags) -> None:
    """Train a model that scores patches, as the selector of later rounds; vLLM can serve it.

    The same command again continues from the last checkpoint; Ctrl-C and SIGTERM write one.
    """
    from agentless_mini.commands.config import read_config
    from agentless_mini.commands.learn_training import run_reward_model

    run_reward_model(training, read_config(training.config, training.over("reward_model", flags)))


@dataclass(frozen=True)
class ExportOptions(Panel):
    """Which checkpoint is written in which form."""

    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Folder of a trained adapter or model.")]
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Base model, if not the one that the adapter names.")
    ] = None
    merge: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the whole model there, as transformers and vLLM read it.")
    ] = None
    gguf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a GGUF file there, as the embedded server reads it.")
    ] = None
    base: Annotated[
        Path | None, typer.Option(metavar="FILE", help="GGUF file of the base model; by default the embedded model's.")
    ] = None
    weights: Annotated[
        str, typer.Option(help="How a GGUF file stores matrices: q8_0, f16 or f32.", show_default=False)
    ] = "q8_0"


@learn.add("Write a checkpoint as one model, or as a GGUF file.")
def export(options: ExportOptions) -> None:
    """Write a trained checkpoint as one model (--merge), or as a GGUF file for the embedded server (--gguf)."""
    from agentless_mini.commands.config import this_machine
    from agentless_mini.commands.learn_training import run_export

    run_export(options, this_machine())


@dataclass(frozen=True)
class ExportRowsOptions(Panel):
    """Which rows are written for which trainer."""

    data: Data
    to: Annotated[str, typer.Option(help="Whose columns: verl, trl or verifiers.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the files, one for each split.")]
    config: ConfigFile = None
    offers = ("prompts",)


@learn.add("Write rows as verl, TRL or verifiers read them.", name="export-rows")
def export_rows(options: ExportRowsOptions, flags: Flags) -> None:
    """Write rows as verl, TRL or verifiers read them, for the rewards in `agentless_mini.learning.trainers`."""
    from agentless_mini.commands.config import read_config
    from agentless_mini.commands.learn_data import run_export_rows

    run_export_rows(options, read_config(options.config, flags))
