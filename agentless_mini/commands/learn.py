"""`amini learn`: data to learn from, and training. What a command needs is imported when it runs, as in `cli`."""

import typer

from agentless_mini.commands.learn_options import CurateOptions
from agentless_mini.commands.learn_trainer_options import (
    ExportOptions,
    RewardModelOptions,
    RlOptions,
    SftOptions,
    SynthesizeOptions,
    TrainingOptions,
)
from agentless_mini.commands.options import DocumentedCommand, expanded, settings_of
from agentless_mini.commands.repair_options import ModelOptions
from agentless_mini.commands.usage import Commands

learn = typer.Typer(
    name="learn",
    cls=Commands,
    help="Makes training data and trains models, with the prompts and the edit format of repairs.",
    short_help="Make training data and train models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@learn.command(short_help="Make rows from merged pull requests.", cls=DocumentedCommand)
@expanded
def curate(options: CurateOptions, model: ModelOptions) -> None:
    """Make rows from merged pull requests: GH Archive's events, joined with clones.

    The same command again continues where it stopped. The result on stdout is a JSON document.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import read_config, this_machine
        from agentless_mini.commands.learn_curate import run_curate

        run_curate(options, read_config(model.config, settings_of(options, model)), this_machine())


@learn.command(short_help="Let a teacher write the reasoning of rows.", cls=DocumentedCommand)
@expanded
def synthesize(options: SynthesizeOptions, model: ModelOptions) -> None:
    """Let a teacher write the reasoning of rows, kept only if its edits make the known repair.

    Its answers are recorded in the folder: the same command again continues where it stopped.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import read_config, this_machine
        from agentless_mini.commands.learn_synthesize import run_synthesize

        run_synthesize(options, read_config(model.config, settings_of(options, model)), this_machine())


@learn.command(short_help="Fine-tune a model on rows.", cls=DocumentedCommand)
@expanded
def sft(training: TrainingOptions, options: SftOptions) -> None:
    """Fine-tune a model on rows: from issue and code, and earlier patches if wanted, to the true repair.

    The same command again continues from the last checkpoint; Ctrl-C and SIGTERM write one.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import read_config, this_machine
        from agentless_mini.commands.learn_sft import run_sft

        run_sft(training, options, read_config(training.config, settings_of(training, options)), this_machine())


@learn.command(short_help="Train a model on its own answers to rows (GRPO).", cls=DocumentedCommand)
@expanded
def rl(training: TrainingOptions, options: RlOptions) -> None:
    """Train a model on its own answers to rows (GRPO), rewarded by similarity, equality, tests or shaping.

    The same command again continues from the last checkpoint; Ctrl-C and SIGTERM write one.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import read_config, this_machine
        from agentless_mini.commands.learn_rl import run_rl

        run_rl(training, read_config(training.config, settings_of(training, options)), this_machine())


@learn.command(name="reward-model", short_help="Train a model that scores patches.", cls=DocumentedCommand)
@expanded
def reward_model(training: TrainingOptions, options: RewardModelOptions) -> None:
    """Train a model that scores patches, as the selector of later rounds; vLLM can serve it.

    The same command again continues from the last checkpoint; Ctrl-C and SIGTERM write one.
    """
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import read_config
        from agentless_mini.commands.learn_reward_model import run_reward_model

        run_reward_model(training, read_config(training.config, settings_of(training, options)))


@learn.command(short_help="Write a checkpoint as one model, or as a GGUF file.", cls=DocumentedCommand)
@expanded
def export(options: ExportOptions) -> None:
    """Write a trained checkpoint as one model (--merge), or as a GGUF file for the embedded server (--gguf)."""
    from agentless_mini.commands.terminal import reported

    with reported():
        from agentless_mini.commands.entry import this_machine
        from agentless_mini.commands.learn_export import run_export

        run_export(options, this_machine())
