"""Finds, loads and checks the llama.cpp inside the pinned `xllamacpp` wheel. `llama.py` wraps what it can do.

The wheel's Python module is not imported: only its shared object is opened, as a plain C library.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentless_mini.errors import EnvironmentFailed
from agentless_mini.installing import install_command
from agentless_mini.serving import llama_structs as c

INSTALL = f"install the extra with {install_command('embedded')}"
_ERROR_LEVEL = 4

# How long a thread that waits for the others spins before it sleeps, for GNU's OpenMP and for LLVM's. The default is
# endless where there are as many threads as cores. Measured on two cores: as fast as the default when idle, 3 to 12
# times as fast beside other work.
_SPINS = ((b"GOMP_SPINCOUNT", b"1000"), (b"KMP_BLOCKTIME", b"0"))

_OPENMP = b"libgomp.so.1"
_OPENMP_WHEEL = "cmeel-libomp"


class _Log:
    """Keeps the library quiet and remembers its last complaint for the sentence of an error."""

    def __init__(self) -> None:
        self.last_error = ""
        self.callback = c.LogCallback(self._take)

    def _take(self, level: int, text: bytes | None, _data: object) -> None:
        if level == _ERROR_LEVEL and text:
            self.last_error = " ".join(text.decode(errors="replace").split())[:200]


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library: `call` has every function of `llama_structs.PROTOTYPES` as an attribute."""

    call: Any
    version: str
    log: _Log


@functools.cache
def load_library() -> Library:
    """Load llama.cpp once per process and check that it is the build that the layouts describe.

    Raises `EnvironmentFailed` where the wheel or NumPy is missing, is another version, or does not fit.
    """
    if importlib.util.find_spec("numpy") is None:
        raise EnvironmentFailed(f"The embedded model needs NumPy, which is missing: {INSTALL}.")
    library = _opened(_shared_object())
    _declare(library)
    check_defaults(library.llama_model_default_params(), c.MODEL_DEFAULTS)
    check_defaults(library.llama_context_default_params(), c.CONTEXT_DEFAULTS)
    log = _Log()
    library.llama_log_set(log.callback, None)
    library.llama_backend_init()
    return Library(library, library.llama_version().decode(), log)


def _opened(path: Path) -> ctypes.CDLL:
    provide_openmp()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise EnvironmentFailed(
            f"llama.cpp cannot be loaded ({error}): install what is missing, or use --base-url."
        ) from error


def provide_openmp() -> None:
    """Load what the wheel links to and does not bring: OpenMP, the system's or else the one of a wheel.

    Raises `EnvironmentFailed` where there is neither.
    """
    if sys.platform != "linux":
        return
    process = ctypes.CDLL(None)
    for name, value in _SPINS:
        process.setenv(name, value, 0)  # 0: what the user has set stays
    with contextlib.suppress(OSError):
        ctypes.CDLL(_OPENMP.decode())
        return
    try:
        load_openmp_wheel()
    except (OSError, LookupError, importlib.metadata.PackageNotFoundError) as error:
        raise EnvironmentFailed(
            f"llama.cpp needs {_OPENMP.decode()}, which is missing (Debian: libgomp1): {INSTALL}, or use --base-url."
        ) from error


class _LinkMap(ctypes.Structure):
    """The head of what a handle of glibc's dlopen points to: `struct link_map` of link.h."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def load_openmp_wheel() -> None:
    """Load LLVM's OpenMP out of its wheel, and have the loader know it as GNU's, whose functions it has as well.

    It calls itself libomp.so, so that the loader would look for a libgomp.so.1 all the same: by a name in the list of
    what is loaded it finds it. Raises `OSError` or `LookupError` where the wheel has none for this system.
    """
    files = importlib.metadata.files(_OPENMP_WHEEL) or ()
    found = [file.locate() for file in files if file.name == _OPENMP.decode()]
    library = ctypes.CDLL(str(found[0]))
    ctypes.cast(library._handle, ctypes.POINTER(_LinkMap)).contents.name = _OPENMP


def _shared_object() -> Path:
    try:
        found = importlib.metadata.version(c.WHEEL)
    except importlib.metadata.PackageNotFoundError as error:
        raise EnvironmentFailed(f"The embedded model needs {c.WHEEL}, which is missing: {INSTALL}.") from error
    if found != c.WHEEL_VERSION:
        raise EnvironmentFailed(f"{c.WHEEL} {found} is installed, but {c.WHEEL_VERSION} is needed: {INSTALL}.")
    spec = importlib.util.find_spec(c.WHEEL)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob(f"{c.WHEEL}*.so")):
            return path
    raise EnvironmentFailed(f"The package {c.WHEEL} holds no llama.cpp for this system: use --base-url instead.")


def _declare(library: ctypes.CDLL) -> None:
    for name, (result, arguments) in c.PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise EnvironmentFailed(f"The llama.cpp in {c.WHEEL} does not export {name}: {INSTALL}.") from error
        function.restype, function.argtypes = result, list(arguments)


def check_defaults(params: ctypes.Structure, expected: Mapping[str, object]) -> None:
    """Compare a structure that the library filled with the values that its layout must show.

    Raises `EnvironmentFailed` with the first field that differs.
    """
    for name, value in expected.items():
        if getattr(params, name) != value:
            raise EnvironmentFailed(
                f"The llama.cpp in {c.WHEEL} has another memory layout ({name} of {type(params).__name__} is "
                f"{getattr(params, name)!r}, not {value!r}): {INSTALL}."
            )
