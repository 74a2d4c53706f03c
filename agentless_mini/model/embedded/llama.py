"""A model and a context of llama.cpp in this process: tokens, batches of many sequences, logits of every token.

Calls into the library release the interpreter lock. Several threads may read a `Model`, one a `Context`.
"""

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.model.embedded.library import AbortCallback, Batch, load_library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ABORTED = 2

Row = tuple[int, int, Sequence[int], bool]
"""A token of a batch, its position, its sequences, and whether the logits after it are wanted."""


class Aborted(Exception):
    """A decode ended early because `Context.stop` was set."""


class Model:
    """The weights and the vocabulary of one GGUF file."""

    def __init__(self, path: Path) -> None:
        """Load the file. Raises `EnvironmentFailed` where it cannot be loaded."""
        self.library = load_library()
        call = self._call = self.library.call
        self.handle = call.llama_model_load_from_file(str(path).encode(), call.llama_model_default_params())
        if not self.handle:
            reason = self.library.last_error or "no reason given"
            raise EnvironmentFailed(f"llama.cpp cannot load {path} ({reason}): give another file with --model.")
        self._vocab = call.llama_model_get_vocab(self.handle)
        self.vocabulary_size: int = call.llama_vocab_n_tokens(self._vocab)
        self.trained_context: int = call.llama_model_n_ctx_train(self.handle)
        self._pieces = dict[int, bytes]()

    def close(self) -> None:
        """Free the memory. Every `Context` of this model must be closed before."""
        self._call.llama_model_free(self.handle)
        self.handle = None

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of plain text: what looks like a special token stays text, and none is added."""
        data = text.encode(errors="replace")
        size = len(data) + 8
        buffer = (ctypes.c_int32 * size)()
        count = self._call.llama_tokenize(self._vocab, data, len(data), buffer, size, False, False)
        return buffer[:count]

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token; those of a special token are empty. They need not be whole characters."""
        if token not in self._pieces:
            buffer = ctypes.create_string_buffer(512)
            length = self._call.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
            self._pieces[token] = buffer.raw[: max(length, 0)]
        return self._pieces[token]


class Context:
    """A key-value cache shared by several sequences, and the batches that go through it.

    `stop` may be replaced between batches. Once it is set, by whatever thread, the batch under way ends early.
    """

    def __init__(self, model: Model, tokens: int, sequences: int, batch: int, threads: int) -> None:
        """Allocate one for so many tokens of all sequences. Raises `EnvironmentFailed` without memory for it."""
        self.model, self.tokens, self.sequences, self.batch = model, tokens, sequences, batch
        call = self._call = model.library.call
        params = call.llama_context_default_params()
        params.n_ctx, params.n_seq_max = tokens, sequences
        params.n_batch = params.n_ubatch = batch  # so that a batch is one forward pass
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        self.handle = call.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise EnvironmentFailed(
                f"llama.cpp has no memory for a context of {tokens} tokens: ask for less with --context."
            )
        self._memory = call.llama_get_memory(self.handle)
        self.stop = threading.Event()
        self._callback = AbortCallback(lambda _data: self.stop.is_set())
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

    def forget(self, sequence: int) -> None:
        """Drop a sequence."""
        self._call.llama_memory_seq_rm(self._memory, sequence, 0, -1)

    def decode(self, rows: Sequence[Row]) -> "NDArray[np.float32]":
        """Run one batch of at most `batch` tokens; return a view of the wanted logits, [wanted, vocabulary].

        Raises `Aborted` once `stop` is set, and `EnvironmentFailed` where llama.cpp refuses the batch.
        """
        import numpy as np

        if self.stop.is_set():
            raise Aborted
        tokens, positions, asked = (np.array([row[at] for row in rows], np.int32) for at in (0, 1, 3))
        asked = asked.astype(np.int8)
        counts = np.array([len(row[2]) for row in rows], np.int32)
        sequences = np.concatenate([np.array(row[2], np.int32) for row in rows])
        pointers = sequences.ctypes.data + 4 * (np.cumsum(counts) - counts).astype(np.uint64)
        arrays = (tokens, None, positions, counts, pointers, asked)  # they live until the call has returned
        batch = Batch(len(rows), *(None if array is None else array.ctypes.data for array in arrays))
        status = self._call.llama_decode(self.handle, batch)
        if self.stop.is_set() or status == _ABORTED:
            raise Aborted
        if status != 0:
            raise EnvironmentFailed(f"llama.cpp failed on a batch (status {status}): ask for less with --context.")
        shape = int(asked.sum()), self.model.vocabulary_size
        if not shape[0]:
            return np.empty(shape, dtype=np.float32)
        # The wanted rows lie one after the other, in the order of the batch, from the first one's address on.
        start = self._call.llama_get_logits_ith(self.handle, int(asked.argmax()))
        pointer = ctypes.cast(start, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (shape[0] * shape[1],)).reshape(shape)
