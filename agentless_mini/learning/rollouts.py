"""A checkpoint as a sampler, by transformers and without a server: see `ports.Sampler` for the contract.

The samples of a request are generated together; a server that batches requests is faster (`amini serve`). Each sample
draws from a stream of random numbers of its own, so it does not depend on what it is batched with, but for rounding.
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
import transformers

from agentless_mini.domain import Completion, Finish, Message, ModelCard, SampleRequest, SamplingParams, Usage
from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.learning.checkpoints import Checkpoint
from agentless_mini.learning.policies import ends_of, load_model, load_tokenizer, merged, quiet
from agentless_mini.learning.texts import ChatTokens
from agentless_mini.settings.learning import Device, Precision

Result = TypeVar("Result")

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
        self._checkpoint = checkpoint
        self._gpu = device is Device.AUTO and torch.cuda.is_available()
        self._half = self._gpu if precision is Precision.AUTO else precision is Precision.BFLOAT16
        self._at_once = at_once or (_ON_GPU if self._gpu else _ON_CPU)
        self._loaded: _Loaded | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transformers")

    async def card(self) -> ModelCard:
        """Return the model as its configuration describes it. Raises `ModelUnknown`."""
        window = int((await self._computed(self._ready)).model.config.max_position_embeddings)
        return ModelCard(self._checkpoint.name(), window, engine="transformers", revision=transformers.__version__)

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of the chat by the model's own tokenizer and template."""
        return len((await self._computed(self._ready)).tokens.prompt(messages))

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample when its batch ends. Raises `EnvironmentFailed` where memory does not suffice."""
        closed = threading.Event()
        try:
            for at in range(0, len(request.indices), self._at_once):
                indices = request.indices[at : at + self._at_once]
                for answer in await self._computed(functools.partial(self._answers, request, indices, closed)):
                    yield answer
        finally:
            closed.set()

    async def aclose(self) -> None:
        """Wait for the batch under way, and free the memory."""
        await asyncio.to_thread(self._thread.shutdown)
        self._loaded = None

    async def __aenter__(self) -> Self:
        """Return the sampler, which is closed when the block ends."""
        return self

    async def __aexit__(self, *ended: object) -> None:
        """Free the memory."""
        await self.aclose()

    async def _computed(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- in the worker thread ----------------------------------------------------------------------------------------

    def _ready(self) -> "_Loaded":
        if self._loaded is None:
            checkpoint, dtype = self._checkpoint, torch.bfloat16 if self._half else torch.float32
            quiet()
            tokenizer = load_tokenizer(checkpoint.model)
            model = load_model(checkpoint.model, checkpoint.adapter, dtype)
            if not self._half:  # there the smallest changes of an adapter would be rounded away
                model = merged(model)
            model = model.to("cuda" if self._gpu else "cpu", dtype).eval()
            self._loaded = _Loaded(model, tokenizer, ChatTokens(tokenizer))
        return self._loaded

    def _answers(self, request: SampleRequest, indices: Sequence[int], closed: threading.Event) -> list[Completion]:
        loaded, params, count = self._ready(), request.params, len(indices)
        prompt, device = loaded.tokens.prompt(request.messages), loaded.model.device
        ends = ends_of(loaded.model, loaded.tokenizer)
        ids = torch.tensor([prompt] * count, device=device)
        drawing = _Drawing(params, [params.seed + index for index in indices], device)
        large = "The model's memory does not suffice: ask for fewer samples at once, or a shorter context."
        with boundary({torch.OutOfMemoryError: lambda error: EnvironmentFailed(large)}), torch.inference_mode():
            said = loaded.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=transformers.GenerationConfig(
                    max_new_tokens=params.max_tokens,
                    do_sample=False,
                    repetition_penalty=1.0,
                    eos_token_id=sorted(ends),
                    pad_token_id=loaded.tokenizer.pad_token_id,
                ),
                logits_processor=[drawing],
                stopping_criteria=[lambda *now, **more: torch.full((count,), closed.is_set(), device=device)],
            )[:, len(prompt) :].tolist()
        answers = []
        for index, tokens in zip(indices, said, strict=True):
            end = next((place for place, token in enumerate(tokens) if token in ends), None)
            text = str(loaded.tokenizer.decode(tokens[:end], skip_special_tokens=True))
            cuts = [place for stop in params.stop if (place := text.find(stop)) >= 0]
            finish = Finish.LENGTH if end is None and not cuts else Finish.STOP
            usage = Usage(len(prompt), 0, len(tokens[:end]))
            answers.append(Completion(index, text[: min(cuts, default=None)], finish, usage=usage))
        return answers


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Any
    tokenizer: Any
    tokens: ChatTokens


class _Drawing(transformers.LogitsProcessor):  # type: ignore[misc]
    """Draws each sequence's token from its own seed: the only token left possible is the one that was drawn.

    transformers draws a whole batch from one stream, so that a sample would depend on its neighbours.
    """

    def __init__(self, params: SamplingParams, seeds: Sequence[int], device: torch.device) -> None:
        numbers = [torch.rand(params.max_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self._params, self._numbers, self._step = params, torch.stack(numbers).to(device), 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ANN401 - transformers calls it
        if self._params.temperature == 0:
            return scores
        likely = (scores.float() / self._params.temperature).softmax(-1)
        if self._params.top_p < 1:
            ordered, tokens = likely.sort(-1, descending=True)
            unlikely = ordered.cumsum(-1) - ordered >= self._params.top_p
            likely = likely.masked_fill(unlikely.gather(1, tokens.argsort(-1)), 0)
        summed = likely.cumsum(-1)
        drawn = torch.searchsorted(summed, self._numbers[:, self._step, None] * summed[:, -1:], right=True)
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, drawn.clamp(max=scores.shape[-1] - 1), 0.0)
