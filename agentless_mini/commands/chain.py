"""What every command that runs the chain makes of the settings: the chain's, and the names that go on the record."""

import json
import platform

from agentless_mini import __version__
from agentless_mini.commands.models import ChosenModel
from agentless_mini.domain import Decoding
from agentless_mini.settings import Config

REWRITES = 50
"""Repairs by the carried model where nobody says how many: with 100 its benchmark solved one more of 12 bugs."""
SEEDS = 1_000_000
"""Seeds from one generation of answers to the next."""


def seeded(config: Config) -> Config:
    """Return the settings as the chain's stages take them: each generation of answers has seeds of its own.

    So a server draws others, and the record keeps them apart.
    """
    shift = SEEDS * (config.generation or 0)
    sections = {name: getattr(config, name) for name in ("localize", "repair", "evolve", "reproduce")}
    changed = {name: one.model_copy(update={"seed": (one.seed + shift) % 2**31}) for name, one in sections.items()}
    return config.model_copy(update=changed)


def settled(config: Config, newest: int, chosen: ChosenModel | None = None) -> Config:
    """Return the settings with the number of the generation, where `newest` is the newest that is recorded.

    Where nobody said how many repairs are sampled, a model that rewrites lines has a default of its own.
    """
    named = newest if config.generation is None else config.generation
    update: dict[str, object] = {"generation": newest + 1 if config.fresh else named}
    if chosen is not None and not chosen.writes and "samples" not in config.repair.model_fields_set:
        update["repair"] = config.repair.model_copy(update={"samples": REWRITES})
    return config.model_copy(update=update)


def identity(chosen: ChosenModel, config: Config) -> str:
    """Return the name under which a model's card is recorded: what the user says of a model makes it another one."""
    said = config.endpoint
    if said.context_window is None and said.decoding is Decoding.FREE:
        return chosen.name
    return f"{chosen.name} (context {said.context_window}, {said.decoding})"


def versions(chosen: ChosenModel) -> str:
    """Return the versions that matter for what a run gave, as JSON."""
    return json.dumps({"amini": __version__, "python": platform.python_version(), "model": chosen.source})
