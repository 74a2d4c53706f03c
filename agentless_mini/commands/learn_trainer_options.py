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
    adapter: Annotated[
        Path | None,
        typer.Option(help="LoRA adapter to start from."),
        Setting("sft.adapter"),
        Setting("rl.adapter"),
        Setting("reward_model.adapter"),
    ] = None
    tuning: Annotated[
        str | None,
        typer.Option(help="Weights trained: lora or full [lora]."),
        Setting("sft.tuning"),
        Setting("rl.tuning"),
        Setting("reward_model.tuning"),
    ] = None
    rank: Annotated[
        int | None,
        typer.Option(help="Rank of the LoRA adapters [16]."),
        Setting("sft.rank"),
        Setting("rl.rank"),
        Setting("reward_model.rank"),
    ] = None
    upper_layers: Annotated[
        int | None,
        typer.Option(help="Train only the last N layers; by default all."),
        Setting("sft.upper_layers"),
        Setting("rl.upper_layers"),
        Setting("reward_model.upper_layers"),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(help="Number format: auto, float32 or bfloat16 [auto: bfloat16 on GPUs]."),
        Setting("sft.precision"),
        Setting("rl.precision"),
        Setting("reward_model.precision"),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of the optimizer; by default as many as the epochs have."),
        Setting("sft.steps"),
        Setting("rl.steps"),
        Setting("reward_model.steps"),
    ] = None
    epochs: Annotated[
        float | None,
        typer.Option(help="Passes over the data [1]."),
        Setting("sft.epochs"),
        Setting("rl.epochs"),
        Setting("reward_model.epochs"),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Highest learning rate [1e-4, rl: 1e-6]."),
        Setting("sft.learning_rate"),
        Setting("rl.learning_rate"),
        Setting("reward_model.learning_rate"),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(help="Sequences that a device computes at once [4]."),
        Setting("sft.batch"),
        Setting("rl.batch"),
        Setting("reward_model.batch"),
    ] = None
    accumulate: Annotated[
        int | None,
        typer.Option(help="Batches in one step [4, rl: 8]."),
        Setting("sft.accumulate"),
        Setting("rl.accumulate"),
        Setting("reward_model.accumulate"),
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens of prompt and answer; longer rows are left out [8192]."),
        Setting("sft.max_tokens"),
        Setting("rl.max_tokens"),
        Setting("reward_model.max_tokens"),
    ] = None
    save_every: Annotated[
        int | None,
        typer.Option(help="Steps between checkpoints [50]."),
        Setting("sft.save_every"),
        Setting("rl.save_every"),
        Setting("reward_model.save_every"),
    ] = None
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop with a checkpoint after N minutes; the same command continues."),
        Setting("sft.minutes"),
        Setting("rl.minutes"),
        Setting("reward_model.minutes"),
    ] = None
    tracker: Annotated[
        str | None,
        typer.Option(help="Where metrics are also written: tensorboard, trackio or none [tensorboard]."),
        Setting("sft.tracker"),
        Setting("rl.tracker"),
        Setting("reward_model.tracker"),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(help="auto or cpu [auto]."),
        Setting("sft.device"),
        Setting("rl.device"),
        Setting("reward_model.device"),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of all random choices [0]."),
        Setting("sft.seed"),
        Setting("rl.seed"),
        Setting("reward_model.seed"),
    ] = None
    prompts: Annotated[
        Path | None, typer.Option(help="Folder of prompt templates that replace packaged ones."), Setting("prompts")
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")] = False
    config: ConfigFile = None


@dataclass(frozen=True)
class SftOptions:
    """What an example of supervised fine-tuning shows."""

    kind: Annotated[str | None, typer.Option(help="classical or mutation [classical]."), Setting("sft.kind")] = None
    parents_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Sample the parents from it: a checkpoint's folder, or an endpoint's address."
        ),
    ] = None


@dataclass(frozen=True)
class RlOptions:
    """What rollouts are rewarded for, and who writes them."""

    reward: Annotated[
        str | None,
        typer.Option(help="similarity, discrete, tests or shaped [similarity]."),
        Setting("rl.reward"),
    ] = None
    potential: Annotated[
        str | None,
        typer.Option(help="Potential whose gain is the shaped reward: similarity, tests or reward-model [similarity]."),
        Setting("rl.potential"),
    ] = None
    scorer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the reward model for that potential."),
        Setting("rl.scorer"),
    ] = None
    group: Annotated[int | None, typer.Option(help="Rollouts of one prompt [8]."), Setting("rl.group")] = None
    answer_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a rollout [2048]."), Setting("rl.answer_tokens")
    ] = None
    generation: Annotated[
        str | None,
        typer.Option(help="Who writes rollouts: auto, transformers, colocate or server [auto]."),
        Setting("rl.generation"),
    ] = None
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of `trl vllm-serve`."), Setting("rl.server")
    ] = None
    sandbox: Annotated[
        str | None,
        typer.Option(help="Where checks run, for the reward or potential tests: auto, docker or local [auto]."),
        Setting("sandbox.kind"),
    ] = None


@dataclass(frozen=True)
class RewardModelOptions:
    """What a reward model is trained on."""

    kind: Annotated[str | None, typer.Option(help="pairwise or binary [pairwise]."), Setting("reward_model.kind")] = (
        None
    )


@dataclass(frozen=True)
class SynthesizeOptions:
    """Which rows a teacher explains, and how often it may try."""

    data: Annotated[Path, typer.Argument(metavar="DATA", help="Rows: a parquet file, or a folder of them.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the rows with reasoning.")]
    samples: Annotated[
        int | None, typer.Option("--samples", "-n", help="Most tries for a row [4]."), Setting("synthesize.samples")
    ] = None
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature [0.7]."), Setting("synthesize.temperature")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer [4096]."), Setting("synthesize.max_tokens")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of the first try [0]."), Setting("synthesize.seed")] = None
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
        Path | None,
        typer.Option(metavar="FILE", help="GGUF file of the base model; by default the embedded model's."),
    ] = None
    weights: Annotated[
        str, typer.Option(help="How a GGUF file stores matrices: q8_0, f16 or f32.", show_default=False)
    ] = "q8_0"
