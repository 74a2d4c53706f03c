"""Which model answers a run, and how it comes to be there.

    --base-url                     that endpoint
    else a running `amini serve`   its endpoint
    else a GPU and vLLM            a vLLM server, started for the run and stopped after it
    else                           the embedded model: llama.cpp's server under a grammar, or line rewriting in process

A model is started only when an answer of it is owed: a run that is all in the record starts nothing.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agentless_mini.config import Config, Engine
from agentless_mini.domain import Decoding, Event, Note
from agentless_mini.errors import ServerUnreachable
from agentless_mini.ports import Sampler
from agentless_mini.recording import LazySampler
from agentless_mini.samplers.balanced import BalancedSampler
from agentless_mini.samplers.embedded import EmbeddedSampler
from agentless_mini.samplers.openai_api import EndpointSettings, OpenAISampler
from agentless_mini.serving.embedded import plan_embedded
from agentless_mini.serving.process import Limits, Server, ServerPlan, running
from agentless_mini.serving.state import find_server
from agentless_mini.serving.vllm import find_gpus, has_vllm, plan_vllm, served_name
from agentless_mini.serving.weights import find_weights
from agentless_mini.store import Store


@dataclass(frozen=True, slots=True)
class Machine:
    """Where amini keeps what it must remember and what it can fetch again, and the environment it was started in."""

    state: Path
    cache: Path
    environment: Mapping[str, str]

    @property
    def served(self) -> Path:
        """Return the folder where `amini serve` records the running server."""
        return self.state / "serve"

    @property
    def weights(self) -> Path:
        """Return the folder where the weights of embedded models are kept."""
        return self.cache / "weights"


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model by the name that identifies it in the store. `source` says for people where it runs."""

    name: str
    source: str
    sampler: Sampler


class Progress(Protocol):
    """Is told what happens while a model is chosen, started and asked. `tokens` may be called from any thread."""

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        ...

    def tokens(self, new: int) -> None:
        """Count tokens that have just been generated."""
        ...

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What choosing a model works with. What is started is stopped by `stack`."""

    config: Config
    machine: Machine
    store: Store
    stack: AsyncExitStack
    progress: Progress


async def choose_model(around: Surroundings) -> ChosenModel:
    """Choose by the module's list, without starting anything.

    Raises `ModelError` where an endpoint must be asked for its model's name and does not answer, `EnvironmentFailed`
    where vLLM is asked for and not installed, or the embedded model cannot be had.
    """
    config, machine = around.config, around.machine
    if config.endpoint.base_url is not None:
        return await _endpoint_model(config.endpoint, around)
    if config.engine is Engine.AUTO and isinstance(server := find_server(machine.served), Server):
        found = {"base_url": server.base_url, "model": config.endpoint.model or server.model}
        return await _endpoint_model(config.endpoint.model_copy(update=found), around)
    gpus = find_gpus(machine.environment.get("CUDA_VISIBLE_DEVICES"))
    if config.engine is Engine.VLLM or (config.engine is Engine.AUTO and gpus and has_vllm(config.vllm)):
        return _vllm_model(gpus, around)
    return await _embedded_model(around)


def _vllm_model(gpus: tuple[str, ...], around: Surroundings) -> ChosenModel:
    name = around.config.endpoint.model or around.config.gpu_model

    async def start() -> Sampler:
        return await _start(plan_vllm(name, around.config.vllm, gpus), Decoding.FREE, around)

    served = served_name(name, around.config.vllm)
    return ChosenModel(served, "vLLM, started for this run", LazySampler(start))


async def _embedded_model(around: Surroundings) -> ChosenModel:
    named = around.config.endpoint.model
    settings = around.config.embedded.model_copy(update={"model": named} if named else {})

    def tell(said: str) -> None:
        around.progress(Note(said))

    weights = await asyncio.to_thread(find_weights, settings, around.machine.weights, tell)

    async def start() -> Sampler:
        if weights.decoding is Decoding.LINES:
            return await around.stack.enter_async_context(
                EmbeddedSampler(weights, around.config.in_process, around.progress.tokens)
            )
        plan = plan_embedded(weights.path, weights.name, around.config.llama_cpp)
        return await _start(plan, weights.decoding, around)

    return ChosenModel(weights.name, "llama.cpp, inside amini", LazySampler(start))


async def _start(plan: ServerPlan, decoding: Decoding, around: Surroundings) -> Sampler:
    """Start a server for the run, and return the sampler that asks it."""
    log = around.machine.state / "run-servers" / f"{plan.port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    around.progress(Note(f"Starting {plan.engine} for {plan.model}; its log is {log}."))
    server = await around.stack.enter_async_context(running(plan, log, Limits(), around.progress.phase))
    found = {"base_url": server.base_url, "model": plan.model, "decoding": decoding}
    settings = around.config.endpoint.model_copy(update=found)
    return await _asking(settings, around)


async def _asking(endpoint: EndpointSettings, around: Surroundings) -> OpenAISampler:
    """Return the sampler of an endpoint: what it waits for is told while it waits."""

    def tell(said: str) -> None:
        around.progress(Note(said))

    sampler = OpenAISampler(endpoint, around.progress.tokens, tell=tell, environment=around.machine.environment)
    return await around.stack.enter_async_context(sampler)


async def _endpoint_model(endpoint: EndpointSettings, around: Surroundings) -> ChosenModel:
    """Ask for a model by name; without one, ask the server which it serves, or recall what it served last."""
    address = str(endpoint.base_url)

    async def connect() -> OpenAISampler:
        return await _asking(endpoint, around)

    if endpoint.model is not None:
        return ChosenModel(endpoint.model, address, LazySampler(connect))
    sampler = await connect()
    return ChosenModel(await _served(sampler, address, around), address, sampler)


async def _served(sampler: OpenAISampler, address: str, around: Surroundings) -> str:
    try:
        name = (await sampler.card()).name
    except ServerUnreachable:
        recalled = around.store.endpoint_model(address)
        if recalled is None:
            raise
        around.progress(Note(f"{address} does not answer; it served {recalled} last, whose answers are in the record."))
        return recalled
    around.store.put_endpoint_model(address, name)
    return name


async def more_endpoints(chosen: ChosenModel, addresses: tuple[str, ...], around: Surroundings) -> ChosenModel:
    """Return the model with more servers of it, each prompt asked of one of them."""
    if not addresses:
        return chosen
    servers = {chosen.source: chosen.sampler}
    for address in addresses:
        endpoint = around.config.endpoint.model_copy(update={"base_url": address, "model": chosen.name})
        servers[address] = await _asking(endpoint, around)

    def tell(said: str) -> None:
        around.progress(Note(said))

    return ChosenModel(chosen.name, ", ".join(servers), BalancedSampler(servers, tell))
