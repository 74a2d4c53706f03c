"""The model inside this process, as a sampler: line rewriting, and ordinary answers for what that cannot answer.

One worker thread does all decoding, so the event loop stays free, and closing a request stops what it had under way.
Which weights there are is `serving.weights`' business; a model that should serve many samples of ordinary answers
belongs behind `serving.embedded`.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from agentless_mini.domain import (
    Completion,
    Decoding,
    EditTask,
    Finish,
    Message,
    ModelCard,
    SampleRequest,
    Usage,
)
from agentless_mini.errors import UsageError
from agentless_mini.grammar import edit_grammar
from agentless_mini.line_edits import NO_MORE, render
from agentless_mini.serving.generation import Ask, Generator
from agentless_mini.serving.line_scoring import FORKS_AT_ONCE, LineScorer, Ranking
from agentless_mini.serving.llama import Aborted, Context, Model, Shape
from agentless_mini.serving.llama_structs import WHEEL_VERSION
from agentless_mini.serving.weights import Weights

_BATCH = 512


class InProcessSettings(BaseModel):
    """How the model runs inside this process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: int = Field(default=8192, ge=512)
    """Context window in tokens, all samples together; the model's own where that is smaller."""
    threads: int | None = Field(default=None, ge=1)
    """Threads to compute with; by default one for each core this process may use. Another number may round
    differently, and so change the order of rewrites that score alike."""
    copy_tokens: int = Field(default=1500, ge=64)
    """Most tokens of code that line rewriting copies; what the issue points at least is left out."""


class EmbeddedSampler:
    """Answers with a model in this process. See `ports.Sampler` for the contract of its methods.

    With line rewriting, sample i of a request is the rewrite of rank i, as an ordinary edit; beyond the last it says
    that there are no more. The ranking of a task is computed once and kept; its tokens are booked on the first sample
    of the request that computed it. Greedy and exact, it does not depend on the sampling parameters.

    `on_tokens` is told, in the worker thread, of each number of newly decoded tokens. Use it as an async context
    manager, or call `aclose`.
    """

    def __init__(
        self, weights: Weights, settings: InProcessSettings, on_tokens: Callable[[int], None] = lambda tokens: None
    ) -> None:
        """Prepare; the weights are loaded when they are first needed."""
        self._weights, self._settings, self._on_tokens = weights, settings, on_tokens
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="llama.cpp")
        self._loading = threading.Lock()
        self._loaded: Context | None = None
        self._rankings: dict[EditTask, Ranking] = {}

    async def card(self) -> ModelCard:
        """Return the model as its file describes it. Raises `EnvironmentFailed` where it cannot be loaded."""
        context = await asyncio.to_thread(self._context)
        tokens = context.shape.tokens
        return ModelCard(self._weights.name, tokens, self._weights.decoding, "llama.cpp", WHEEL_VERSION)

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of the chat by the model's own tokenizer and template."""
        return await asyncio.to_thread(lambda: len(self._context().model.tokenize_chat(messages)))

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample. Raises `EnvironmentFailed`, and `UsageError` for what the model cannot do."""
        if not request.indices:
            return
        loop, answers, stop = asyncio.get_running_loop(), asyncio.Queue[Completion | None](), threading.Event()

        def hand_over(answer: Completion | None) -> None:
            loop.call_soon_threadsafe(answers.put_nowait, answer)

        work = self._worker.submit(self._answer, request, stop, hand_over)
        try:
            while (answer := await answers.get()) is not None:
                yield answer
            await asyncio.wrap_future(work)
        finally:
            stop.set()
            await _ended(work)

    async def aclose(self) -> None:
        """Wait for the work under way, which a closed request has stopped, and free the memory."""
        await asyncio.to_thread(self._worker.shutdown)
        if self._loaded is not None:
            self._loaded.close()
            self._loaded.model.close()
            self._loaded = None

    async def __aenter__(self) -> Self:
        """Return the sampler, which is closed when the block ends."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the memory."""
        await self.aclose()

    # --- in the worker thread ---------------------------------------------------------------------------------------

    def _context(self) -> Context:
        with self._loading:
            if self._loaded is None:
                model = Model(self._weights.path)
                tokens = min(self._settings.context, model.trained_context)
                threads = self._settings.threads or _cores()
                self._loaded = Context(model, Shape(tokens, FORKS_AT_ONCE + 1, _BATCH, threads))
            return self._loaded

    def _answer(
        self, request: SampleRequest, stop: threading.Event, hand_over: Callable[[Completion | None], None]
    ) -> None:
        try:
            context = self._context()
            context.stop = stop
            for completion in self._completions(request, context):
                hand_over(completion)
        finally:
            hand_over(None)

    def _completions(self, request: SampleRequest, context: Context) -> Iterator[Completion]:
        if request.decoding is Decoding.LINES:
            return self._rewritten(request, context)
        grammar = "" if request.decoding is Decoding.FREE else edit_grammar(_task(request))
        ask = Ask(tuple(context.model.tokenize_chat(request.messages)), request.params, grammar)
        return Generator(context, self._on_tokens).draw(ask, request.indices)

    def _rewritten(self, request: SampleRequest, context: Context) -> Iterator[Completion]:
        task = _task(request)
        usage = Usage()
        if task not in self._rankings:
            room = (context.shape.tokens - _BATCH) // 3
            ranking = LineScorer(context, self._on_tokens).rank(task, min(self._settings.copy_tokens, room))
            self._rankings[task] = ranking
            usage = Usage(ranking.prompt_tokens, 0, ranking.fork_tokens)
        rewrites = self._rankings[task].rewrites
        for index in request.indices:
            text = render(task, rewrites[index]) if index < len(rewrites) else NO_MORE
            yield Completion(index, text, Finish.STOP, usage=usage)
            usage = Usage()


def _task(request: SampleRequest) -> EditTask:
    if request.task is None:
        raise UsageError("Only repairs can be asked of a model that rewrites lines: use --decoding free.")
    return request.task


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _ended(work: "Future[None]") -> None:
    """Wait until work that was told to stop has done so; its outcome was seen, or is no longer wanted."""
    if not work.cancel():
        with contextlib.suppress(Aborted):
            await asyncio.wrap_future(work)
