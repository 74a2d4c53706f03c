"""Options in panels: one signature out of several, and the settings that options go before."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from agentless_mini import cli
from agentless_mini.commands.learn import learn
from agentless_mini.commands.options import Flags, Offer, Panel, described, expanded, kind_of
from agentless_mini.settings import field_of


@dataclass(frozen=True)
class What(Panel):
    """What is said."""

    name: Annotated[str, typer.Argument()]
    also: Annotated[list[str] | None, typer.Option("--also")] = None


@dataclass(frozen=True)
class How(Panel):
    """How it is said."""

    offers = (
        Offer(("repair.samples", "localize.samples"), ("--often",)),
        "fresh",
        Offer(("sandbox.kind",), ("--loud",), value="none"),
        "sandbox.kind",
        "prompts",
    )


app = typer.Typer()


@app.command()
@expanded
def greet(what: What, how: How, flags: Flags) -> None:
    """Say it."""
    typer.echo(f"{what} {how} {flags}")


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_panels_are_filled_from_one_command_line() -> None:
    assert said("you", "--often", "0", "--also", "x", "--also", "y").startswith(
        "What(name='you', also=['x', 'y']) How()"
    )


def test_what_is_given_becomes_settings_and_the_rest_does_not() -> None:
    assert said("you", "--often", "0").endswith("{'repair.samples': 0, 'localize.samples': 0}\n")
    assert said("you", "--fresh", "--loud").endswith("{'fresh': True, 'sandbox.kind': 'none'}\n")
    assert said("you", "--loud", "--sandbox", "none").endswith("{'sandbox.kind': 'none'}\n")
    assert said("you").endswith("{}\n")


def test_what_contradicts_is_refused() -> None:
    refused = CliRunner().invoke(app, ["you", "--loud", "--sandbox", "docker"])
    assert "contradict each other" in str(refused.exception)


def test_a_missing_argument_is_refused() -> None:
    assert CliRunner().invoke(app, []).exit_code == 2


def panels() -> Iterator[type[Panel]]:
    for group in (cli.amini, learn):
        for name, (_, built) in group.table.items():
            if name != "learn":
                yield from built().callback.panels


@pytest.mark.parametrize("panel", sorted(set(panels()), key=repr), ids=lambda panel: panel.__name__)
def test_every_option_of_a_setting_is_described_by_itself_or_by_the_setting(panel: type[Panel]) -> None:
    for offer in panel.offered():
        assert offer.help or field_of(offer.settings[0]).description
        assert len({kind_of(setting) for setting in offer.settings}) == 1


def test_a_setting_is_shown_with_its_words_and_its_defaults() -> None:
    assert described(("repair.match",)).endswith("in a file: strict or loose.  [default: strict]")
    assert described(("sft.batch", "rl.batch")).endswith("[default: 4]")
    assert described(("sft.accumulate", "rl.accumulate")).endswith("[default: 4, rl 8]")
    assert described(("repair.seed",)).endswith("[default: 0]")
    assert "default:" not in described(("repair.stop_when",))


def test_help_has_a_panel_for_each_group() -> None:
    told = CliRunner().invoke(cli.app, ["repair", "--help"]).stdout
    panels = re.findall(r"^(\w.*):\n  ", told, re.MULTILINE)
    assert panels[:2] == ["What is to be repaired", "How many answers are drawn, and how"]


def test_a_shell_completes_commands_and_options() -> None:
    asked = {"_AMINI_COMPLETE": "complete_bash", "COMP_WORDS": "amini repair --samp", "COMP_CWORD": "2"}
    assert CliRunner().invoke(cli.app, [], prog_name="amini", env=asked).stdout.split() == ["--samples"]
