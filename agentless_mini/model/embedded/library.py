"""The llama.cpp inside one exact `xllamacpp` wheel: its C layouts and prototypes, found, loaded and checked.

The wheel's shared object exports the whole C interface, and is opened as a plain C library. The layouts are those of
`include/llama.h`; they are checked against the library's own default values whenever it is loaded.
"""

import contextlib
import ctypes as c
import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.installing import install_command

WHEEL = "xllamacpp"
WHEEL_VERSION = "2026.10.11549"
INSTALL = f"install the extra with {install_command('embedded')}"
_ERROR_LEVEL = 4

# How long a thread that waits for the others spins before it sleeps, for GNU's OpenMP and for LLVM's. The default is
# endless where there are as many threads as cores. Measured on two cores: as fast as the default when idle, 3 to 12
# times as fast beside other work.
_SPINS = ((b"GOMP_SPINCOUNT", b"1000"), (b"KMP_BLOCKTIME", b"0"))
_OPENMP = b"libgomp.so.1"
_OPENMP_WHEEL = "cmeel-libomp"

_P, _S, _I, _U, _F, _B, _Z = c.c_void_p, c.c_char_p, c.c_int32, c.c_uint32, c.c_float, c.c_bool, c.c_size_t
_TYPES: Mapping[str, Any] = {"ptr": _P, "int": _I, "uint": _U, "float": _F, "bool": _B, "size": _Z}


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
    """Load llama.cpp once per process and check that it is the build that the layouts describe.

    Raises `EnvironmentFailed` where the wheel or NumPy is missing, is another version, or does not fit.
    """
    if importlib.util.find_spec("numpy") is None:
        raise EnvironmentFailed(f"The embedded model needs NumPy, which is missing: {INSTALL}.")
    path = _shared_object()
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


def _shared_object() -> Path:
    try:
        found = importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError as error:
        raise EnvironmentFailed(f"The embedded model needs {WHEEL}, which is missing: {INSTALL}.") from error
    if found != WHEEL_VERSION:
        raise EnvironmentFailed(f"{WHEEL} {found} is installed, but {WHEEL_VERSION} is needed: {INSTALL}.")
    spec = importlib.util.find_spec(WHEEL)
    folders = (spec.submodule_search_locations if spec else None) or ()
    paths = [path for folder in folders for path in sorted(Path(folder).glob(f"{WHEEL}*.so"))]
    if not paths:
        raise EnvironmentFailed(f"The package {WHEEL} holds no llama.cpp for this system: use --base-url instead.")
    return paths[0]


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


class _LinkMap(c.Structure):
    """The head of what a handle of glibc's dlopen points to: `struct link_map` of link.h."""

    _fields_ = (("address", c.c_void_p), ("name", c.c_char_p))


def load_openmp_wheel() -> None:
    """Load LLVM's OpenMP out of its wheel, and have the loader know it as GNU's, whose functions it has as well.

    It calls itself libomp.so, so that the loader would look for a libgomp.so.1 all the same: by a name in the list of
    what is loaded it finds it. Raises `OSError` or `LookupError` where the wheel has none for this system.
    """
    files = importlib.metadata.files(_OPENMP_WHEEL) or ()
    found = [file.locate() for file in files if file.name == _OPENMP.decode()]
    library = c.CDLL(str(found[0]))
    c.cast(library._handle, c.POINTER(_LinkMap)).contents.name = _OPENMP
