"""A checkpoint as a sampler, by transformers and without a server: see `ports.Sampler` for the contract.

What is asked for concurrently is decoded together, as far as the sampling parameters agree. One thread computes all:
each that does has its own helpers from OpenMP, and with more of them than cores, none waits ready for the next product.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
import transformers
from peft import PeftModel

from agentless_mini.domain import (
    Completion,
    Finish,
    Message,
    ModelCard,
    SampleRequest,
    SamplingParams,
    Usage,
)
from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.learning.checkpoints import Checkpoint
from agentless_mini.learning.decoding import Decoded, Decoder, Draw, ends_of
from agentless_mini.learning.libraries import quiet
from agentless_mini.learning.policies import loading, loading_adapter
from agentless_mini.learning.texts import ChatTokens
from agentless_mini.learning.training_settings import Device, Precision

Result = TypeVar("Result")

_GATHER_S = 0.02
_ON_CPU, _ON_GPU = 32, 256


class TransformersSampler:
    """Answers with a checkpoint in this process. Use it as an async context manager, or call `aclose`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        at_once: int | None = None,
        precision: Precision = Precision.AUTO,
        device: Device = Device.AUTO,
    ) -> None:
        """Prepare; the weights are loaded when they are first needed. `at_once` is the most sequences in a batch."""
        self._checkpoint, self._precision = checkpoint, precision
        self._gpu = device is Device.AUTO and torch.cuda.is_available()
        self._at_once = at_once or (_ON_GPU if self._gpu else _ON_CPU)
        self._loaded: _Loaded | None = None
        self._waiting: list[_Item] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transformers")

    async def card(self) -> ModelCard:
        """Return the model as its configuration describes it. Raises `ModelUnknown`."""
        loaded = await self._computed(self._model)
        name, version = self._checkpoint.name(), transformers.__version__
        return ModelCard(name, loaded.window, engine="transformers", revision=version)

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of the chat by the model's own tokenizer and template."""
        loaded = await self._computed(self._model)
        return len(loaded.tokens.prompt(messages))

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample as soon as it ends. Raises `EnvironmentFailed` where memory does not suffice."""
        answers = asyncio.Queue[Completion | BaseException]()
        asked = _Asked(request, answers, asyncio.get_running_loop(), threading.Event())
        self._waiting += [_Item(asked, index) for index in request.indices]
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._serve())
        try:
            for _ in request.indices:
                answer = await answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            asked.closed.set()
            self._waiting = [item for item in self._waiting if item.asked is not asked]

    async def aclose(self) -> None:
        """Wait for the batch under way, and free the memory."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown(wait=False)
        self._loaded = None

    async def __aenter__(self) -> Self:
        """Return the sampler, which is closed when the block ends."""
        return self

    async def __aexit__(self, *ended: object) -> None:
        """Free the memory."""
        await self.aclose()

    async def _serve(self) -> None:
        await asyncio.sleep(_GATHER_S)
        while self._waiting:
            params = self._waiting[0].asked.request.params
            batch = [item for item in self._waiting if item.asked.request.params == params][: self._at_once]
            self._waiting = [item for item in self._waiting if item not in batch]
            try:
                await self._computed(functools.partial(self._answer, batch, params))
            except Exception as error:  # noqa: BLE001 - told to everybody who waits for this batch
                for item in batch:
                    item.asked.answers.put_nowait(error)

    async def _computed(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- in a worker thread -----------------------------------------------------------------------------------------

    def _answer(self, batch: "list[_Item]", params: SamplingParams) -> None:
        loaded = self._model()
        prompts = {id(item.asked): loaded.tokens.prompt(item.asked.request.messages) for item in batch}
        draws = [Draw(prompts[id(item.asked)], params.seed + item.index) for item in batch]
        large = "The model's memory does not suffice: ask for fewer samples at once, or a shorter context."
        with boundary({torch.OutOfMemoryError: lambda error: EnvironmentFailed(large)}):
            for place, said in loaded.decoder.decode(
                draws, params, lambda place: not batch[place].asked.closed.is_set()
            ):
                item = batch[place]
                item.asked.hand_over(_completion(item.index, said, len(draws[place].prompt), params, loaded))

    def _model(self) -> "_Loaded":
        self._loaded = self._loaded or _load(self._checkpoint, self._precision, gpu=self._gpu)
        return self._loaded


@dataclass(frozen=True, slots=True)
class _Asked:
    request: SampleRequest
    answers: "asyncio.Queue[Completion | BaseException]"
    loop: asyncio.AbstractEventLoop
    closed: threading.Event

    def hand_over(self, answer: Completion) -> None:
        self.loop.call_soon_threadsafe(self.answers.put_nowait, answer)


@dataclass(frozen=True, slots=True)
class _Item:
    asked: _Asked
    index: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    decoder: Decoder
    tokens: ChatTokens
    tokenizer: Any
    window: int


def _load(checkpoint: Checkpoint, precision: Precision, *, gpu: bool) -> _Loaded:
    half = gpu if precision is Precision.AUTO else precision is Precision.BFLOAT16
    dtype = torch.bfloat16 if half else torch.float32
    quiet()
    with loading(checkpoint.model):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(checkpoint.model)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.model, dtype=dtype)
    if checkpoint.adapter is not None:
        with loading_adapter(checkpoint.adapter, checkpoint.model):
            model = PeftModel.from_pretrained(model, str(checkpoint.adapter))
        # Merged into weights in half precision, the smallest of its changes would be rounded away.
        model = model if half else model.merge_and_unload()
    model = model.to("cuda" if gpu else "cpu", dtype).eval()
    return _Loaded(
        Decoder(model, ends_of(model, tokenizer), int(tokenizer.eos_token_id)),
        ChatTokens(tokenizer),
        tokenizer,
        int(model.config.max_position_embeddings),
    )


def _completion(index: int, said: Decoded, prompt: int, params: SamplingParams, loaded: _Loaded) -> Completion:
    text = str(loaded.tokenizer.decode(said.tokens, skip_special_tokens=True))
    cuts = [place for stop in params.stop if (place := text.find(stop)) >= 0]
    finish = Finish.STOP if said.ended or cuts else Finish.LENGTH
    return Completion(index, text[: min(cuts)] if cuts else text, finish, usage=Usage(prompt, 0, len(said.tokens)))
