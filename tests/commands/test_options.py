"""Options as dataclasses: one signature out of several groups, and the settings that options go before."""

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from agentless_mini import cli
from agentless_mini.commands.options import _GROUPS, Setting, _described, _settings, expanded, settings_of

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


OURS = sorted({group for group in _GROUPS if group.__module__.startswith(cli.__package__)}, key=repr)


@pytest.mark.parametrize("group", OURS, ids=lambda group: group.__name__)
def test_every_option_is_described_by_itself_or_by_a_setting_that_exists(group: "type[DataclassInstance]") -> None:
    from agentless_mini.settings import field_of

    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        described = [field_of(setting.name).description for setting in _settings(hints[field.name])]
        described += [getattr(extra, "help", None) for extra in hints[field.name].__metadata__]
        assert any(described), field.name


def test_a_setting_is_shown_with_its_words_and_its_defaults() -> None:
    assert _described([Setting("repair.match")]).endswith("in a file: strict or loose.  [default: strict]")
    assert _described([Setting("sft.batch"), Setting("rl.batch")]).endswith("[default: 4]")
    assert _described([Setting("sft.learning_rate"), Setting("rl.learning_rate")]).endswith(
        "[default: 0.0001, rl 1e-06]"
    )
    assert _described([Setting("repair.seed")]).endswith("[default: 0]")
    assert "default:" not in _described([Setting("repair.stop_when")])


def test_help_has_a_panel_for_each_group() -> None:
    told = CliRunner().invoke(cli.app, ["repair", "--help"]).stdout
    panels = re.findall(r"^(\w.*):\n  ", told, re.MULTILINE)
    assert panels[:2] == ["What is to be repaired", "How many answers are drawn, and how"]


def test_a_shell_completes_commands_and_options() -> None:
    asked = {"_AMINI_COMPLETE": "complete_bash", "COMP_WORDS": "amini repair --samp", "COMP_CWORD": "2"}
    assert CliRunner().invoke(cli.app, [], prog_name="amini", env=asked).stdout.split() == ["--samples"]
