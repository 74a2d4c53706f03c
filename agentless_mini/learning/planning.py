"""What a training would take, before it is begun: parameters, memory, tokens of a step, steps of a day.

The model is built from its configuration, without weights. The memory is a formula:

    weights          2 bytes a parameter where frozen ones are in half precision, else 4
    gradients        4 bytes a parameter that is trained
    optimizer        8 bytes a parameter that is trained (AdamW)
    activations      what is kept at the border of each layer, one layer computed again, and the logits of the answer
                     with their gradient, of one batch of the longest sequences

Weights, gradients and optimizer are shared by all devices under FSDP and ZeRO-3 (`sharded_gib`), and not under DDP
(`gib`). Fragments, the vocabulary's other copies, and vLLM beside the trainer come on top.
"""

import math
from typing import Any

import torch
import transformers
from peft import get_peft_model

from agentless_mini.domain import canonical_json
from agentless_mini.errors import ModelUnknown, UsageError, boundary, printable
from agentless_mini.learning.policies import freeze_lower, lora, quiet
from agentless_mini.settings.learning import Device, Precision, RlSettings, TrainingSettings, Tuning

SPEEDS = (1_000, 10_000, 100_000)
"""Tokens a second, of all devices together, for which the steps of a day are said."""
_GIB = 2**30
_DAY = 86_400


def plan(name: str, settings: TrainingSettings, rows: int, devices: int) -> str:
    """Return as a JSON document what a training on so many rows and devices takes. Raises `UsageError`."""
    is_half = settings.precision is Precision.BFLOAT16 or (
        settings.precision is Precision.AUTO and settings.device is not Device.CPU
    )
    sequences = devices * settings.batch * settings.accumulate
    group = settings.group if isinstance(settings, RlSettings) else 1
    model = _empty(name, settings)
    total = sum(part.numel() for part in model.parameters())
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    kept = 2 if is_half and settings.tuning is Tuning.LORA else 4
    states = total * kept + trained * 12
    activations = _activations(model.config, settings.batch * settings.max_tokens, 2 if is_half else 4)
    tokens = sequences * settings.max_tokens
    return canonical_json({
        "rows": rows,
        "devices": devices,
        "sequences_of_a_step": sequences,
        "prompts_of_a_step": sequences // group,
        "most_tokens_of_a_step": tokens,
        "steps": settings.steps or math.ceil(rows * group * settings.epochs / sequences),
        "parameters": total,
        "trained": trained,
        "gib": round((states + activations) / _GIB, 2),
        "sharded_gib": round((states / devices + activations) / _GIB, 2),
        "least_steps_of_a_day": {str(speed): round(_DAY * speed / tokens, 1) for speed in SPEEDS},
    })  # fmt: skip


def _empty(name: str, settings: TrainingSettings) -> Any:  # noqa: ANN401 - transformers' models have no common type
    """Return the model that is trained, without weights. Raises `ModelUnknown`."""
    quiet()
    unknown = ModelUnknown(f"The model {printable(name)} cannot be planned for: name a causal model.")
    with boundary(dict.fromkeys((OSError, ValueError, KeyError, ImportError), lambda error: unknown)):
        config = transformers.AutoConfig.from_pretrained(name)
        with torch.device("meta"):
            model: Any = transformers.AutoModelForCausalLM.from_config(config)
            if settings.tuning is Tuning.LORA:
                return get_peft_model(model, lora(model, settings, "CAUSAL_LM"))
        freeze_lower(model, settings)
        return model


def _activations(config: Any, tokens: int, size: int) -> int:  # noqa: ANN401 - as above
    text = config.get_text_config()
    hidden, layers, vocabulary = text.hidden_size, text.num_hidden_layers, text.vocab_size
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    return int(tokens * (size * hidden * layers + size * (8 * hidden + 3 * inner) + 8 * vocabulary))


def whole_groups(settings: RlSettings, devices: int) -> RlSettings:
    """Return the settings with as many batches as the wanted rollouts are. Raises `UsageError` for broken groups."""
    at_once = devices * settings.batch
    if settings.rollouts is not None:
        if settings.rollouts % at_once:
            raise UsageError(
                f"{settings.rollouts} rollouts in a step are no multiple of {devices} x {settings.batch} (devices, "
                "batch): set rollouts or batch."
            )
        settings = settings.model_copy(update={"accumulate": settings.rollouts // at_once})
    own = {"steps_per_generation", "generation_batch_size"} & settings.trl.keys()  # TRL checks these itself
    if not own and at_once * settings.accumulate % settings.group:
        raise UsageError(
            f"{devices} x {settings.batch} x {settings.accumulate} rollouts in a step (devices, batch, accumulate) "
            f"cannot be parted into groups of {settings.group}: set batch, accumulate or group."
        )
    return settings
