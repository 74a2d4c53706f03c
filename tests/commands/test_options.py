"""Options as dataclasses: one signature out of several groups, and the settings that options go before."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from agentless_mini.commands import evaluation_options, repair_options
from agentless_mini.commands.options import Setting, expanded, settings_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class What:
    name: Annotated[str, typer.Argument()]


@dataclass(frozen=True)
class How:
    often: Annotated[int | None, typer.Option("--often"), Setting("a.often"), Setting("b.often")] = None
    also: Annotated[list[str] | None, typer.Option("--also"), Setting("a.also")] = None
    loud: Annotated[bool, typer.Option("--loud"), Setting("a.voice", "loud")] = False


app = typer.Typer()


@app.command()
@expanded
def greet(what: What, how: How) -> None:
    """Say it."""
    typer.echo(f"{what} {how} {settings_of(what, how)}")


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_groups_are_filled_from_one_command_line() -> None:
    told = said("you", "--often", "0", "--also", "x", "--also", "y", "--loud")
    assert told.startswith("What(name='you') How(often=0, also=['x', 'y'], loud=True)")


def test_what_is_given_becomes_settings_and_the_rest_does_not() -> None:
    assert said("you", "--often", "0").endswith("{'a.often': 0, 'b.often': 0}\n")
    assert said("you", "--also", "x", "--loud").endswith("{'a.also': ['x'], 'a.voice': 'loud'}\n")
    assert said("you").endswith("{}\n")


def test_a_missing_argument_is_refused() -> None:
    assert CliRunner().invoke(app, []).exit_code == 2


GROUPS = [
    group
    for module in (repair_options, evaluation_options)
    for name, group in vars(module).items()
    if name.endswith("Options")
]
assert len(GROUPS) >= 10  # the test below would pass without any


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_setting_that_an_option_names_exists(group: "type[DataclassInstance]") -> None:
    from agentless_mini.settings import Config

    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        for extra in hints[field.name].__metadata__:
            if isinstance(extra, Setting):
                model: Any = Config
                for key in extra.name.split("."):
                    assert key in model.model_fields, extra.name
                    model = model.model_fields[key].annotation
