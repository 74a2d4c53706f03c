"""Puts together the command line that starts vLLM: which flags, on how many GPUs, and how its log is read.

vLLM is a program here, never imported: it may live in another virtual environment. No server is started here.
"""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from agentless_mini.domain import canonical_json
from agentless_mini.errors import EnvironmentFailed, ModelUnknown, UsageError
from agentless_mini.installing import install_command
from agentless_mini.model.process import HOST, LogReading, ServerPlan, choose_port
from agentless_mini.settings.model import VllmSettings, pinned

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

    NAME@COMMIT is served under that name, by this commit's weights, tokenizer and code. Raises `UsageError` for what is
    no commit, a port in use or a folder without an adapter, `EnvironmentFailed` if vLLM is nowhere.
    """
    base, served = _base_name(model, settings), served_name(model, settings)
    folder, commit = Path(model).expanduser(), None
    if folder.is_dir():
        model = str(folder.resolve())
    else:
        model, commit = pinned(model)
    try:
        config = _ModelConfig.model_validate_json((Path(model) / "config.json").read_bytes())
    except (OSError, ValidationError):  # of the hub, or unreadable
        config = _ModelConfig()
    # A reward model, which scores texts and writes none.
    scores = any(name.endswith("ForSequenceClassification") for name in config.architectures)
    if gpus:
        count = settings.tensor_parallel or tensor_parallel(len(gpus), config.num_attention_heads)
        hardware: tuple[str, ...] = (f"--dtype={settings.dtype or 'auto'}", f"--tensor-parallel-size={count}")
    else:
        hardware = (f"--dtype={settings.dtype or 'float32'}", *ON_A_CPU)
    port = choose_port(settings.port)
    command = (
        *_program(settings.python, model),
        *([f"--{of}revision={commit}" for of in ("", "tokenizer-", "code-")] if commit else []),
        f"--served-model-name={base}",
        f"--host={HOST}",
        f"--port={port}",
        *ALWAYS,
        *(SCORING if scores else WRITING),
        *hardware,
        *([f"--max-model-len={settings.max_model_len}"] if settings.max_model_len else []),
        *(["--trust-remote-code"] if settings.trust_remote_code else []),
        *_adapters(settings.adapters, base),
        *settings.extra,
    )
    return ServerPlan("vLLM", served, command, port, READING)


def served_name(model: str, settings: VllmSettings) -> str:
    """Return the name (the first adapter's, else the model's) of what is planned. Raises `UsageError` for no commit."""
    return settings.adapters[0].resolve().name if settings.adapters else _base_name(model, settings)


def _base_name(model: str, settings: VllmSettings) -> str:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return settings.served_name or folder.name
    return settings.served_name or "@".join(filter(None, pinned(model)))


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


def tensor_parallel(gpus: int, heads: int | None) -> int:
    """Return the largest power of two of `gpus` (at least 1) that divides the attention heads, where they are known."""
    count = 1 << (gpus.bit_length() - 1)
    while heads is not None and heads % count:
        count //= 2
    return count


def _adapters(folders: tuple[Path, ...], base: str) -> tuple[str, ...]:
    if not folders:
        return ()
    names = [folder.resolve().name for folder in folders]
    if len({*names, base}) <= len(names):
        raise UsageError("Two adapters, or an adapter and the model, have the same name: rename a folder.")
    highest = max(map(_rank, folders))
    rank = next((rank for rank in LORA_RANKS if rank >= highest), highest)
    modules = (
        canonical_json({"name": name, "path": str(folder.resolve())})
        for name, folder in zip(names, folders, strict=True)
    )
    return ("--enable-lora", f"--max-loras={len(names)}", f"--max-lora-rank={rank}", "--lora-modules", *modules)


def _rank(adapter: Path) -> int:
    try:
        return _AdapterConfig.model_validate_json((adapter / "adapter_config.json").read_bytes()).r
    except (OSError, ValidationError) as error:
        missing = f"There is no LoRA adapter in {adapter} (adapter_config.json with its rank): name its folder."
        raise UsageError(missing) from error


def find_gpus(visible: str | None) -> tuple[str, ...]:
    """Return the names of the NVIDIA GPUs that a server may use, in their order; none where there is none.

    `visible` is CUDA_VISIBLE_DEVICES, None where it is not set, and understood as CUDA does: what follows a number that
    does not exist is not used. Partitions of a GPU (MIG) count as one, since a process is shown only one.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run((program, "-L"), capture_output=True, text=True, timeout=SMI_LIMIT, check=False)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer serves no model either
        return ()
    gpus = [line for line in done.stdout.splitlines() if line.startswith("GPU ") and not done.returncode]
    if visible is None:
        return tuple(gpus)
    chosen: list[str] = []
    for wanted in map(str.strip, visible.split(",")):
        mark = f"UUID: {wanted}" if wanted.startswith("GPU-") else f"GPU {wanted}:"
        fitting = next((gpu for gpu in gpus if wanted and mark in gpu), None)
        if fitting is None:
            break
        chosen.append(fitting)
    return tuple(chosen) or (tuple(gpus[:1]) if visible.startswith("MIG-") else ())


READING = LogReading(
    phases=(
        ("Starting vLLM server|Application startup|Started server process", "opening the server"),
        ("Capturing CUDA graph|Graph capturing", "capturing CUDA graphs"),
        (r"KV cache size|KV cache memory|init engine \(", "warming up"),
        (r"Dynamo bytecode|Compiling a graph|torch\.compile (takes|took)", "compiling the model"),
        ("checkpoint shards|Loading weights|Starting to load model|Loading model", "loading the weights"),
        (r"Fetching \d+ files|[Dd]ownloading", "downloading the model"),
        ("Initializing a V1 LLM engine|Resolved architecture", "starting the engine"),
    ),
    causes=(
        ("No module named '?vllm", EnvironmentFailed, "`pip install vllm` there, or name an interpreter that has vLLM"),
        (
            "CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|No available memory for the cache blocks"
            "|less than desired [GC]PU memory|larger than the (maximum number of tokens|available KV cache)",
            EnvironmentFailed, "shorten the context (--max-model-len), use more GPUs, or free memory",
        ),
        ("[Aa]ddress already in use", UsageError, "choose another port"),
        (
            "not a valid model identifier|Repository ?Not ?Found|Repo id must|GatedRepo|gated repo"
            r"|Invalid repository ID|[Cc]an't load the configuration|no file named config\.json",
            ModelUnknown, "check the model's name or folder, and log in to the hub if it is gated",
        ),
        (
            "We couldn't connect to|LocalEntryNotFound|OfflineModeIsEnabled|Name or service not known"
            "|Max retries exceeded",
            EnvironmentFailed, "reach the hub first, or name a local folder",
        ),
        (
            "Failed to infer device type|No CUDA GPUs are available|NVIDIA driver|CUDA driver",
            EnvironmentFailed, "make the GPU visible, or install vLLM's build for this hardware",
        ),
        ("error: (unrecognized arguments|argument )", UsageError, "correct the flags after --"),
        ("divisible by tensor parallel", UsageError, "set the number of GPUs (tensor_parallel) to a divisor"),
        ("trust_remote_code=True|--trust-remote-code", UsageError, "allow the model's own code, if you trust it"),
    ),
)  # fmt: skip
