"""The models that are trained: loaded in the precision that their training needs, with adapters or without."""

import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError

from agentless_mini.errors import ModelUnknown, UsageError, boundary, printable
from agentless_mini.settings.learning import Device, Precision, TrainingSettings, Tuning


def quiet() -> None:
    """Let transformers and its kin say errors alone: no bars, no reports of what was loaded."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # TRL and peft use a name that transformers has renamed.
    warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing` is deprecated", FutureWarning)


def on_cpu(settings: TrainingSettings) -> bool:
    """Return whether the CPU computes."""
    return settings.device is Device.CPU or not torch.cuda.is_available()


def in_bfloat16(settings: TrainingSettings) -> bool:
    """Return whether is computed in bfloat16."""
    return not on_cpu(settings) if settings.precision is Precision.AUTO else settings.precision is Precision.BFLOAT16


def load_tokenizer(model: str) -> Any:  # noqa: ANN401 - transformers' tokenizers have no common type
    """Return the model's tokenizer, which can pad. Raises `ModelUnknown`."""
    with loading(model):
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:  # noqa: ANN401 - as above
    """Return the tokens that end an answer: the tokenizer's, and those of the model's own settings, as servers do."""
    said = getattr(model.generation_config, "eos_token_id", None)
    others = [said] if isinstance(said, int) else said or []
    return frozenset({int(tokenizer.eos_token_id), *map(int, others)})


def load_model(name: str, adapter: Path | None, dtype: torch.dtype, *, trained: bool = False) -> Any:  # noqa: ANN401 - as above
    """Return a causal model, with its adapter around it where one is named. Raises `ModelUnknown` and `UsageError`."""
    with loading(name):
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    if adapter is None:
        return model
    with loading_adapter(adapter, name):
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=trained)


def merged(model: Any) -> Any:  # noqa: ANN401 - as above
    """Return a model with the adapter around it, if there is one, merged into its weights."""
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def load_policy(name: str, settings: TrainingSettings) -> tuple[Any, LoraConfig | None]:
    """Return the causal model to train, and the adapters to add where it has none. Raises as `load_model`."""
    model = load_model(name, settings.adapter, weights_dtype(settings), trained=True)
    if settings.tuning is Tuning.FULL:
        model = merged(model)
        freeze_lower(model, settings)
        return model, None
    if settings.adapter is None:
        return model, lora(model, settings, "CAUSAL_LM")
    rank = model.peft_config["default"].r
    if "rank" in settings.model_fields_set and settings.rank != rank:
        place = printable(str(settings.adapter))
        raise UsageError(f"The adapter in {place} has the rank {rank}: leave out rank, or set that.")
    return model, None


def weights_dtype(settings: TrainingSettings) -> torch.dtype:
    """Return what weights are kept in: those that are trained in full, frozen ones on a GPU can do with half."""
    half = settings.tuning is Tuning.LORA and in_bfloat16(settings)
    return torch.bfloat16 if half else torch.float32


def lora(model: Any, settings: TrainingSettings, kind: str) -> LoraConfig:  # noqa: ANN401 - as above
    """Return adapters on the linear layers but the head, which vLLM serves as well. Raises `UsageError`."""
    size: dict[str, Any] = {"r": settings.rank, "lora_alpha": 2 * settings.rank, "task_type": kind}
    if settings.upper_layers is None:
        return LoraConfig(target_modules="all-linear", **size)
    layers, first = _layers(model, settings.upper_layers)
    linear = {name.rpartition(".")[2] for name, part in layers[0].named_modules() if isinstance(part, torch.nn.Linear)}
    return LoraConfig(target_modules=sorted(linear), layers_to_transform=list(range(first, len(layers))), **size)


def freeze_lower(model: Any, settings: TrainingSettings) -> None:  # noqa: ANN401 - as above
    """Train nothing but the last layers, where only so many are to be trained. Raises `UsageError`."""
    if settings.upper_layers is None:
        return
    layers, first = _layers(model, settings.upper_layers)
    model.requires_grad_(False)
    for layer in layers[first:]:
        layer.requires_grad_(True)


def _layers(model: Any, upper: int) -> tuple[Any, int]:  # noqa: ANN401 - as above
    """Return a model's layers in order, and the place of the first that is trained."""
    layers = getattr(model.base_model, "layers", None)
    if layers is None or upper > len(layers):
        has = "no list of layers" if layers is None else f"{len(layers)} layers"
        raise UsageError(f"The model has {has}: leave upper_layers out, or set it to fewer.")
    return layers, len(layers) - upper


def loading(model: str) -> AbstractContextManager[None]:
    """Return the boundary at which a model that cannot be loaded becomes `ModelUnknown`."""
    said = f"The model {printable(model)} cannot be loaded"
    errors = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
    return boundary(
        dict.fromkeys(errors, lambda error: ModelUnknown(f"{said} ({_line(error)}): name a folder or one of the hub."))
    )


def loading_adapter(adapter: Path, model: str) -> AbstractContextManager[None]:
    """Return the boundary at which an adapter that is missing, broken or of another model becomes `UsageError`."""
    place = printable(str(adapter))

    def said(error: BaseException) -> UsageError:
        if not (adapter / "adapter_config.json").is_file():
            return UsageError(f"There is no LoRA adapter in {place}: name its folder.")
        return UsageError(f"The adapter in {place} is not one of {printable(model)} ({_line(error)}): name its model.")

    return boundary(dict.fromkeys((OSError, ValueError, KeyError, RuntimeError, SafetensorError), said))


def _line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))[:200]
