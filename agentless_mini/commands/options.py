"""Options of commands as frozen dataclasses, so that commands share them and a signature stays short.

    @app.command()
    @expanded
    def repair(source: Source, model: ModelOptions) -> None: ...

gives `repair` all fields of both as options. A field that stands for a setting of the file names it with `Setting`,
and needs no help: what the settings say of it, and its default, are shown by `DocumentedCommand`.
What several commands offer alike is here; the groups are in `repair_options` and `evaluation_options`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from agentless_mini.errors import UsageError


@dataclass(frozen=True, slots=True)
class Setting:
    """The dotted name of a setting that an option goes before. `trainers.NAME` is that of each trainer.

    A flag puts `value` there where it has one.

    An option with `single` is parsed as a list, so that giving it twice is noticed: `single` says why it is refused.
    """

    name: str
    value: str = ""
    single: str = ""


_GROUPS: list[type] = []  # of all commands, for the names of their options


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose parameters are dataclasses of options the signature of all their fields."""
    groups = get_type_hints(command)
    groups.pop("return", None)
    _GROUPS.extend(groups.values())
    hints = {name: get_type_hints(group, include_extras=True) for name, group in groups.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - Typer calls it with what it parsed
        command(**{name: group(**{key: given[key] for key in hints[name]}) for name, group in groups.items()})

    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[name][field.name],
        )
        for name, group in groups.items()
        for field in dataclasses.fields(group)
    ]
    run.__dict__["groups"] = tuple(groups.values())
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__dict__["__wrapped__"]  # Typer would look there for the type hints
    return run


def settings_of(*groups: Any) -> dict[str, Any]:  # noqa: ANN401 - dataclasses of options
    """Return what was given of options that stand for settings, by the settings' dotted names.

    Raises `UsageError` where two options say different things of one setting, or one is given twice that may not be.
    """
    given: dict[str, Any] = {}
    for group in groups:
        for name, hint in get_type_hints(type(group), include_extras=True).items():
            value = getattr(group, name)
            if value is None or value is False or value == []:
                continue
            for extra in _settings(hint):
                if extra.single and len(value) > 1:
                    raise UsageError(extra.single)
                said = value[0] if extra.single else extra.value or value
                if given.setdefault(extra.name, said) != said:
                    both = f"{option_of(extra.name)} and --{name.replace('_', '-')}"
                    raise UsageError(f"{both} contradict each other: leave one of them out.")
    return given


def option_of(setting: str) -> str:
    """Return what people type for a setting, with the variable if there is one; "" where no option stands for it."""
    for group in _GROUPS:
        for name, hint in get_type_hints(group, include_extras=True).items():
            if any(extra.name == setting and not extra.value for extra in _settings(hint)):
                declared = (extra for extra in hint.__metadata__ if not isinstance(extra, Setting))
                return _typed(name, next(declared, typer.Option()))
    return ""


def _typed(name: str, declared: Any) -> str:  # noqa: ANN401 - an option or an argument of Typer's
    if isinstance(declared, typer.models.ArgumentInfo):
        return declared.metavar or name.upper()
    words = [word for word in (declared.default, *(declared.param_decls or ())) if isinstance(word, str)]
    typed = " / ".join(words) or f"--{name.replace('_', '-')}"
    return f"{typed} (or {declared.envvar})" if declared.envvar else typed


def variables_of(*groups: Any) -> dict[str, str]:  # noqa: ANN401 - dataclasses of options
    """Return the variables of the environment that options can come from, by the names of their settings."""
    hints = [hint for group in groups for hint in get_type_hints(type(group), include_extras=True).values()]
    found = [(_settings(hint), getattr(extra, "envvar", None)) for hint in hints for extra in hint.__metadata__]
    return {setting.name: variable for settings, variable in found if variable for setting in settings}


def _settings(hint: Any) -> list[Setting]:  # noqa: ANN401 - a type with its extras
    named = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Setting)]
    if named and (name := named[0].name).startswith("trainers."):
        return [Setting(name.replace("trainers", section)) for section in ("sft", "rl", "reward_model")]
    return named


class DocumentedCommand(TyperCommand):
    """A command whose help has a panel for each group of options; those of settings are described by the settings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's types, which typer hides
        """Write the panels, that of `--help` last."""
        left: dict[Any, Any] = {parameter.name: parameter for parameter in self.get_params(ctx)}
        for group in getattr(self.callback, "groups", ()):
            hints = get_type_hints(group, include_extras=True)
            shown = [(left.pop(field.name), _settings(hints[field.name])) for field in dataclasses.fields(group)]
            for parameter, settings in shown:
                if settings and not parameter.help:
                    parameter.help = _described(settings)
            with formatter.section(group.__doc__.rstrip(".")):
                formatter.write_dl([parameter.get_help_record(ctx) for parameter, _ in shown])
        with formatter.section("Options"):
            formatter.write_dl([parameter.get_help_record(ctx) for parameter in left.values()])


def _described(settings: list[Setting]) -> str:
    """Return what the tree says of an option's settings, with the default; where defaults differ, those of each."""
    from agentless_mini.settings import field_of

    fields = {setting.name: field_of(setting.name) for setting in settings}
    defaults = {name: _shown(field.get_default(call_default_factory=True)) for name, field in fields.items()}
    first, *others = defaults.items()
    told = [first[1], *(f"{name.partition('.')[0]} {default}" for name, default in others if default != first[1])]
    shown = ", ".join(filter(None, told))
    return f"{fields[first[0]].description}{shown and f'  [default: {shown}]'}"


def _shown(default: object) -> str:
    """Return a default as help shows it; "" of what is none."""
    if isinstance(default, bool) or default is None or default == ():
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="AMINI_CONFIG", help="Settings file (TOML).", show_default=False)
]
StoreFile = Annotated[
    Path | None,
    typer.Option("--store", envvar="AMINI_STORE", help="Record of all answers; by default one for each repository."),
]
RegressionBudget = Annotated[float | None, typer.Option(metavar="SECONDS"), Setting("regress.budget")]
Rank = Annotated[str | None, Setting("rank")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")]
