"""A GGUF file that the user names: one on this machine, or one of the Hugging Face hub, which is fetched once."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from agentless_mini.errors import EnvironmentFailed, ModelUnknown, ServerUnreachable, Translation, UsageError, boundary
from agentless_mini.model.embedded.library import INSTALL

ANSWER_WITHIN_S = 3
SECONDS_EACH = 50.0
"""Seconds that an answer takes for each GB of weights on one core: a rule of thumb, for 4 bits and 350 tokens."""

_PREFERRED = ("q4_k_m", "q8_0", "q5_k_m", "q4_0")  # what balances size and speed best, by the name of a file
_NO_HUB = "give the path of a GGUF file, or --engine embedded without a model"

Tell = Callable[[str], None]


def named_gguf(model: str, hub: str, cache: Path, tell: Tell, check: Callable[[], object]) -> tuple[Path, str]:
    """Return the file and the name that identifies the model. See `model.embedded.weights.find_weights`."""
    path = Path(model).expanduser()
    if path.is_file():
        tell(f"{path.name}: {_time(path.stat().st_size)}.")
        return path, path.stem
    repository, _, _ = model.partition(":")
    is_path = model.startswith((".", "/", "~")) or (model.endswith(".gguf") and ":" not in model)
    if is_path or repository.count("/") != 1:
        raise UsageError(f"There is no file {model}: give the path of a GGUF file, or OWNER/NAME:FILE.gguf on the hub.")
    return _from_hub(model, hub, cache, tell, check)


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

    repository, _, file = model.partition(":")
    disable_progress_bars()
    with boundary(_hub_errors(model, hub)):
        found = _cached(repository, file, cache)
        # The client library tries again for half a minute before it gives up: ask first.
        if found is None and not _answers(hub, repository):
            raise _unreachable(model, hub)
        if not file:
            names = huggingface_hub.HfApi(hub).list_repo_files(repository)
            whole = sorted(name for name in names if name.endswith(".gguf") and "-of-" not in name)
            if not whole:
                raise ModelUnknown(f"The repository {repository} holds no GGUF file: name another one.")
            file = next((name for kind in _PREFERRED for name in whole if kind in name.lower()), whole[0])
        path = found or _cached(repository, file, cache)
        if path is not None:
            tell(f"{repository}:{file}: {_time(path.stat().st_size)}.")
        else:
            check()
            url = huggingface_hub.hf_hub_url(repository, file, endpoint=hub)
            size = huggingface_hub.get_hf_file_metadata(url).size or 0
            tell(f"Fetching {repository}:{file} from {hub}: {_time(size)}.")
            path = Path(huggingface_hub.hf_hub_download(repository, file, cache_dir=cache, endpoint=hub))
    return path, f"{repository}:{file}"


def _hub_errors(model: str, hub: str) -> Translation:
    from huggingface_hub import errors

    def unknown(_: BaseException) -> ModelUnknown:
        return ModelUnknown(f"The hub at {hub} has no {model}, or not for you: check the name.")

    def unreachable(_: BaseException) -> ServerUnreachable:
        return _unreachable(model, hub)

    return {
        errors.RepositoryNotFoundError: unknown,
        errors.RemoteEntryNotFoundError: unknown,
        errors.HFValidationError: unknown,
        errors.LocalEntryNotFoundError: unreachable,
        errors.HfHubHTTPError: unreachable,
        errors.OfflineModeIsEnabled: unreachable,
        # What the client library of this version of the hub raises, whichever it is.
        errors.HfHubHTTPError.__bases__[0]: unreachable,
    }


def _unreachable(model: str, hub: str) -> ServerUnreachable:
    return ServerUnreachable(f"{model} is not in the cache and the hub at {hub} does not answer: {_NO_HUB}.")


def _cached(repository: str, file: str, cache: Path) -> Path | None:
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(repository, file, cache_dir=cache) if file else None
    return Path(found) if isinstance(found, str) else None


def _answers(hub: str, repository: str) -> bool:
    """Say whether the hub says anything about a repository within seconds."""
    import httpx2

    try:
        httpx2.head(f"{hub}/api/models/{quote(repository)}", timeout=ANSWER_WITHIN_S)
    except httpx2.HTTPError:
        return False
    return True
