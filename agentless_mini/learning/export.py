"""A checkpoint -> one file that llama.cpp reads (GGUF), or a folder with the adapter merged into the model.

llama.cpp's own converter is in no package of the index. What is written here is therefore little: the architectures
of `ARCHITECTURES`, with plain rotary positions, and the tokenizer as a GGUF file of the base model already says it.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable
from agentless_mini.learning.checkpoints import Checkpoint
from agentless_mini.learning.policies import load_model, loading, merged, quiet
from agentless_mini.settings.learning import GgufWeights

# transformers' names of architectures and llama.cpp's; of the last, query and key are stored as rotated pairs.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
_PAIRED = frozenset({"llama"})
_TYPES = {
    GgufWeights.F32: (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    GgufWeights.F16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    GgufWeights.Q8_0: (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    architecture: str
    tensors: int
    size: int

    def document(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {**asdict(self), "path": str(self.path)}


def merge(checkpoint: Checkpoint, out: Path) -> Exported:
    """Write the model with its adapter merged into it, and its tokenizer, as transformers and vLLM read them.

    It is merged in float32 and stored as the base is. Raises `UsageError` for a reward model.
    """
    model, tokenizer = _loaded(checkpoint)
    stored = transformers.AutoConfig.from_pretrained(checkpoint.model).dtype
    model = model.to(stored or torch.float32)
    name = printable(str(out))
    with boundary({OSError: lambda error: EnvironmentFailed(f"{name} cannot be written ({error}): free some room.")}):
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        size = sum(file.stat().st_size for file in out.iterdir())
    return Exported(out, str(model.config.model_type), len(model.state_dict()), size)


def export_gguf(checkpoint: Checkpoint, base: Path, out: Path, weights: GgufWeights) -> Exported:
    """Write the model, its adapter merged, as a GGUF file with the tokenizer of the GGUF file `base`.

    Raises `UsageError` for an architecture that is not supported, a reward model and a base of another vocabulary.
    """
    model, _ = _loaded(checkpoint)
    config = model.config
    architecture = _architecture(config)
    partial = out.with_name(f".{out.name}.partial")
    name = printable(str(out))
    with boundary({OSError: lambda error: EnvironmentFailed(f"{name} cannot be written ({error}): free some room.")}):
        writer = gguf.GGUFWriter(str(partial), architecture)
        _add_shape(writer, config, _TYPES[weights][1])
        _add_tokenizer(writer, base, config.vocab_size)
        count = 0
        for tensor, values, kind in _tensors(model, architecture, _TYPES[weights][0]):
            writer.add_tensor(tensor, values, raw_dtype=kind)
            count += 1
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(out)
        return Exported(out, architecture, count, out.stat().st_size)


def _loaded(checkpoint: Checkpoint) -> tuple[Any, Any]:
    quiet()
    with loading(checkpoint.model):
        kinds = transformers.AutoConfig.from_pretrained(checkpoint.model).architectures or []
        if any(kind.endswith("ForSequenceClassification") for kind in kinds):
            raise UsageError("A reward model writes no answers and is whole already: serve its folder with vLLM.")
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.model)
    return merged(load_model(checkpoint.model, checkpoint.adapter, torch.float32)), tokenizer


def _architecture(config: Any) -> str:  # noqa: ANN401 - transformers' configurations
    kind = str(config.model_type)
    rope = getattr(config, "rope_parameters", None) or {}
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    is_plain = rope.get("rope_type", "default") == "default" and (window or math.inf) >= config.max_position_embeddings
    if kind not in ARCHITECTURES or not is_plain:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UsageError(
            f"Models of the kind {printable(kind)} cannot be written as GGUF here (only {known}, with plain rotary "
            "positions and no window of attention): merge the adapter with --merge and use llama.cpp's converter."
        )
    return ARCHITECTURES[kind]


def _add_shape(writer: Any, config: Any, file_type: Any) -> None:  # noqa: ANN401 - gguf has no types
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float((config.rope_parameters or {}).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: Any, base: Path, vocabulary: int) -> None:  # noqa: ANN401 - as above
    """Copy all that the base's file says of its tokenizer."""
    name = printable(str(base))
    said = f"{name} is no GGUF file of the base model"
    errors = (OSError, ValueError, KeyError)
    with boundary(dict.fromkeys(errors, lambda error: UsageError(f"{said} ({error}): name one with --base."))):
        fields = gguf.GGUFReader(str(base)).fields
        tokens = len(fields["tokenizer.ggml.tokens"].data)
        if tokens != vocabulary:
            raise UsageError(f"{name} has {tokens} tokens and the model {vocabulary}: name the base model's own file.")
        for key, field in fields.items():
            if key.startswith("tokenizer."):
                inner = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), field.types[0], inner)


def _tensors(model: Any, architecture: str, matrices: Any) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401 - as above
    """Yield llama.cpp's name of each tensor, its bytes and their type."""
    config = model.config
    kind = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for own, tensor in model.state_dict().items():
        if own == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(own, (".weight", ".bias"))
        if name is None:
            raise UsageError(f"llama.cpp has no place for {printable(own)}: merge the adapter and use its converter.")
        values = tensor.to(torch.float32).numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if architecture in _PAIRED and f".{part}." in own:
                values = _paired(values, heads)
        plain = values.ndim == 1 or values.shape[-1] % gguf.GGML_QUANT_SIZES[matrices][0] != 0
        stored = gguf.GGMLQuantizationType.F32 if plain else matrices
        yield name, gguf.quants.quantize(np.ascontiguousarray(values), stored), stored


def _paired(values: Any, heads: int) -> Any:  # noqa: ANN401 - as above
    """Reorder each head's rows: transformers rotates the halves of a head, llama.cpp neighbouring rows."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
