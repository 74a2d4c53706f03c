"""`amini serve`: starts a model server that stays, tells which one runs, stops it."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status
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
from agentless_mini.report.console import moves
from agentless_mini.settings import Config
from agentless_mini.settings.model import Engine

if TYPE_CHECKING:
    from agentless_mini.cli import ServeOptions


@contextmanager
def start_progress(console: Console, model: str) -> Iterator[Callable[[str, float], None]]:
    """Yield what shows the phases of a starting server: in a moving line on a terminal, each in one line elsewhere."""
    status, last = Status("", console=console) if moves(console) else None, ""

    def show(phase: str, seconds: float) -> None:
        nonlocal last
        if status:
            status.update(Text(f"{model}: {phase} ({seconds:.0f} s)"))
        elif phase != last:
            console.print(Text(f"{model}: {phase}"))
        last = phase

    with status or nullcontext():
        yield show


def run_serve(options: "ServeOptions", python: Path | None, config: Config, machine: Machine) -> None:
    """Start a server, tell which one runs, or stop it. `python` is the interpreter that was typed."""
    require_usable(options, python)
    if options.stop:
        stopped = stop_recorded(machine.served, Limits())  # that none runs is no failure
        told = stopped.reason if isinstance(stopped, NotRunning) else f"The server for {stopped.model} was stopped."
        people().print(Text(told))
    elif options.status:
        _tell_status(machine, options)
    else:
        _start_server(options, config, machine)


def require_usable(options: "ServeOptions", python: Path | None) -> None:
    """Raise `UsageError` where the options ask for two things at once, or name what cannot be used."""
    if [options.stop, options.status, options.model is not None].count(True) > 1:
        raise UsageError("MODEL, --stop and --status exclude each other: give only one.")
    if python is not None and not python.expanduser().is_file():
        raise UsageError(f"There is no interpreter {printable(str(python))}: correct --python.")
    if options.extra and not options.extra[0].startswith("-"):
        raise UsageError(f"{printable(options.extra[0])} is no flag of vLLM: name one model, and put flags after --.")


def _start_server(options: "ServeOptions", config: Config, machine: Machine) -> None:
    """Start a server for a model, wait until it is healthy, and print its address.

    Raises `UsageError` if one runs already, and what the start raises.
    """
    plan = plan_server(options.model, config, machine)
    home = machine.served
    home.mkdir(parents=True, exist_ok=True)
    with start_progress(people(), plan.model) as progress:
        server = asyncio.run(serve(plan, home, Limits(), progress))
    _print(server, options)
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


def _tell_status(machine: Machine, options: "ServeOptions") -> None:
    """Print the running server's address. Raises `ServerUnreachable` where there is none, or it is not healthy."""
    server = find_server(machine.served)
    if isinstance(server, NotRunning):
        raise ServerUnreachable(f"{server.reason} Start one with `amini serve MODEL`.")
    if not asyncio.run(is_healthy(server)):
        raise ServerUnreachable(f"The server for {server.model} does not answer: read {server.log}, or stop it.")
    _print(server, options)


def _print(server: Server, options: "ServeOptions") -> None:
    said = json.dumps({"schema": 1, **asdict(server)}, default=str) if options.as_json else server.base_url
    sys.stdout.write(said + "\n")
