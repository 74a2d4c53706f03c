"""The settings: the user's file, then flags. An unknown key is an error, never ignored.

The sections are in `run`, `model` and `learning`. The rooms import theirs from there; none of them imports a room. A
file in the repository under repair is never read: its contents are not trusted, and a setting can name the server that
everything is sent to.
"""

import ast
import copy
import difflib
import functools
import itertools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

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
    Flag,
    LocalizeSettings,
    MarkSettings,
    RegressSettings,
    RepairSettings,
    ReproduceSettings,
    SandboxSettings,
    Section,
    SetupSettings,
)

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
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


__all__ = ["Config", "Flag", "field_of", "find_field", "flag_of", "load_config"]


class Config(Section):
    """Everything that can be set in the file."""

    model_config = ConfigDict(hide_input_in_errors=True)

    localize: LocalizeSettings = Field(default_factory=LocalizeSettings)
    repair: RepairSettings = Field(default_factory=RepairSettings)
    evolve: EvolveSettings = Field(default_factory=EvolveSettings)
    reproduce: ReproduceSettings = Field(default_factory=ReproduceSettings)
    setup: SetupSettings = Field(default_factory=SetupSettings)
    regress: RegressSettings = Field(default_factory=RegressSettings)
    fresh: bool = False
    """Sample new answers instead of reusing recorded ones."""
    generation: NonNegativeInt | None = None
    """Which of the answers to an issue are used without `fresh`, counted from 0; by default the newest."""
    rank: Method = Method.PROBABILITY
    """How the patch is chosen: probability, agreement, consistency, scores or vote."""
    require: Annotated[Level | None, Flag(metavar="LEVEL")] = None
    """What a patch must meet to be printed; otherwise the exit code is 5. any: it applies. agreement: it has over half
    of the votes. tests: it passes most tests that reproduce the issue and breaks no other. given: it passes all of your
    failing tests. By default any, or given with failing tests of yours."""
    allow_suspicious: bool = False
    """Let tests speak for a patch that reaches for what runs them, or ends its process, where its files did not."""
    answer: MarkSettings = Field(default_factory=MarkSettings)
    """[answer]: marks of one's own around what a model means as its answer: nothing else counts."""
    think: MarkSettings = Field(default_factory=MarkSettings)
    """[think]: marks of one's own around a model's thinking."""
    sandbox: SandboxSettings = Field(default_factory=SandboxSettings)
    endpoint: EndpointSettings = Field(default_factory=EndpointSettings)
    scorer: ScorerSettings = Field(default_factory=ScorerSettings)
    engine: Engine = Engine.AUTO
    """Who answers where no endpoint is named: auto, vllm or embedded."""
    gpu_model: str | None = None
    """The model that vLLM serves where no other is named. There is no default: it would be gigabytes unasked."""
    vllm: VllmSettings = Field(default_factory=VllmSettings)
    embedded: WeightsSettings = Field(default_factory=WeightsSettings)
    llama_cpp: EmbeddedSettings = Field(default_factory=EmbeddedSettings)
    in_process: InProcessSettings = Field(default_factory=InProcessSettings)
    eval: EvaluationSettings = Field(default_factory=EvaluationSettings)
    curate: CurateSettings = Field(default_factory=CurateSettings)
    synthesize: SynthesizeSettings = Field(default_factory=SynthesizeSettings)
    sft: SftSettings = Field(default_factory=SftSettings)
    rl: RlSettings = Field(default_factory=RlSettings)
    reward_model: RewardModelSettings = Field(default_factory=RewardModelSettings)
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
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))


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


def find_field(name: str) -> "FieldInfo":
    """Return the field that a dotted name stands for."""
    *sections, last = name.split(".")
    return _section(sections).model_fields[last]


def flag_of(name: str) -> Flag:
    """Return how the option of a setting is typed."""
    return next((said for said in find_field(name).metadata if isinstance(said, Flag)), Flag())


def field_of(name: str) -> "FieldInfo":
    """Return the field that a dotted name stands for, with what its docstring says of it as its description.

    Of a section that is what its class says, unless several have that class.
    """
    *sections, last = name.split(".")
    found = copy.copy(find_field(name))
    said = [_docstrings().get((base.__name__, last), "") for base in _section(sections).__mro__]
    found.description = next(filter(None, said), str(found.annotation.__doc__).partition("\n")[0])
    return found


def _section(names: list[str]) -> type[BaseModel]:
    model: type[BaseModel] = Config
    for name in names:
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    return model


@functools.cache
def _docstrings() -> dict[tuple[str, str], str]:
    """Return the docstrings of all fields by class and name: help shows them, so that they are written once."""
    trees = [ast.parse(path.read_bytes()) for path in Path(__file__).parent.glob("*.py")]
    return {
        (section.name, field.target.id): " ".join(said.partition("\n\n")[0].split())
        for tree in trees
        for section in tree.body
        if isinstance(section, ast.ClassDef)
        for field, after in itertools.pairwise(section.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(said := after.value.value, str)
    }


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
