"""The settings: the user's file, then flags. An unknown key is an error, never ignored.

The sections are in `run`, `model` and `learning`. The rooms import theirs from there; none of them imports a room. A
file in the repository under repair is never read: its contents are not trusted, and a setting can name the server that
everything is sent to.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from agentless_mini.domain import Level, Method
from agentless_mini.errors import UsageError, boundary, printable, reason
from agentless_mini.settings.learning import (
    CurateSettings,
    RewardModelSettings,
    RlSettings,
    SftSettings,
    SynthesizeSettings,
)
from agentless_mini.settings.model import (
    EmbeddedSettings,
    EndpointSettings,
    Engine,
    InProcessSettings,
    ScorerSettings,
    VllmSettings,
    WeightsSettings,
)
from agentless_mini.settings.run import (
    EvaluationSettings,
    EvolveSettings,
    LocalizeSettings,
    MarkSettings,
    RegressSettings,
    RepairSettings,
    ReproduceSettings,
    SandboxSettings,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# What pydantic calls a bound that is broken, the words for it, and the name that the error's context has for it.
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "string_pattern_mismatch": ("a text that matches", "pattern"),
}
# The first word of an error's type is the type that was expected.
_KINDS = {
    "int": "a whole number",
    "finite": "a finite number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table of names and values",
    "model": "a table, written as [NAME] with keys below",
}


class Config(BaseModel):
    """Everything that can be set in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    localize: LocalizeSettings = LocalizeSettings()
    """[localize]: how the files to edit are found."""
    repair: RepairSettings = RepairSettings()
    """[repair]: how repairs are sampled and read."""
    evolve: EvolveSettings = EvolveSettings()
    """[evolve]: how the repairs are spread over rounds that are shown those before."""
    reproduce: ReproduceSettings = ReproduceSettings()
    """[reproduce]: how reproduction tests are sampled and kept."""
    regress: RegressSettings = RegressSettings()
    """[regress]: which of the repository's own tests are run."""
    fresh: bool = False
    """Whether new answers are drawn, whatever is recorded."""
    generation: NonNegativeInt | None = None
    """Which of the answers to an issue are used without `fresh`, counted from 0; by default the newest."""
    rank: Method = Method.AGREEMENT
    """How the patch is chosen."""
    require: Level | None = None
    """What a patch must have shown to be printed; none: `given` where failing tests are given, else `any`."""
    answer: MarkSettings = MarkSettings()
    """[answer]: marks of one's own around what a model means as its answer: nothing else counts."""
    think: MarkSettings = MarkSettings()
    """[think]: marks of one's own around a model's thinking."""
    sandbox: SandboxSettings = SandboxSettings()
    """[sandbox]: where tests run, and what they may use."""
    endpoint: EndpointSettings = EndpointSettings()
    """[endpoint]: the model server that is asked."""
    scorer: ScorerSettings = ScorerSettings()
    """[scorer]: the reward model that selects what later rounds are shown."""
    engine: Engine = Engine.AUTO
    """Who answers where no endpoint is named."""
    gpu_model: str | None = None
    """The model that vLLM serves where no other is named. There is no default: it would be gigabytes unasked."""
    vllm: VllmSettings = VllmSettings()
    """[vllm]: how vLLM is started."""
    embedded: WeightsSettings = WeightsSettings()
    """[embedded]: which weights the embedded model runs on."""
    llama_cpp: EmbeddedSettings = EmbeddedSettings()
    """[llama_cpp]: how llama.cpp's server is started, for embedded models that write edits."""
    in_process: InProcessSettings = InProcessSettings()
    """[in_process]: how a model that ranks changes of lines runs inside amini."""
    eval: EvaluationSettings = EvaluationSettings()
    """[eval]: how instances of a benchmark are attempted and graded."""
    curate: CurateSettings = CurateSettings()
    """[curate]: how pull requests become rows to learn from."""
    synthesize: SynthesizeSettings = SynthesizeSettings()
    """[synthesize]: how a teacher writes the reasoning of rows."""
    sft: SftSettings = SftSettings()
    """[sft]: supervised fine-tuning."""
    rl: RlSettings = RlSettings()
    """[rl]: reinforcement learning."""
    reward_model: RewardModelSettings = RewardModelSettings()
    """[reward_model]: a model that scores patches."""
    prompts: Path | None = None
    """Folder of prompt templates that replace packaged ones."""


def load_config(path: Path | None, flags: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> Config:
    """Return the settings of the file at `path`, with flags such as {"repair.samples": 20} put over them.

    `typed` has what people type for a flag, such as {"repair.samples": "--samples"}: mistakes are told by that name.
    Raises `UsageError` for a file that cannot be read or parsed, an unknown key, and a value out of range.
    """
    values = _read(path) if path else {}
    for name, value in flags.items():
        _put(values, name.split("."), value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(_sentence(error, path, {name: (typed or {}).get(name, "") for name in flags})) from error


def _read(path: Path) -> dict[str, Any]:
    unreadable = f"The configuration {path} cannot be read"
    with boundary(
        {
            OSError: lambda error: UsageError(f"{unreadable} ({reason(error)}): check --config, or AMINI_CONFIG."),
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


def _sentence(error: ValidationError, path: Path | None, flags: Mapping[str, str]) -> str:
    """Say what is wrong with which setting, by the name of its flag where it comes from one."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = printable(".".join(str(part) for part in first["loc"]))
    flag = next((flag for flag in flags if f"{flag}.".startswith(f"{name}.") or name.startswith(f"{flag}.")), None)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, _names(Config), 1)
        hint = f"use {near[0]!r}" if near and flag is None else "the README lists the settings"
        return f"There is no setting {name!r}: correct {path or 'the options'}, {hint}."
    if flag is not None and flags[flag]:
        return f"{flags[flag]} {_complaint(first)}."
    return f"The setting {name} in {path if path and flag is None else 'the options'} {_complaint(first)}."


def _names(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for name, field in model.model_fields.items():
        yield before + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{before}{name}.")


def _complaint(error: "ErrorDetails") -> str:
    """Say what the setting must be, in words that are ours: pydantic's are for programmers."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":  # a validator of ours
        return f"is not valid: {context['error']}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]}: correct it"
    if "expected" in context:
        return f"must be {context['expected']}: correct it"
    said = _KINDS.get(kind.partition("_")[0])
    return f"must be {said}: correct it" if said else "is not valid: correct it"
