"""What every command that runs the chain makes of the settings: the chain's, and the names that go on the record."""

import json
import platform

from agentless_mini import __version__
from agentless_mini.commands.models import ChosenModel
from agentless_mini.config import Config
from agentless_mini.domain import Decoding
from agentless_mini.pipeline import ChainSettings


def chain_of(config: Config) -> ChainSettings:
    """Return the settings of the chain's stages; what depends on the issue is the command's to add."""
    return ChainSettings(
        localize=config.localize,
        repair=config.repair,
        evolve=config.evolve,
        reproduce=config.reproduce,
        regress=config.regress,
        answer=config.answer,
        think=config.think,
        rank=config.rank,
    )


def identity(chosen: ChosenModel, config: Config) -> str:
    """Return the name under which a model's card is recorded: what the user says of a model makes it another one."""
    said = config.endpoint
    if said.context_window is None and said.decoding is Decoding.FREE:
        return chosen.name
    return f"{chosen.name} (context {said.context_window}, {said.decoding})"


def versions(chosen: ChosenModel) -> str:
    """Return the versions that matter for what a run gave, as JSON."""
    return json.dumps({"amini": __version__, "python": platform.python_version(), "model": chosen.source})
