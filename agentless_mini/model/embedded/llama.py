"""A model and a context of llama.cpp in this process: tokens, batches of many sequences, logits of every token.

It is the one inside an exact `xllamacpp` wheel, whose shared object exports the whole C interface and is opened as a
plain C library. The layouts are those of `include/llama.h`, checked against the library's own defaults when loaded.
Calls into the library release the interpreter lock. Several threads may read a `Model`, one a `Context`.
"""

import contextlib
import ctypes as c
import functools
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.installing import install_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHEEL = "xllamacpp"
WHEEL_VERSION = "2026.10.11549"
INSTALL = f"install the extra with {install_command('embedded')}"
_ERROR_LEVEL = 4

# How long a thread that waits for the others spins before it sleeps, for GNU's OpenMP and for LLVM's; by default for
# ever, which is 3 to 12 times as slow beside other work (measured on two cores).
_SPINS = ((b"GOMP_SPINCOUNT", b"1000"), (b"KMP_BLOCKTIME", b"0"))
_OPENMP = b"libgomp.so.1"
_OPENMP_WHEEL = "cmeel-libomp"

_P, _S, _I, _U, _F, _B, _Z = c.c_void_p, c.c_char_p, c.c_int32, c.c_uint32, c.c_float, c.c_bool, c.c_size_t
_TYPES: Mapping[str, Any] = {"ptr": _P, "int": _I, "uint": _U, "float": _F, "bool": _B, "size": _Z}
_ABORTED = 2

Row = tuple[int, int, Sequence[int], bool]
"""A token of a batch, its position, its sequences, and whether the logits after it are wanted."""


def _fields(layout: str) -> list[tuple[str, Any]]:
    """Read `type name name; type name`, in the order of the C structure."""
    groups = (group.split() for group in layout.split(";"))
    return [(name, _TYPES[kind]) for kind, *names in groups for name in names]


class ModelParams(c.Structure):
    """`struct llama_model_params`."""

    _fields_ = _fields(
        "ptr devices tensor_buft_overrides; int n_gpu_layers split_mode load_mode lazy_mode main_gpu;"
        "ptr tensor_split progress_callback progress_callback_user_data kv_overrides;"
        "bool vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"
    )


class ContextParams(c.Structure):
    """`struct llama_context_params`."""

    _fields_ = _fields(
        "uint n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq;"
        "int n_threads n_threads_batch ctx_type rope_scaling_type pooling_type attention_type flash_attn_type;"
        "float rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow;"
        "uint yarn_orig_ctx; float defrag_thold; ptr cb_eval cb_eval_user_data; int type_k type_v;"
        "size moe_cache_size; ptr abort_callback abort_callback_data;"
        "bool embeddings offload_kqv no_perf op_offload swa_full kv_unified;"
        "ptr samplers; size n_samplers; ptr ctx_other"
    )


class Batch(c.Structure):
    """`struct llama_batch`."""

    _fields_ = _fields("int n_tokens; ptr token embd pos n_seq_id seq_id logits")


LogCallback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
AbortCallback = c.CFUNCTYPE(c.c_bool, c.c_void_p)

PROTOTYPES: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_version": (_S, ()), "llama_backend_init": (None, ()), "llama_log_set": (None, (LogCallback, _P)),
    "llama_model_default_params": (ModelParams, ()), "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (_P, (_S, ModelParams)), "llama_model_free": (None, (_P,)),
    "llama_model_get_vocab": (_P, (_P,)), "llama_model_n_ctx_train": (_I, (_P,)),
    "llama_init_from_model": (_P, (_P, ContextParams)), "llama_free": (None, (_P,)), "llama_get_memory": (_P, (_P,)),
    "llama_memory_clear": (None, (_P, _B)), "llama_memory_seq_cp": (None, (_P, _I, _I, _I, _I)),
    "llama_memory_seq_rm": (_B, (_P, _I, _I, _I)), "llama_decode": (_I, (_P, Batch)),
    "llama_get_logits_ith": (_P, (_P, _I)), "llama_set_abort_callback": (None, (_P, AbortCallback, _P)),
    "llama_vocab_n_tokens": (_I, (_P,)), "llama_tokenize": (_I, (_P, _S, _I, _P, _I, _B, _B)),
    "llama_token_to_piece": (_I, (_P, _I, _P, _I, _I, _B)),
}  # fmt: skip

# What a fresh library answers where the layouts above are right; a shifted field shows at once.
MODEL_DEFAULTS: Mapping[str, object] = {
    "n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "kv_overrides": None, "vocab_only": False,
    "use_extra_bufts": True, "load_mtp": False,
}  # fmt: skip
CONTEXT_DEFAULTS: Mapping[str, object] = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max_per_seq": 1, "n_threads": 4,
    "rope_scaling_type": -1, "flash_attn_type": -1, "yarn_beta_slow": -1.0, "defrag_thold": -1.0, "type_k": 1,
    "type_v": 1, "abort_callback": None, "embeddings": False, "offload_kqv": True, "swa_full": True,
    "kv_unified": False, "n_samplers": 0,
}  # fmt: skip


class Library:
    """The loaded library: `call` has every function of `PROTOTYPES` as an attribute. It is quiet."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - ctypes gives functions no types
        """Initialise it once, from now on with its last complaint at hand, for the sentence of an error."""
        self.call, self.version, self.last_error = call, call.llama_version().decode(), ""
        self._callback = LogCallback(self._take)
        call.llama_log_set(self._callback, None)
        call.llama_backend_init()

    def _take(self, level: int, text: bytes | None, _data: object) -> None:
        if level == _ERROR_LEVEL and text:
            self.last_error = " ".join(text.decode(errors="replace").split())[:200]


@functools.cache
def load_library() -> Library:
    """Load llama.cpp once. Raises `EnvironmentFailed` where wheel or NumPy is missing, or is not what is described."""
    spec = importlib.util.find_spec(WHEEL)
    missing = [name for name, found in (("NumPy", importlib.util.find_spec("numpy")), (WHEEL, spec)) if found is None]
    if missing:
        raise EnvironmentFailed(f"The embedded model needs {missing[0]}, which is missing: {INSTALL}.")
    try:
        found = importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError as error:  # a folder that an installation left
        raise EnvironmentFailed(f"The embedded model needs {WHEEL}, which is missing: {INSTALL}.") from error
    if found != WHEEL_VERSION:
        raise EnvironmentFailed(f"{WHEEL} {found} is installed, but {WHEEL_VERSION} is needed: {INSTALL}.")
    folders = (spec.submodule_search_locations if spec else None) or ()
    path = next((path for folder in folders for path in sorted(Path(folder).glob(f"{WHEEL}*.so"))), None)
    if path is None:
        raise EnvironmentFailed(f"The package {WHEEL} holds no llama.cpp for this system: use --base-url instead.")
    provide_openmp()
    try:
        library = c.CDLL(str(path))
    except OSError as error:
        raise EnvironmentFailed(
            f"llama.cpp cannot be loaded ({error}): install what is missing, or use --base-url."
        ) from error
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name, None)
        if function is None:
            raise EnvironmentFailed(f"The llama.cpp in {WHEEL} does not export {name}: {INSTALL}.")
        function.restype, function.argtypes = result, list(arguments)
    check_defaults(library.llama_model_default_params(), MODEL_DEFAULTS)
    check_defaults(library.llama_context_default_params(), CONTEXT_DEFAULTS)
    return Library(library)


def check_defaults(params: c.Structure, expected: Mapping[str, object]) -> None:
    """Raise `EnvironmentFailed` where a structure that the library filled shows another layout."""
    for name, value in expected.items():
        if getattr(params, name) != value:
            raise EnvironmentFailed(
                f"The llama.cpp in {WHEEL} has another memory layout ({name} of {type(params).__name__} is "
                f"{getattr(params, name)!r}, not {value!r}): {INSTALL}."
            )


def provide_openmp() -> None:
    """Load OpenMP, the system's or else that of a wheel. Raises `EnvironmentFailed` where there is neither."""
    if sys.platform != "linux":
        return
    process = c.CDLL(None)
    for name, value in _SPINS:
        process.setenv(name, value, 0)  # 0: what the user has set stays
    with contextlib.suppress(OSError):
        c.CDLL(_OPENMP.decode())
        return
    try:
        load_openmp_wheel()
    except (OSError, LookupError, importlib.metadata.PackageNotFoundError) as error:
        raise EnvironmentFailed(
            f"llama.cpp needs {_OPENMP.decode()}, which is missing (Debian: libgomp1): {INSTALL}, or use --base-url."
        ) from error


class _LinkMap(c.Structure):  # of glibc's link.h: the head of what a handle of dlopen points to
    _fields_ = (("address", c.c_void_p), ("name", c.c_char_p))


def load_openmp_wheel() -> None:
    """Load LLVM's OpenMP out of its wheel, under the name of GNU's, whose functions it has as well.

    It calls itself libomp.so, and the loader would look for libgomp.so.1 all the same. Raises `OSError` or
    `LookupError` where the wheel has none for this system.
    """
    files = importlib.metadata.files(_OPENMP_WHEEL) or ()
    found = [file.locate() for file in files if file.name == _OPENMP.decode()]
    library = c.CDLL(str(found[0]))
    c.cast(library._handle, c.POINTER(_LinkMap)).contents.name = _OPENMP


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

    def close(self) -> None:
        """Free the memory. Every `Context` of this model must be closed before."""
        self._call.llama_model_free(self.handle)
        self.handle = None

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of plain text: what looks like a special token stays text, and none is added."""
        data = text.encode(errors="replace")
        size = len(data) + 8
        buffer = (_I * size)()
        count = self._call.llama_tokenize(self._vocab, data, len(data), buffer, size, False, False)
        return buffer[:count]

    def piece(self, token: int) -> bytes:
        """Return the bytes of one token; those of a special token are empty. They need not be whole characters."""
        buffer = c.create_string_buffer(512)
        length = self._call.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(length, 0)]


class Context:
    """A key-value cache shared by several sequences. Setting `stop`, in whatever thread, ends the batch under way."""

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
        pointer = c.cast(start, c.POINTER(_F))
        return np.ctypeslib.as_array(pointer, (shape[0] * shape[1],)).reshape(shape)
