"""llama.cpp's HTTP server as a process of its own, for machines without a GPU and GGUF models that write answers.

The server is the one inside the wheel xllamacpp. This module plans that process and is it.
"""

import json
import signal
import sys
from pathlib import Path

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.model.embedded.llama import INSTALL, provide_openmp
from agentless_mini.model.process import HOST, LogReading, ServerPlan, choose_port
from agentless_mini.settings.model import EmbeddedSettings


def plan_embedded(weights: Path, name: str, settings: EmbeddedSettings) -> ServerPlan:
    """Return how to start llama.cpp's server on a GGUF file as `name`. Raises `UsageError` for a used port."""
    port = choose_port(settings.port)
    said = {"weights": str(weights.expanduser().absolute()), "name": name, **settings.model_dump(), "port": port}
    command = (sys.executable, "-P", "-m", "agentless_mini.model.llama_server", json.dumps(said))
    return ServerPlan("llama.cpp", name, command, port, READING)


READING = LogReading(
    phases=(
        ("listening on|model loaded", "opening the server"),
        ("n_slots|warming up", "warming up"),
        ("loading model", "loading the weights"),
    ),
    causes=(
        ("No module named '?xllamacpp|libgomp", EnvironmentFailed, INSTALL),
        (
            "failed to open|No such file|invalid magic|failed to load model|error loading model",
            EnvironmentFailed,
            "check that the weights are a whole GGUF file",
        ),
        (
            "failed to allocate|unable to allocate|bad_alloc",
            EnvironmentFailed,
            "lower the context or the samples decoded at once",
        ),
        ("couldn't bind|Address already in use", EnvironmentFailed, "choose another port"),
    ),
)


def main() -> None:
    """Serve until told to stop; the system ends the process, which holds nothing that must be written back."""
    asked = json.loads(sys.argv[1])
    provide_openmp()
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = asked["weights"]
    parameters.model_alias = {asked["name"]}
    parameters.hostnames = [HOST]
    parameters.port = asked["port"]
    parameters.ui = False
    parameters.n_parallel = asked["parallel"]
    parameters.n_ctx = asked["context"] * asked["parallel"]
    # Measured on two cores: without flash attention this build decodes faster.
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_prompt = True
    if asked["threads"] is not None:
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = asked["threads"]
    # What a request does not say must not narrow the distribution that the model gives.
    parameters.sampling.temp = 1.0
    parameters.sampling.top_p = 1.0
    parameters.sampling.top_k = 0
    parameters.sampling.min_p = 0.0
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"serving at {server.listening_address}\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
