"""Puts together the command line that starts vLLM: which flags, on how many GPUs, and how its log is read.

vLLM is a program here, never imported: it may live in another virtual environment. No server is started here.
"""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from agentless_mini.domain import canonical_json
from agentless_mini.errors import EnvironmentFailed, ModelUnknown, UsageError, boundary
from agentless_mini.installing import install_command
from agentless_mini.model.process import HOST, ServerPlan, choose_port
from agentless_mini.model.startup_log import Cause, LogReading
from agentless_mini.settings.model import VllmSettings

MODULE = "vllm.entrypoints.openai.api_server"
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
SMI_LIMIT = 20.0

ALWAYS = (
    "--enable-prefix-caching",
    "--enable-prompt-tokens-details",  # so that answers say how much of a prompt came from the cache
    "--generation-config=vllm",  # else the model's own top_p, top_k and penalties bend what a request leaves open
    "--disable-uvicorn-access-log",
)
WRITING = ("--stream-interval=8",)  # one event for 8 tokens: reading one for each takes a core at 20,000 a second
SCORING = ("--runner=pooling",)  # the first request ends the engine where it has a stream interval (seen in 0.32.0)
ON_A_CPU = (
    "--gpu-memory-utilization=0.6",  # of the machine's memory here: the default of 0.92 is never free on one in use
    "--enforce-eager",
    "--block-size=32",  # the default of 128 lets each of n samples compute up to 127 prompt tokens again
    "--no-enable-chunked-prefill",  # a seeded request whose prompt is cut in chunks ends the engine (seen in 0.32.0)
)


class _ModelConfig(BaseModel):
    num_attention_heads: int | None = None
    architectures: tuple[str, ...] = ()


class _AdapterConfig(BaseModel):
    r: int = Field(ge=1)


def plan_vllm(model: str, settings: VllmSettings, gpus: tuple[str, ...]) -> ServerPlan:
    """Return how to start vLLM for a model of the hub or of a local folder, on the GPUs that `find_gpus` found.

    Raises `UsageError` for a port in use or a folder that holds no adapter, `EnvironmentFailed` if vLLM is nowhere.
    """
    base = _base_name(model, settings)
    folder = Path(model).expanduser()
    if folder.is_dir():
        model = str(folder.resolve())
    port = choose_port(settings.port)
    command = (
        *_program(settings.python, model),
        f"--served-model-name={base}",
        f"--host={HOST}",
        f"--port={port}",
        *ALWAYS,
        *(SCORING if _scores(model) else WRITING),
        *_hardware(settings, model, gpus),
        *([f"--max-model-len={settings.max_model_len}"] if settings.max_model_len else []),
        *(["--trust-remote-code"] if settings.trust_remote_code else []),
        *_adapters(settings.adapters, base),
        *settings.extra,
    )
    return ServerPlan("vLLM", served_name(model, settings), command, port, READING)


def served_name(model: str, settings: VllmSettings) -> str:
    """Return the name under which requests ask for what is planned: the first adapter's, else the model's."""
    return settings.adapters[0].resolve().name if settings.adapters else _base_name(model, settings)


def _base_name(model: str, settings: VllmSettings) -> str:
    folder = Path(model).expanduser()
    return settings.served_name or (folder.name if folder.is_dir() else model)


def has_vllm(settings: VllmSettings) -> bool:
    """Return whether `plan_vllm` finds vLLM, or an interpreter is named that should have it."""
    return settings.python is not None or find_spec("vllm") is not None or shutil.which("vllm") is not None


def _program(python: Path | None, model: str) -> tuple[str, ...]:
    if python is not None:
        return (str(python.expanduser().absolute()), "-m", MODULE, f"--model={model}")
    if find_spec("vllm"):
        return (sys.executable, "-m", MODULE, f"--model={model}")
    if found := shutil.which("vllm"):
        return (found, "serve", model)
    raise EnvironmentFailed(
        f"vLLM is not installed: {install_command('vllm')}, or name an interpreter that has it (--python)."
    )


def _hardware(settings: VllmSettings, model: str, gpus: tuple[str, ...]) -> tuple[str, ...]:
    if not gpus:
        return (f"--dtype={settings.dtype or 'float32'}", *ON_A_CPU)
    count = settings.tensor_parallel or tensor_parallel(len(gpus), _attention_heads(model))
    return (f"--dtype={settings.dtype or 'auto'}", f"--tensor-parallel-size={count}")


def tensor_parallel(gpus: int, heads: int | None) -> int:
    """Return the largest power of two of `gpus` (at least 1) that divides the attention heads, where they are known."""
    count = 1 << (gpus.bit_length() - 1)
    while heads is not None and heads % count:
        count //= 2
    return count


def _attention_heads(model: str) -> int | None:
    """Return the attention heads of a model in a local folder; None where its configuration does not say."""
    return _model_config(model).num_attention_heads


def _scores(model: str) -> bool:
    """Return whether a model in a local folder scores texts and writes none, such as a reward model."""
    return any(name.endswith("ForSequenceClassification") for name in _model_config(model).architectures)


def _model_config(model: str) -> _ModelConfig:
    """Return what the configuration of a model in a local folder says: nothing where it cannot be read."""
    try:
        return _ModelConfig.model_validate_json((Path(model) / "config.json").read_bytes())
    except (OSError, ValidationError):
        return _ModelConfig()


def _adapters(folders: tuple[Path, ...], base: str) -> tuple[str, ...]:
    if not folders:
        return ()
    names = [folder.resolve().name for folder in folders]
    if len({*names, base}) <= len(names):
        raise UsageError("Two adapters, or an adapter and the model, have the same name: rename a folder.")
    highest = max(_rank(folder) for folder in folders)
    rank = next((rank for rank in LORA_RANKS if rank >= highest), highest)
    modules = (
        canonical_json({"name": name, "path": str(folder.resolve())})
        for name, folder in zip(names, folders, strict=True)
    )
    return ("--enable-lora", f"--max-loras={len(names)}", f"--max-lora-rank={rank}", "--lora-modules", *modules)


def _rank(folder: Path) -> int:
    config = folder / "adapter_config.json"
    missing = f"There is no LoRA adapter in {folder} (adapter_config.json with its rank): name its folder."
    with boundary({OSError: lambda _: UsageError(missing), ValidationError: lambda _: UsageError(missing)}):
        return _AdapterConfig.model_validate_json(config.read_bytes()).r


def find_gpus(visible: str | None) -> tuple[str, ...]:
    """Return the names of the NVIDIA GPUs that a server may use, in their order; none where there is none.

    `visible` is the value of CUDA_VISIBLE_DEVICES, None where it is not set. Numbers and UUIDs are understood as CUDA
    does: what follows a number that does not exist is not used. Partitions of a GPU (MIG) count as one, since CUDA
    shows a process only one.
    """
    gpus = [line for line in _listed() if line.startswith("GPU ")]
    if visible is None:
        return tuple(gpus)
    chosen: list[str] = []
    for wanted in visible.split(","):
        fitting = [gpu for gpu in gpus if _fits(gpu, wanted.strip())]
        if not fitting:
            break
        chosen += fitting[:1]
    return tuple(chosen) or (tuple(gpus[:1]) if visible.startswith("MIG-") else ())


def _fits(gpu: str, wanted: str) -> bool:
    return bool(wanted) and (
        gpu.startswith(f"GPU {wanted}:") or (wanted.startswith("GPU-") and f"UUID: {wanted}" in gpu)
    )


def _listed() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run((program, "-L"), capture_output=True, text=True, timeout=SMI_LIMIT, check=False)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer serves no model either
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _cause(shown_by: str, kind: type[EnvironmentFailed | ModelUnknown | UsageError], advice: str) -> Cause:
    return Cause(re.compile(shown_by), kind, advice)


READING = LogReading(
    phases=(
        (re.compile(r"Starting vLLM server|Application startup|Started server process"), "opening the server"),
        (re.compile(r"Capturing CUDA graph|Graph capturing"), "capturing CUDA graphs"),
        (re.compile(r"KV cache size|KV cache memory|init engine \("), "warming up"),
        (re.compile(r"Dynamo bytecode|Compiling a graph|torch\.compile (takes|took)"), "compiling the model"),
        (re.compile(r"checkpoint shards|Loading weights|Starting to load model|Loading model"), "loading the weights"),
        (re.compile(r"Fetching \d+ files|[Dd]ownloading"), "downloading the model"),
        (re.compile(r"Initializing a V1 LLM engine|Resolved architecture"), "starting the engine"),
    ),
    causes=(
        _cause(
            r"No module named '?vllm",
            EnvironmentFailed,
            "`pip install vllm` there, or name an interpreter that has vLLM",
        ),
        _cause(
            r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|No available memory for the cache blocks"
            r"|less than desired [GC]PU memory|larger than the (maximum number of tokens|available KV cache)",
            EnvironmentFailed,
            "shorten the context (--max-model-len), use more GPUs, or free memory",
        ),
        _cause(r"[Aa]ddress already in use", UsageError, "choose another port"),
        _cause(
            r"not a valid model identifier|Repository ?Not ?Found|Repo id must|GatedRepo|gated repo"
            r"|Invalid repository ID|[Cc]an't load the configuration|no file named config\.json",
            ModelUnknown,
            "check the model's name or folder, and log in to the hub if it is gated",
        ),
        _cause(
            r"We couldn't connect to|LocalEntryNotFound|OfflineModeIsEnabled|Name or service not known"
            r"|Max retries exceeded",
            EnvironmentFailed,
            "reach the hub first, or name a local folder",
        ),
        _cause(
            r"Failed to infer device type|No CUDA GPUs are available|NVIDIA driver|CUDA driver",
            EnvironmentFailed,
            "make the GPU visible, or install vLLM's build for this hardware",
        ),
        _cause(r"error: (unrecognized arguments|argument )", UsageError, "correct the flags after --"),
        _cause(r"divisible by tensor parallel", UsageError, "set the number of GPUs (tensor_parallel) to a divisor"),
        _cause(
            r"trust_remote_code=True|--trust-remote-code", UsageError, "allow the model's own code, if you trust it"
        ),
    ),
)
