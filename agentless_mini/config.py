"""The settings of a run: the user's file, then flags. An unknown key is an error, never ignored.

Each section's model stands beside the stage or adapter that it sets. A file in the repository under repair is never
read: its contents are not trusted, and a setting can name the server that everything is sent to.
"""

import enum
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agentless_mini.errors import UsageError, boundary
from agentless_mini.samplers.embedded import InProcessSettings
from agentless_mini.samplers.openai_api import EndpointSettings
from agentless_mini.serving.embedded import EmbeddedSettings
from agentless_mini.serving.vllm import VllmSettings
from agentless_mini.serving.weights import WeightsSettings
from agentless_mini.stages.localize import LocalizeSettings
from agentless_mini.stages.repair import RepairSettings


class Engine(enum.StrEnum):
    """Who answers where no endpoint is named."""

    AUTO = "auto"  # a running `amini serve`, else vLLM where there is a GPU, else the embedded model
    VLLM = "vllm"
    EMBEDDED = "embedded"


class Config(BaseModel):
    """Everything that can be set in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    localize: LocalizeSettings = LocalizeSettings()
    """[localize]: how the files to edit are found."""
    repair: RepairSettings = RepairSettings()
    """[repair]: how repairs are sampled and read."""
    endpoint: EndpointSettings = EndpointSettings()
    """[endpoint]: the model server that is asked."""
    engine: Engine = Engine.AUTO
    """Who answers where no endpoint is named."""
    gpu_model: str = "Qwen/Qwen2.5-Coder-7B-Instruct"
    """The model that vLLM serves where none is named."""
    vllm: VllmSettings = VllmSettings()
    """[vllm]: how vLLM is started."""
    embedded: WeightsSettings = WeightsSettings()
    """[embedded]: which weights the embedded model runs on."""
    llama_cpp: EmbeddedSettings = EmbeddedSettings()
    """[llama_cpp]: how llama.cpp's server is started, for embedded models that write edits."""
    in_process: InProcessSettings = InProcessSettings()
    """[in_process]: how a model that rewrites lines runs inside amini."""
    prompts: Path | None = None
    """Folder of prompt templates that replace packaged ones."""


def load_config(path: Path | None, flags: Mapping[str, Any]) -> Config:
    """Return the settings of the file at `path`, with flags such as {"repair.samples": 20} put over them.

    Raises `UsageError` for a file that cannot be read or parsed, an unknown key, and a value out of range.
    """
    values = _read(path) if path else {}
    for name, value in flags.items():
        _put(values, name.split("."), value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(_sentence(error, path)) from error


def _read(path: Path) -> dict[str, Any]:
    unreadable = f"The configuration {path} cannot be read"
    with boundary(
        {
            OSError: lambda error: UsageError(f"{unreadable} ({error}): check --config."),
            ValueError: lambda error: UsageError(f"{unreadable} ({error}): correct it as TOML."),
        }
    ):
        return tomllib.loads(path.read_text(encoding="utf-8"))


def _put(values: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"[{key}] of the configuration must be a table: write it as [{key}] with keys below.")
        values = inner
    values[keys[-1]] = value


def _sentence(error: ValidationError, path: Path | None) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"There is no setting {name!r}: correct {path or 'the options'}, the README lists the settings."
    where = f"in {path} or its option" if path else "in the options"
    return f"The setting {name} {where} is not valid ({first['msg']}): correct it."
