"""Which model answers a run, and how it comes to be there.

    --base-url                     that endpoint
    else a running `amini serve`   its endpoint
    else a GPU and vLLM            a vLLM server, started for the run and stopped after it
    else                           the embedded model: changes of lines that it ranks inside amini, or a larger one that
                                   writes edits under a grammar, on llama.cpp's server

Whoever used a server is given no other model in silence: where that of `amini serve` has ended by itself, or the latest
run of the store asked a server that nothing names now, what is not in the record is an error that says how to go on.
A model is started only when an answer of it is owed: a run that is all in the record starts nothing. Nothing is sent
to a reward model until a score is owed that is not recorded, but that its name is asked for where no setting says it.
"""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agentless_mini.chain.session import Scoring
from agentless_mini.chain.templates import load_prompts
from agentless_mini.commands.config import Machine
from agentless_mini.domain import Decoding, Event, ModelCard, Note, RewardModel, Stage
from agentless_mini.errors import ServerUnreachable, UsageError
from agentless_mini.model.openai_api import OpenAISampler
from agentless_mini.ports import Sampler
from agentless_mini.record import Once, RecordedScorer, Store
from agentless_mini.run import NOBODY, ChosenModel
from agentless_mini.settings import Config
from agentless_mini.settings.model import EndpointSettings, Engine, ScorerSettings

if TYPE_CHECKING:
    from agentless_mini.model.process import ServerPlan
    from agentless_mini.model.scoring import HttpScorer

VLLM = "vLLM"
"""The name of the engine, as servers of it are recorded."""
_HERE = "llama.cpp, inside amini"
_FOR_THE_RUN = "vLLM, started for this run"
NO_WINDOW = 1_000_000
"""Tokens of which an issue may have a share where no model reads it."""
_EMBEDDED = (
    "No model server is named, so a small model inside amini answers, which seldom repairs real code: name a server "
    "with --base-url, start one with `amini serve MODEL`, or give --engine embedded to accept the small one."
)


class Progress(Protocol):
    """Is told what happens while a model is chosen, started and asked. `tokens` may be called from any thread."""

    def __call__(self, event: Event) -> None:
        """Take in one event."""

    def tokens(self, new: int, stage: Stage) -> None:
        """Count tokens that have just been generated for a stage."""

    def phase(self, what: str, seconds: float) -> None:
        """Show what a model server that is being started does, `seconds` after its start."""


class Models:
    """The models of one command: chosen, started when an answer is owed, and asked. `stack` stops what was started."""

    def __init__(
        self, config: Config, machine: Machine, store: Store, stack: AsyncExitStack, progress: Progress
    ) -> None:
        """Choose by these settings, on this machine; `store` recalls, and `progress` is told."""
        self._config, self._machine, self._store = config, machine, store
        self._stack, self._progress = stack, progress

    def _tell(self, said: str) -> None:
        self._progress(Note(said))

    async def choose(self, *, to_write: bool = False, optional: bool = False) -> ChosenModel:
        """Choose by the module's list, without starting anything.

        With `to_write` what is asked is not a repair: then the carried model answers freely, on llama.cpp's server. An
        `optional` one is what is named or served, else nobody, who has a card and writes no test.

        Raises `ModelError` where an endpoint must be asked for its model's name and does not answer,
        `EnvironmentFailed` where vLLM is asked for and not installed, or the embedded model cannot be had.
        """
        config = self._config
        if config.endpoint.base_url is not None:
            return await self._endpoint_model(config.endpoint)
        from agentless_mini.model.vllm import find_gpus, has_vllm

        if config.engine is not Engine.EMBEDDED and (served := await self._served_model()) is not None:
            return served
        gpus = find_gpus(self._machine.environment.get("CUDA_VISIBLE_DEVICES"))
        takes_vllm = config.engine is Engine.VLLM or (config.engine is Engine.AUTO and gpus and has_vllm(config.vllm))
        is_named = config.endpoint.model or (takes_vllm and config.gpu_model)
        if optional and config.engine is Engine.AUTO and not is_named:
            self._store.put_card(NOBODY, ModelCard(NOBODY, NO_WINDOW))
            return replace(_gone(NOBODY, "", "Nobody is asked."), writes=False)
        if config.engine is Engine.AUTO:
            if (missed := self._missed(takes_vllm=bool(takes_vllm))) is not None:
                return missed
            if not takes_vllm:
                _require_here(config.endpoint.model)
                self._tell(_EMBEDDED)
        return self._vllm_model(gpus) if takes_vllm else await self._embedded_model(to_write=to_write)

    async def _served_model(self) -> ChosenModel | None:
        """Return what `amini serve` serves, or served until its server ended by itself; None where there is neither."""
        from agentless_mini.model.process import NotRunning, Server, find_server

        found = find_server(self._machine.served)
        server = found if isinstance(found, Server) else found.ended
        if server is None or (self._config.engine is Engine.VLLM and server.engine != VLLM):
            return None
        if isinstance(found, NotRunning):
            return _gone(
                server.model,
                server.base_url,
                f"{found.reason} Start it again with `amini serve`, name another with --base-url, take the embedded "
                "model with --engine embedded, or forget it with `amini serve --stop`.",
            )
        settings = {"base_url": server.base_url, "model": self._config.endpoint.model or server.model}
        return await self._endpoint_model(self._config.endpoint.model_copy(update=settings))

    def _missed(self, *, takes_vllm: bool) -> ChosenModel | None:
        """Return the model of the latest run where that asked a server, and something else would answer now."""
        latest = self._store.runs.latest()
        source = json.loads(latest.start.versions).get("model", _HERE) if latest else _HERE
        if latest is None or source in {_HERE, ""} or (takes_vllm and source == _FOR_THE_RUN):
            return None
        name = latest.start.model
        return _gone(
            name,
            source,
            f"The latest run here asked {name} ({source}), and no server is named now: name one with --base-url, start "
            "one with `amini serve`, or choose what is to answer instead with --engine embedded or --engine vllm.",
        )

    def _vllm_model(self, gpus: tuple[str, ...]) -> ChosenModel:
        from agentless_mini.model.vllm import plan_vllm, served_name

        name = self._config.endpoint.model or self._config.gpu_model
        if name is None:
            raise UsageError(
                "No model is named for vLLM: name one with --model or gpu_model in the settings, or take "
                "the embedded model with --engine embedded."
            )

        async def start() -> Sampler:
            return await self._start(plan_vllm(name, self._config.vllm, gpus), self._config.endpoint.decoding)

        served = served_name(name, self._config.vllm)
        tokens = self._config.vllm.max_model_len
        window = f"window of {tokens} tokens" if tokens else "the model's own window"
        return ChosenModel(served, _FOR_THE_RUN, Once(start), window)

    async def _embedded_model(self, *, to_write: bool) -> ChosenModel:
        from agentless_mini.model.embedded.sampler import EmbeddedSampler
        from agentless_mini.model.embedded.weights import find_weights
        from agentless_mini.model.llama_server import plan_embedded

        named = self._config.endpoint.model
        _require_here(named)
        settings = self._config.embedded.model_copy(update={"model": named} if named else {})

        weights = await asyncio.to_thread(find_weights, settings, self._machine.weights, self._tell)
        rewrites = weights.decoding is Decoding.LINES and not to_write
        decoding = Decoding.FREE if weights.decoding is Decoding.LINES else weights.decoding

        async def start() -> Sampler:
            if rewrites:
                told = partial(self._progress.tokens, stage=Stage.REPAIR)
                return await self._stack.enter_async_context(EmbeddedSampler(weights, self._config.in_process, told))
            plan = plan_embedded(weights.path, weights.name, self._config.llama_cpp)
            asked = self._config.endpoint.decoding
            return await self._start(plan, asked if asked is Decoding.GRAMMAR else decoding)

        tokens = self._config.in_process.context if rewrites else self._config.llama_cpp.context
        return ChosenModel(weights.name, _HERE, Once(start), f"window of at most {tokens} tokens", writes=not rewrites)

    async def _start(self, plan: "ServerPlan", decoding: Decoding) -> Sampler:
        """Start a server for the run, and return the sampler that asks it."""
        from agentless_mini.model.process import Limits, running

        log = self._machine.state / "run-servers" / f"{plan.port}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._tell(f"Starting {plan.engine} for {plan.model}; its log is {log}.")
        server = await self._stack.enter_async_context(running(plan, log, Limits(), self._progress.phase))
        found = {"base_url": server.base_url, "model": plan.model, "decoding": decoding}
        return await self._asking(self._config.endpoint.model_copy(update=found))

    async def _asking(self, endpoint: EndpointSettings) -> OpenAISampler:
        """Return the sampler of an endpoint: what it waits for is told while it waits."""
        sampler = OpenAISampler(endpoint, self._progress.tokens, tell=self._tell, environment=self._machine.environment)
        return await self._stack.enter_async_context(sampler)

    async def _endpoint_model(self, endpoint: EndpointSettings) -> ChosenModel:
        """Ask for a model by name; without one, ask the server which it serves, or recall what it served last."""
        address = str(endpoint.base_url)

        async def connect() -> Sampler:
            return await self._asking(endpoint)

        start = Once(connect)

        async def asked() -> str:
            return (await (await start()).card()).name

        name = endpoint.model or await self._served(asked(), address, address, "answers")
        return ChosenModel(name, address, start)

    async def _served(self, asked: Awaitable[str], recorded: str, address: str, what: str) -> str:
        """Return the name of the model that is served, or recall under `recorded` what was served last."""
        try:
            name = await asked
        except ServerUnreachable:
            recalled = self._store.endpoint_model(recorded)
            if recalled is None:
                raise
            self._tell(f"{address} does not answer; it served {recalled} last, whose {what} are in the record.")
            return recalled
        self._store.put_endpoint_model(recorded, name)
        return name

    async def open_scorer(self, settings: ScorerSettings) -> tuple[Scoring, RewardModel]:
        """Return what scores the patches of a run, through the store, and by which model.

        Raises `UsageError` where no server is named; `ModelError` where it must be asked for its model's name and does
        not answer.
        """
        if settings.base_url is None:
            raise UsageError("No reward model is chosen: set scorer.base_url to the address of its server.")
        prompts = load_prompts(self._config.prompts)

        async def connect() -> "HttpScorer":
            from agentless_mini.model.scoring import HttpScorer

            made = HttpScorer(settings, tell=self._tell, environment=self._machine.environment)
            return await self._stack.enter_async_context(made)

        start = Once(connect)
        address = settings.base_url
        # The same address may serve a model that repairs.
        name = settings.model or await self._served((await start()).served(), f"scorer {address}", address, "scores")
        model = RewardModel(name, settings.route, settings.label)
        from agentless_mini.chain.evolve import scoring_of

        return scoring_of(RecordedScorer(start, self._store), model, prompts), model


def _gone(name: str, source: str, sentence: str) -> ChosenModel:
    """Return a model of which nothing is left but its answers in the record."""

    async def refuse() -> Sampler:
        raise ServerUnreachable(sentence)

    return ChosenModel(name, source, Once(refuse))


def _require_here(named: str | None) -> None:
    if named and "/" not in named and not named.endswith(".gguf") and not Path(named).exists():
        raise UsageError(
            f"No model {named!r} is on this machine: name the server that has it with --base-url, or give the path of "
            "a GGUF file."
        )
