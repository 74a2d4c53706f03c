"""`amini learn rl`: reinforcement learning on rows, in a sandbox where tests are the reward, or its potential."""

import sys
from contextlib import AsyncExitStack, ExitStack

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
from agentless_mini.commands.models import Machine
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.environment.work import Opened
from agentless_mini.learning.checks import open_plain, running_checks
from agentless_mini.settings import Config


def run_rl(training: TrainingOptions, config: Config, machine: Machine) -> None:
    """Train, and print one JSON document: where the model is, steps, loss, and what became of the rows."""
    require_stdout()
    require_inputs(training, config.rl)
    decide_precision()
    lines = Lines(console_of(quiet=training.quiet))

    async def opening(stack: AsyncExitStack) -> Opened:
        return await open_plain(config.sandbox, machine.cache, machine.environment, lines, stack)

    with stdout_kept(), ExitStack() as stack:
        # Before the libraries are imported, which takes a minute on a slow machine.
        checking = stack.enter_context(running_checks(opening)) if config.rl.runs_checks else None
        from agentless_mini.learning.rl import train_rl
        from agentless_mini.learning.training import Task, is_first

        prompts = load_prompts(config.prompts)
        task = Task("rl", named_model(training.model), training.data, training.out, prompts, lines.say)
        outcome = train_rl(task, config.rl, checking)
    if is_first():
        sys.stdout.write(outcome.document() + "\n")
