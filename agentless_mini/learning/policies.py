"""The models that are trained: loaded in the precision that their training needs, with adapters or without.

Nothing is trained here.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel

from agentless_mini.errors import ModelUnknown, UsageError, boundary, printable
from agentless_mini.learning.training_settings import Device, TrainingSettings, Tuning


def on_cpu(settings: TrainingSettings) -> bool:
    """Return whether the CPU computes."""
    return settings.device is Device.CPU or not torch.cuda.is_available()


def load_tokenizer(model: str) -> Any:  # noqa: ANN401 - transformers' tokenizers have no common type
    """Return the model's tokenizer, which can pad. Raises `ModelUnknown`."""
    with loading(model):
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(name: str, settings: TrainingSettings) -> tuple[Any, LoraConfig | None]:
    """Return the causal model to train, and the adapters to add where it has none. Raises `ModelUnknown`."""
    # All weights are trained in full precision; frozen ones can do with half of it.
    half = settings.tuning is Tuning.LORA and not on_cpu(settings)
    with loading(name):
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16 if half else torch.float32)
    if settings.adapter is not None:
        model = _with_adapter(model, settings.adapter, settings.tuning)
    fresh = settings.tuning is Tuning.LORA and settings.adapter is None
    return model, lora(settings, "CAUSAL_LM") if fresh else None


def _with_adapter(model: Any, adapter: Path, tuning: Tuning) -> Any:  # noqa: ANN401 - as above
    missing = f"There is no LoRA adapter in {printable(str(adapter))}"
    with boundary(
        dict.fromkeys((OSError, ValueError), lambda error: UsageError(f"{missing} ({error}): name its folder."))
    ):
        adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    return adapted.merge_and_unload() if tuning is Tuning.FULL else adapted


def lora(settings: TrainingSettings, kind: str) -> LoraConfig:
    """Return adapters on all linear layers but the head, which vLLM serves as well."""
    return LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear", task_type=kind)


def loading(model: str) -> AbstractContextManager[None]:
    """Return the boundary at which a model that cannot be loaded becomes `ModelUnknown`."""
    said = f"The model {printable(model)} cannot be loaded"
    errors = (OSError, ValueError, KeyError)
    return boundary(
        dict.fromkeys(errors, lambda error: ModelUnknown(f"{said} ({_line(error)}): name a folder or one of the hub."))
    )


def _line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))[:200]


def bare(model: Any) -> Any:  # noqa: ANN401 - transformers' models have no common type
    """Return the causal model itself, without adapters around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
