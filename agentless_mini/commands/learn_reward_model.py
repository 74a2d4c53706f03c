"""`amini learn reward-model`: a model that scores patches, for the selector of EvoScale."""

import sys

from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.learn_models import (
    Lines,
    console_of,
    decide_precision,
    named_model,
    require_inputs,
    stdout_kept,
)
from agentless_mini.commands.learn_trainer_options import TrainingOptions
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.settings import Config


def run_reward_model(training: TrainingOptions, config: Config) -> None:
    """Train, and print one JSON document: where the model is, steps, loss, and what became of the rows."""
    require_stdout()
    require_inputs(training, config.reward_model)
    decide_precision()
    lines = Lines(console_of(quiet=training.quiet))
    from agentless_mini.learning.reward_model import train_reward_model
    from agentless_mini.learning.training import Task, is_first

    prompts = load_prompts(config.prompts)
    task = Task("reward-model", named_model(training.model), training.data, training.out, prompts, lines.say)
    with stdout_kept():
        outcome = train_reward_model(task, config.reward_model)
    if is_first():
        sys.stdout.write(outcome.document() + "\n")
