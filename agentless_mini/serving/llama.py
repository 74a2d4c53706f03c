"""llama.cpp in this process, with the logits of every token and many sequences in one batch, and no compiler.

Why it exists: line rewriting needs both, and llama.cpp's HTTP server gives neither. It wraps the library
inside the pinned `xllamacpp` wheel (`llama_library.py`, `llama_structs.py`) and knows models, tokens and batches, but
no prompts, no edits and not how samples are drawn.
Calls into the library release the interpreter lock. A `Model` may be read by several threads, a `Context` by one.
"""

import ctypes
import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from agentless_mini.domain import Message
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.serving import llama_structs as c
from agentless_mini.serving.llama_library import load_library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ABORTED = 2


class Aborted(Exception):
    """A decode ended early because `Context.stop` was set."""


class Model:
    """The weights and the vocabulary of one GGUF file."""

    def __init__(self, path: Path) -> None:
        """Load the file. Raises `EnvironmentFailed` where it cannot be loaded."""
        self.library = load_library()
        self.path = path
        call = self._call = self.library.call
        self.handle = call.llama_model_load_from_file(str(path).encode(), call.llama_model_default_params())
        if not self.handle:
            reason = self.library.log.last_error or "no reason given"
            raise EnvironmentFailed(f"llama.cpp cannot load {path} ({reason}): give another file with --model.")
        self.vocab = call.llama_model_get_vocab(self.handle)
        self.vocabulary_size: int = call.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = call.llama_model_n_ctx_train(self.handle)

    def close(self) -> None:
        """Free the memory. Every `Context` of this model must be closed before."""
        self._call.llama_model_free(self.handle)
        self.handle = None

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of plain text: what looks like a special token stays text, and none is added."""
        return self._tokens(text, special=False)

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a chat under the model's own template, the opening of the answer included.

        The contents are tokenized with the template, as servers do: special tokens in them count as such.
        """
        return self._tokens(self.chat_text(messages), special=True)

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        data = text.encode(errors="replace")
        size = len(data) + 8
        buffer = (ctypes.c_int32 * size)()
        count = self._call.llama_tokenize(self.vocab, data, len(data), buffer, size, special, special)
        return list(buffer[:count])

    def chat_text(self, messages: Sequence[Message]) -> str:
        """Return a chat as the model's own template writes it, or as ChatML where it has none that is known."""
        pairs = [(message.role.value.encode(), _c_text(message.content)) for message in messages]
        chat = (c.ChatMessage * len(pairs))(*(c.ChatMessage(*pair) for pair in pairs))
        own = self._call.llama_model_chat_template(self.handle, None)
        for template in (own, b"chatml"):
            size = 2 * sum(len(content) for _, content in pairs) + 4096
            buffer = ctypes.create_string_buffer(size)
            length = self._call.llama_chat_apply_template(template, chat, len(pairs), True, buffer, size)
            if template and 0 <= length <= size:
                return buffer.raw[:length].decode(errors="replace")
        raise EnvironmentFailed(f"llama.cpp cannot format a chat for {self.path.name}: give another file with --model.")

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token; those of a special token are empty. They need not be whole characters."""
        buffer = ctypes.create_string_buffer(512)
        length = self._call.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(length, 0)]

    def ends_answer(self, token: int) -> bool:
        """Say whether the token ends a generation."""
        return bool(self._call.llama_vocab_is_eog(self.vocab, token))


def _c_text(text: str) -> bytes:
    """Return the bytes for a C string, which ends at the first NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a context: tokens of all sequences together, sequences at once, tokens per batch, CPU threads."""

    tokens: int
    sequences: int
    batch: int
    threads: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The tokens of one batch, as arrays of equal length: what, where in its sequence, of which sequence, and whether
    the logits after it are wanted."""

    tokens: "NDArray[np.int32]"
    positions: "NDArray[np.int32]"
    sequences: "NDArray[np.int32]"
    wanted: "NDArray[np.int8]"

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int, bool]]) -> Self:
        """Build a batch from (token, position, sequence, wanted) rows."""
        import numpy as np

        tokens, positions, sequences, wanted = zip(*rows, strict=True)
        as_int = functools.partial(np.asarray, dtype=np.int32)
        return cls(as_int(tokens), as_int(positions), as_int(sequences), np.asarray(wanted, dtype=np.int8))


class Context:
    """A key-value cache shared by several sequences, and the batches that go through it.

    `stop` may be replaced between batches. Once it is set, by whatever thread, the batch under way ends early.
    """

    def __init__(self, model: Model, shape: Shape) -> None:
        """Allocate it. Raises `EnvironmentFailed` where there is no memory for it."""
        self.model, self.shape = model, shape
        call = self._call = model.library.call
        params = call.llama_context_default_params()
        params.n_ctx, params.n_seq_max = shape.tokens, shape.sequences
        params.n_batch = shape.batch
        params.n_threads = params.n_threads_batch = shape.threads
        params.kv_unified = True
        self.handle = call.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise EnvironmentFailed(
                f"llama.cpp has no memory for a context of {shape.tokens} tokens: ask for less with --context."
            )
        self._memory = call.llama_get_memory(self.handle)
        self.stop = threading.Event()
        self._callback = c.AbortCallback(lambda _data: self.stop.is_set())
        call.llama_set_abort_callback(self.handle, self._callback, None)

    def close(self) -> None:
        """Free the memory."""
        self._call.llama_free(self.handle)
        self.handle = None

    def clear(self) -> None:
        """Forget every sequence."""
        self._call.llama_memory_clear(self._memory, False)

    def share(self, source: int, target: int, length: int) -> None:
        """Let `target` begin with the first `length` positions of `source`, without a copy."""
        self._call.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def forget(self, sequence: int, start: int) -> None:
        """Drop a sequence from position `start` on."""
        self._call.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def decode(self, rows: Rows) -> "NDArray[np.float32]":
        """Run one batch of at most `shape.batch` tokens and return the wanted logits, [wanted, vocabulary].

        The array is a view that the next decode overwrites.
        Raises `Aborted` once `stop` is set, and `EnvironmentFailed` where llama.cpp refuses the batch.
        """
        import numpy as np

        if self.stop.is_set():
            raise Aborted
        batch, keep_alive = _batch(rows)
        status = self._call.llama_decode(self.handle, batch)
        del keep_alive
        if self.stop.is_set() or status == _ABORTED:
            raise Aborted
        if status != 0:
            raise EnvironmentFailed(f"llama.cpp failed on a batch (status {status}): ask for less with --context.")
        wanted = np.flatnonzero(rows.wanted)
        if not len(wanted):
            return np.empty((0, self.model.vocabulary_size), dtype=np.float32)
        # The wanted rows lie one after the other, in the order of the batch, from the first one's address on.
        start = self._call.llama_get_logits_ith(self.handle, int(wanted[0]))
        size = len(wanted) * self.model.vocabulary_size
        flat = np.ctypeslib.as_array(ctypes.cast(start, ctypes.POINTER(ctypes.c_float)), (size,))
        return flat.reshape(len(wanted), self.model.vocabulary_size)


def _batch(rows: Rows) -> tuple[c.Batch, tuple[object, ...]]:
    """Return the C structure and what must outlive the call that it is passed to."""
    import numpy as np

    count = len(rows.tokens)
    ones = np.ones(count, dtype=np.int32)
    pointers = rows.sequences.ctypes.data + 4 * np.arange(count, dtype=np.uint64)
    batch = c.Batch(
        n_tokens=count,
        token=rows.tokens.ctypes.data,
        pos=rows.positions.ctypes.data,
        n_seq_id=ones.ctypes.data,
        seq_id=pointers.ctypes.data,
        logits=rows.wanted.ctypes.data,
    )
    return batch, (ones, pointers, rows)
