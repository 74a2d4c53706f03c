"""The embedded model as a sampler: sample i of a repair is the mutant of rank i. One worker thread asks the model."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from agentless_mini.domain import Completion, Decoding, EditTask, Finish, Message, ModelCard, SampleRequest, Usage
from agentless_mini.edits.writing import write_edit
from agentless_mini.errors import UsageError
from agentless_mini.model.embedded.llama import WHEEL_VERSION, Aborted, Context, Model
from agentless_mini.model.embedded.scoring import SEQUENCES, LineScorer, Ranking, Rewrite
from agentless_mini.model.embedded.weights import Weights
from agentless_mini.model.grammar import shown_rows, spoken_path
from agentless_mini.settings.model import InProcessSettings

_BATCH = 512
_TURN = 4  # tokens of a chat's template for each message, about
NO_MORE = "There are no more rewrites of a line."


class EmbeddedSampler:
    """Answers repairs with a model in this process. See `ports.Sampler` for the contract of its methods.

    The ranking of a task, which no sampling parameter changes, is computed once and kept; its tokens are booked on the
    first sample of that request. `on_tokens` is told, in the worker thread, of newly decoded tokens.
    """

    def __init__(
        self, weights: Weights, settings: InProcessSettings, on_tokens: Callable[[int], None] = lambda tokens: None
    ) -> None:
        """Prepare; the weights are loaded when they are first needed."""
        self._weights, self._settings, self._on_tokens = weights, settings, on_tokens
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="llama.cpp")
        self._loaded: Context | None = None
        self._rankings: dict[EditTask, Ranking] = {}

    async def card(self) -> ModelCard:
        """Return the model as its file describes it. Raises `EnvironmentFailed` where it cannot be loaded."""
        context = await asyncio.wrap_future(self._worker.submit(self._context))
        return ModelCard(self._weights.name, context.tokens, Decoding.LINES, "llama.cpp", WHEEL_VERSION)

    async def count_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of the messages by the model's own tokenizer, with some for a template."""
        texts = [message.content for message in messages]

        def count() -> int:
            return sum(len(self._context().model.tokenize(text)) + _TURN for text in texts)

        return await asyncio.wrap_future(self._worker.submit(count))

    async def sample(self, request: SampleRequest) -> AsyncIterator[Completion]:
        """Yield each wanted sample. Raises `EnvironmentFailed`, and `UsageError` for what is no repair."""
        if not request.indices:
            return
        task, stop = request.task, threading.Event()
        if task is None or request.decoding is not Decoding.LINES:
            raise UsageError("A model that rewrites lines answers repairs alone: name a GGUF model with --model.")
        work = self._worker.submit(self._ranked, task, stop)
        try:
            ranking, usage = await asyncio.wrap_future(work)
        finally:
            stop.set()  # of work that was told to stop, the outcome was seen or is no longer wanted
            if not work.cancel():
                with contextlib.suppress(Aborted):
                    await asyncio.wrap_future(work)
        for index in request.indices:
            is_there = index < len(ranking.rewrites)
            text = render(task, ranking.rewrites[index]) if is_there else NO_MORE
            yield Completion(index, text, Finish.STOP, usage=usage)
            usage = Usage()

    async def __aenter__(self) -> Self:
        """Return the sampler, which is closed when the block ends."""
        return self

    async def __aexit__(self, *ended: object) -> None:
        """Wait for the work under way, which a closed request has stopped, and free the memory."""
        await asyncio.to_thread(self._worker.shutdown)
        if self._loaded is not None:
            self._loaded.close()
            self._loaded.model.close()
            self._loaded = None

    def _context(self) -> Context:
        if self._loaded is None:
            model = Model(self._weights.path)
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            tokens = min(self._settings.context, model.trained_context)
            self._loaded = Context(model, tokens, SEQUENCES, _BATCH, self._settings.threads or cores)
        return self._loaded

    def _ranked(self, task: EditTask, stop: threading.Event) -> tuple[Ranking, Usage]:
        if task in self._rankings:
            return self._rankings[task], Usage()
        context = self._context()
        context.stop = stop
        room = (context.tokens - _BATCH) // 3
        ranking = LineScorer(context, self._on_tokens).rank(task, min(self._settings.copy_tokens, room))
        self._rankings[task] = ranking
        return ranking, Usage(ranking.prompt_tokens, 0, ranking.mutant_tokens)


def render(task: EditTask, rewrite: Rewrite) -> str:
    """Return the rewrite as an edit: SEARCH is the old line, with the neighbours that it takes to be shown once."""
    file = next(file for file in task.files if file.path == rewrite.region.path)
    number = rewrite.region.first + rewrite.row
    shown = {excerpt.first: shown_rows(excerpt.text) for excerpt in file.excerpts}
    first = max(first for first in shown if first <= number)
    rows, row = shown[first], number - first
    # What is not shown of a file may repeat the line: then at least its neighbours are taken along.
    least = 0 if file.whole else 1
    while True:
        low, high = max(row - least, 0), min(row + 1 + least, len(rows))
        run = rows[low:high]
        places = (one[at : at + len(run)] == run for one in shown.values() for at in range(len(one) - len(run) + 1))
        if sum(places) <= 1 or run == rows:
            break
        least += 1
    new = [*rows[low:row], rewrite.text, *rows[row + 1 : high]]
    search, replace = ("".join(f"{line}\n" for line in side) for side in (run, new))
    return write_edit(spoken_path(file.path), search, replace)
