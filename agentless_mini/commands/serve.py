"""`amini serve`: starts a model server that stays, tells which one runs, stops it."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from agentless_mini.commands.config import Machine
from agentless_mini.commands.terminal import people
from agentless_mini.errors import ServerUnreachable, UsageError, printable
from agentless_mini.model.embedded.weights import find_weights
from agentless_mini.model.llama_server import plan_embedded
from agentless_mini.model.process import (
    Limits,
    NotRunning,
    Server,
    ServerPlan,
    find_server,
    is_healthy,
    serve,
    stop_recorded,
)
from agentless_mini.model.vllm import find_gpus, plan_vllm
from agentless_mini.report.progress import LiveProgress
from agentless_mini.settings import Config
from agentless_mini.settings.model import Engine

if TYPE_CHECKING:
    from agentless_mini.cli import ServeOptions


def run_serve(options: "ServeOptions", python: Path | None, config: Config, machine: Machine) -> None:
    """Start a server, tell which one runs, or stop it. `python` is the interpreter that was typed.

    Raises `UsageError` where the options ask for two things at once, or name what cannot be used, or where a server
    runs already; `ServerUnreachable` where none is healthy; and what the start raises.
    """
    if [options.stop, options.status, options.model is not None].count(True) > 1:
        raise UsageError("MODEL, --stop and --status exclude each other: give only one.")
    if python is not None and not python.expanduser().is_file():
        raise UsageError(f"There is no interpreter {printable(str(python))}: correct --python.")
    if options.extra and not options.extra[0].startswith("-"):
        raise UsageError(f"{printable(options.extra[0])} is no flag of vLLM: name one model, and put flags after --.")
    home = machine.served
    if options.stop:
        stopped = stop_recorded(home, Limits())  # that none runs is no failure
        told = stopped.reason if isinstance(stopped, NotRunning) else f"The server for {stopped.model} was stopped."
        people().print(Text(told))
        return
    server: Server | NotRunning
    if options.status:
        server = find_server(home)
        if isinstance(server, NotRunning):
            raise ServerUnreachable(f"{server.reason} Start one with `amini serve MODEL`.")
        if not asyncio.run(is_healthy(server)):
            raise ServerUnreachable(f"The server for {server.model} does not answer: read {server.log}, or stop it.")
    else:
        plan = plan_server(options.model, config, machine)
        home.mkdir(parents=True, exist_ok=True)
        with LiveProgress(people()) as progress:
            server = asyncio.run(serve(plan, home, Limits(), progress.phase))
    said = json.dumps({"schema": 1, **asdict(server)}, default=str) if options.as_json else server.base_url
    sys.stdout.write(said + "\n")
    if not options.status:
        people().print(Text(f"{server.model} is served by {server.engine}; its log is {server.log}."))


def plan_server(model: str | None, config: Config, machine: Machine) -> ServerPlan:
    """Plan vLLM where it is asked for or there is a GPU, else llama.cpp's server on GGUF weights."""
    gpus = find_gpus(machine.environment.get("CUDA_VISIBLE_DEVICES"))
    if config.engine is Engine.VLLM or (config.engine is Engine.AUTO and gpus):
        name = model or config.gpu_model
        if name is None:
            raise UsageError("No model is named: give one of the hub, such as Qwen/Qwen2.5-Coder-7B-Instruct.")
        return plan_vllm(name, config.vllm, gpus)
    if config.vllm.adapters:
        raise UsageError(
            "Only vLLM serves adapters: choose it with --engine vllm, or write a GGUF file with `amini learn export`."
        )
    settings = config.embedded.model_copy(update={"model": model} if model else {})
    if settings.model is None:
        raise UsageError("The embedded model works only inside amini repair and cannot be served: name a GGUF model.")
    weights = find_weights(settings, machine.weights, lambda said: people().print(said))
    return plan_embedded(weights.path, weights.name, config.llama_cpp)
