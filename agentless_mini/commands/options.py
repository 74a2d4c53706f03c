"""Options of commands, in panels that commands share. An option of a setting is defined once, in the settings tree.

    @amini.add("Find the cause of an issue.")
    def repair(source: SourceOptions, model: ModelOptions, flags: Flags) -> None: ...

gives `repair` all options of both panels. The fields of a panel are options of its own; its `offers` name settings that
options stand for, and `flags` has what was given of these. Their types, flags, defaults and help come from the tree,
which is imported when a command is named: `amini --help` needs none of it.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from agentless_mini.errors import UsageError

if TYPE_CHECKING:
    from agentless_mini.settings import Flag

Flags = dict[str, Any]
"""What was given of options that stand for settings, by the settings' dotted names."""

_TRAINERS = ("sft", "rl", "reward_model")


@dataclass(frozen=True, slots=True)
class Offer:
    """An option that goes before settings, by their dotted names, and what of it differs from what the tree says.

    `trainers.NAME` is that of each trainer. A flag puts `value` there where it has one.
    """

    settings: tuple[str, ...]
    names: tuple[str, ...] = ()
    help: str = ""
    metavar: str | None = None
    value: str = ""

    @property
    def flag(self) -> "Flag":
        """Return how it is typed."""
        from agentless_mini.settings import flag_of

        return flag_of(self.settings[0])

    @property
    def typed(self) -> tuple[str, ...]:
        """Return what people type, the long name first."""
        return self.names or self.flag.names or (f"--{self.settings[0].rpartition('.')[2].replace('_', '-')}",)

    @property
    def parameter(self) -> str:
        """Return the name of the parameter that gets it."""
        return self.typed[0].strip("-").replace("-", "_")

    def declared(self) -> inspect.Parameter:
        """Return the parameter for Typer."""
        kind, flag, metavar = kind_of(self.settings[0]), self.flag, self.metavar or self.flag.metavar
        is_switch = bool(self.value) or kind is bool
        option = typer.Option(*self.typed, envvar=flag.variable, metavar=metavar, help=self.help or None)
        one = bool if is_switch else list[str] | None if flag.single else kind | None
        default = False if is_switch else None
        return inspect.Parameter(self.parameter, _KEYWORD, default=default, annotation=Annotated[one, option])


_LATE = frozenset({"as_json", "config", "quiet"})  # they are shown after what stands for settings
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_OFFERED: dict[str, Offer] = {}  # by setting, of the command that runs and of others that were built before it


class Panel:
    """A group of options, with a panel of its own in the help: its docstring is the heading."""

    offers: ClassVar[tuple[str | Offer, ...]] = ()
    words: ClassVar[dict[str, str]] = {}  # what people type for settings that its own fields are put over

    @classmethod
    def offered(cls) -> Iterator[Offer]:
        """Yield the options that stand for settings; several settings of one option are separated by a blank."""
        for said in cls.offers:
            offer = said if isinstance(said, Offer) else Offer(tuple(said.split()))
            if offer.settings[0].startswith("trainers."):
                last = offer.settings[0].rpartition(".")[2]
                offer = Offer(tuple(f"{section}.{last}" for section in _TRAINERS))
            yield offer


def kind_of(setting: str) -> Any:  # noqa: ANN401 - a type
    """Return the type that an option of a setting is read as: a text, unless it is a number, a switch or a path."""
    from agentless_mini.settings import find_field

    annotation = find_field(setting).annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    return kinds[0] if kinds[0] in {bool, int, float, Path} and get_origin(annotation) is not tuple else str


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose parameters are panels the signature of all their options."""
    panels = get_type_hints(command)
    wants_flags = panels.pop("flags", None) is not None
    panels.pop("return", None)
    offers: dict[str, Offer] = {}
    words: dict[str, Offer] = {}
    parameters = []
    for panel in panels.values():
        hints = get_type_hints(panel, include_extras=True)
        for field in fields(panel):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters.append(inspect.Parameter(field.name, _KEYWORD, default=default, annotation=hints[field.name]))
        words |= {setting: Offer((setting,), (word,)) for setting, word in panel.words.items()}
        for offer in panel.offered():
            offers[offer.parameter] = offer
            parameters.append(offer.declared())
    # Of two options of one setting the first is its own.
    offered = words | {setting: one for one in reversed(offers.values()) if not one.value for setting in one.settings}
    for setting, offer in offered.items():
        _OFFERED.setdefault(setting, offer)

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - Typer calls it with what it parsed
        _OFFERED.update(offered)
        own = {
            name: panel(**{field.name: given[field.name] for field in fields(panel)}) for name, panel in panels.items()
        }
        command(**own, **({"flags": given_settings(offers, given)} if wants_flags else {}))

    run.__dict__["panels"], run.__dict__["offers"] = tuple(panels.values()), offers
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__dict__["__wrapped__"]  # Typer would look there for the type hints
    return run


def given_settings(offers: dict[str, Offer], given: dict[str, Any]) -> Flags:
    """Return what was given of the offers, by setting.

    Raises `UsageError` where two options say different things of one setting, or one is given twice that may not be.
    """
    flags: Flags = {}
    for name, offer in offers.items():
        value = given[name]
        if value is None or value is False or value == []:
            continue
        if offer.flag.single:
            if len(value) > 1:
                raise UsageError(offer.flag.single)
            value = value[0]
        for setting in offer.settings:
            said = offer.value or value
            if (flags.setdefault(setting, said),) != (said,):  # what is no number equals only itself
                both = f"{option_of(setting)} and {offer.typed[0]}"
                raise UsageError(f"{both} contradict each other: leave one of them out.")
    return flags


def option_of(setting: str) -> str:
    """Return what people type for a setting, with the variable if there is one; "" where no option stands for it."""
    offer, variable = _OFFERED.get(setting), variable_of(setting)
    return " / ".join(offer.typed) + (f" (or {variable})" if variable else "") if offer else ""


def variable_of(setting: str) -> str | None:
    """Return the variable of the environment that the option of a setting can come from."""
    return _OFFERED[setting].flag.variable if setting in _OFFERED else None


class DocumentedCommand(TyperCommand):
    """A command whose help has a panel for each group of options; those of settings are described by the settings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's types, which typer hides
        """Write the panels, that of `--help` last."""
        left: dict[Any, Any] = {parameter.name: parameter for parameter in self.get_params(ctx)}
        for panel in getattr(self.callback, "panels", ()):
            offers = {offer.parameter: offer for offer in panel.offered()}
            own = [field.name for field in fields(panel)]
            late = [name for name in own if offers and name in _LATE]
            shown = [left.pop(name) for name in (*(name for name in own if name not in late), *offers, *late)]
            for parameter in shown:
                if parameter.name in offers and not parameter.help:
                    parameter.help = described(offers[parameter.name].settings)
            with formatter.section(panel.__doc__.rstrip(".")):
                formatter.write_dl([parameter.get_help_record(ctx) for parameter in shown])
        with formatter.section("Options"):
            formatter.write_dl([parameter.get_help_record(ctx) for parameter in left.values()])


def described(settings: tuple[str, ...]) -> str:
    """Return what the tree says of an option's settings, with the default; where defaults differ, those of each."""
    from agentless_mini.settings import field_of

    found = {name: field_of(name) for name in settings}
    defaults = {name: _shown(field.get_default(call_default_factory=True)) for name, field in found.items()}
    first, *others = defaults.items()
    told = [first[1], *(f"{name.partition('.')[0]} {default}" for name, default in others if default != first[1])]
    shown = ", ".join(filter(None, told))
    return f"{found[first[0]].description}{shown and f'  [default: {shown}]'}"


def _shown(default: object) -> str:
    """Return a default as help shows it; "" of what is none."""
    if isinstance(default, bool) or default is None or default == ():
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


# --- the panels that several commands share --------------------------------------------------------------------------

ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="AMINI_CONFIG", help="Settings file (TOML).", show_default=False)
]
StoreFile = Annotated[
    Path | None,
    typer.Option("--store", envvar="AMINI_STORE", help="Record of all answers; by default one for each repository."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.")]


@dataclass(frozen=True)
class SamplingOptions(Panel):
    """How many answers are drawn, and how."""

    offers = (
        "repair.samples",
        "localize.samples",
        "reproduce.samples",
        "repair.temperature",
        "repair.greedy_first",
        "repair.max_tokens localize.max_tokens reproduce.max_tokens setup.max_tokens",
        "repair.seed evolve.seed localize.seed reproduce.seed setup.seed",
        "fresh",
        "repair.stop_when",
        "repair.match",
    )


@dataclass(frozen=True)
class EvolveOptions(Panel):
    """Rounds of repairs, each shown earlier ones."""

    offers = ("evolve.rounds", "evolve.parents", "evolve.per_round", "evolve.select", "evolve.self_evolving")


def _mark(setting: str, said: str) -> Offer:
    return Offer((setting,), (f"--{setting.replace('.', '-')}",), said, "MARK")


@dataclass(frozen=True)
class ModelOptions(Panel):
    """Who is asked."""

    config: ConfigFile = None
    offers = (
        "endpoint.base_url",
        "endpoint.model",
        "endpoint.context_window",
        "endpoint.decoding",
        "engine",
        _mark("answer.start", "Mark before the model's answer; everything outside is ignored."),
        _mark("answer.end", "Mark after the model's answer."),
        _mark("think.start", "Mark before the model's thinking, if not a known one."),
        _mark("think.end", "Mark after the model's thinking."),
        "endpoint.max_in_flight",
        "prompts",
    )


@dataclass(frozen=True)
class ExecutionOptions(Panel):
    """Which tests choose the patch, and where they run."""

    failing_test: Annotated[
        list[str] | None,
        typer.Option("--failing-test", metavar="PATH[::NAME]", help="A test that fails because of the issue."),
    ] = None
    failing_cmd: Annotated[
        list[str] | None,
        typer.Option("--failing-cmd", metavar="CMD", help="A command that fails because of the issue."),
    ] = None
    offers = (
        "sandbox.kind",
        Offer(("sandbox.kind",), ("--unsafe-local",), "Run tests without any isolation.", value="unsafe-local"),
        "sandbox.image",
        "sandbox.setup",
        "setup.samples",
        "sandbox.test_command",
        "sandbox.test_report",
        "regress.budget",
        "regress.expect_broken",
        "rank",
        "require",
        "allow_suspicious",
    )


@dataclass(frozen=True)
class TextOptions(Panel):
    """How a command that asks no model tells its result."""

    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False
