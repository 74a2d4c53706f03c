"""Options of the trainers of `amini learn`, in the manner of `options`. Each trainer reads its own section."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentless_mini.commands.options import ConfigFile, Setting


@dataclass(frozen=True)
class TrainingOptions:
    """What is trained on what, and how: what all trainers have in common."""

    data: Annotated[Path, typer.Argument(metavar="DATA", help="Rows: a parquet file, or a folder of them.")]
    model: Annotated[str, typer.Option("--model", "-m", help="Base model: a folder, or a name on the hub.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the training and of what it makes.")]
    adapter: Annotated[Path | None, Setting("trainers.adapter")] = None
    tuning: Annotated[str | None, Setting("trainers.tuning")] = None
    rank: Annotated[int | None, Setting("trainers.rank")] = None
    upper_layers: Annotated[int | None, Setting("trainers.upper_layers")] = None
    precision: Annotated[str | None, Setting("trainers.precision")] = None
    steps: Annotated[int | None, Setting("trainers.steps")] = None
    epochs: Annotated[float | None, Setting("trainers.epochs")] = None
    learning_rate: Annotated[float | None, Setting("trainers.learning_rate")] = None
    batch: Annotated[int | None, Setting("trainers.batch")] = None
    accumulate: Annotated[int | None, Setting("trainers.accumulate")] = None
    max_tokens: Annotated[int | None, Setting("trainers.max_tokens")] = None
    save_every: Annotated[int | None, Setting("trainers.save_every")] = None
    minutes: Annotated[float | None, Setting("trainers.minutes")] = None
    tracker: Annotated[str | None, Setting("trainers.tracker")] = None
    device: Annotated[str | None, Setting("trainers.device")] = None
    seed: Annotated[int | None, Setting("trainers.seed")] = None
    prompts: Annotated[Path | None, Setting("prompts")] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False
    config: ConfigFile = None


@dataclass(frozen=True)
class SftOptions:
    """What an example of supervised fine-tuning shows."""

    kind: Annotated[str | None, Setting("sft.kind")] = None
    parents_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Sample the parents from it: a checkpoint's folder, or an endpoint's address."
        ),
    ] = None


@dataclass(frozen=True)
class RlOptions:
    """What rollouts are rewarded for, and who writes them."""

    reward: Annotated[str | None, Setting("rl.reward")] = None
    potential: Annotated[str | None, Setting("rl.potential")] = None
    scorer: Annotated[Path | None, typer.Option(metavar="DIR"), Setting("rl.scorer")] = None
    group: Annotated[int | None, Setting("rl.group")] = None
    answer_tokens: Annotated[int | None, Setting("rl.answer_tokens")] = None
    generation: Annotated[str | None, Setting("rl.generation")] = None
    server: Annotated[str | None, typer.Option(metavar="URL"), Setting("rl.server")] = None
    sandbox: Annotated[
        str | None,
        typer.Option(help="Where checks run, for the reward or potential tests: auto, docker or local [auto]."),
        Setting("sandbox.kind"),
    ] = None


@dataclass(frozen=True)
class RewardModelOptions:
    """What a reward model is trained on."""

    kind: Annotated[str | None, Setting("reward_model.kind")] = None


@dataclass(frozen=True)
class SynthesizeOptions:
    """Which rows a teacher explains, and how often it may try."""

    data: Annotated[Path, typer.Argument(metavar="DATA", help="Rows: a parquet file, or a folder of them.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the rows with reasoning.")]
    samples: Annotated[int | None, typer.Option("--samples", "-n"), Setting("synthesize.samples")] = None
    temperature: Annotated[float | None, Setting("synthesize.temperature")] = None
    max_tokens: Annotated[int | None, Setting("synthesize.max_tokens")] = None
    seed: Annotated[int | None, Setting("synthesize.seed")] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False


@dataclass(frozen=True)
class ExportOptions:
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
