"""Ordinary answers from llama.cpp in this process: sampled, several at once, freely or under a grammar.

Why it exists: a run on the embedded model must not need a server for the few questions that line rewriting does not
answer. Speed is not its aim; `serving.embedded` starts a server for whole runs.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentless_mini.domain import Completion, Finish, SamplingParams, Usage
from agentless_mini.errors import ServerFailed, UsageError
from agentless_mini.serving import llama_structs as c
from agentless_mini.serving.llama import Context, Model, Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AT_ONCE = 16


class Picker:
    """Draws the tokens of one sample by temperature, top-p and seed, and by a grammar where one is given.

    A token is drawn freely first and drawn again under the grammar only where that refuses it: the distribution is the
    grammar's own, without asking it about the whole vocabulary at every token.
    """

    def __init__(self, model: Model, params: SamplingParams, index: int, grammar: str) -> None:
        """Prepare sample `index`; an empty grammar allows everything. Raises `UsageError` for one that is none."""
        self._model, self._call = model, model.library.call
        self._chain = self._call.llama_sampler_chain_init(c.ChainParams(no_perf=True))
        self._grammar = 0
        for stage in self._stages(params, (params.seed + index) % 2**32):
            self._call.llama_sampler_chain_add(self._chain, stage)
        if grammar:
            self._grammar = self._call.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
            if not self._grammar:
                self.close()
                raise UsageError("llama.cpp does not read the grammar: use free decoding.")

    def _stages(self, params: SamplingParams, seed: int) -> Iterator[int]:
        if params.temperature == 0:
            yield self._call.llama_sampler_init_greedy()
            return
        yield self._call.llama_sampler_init_temp(params.temperature)
        yield self._call.llama_sampler_init_top_p(params.top_p, 1)
        yield self._call.llama_sampler_init_dist(seed)

    def close(self) -> None:
        """Free the memory."""
        self._call.llama_sampler_free(self._chain)
        if self._grammar:
            self._call.llama_sampler_free(self._grammar)

    def pick(self, logits: "NDArray[np.float32]") -> int:
        """Return the next token, given the logits of the whole vocabulary."""
        token = self._drawn(logits, constrained=False)
        if self._grammar and not self._allows(token):
            token = self._drawn(logits, constrained=True)
        self._call.llama_sampler_accept(self._chain, token)
        if self._grammar:
            self._call.llama_sampler_accept(self._grammar, token)
        return token

    def _drawn(self, logits: "NDArray[np.float32]", *, constrained: bool) -> int:
        import numpy as np

        table = np.zeros(len(logits), dtype=list(c.TOKEN_DATA))
        table["id"], table["logit"] = np.arange(len(logits)), logits
        array = c.TokenDataArray(table.ctypes.data, len(table), -1, False)
        if constrained:
            self._call.llama_sampler_apply(self._grammar, ctypes.byref(array))
        self._call.llama_sampler_apply(self._chain, ctypes.byref(array))
        # The samplers sort and shorten the array in place.
        return int(table["id"][array.selected])

    def _allows(self, token: int) -> bool:
        import numpy as np

        table = np.array([(token, 0.0, 0.0)], dtype=list(c.TOKEN_DATA))
        array = c.TokenDataArray(table.ctypes.data, 1, -1, False)
        self._call.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(table["logit"][0] == 0.0)


@dataclass(frozen=True, slots=True)
class Ask:
    """What the samples of one prompt share: its tokens, the sampling, the grammar ("" for none)."""

    prompt: tuple[int, ...]
    params: SamplingParams
    grammar: str = ""


@dataclass(slots=True)
class _Draft:
    """A sample under way."""

    index: int
    picker: Picker
    data: bytes = b""
    tokens: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace")


class Generator:
    """Draws the samples of one prompt. `watch` is told of the tokens decoded since it was last told."""

    def __init__(self, context: Context, watch: Callable[[int], None]) -> None:
        """Draw with a context that nothing else uses meanwhile."""
        self._context, self._model, self._watch = context, context.model, watch

    def draw(self, ask: Ask, indices: Sequence[int]) -> Iterator[Completion]:
        """Yield each sample when it is finished; the first that is yielded carries the prompt's tokens.

        Raises `llama.Aborted`, `UsageError` for a grammar that cannot be read, and `ServerFailed` for a prompt that
        leaves no room for an answer.
        """
        room = self._context.shape.tokens - len(ask.prompt)
        if room < 1:
            raise ServerFailed(f"The prompt has {len(ask.prompt)} tokens and fills the context: show fewer files.")
        most = min(ask.params.max_tokens, room)
        at_once = max(1, min(AT_ONCE, self._context.shape.sequences - 1, room // most))
        self._context.clear()
        first = self._prefill(ask.prompt)
        booked = len(ask.prompt)
        for low in range(0, len(indices), at_once):
            for draft, finish in self._wave(ask, indices[low : low + at_once], first, most):
                usage = Usage(booked, 0, max(len(draft.tokens), 1))
                yield Completion(draft.index, _until_stop(draft.text, ask.params.stop), finish, usage=usage)
                booked = 0

    def _prefill(self, prompt: Sequence[int]) -> "NDArray[np.float32]":
        """Decode the prompt as sequence 0 and return the logits after it."""
        import numpy as np

        logits = np.empty((0, self._model.vocabulary_size), dtype=np.float32)
        size = self._context.shape.batch
        for low in range(0, len(prompt), size):
            places = range(low, min(low + size, len(prompt)))
            logits = self._context.decode(Rows.of([(prompt[at], at, 0, at == len(prompt) - 1) for at in places]))
            self._watch(len(places))
        return logits.copy()

    def _wave(
        self, ask: Ask, indices: Sequence[int], first: "NDArray[np.float32]", most: int
    ) -> Iterator[tuple[_Draft, Finish]]:
        """Yield the samples that run at once, each when it is finished."""
        with ExitStack() as stack:
            drafts = {at: _Draft(index, self._picker(ask, index, stack)) for at, index in enumerate(indices, 1)}
            for sequence in drafts:
                self._context.forget(sequence, 0)
                self._context.share(0, sequence, len(ask.prompt))
            logits: Sequence[NDArray[np.float32]] = [first[-1]] * len(drafts)
            while drafts:
                for (sequence, draft), row in zip(list(drafts.items()), logits, strict=True):
                    finish = self._advance(draft, row, ask.params.stop, most)
                    if finish is not None:
                        del drafts[sequence]
                        self._context.forget(sequence, 0)
                        yield draft, finish
                logits = self._next(drafts, len(ask.prompt))

    def _picker(self, ask: Ask, index: int, stack: ExitStack) -> Picker:
        picker = Picker(self._model, ask.params, index, ask.grammar)
        stack.callback(picker.close)
        return picker

    def _advance(self, draft: _Draft, logits: "NDArray[np.float32]", stop: Sequence[str], most: int) -> Finish | None:
        """Add a token to a sample; return why it ends there, None where it goes on."""
        token = draft.picker.pick(logits)
        if self._model.ends_answer(token):
            return Finish.STOP
        draft.tokens.append(token)
        draft.data += self._model.piece(token)
        if any(end in draft.text for end in stop):
            return Finish.STOP
        return Finish.LENGTH if len(draft.tokens) >= most else None

    def _next(self, drafts: Mapping[int, _Draft], start: int) -> "Sequence[NDArray[np.float32]]":
        if not drafts:
            return ()
        rows = [(one.tokens[-1], start + len(one.tokens) - 1, at, True) for at, one in drafts.items()]
        logits = self._context.decode(Rows.of(rows))
        self._watch(len(rows))
        return list(logits)


def _until_stop(text: str, stop: Sequence[str]) -> str:
    return text[: min([text.find(end) for end in stop if end in text], default=len(text))]
