"""`amini learn export`: a checkpoint as one model for transformers and vLLM, or as a GGUF file for llama.cpp."""

import dataclasses
import sys
from pathlib import Path

from agentless_mini.commands.learn_models import Lines, console_of, require_training
from agentless_mini.commands.learn_trainer_options import ExportOptions
from agentless_mini.commands.models import Machine
from agentless_mini.commands.terminal import require_stdout
from agentless_mini.domain import canonical_json
from agentless_mini.errors import UsageError, printable
from agentless_mini.learning.checkpoints import find_checkpoint
from agentless_mini.model.embedded.weights import find_weights
from agentless_mini.settings.learning import GgufWeights
from agentless_mini.settings.model import WeightsSettings


def run_export(options: ExportOptions, machine: Machine) -> None:
    """Write what is asked for, and print one JSON document of it."""
    require_stdout()
    require_training()
    if options.merge is None and options.gguf is None:
        raise UsageError("There is nothing to write: give --merge DIR or --gguf FILE.")
    if options.weights not in tuple(GgufWeights):
        raise UsageError(f"There are no weights of the kind {options.weights!r}: use {', '.join(GgufWeights)}.")
    checkpoint = find_checkpoint(options.checkpoint)
    if options.base is not None and not options.base.is_file():
        raise UsageError(f"There is no file {printable(str(options.base))}: name the GGUF file of the base model.")
    from agentless_mini.learning import export

    if options.model is not None:
        checkpoint = dataclasses.replace(checkpoint, model=options.model)
    made: dict[str, object] = {}
    if options.merge is not None:
        made["merged"] = _told(export.merge(checkpoint, options.merge))
    if options.gguf is not None:
        base = options.base or _carried(machine)
        made["gguf"] = _told(export.export_gguf(checkpoint, base, options.gguf, GgufWeights(options.weights)))
    sys.stdout.write(canonical_json(made) + "\n")


def _carried(machine: Machine) -> Path:
    """Return the carried model's file, whose tokenizer is the one of what is trained from it."""
    lines = Lines(console_of(quiet=False))
    return find_weights(WeightsSettings(), machine.weights, lines.say).path


def _told(exported: object) -> dict[str, object]:
    said = dataclasses.asdict(exported)  # type: ignore[call-overload]
    return {**said, "path": str(said["path"])}
