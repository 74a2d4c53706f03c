"""Groups of commands, built when one is named, and mistakes in the words of a command line.

A mistake is told as every other error is: in one sentence, instead of click's usage box.
"""

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from agentless_mini.errors import AminiError, UsageError, printable

# What click raises for mistakes of the user; of its exceptions typer offers this one alone.
_Misused: type[Any] = typer.BadParameter.__bases__[0]
_NOTHING_BUT_HELP = "NoArgsIsHelpError"
_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}
_PLAIN = re.compile("|".join(_WORDS))
_EXTRA = re.compile(r"Got unexpected extra argument\S* \((.*)\)")


class Commands:
    """The commands of one group, by name: what help says of each in a line, and what builds it."""

    def __init__(self, name: str, said: str, *, completion: bool = False) -> None:
        """Begin without commands; `said` is what help says of the group. A shell completes them with `completion`."""
        self.name = name
        self.table: dict[str, tuple[str, Callable[[], Any]]] = {}
        self.groups: dict[str, Commands] = {}
        self.typer = typer.Typer(
            name=name,
            add_completion=completion,
            cls=type("Group", (_Group,), {"table": self}),
            help=said,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def add(self, said: str, name: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Add a command whose parameters are panels of options (see `options`), by its own or another name."""

        def added(command: Callable[..., None]) -> Callable[..., None]:
            @functools.cache
            def built() -> Any:  # noqa: ANN401 - click's type, which typer hides
                from agentless_mini.commands.options import DocumentedCommand, expanded

                alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
                alone.command(cls=DocumentedCommand)(_reporting(expanded(command)))
                return typer.main.get_command(alone)

            self.table[name or command.__name__] = (said, built)
            return command

        return added

    def add_group(self, said: str, group: "Commands") -> None:
        """Add a group of commands."""
        self.groups[group.name] = group
        self.table[group.name] = (said, functools.cache(lambda: typer.main.get_command(group.typer)))

    def full_names(self) -> dict[str, str]:
        """Return the full names of all commands by their last words."""
        inner = {name: f"{group.name} {name}" for group in self.groups.values() for name in group.table}
        return {**{name: name for name in self.table}, **inner}


def _reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Have whatever ends a command early told in one sentence, with the exit code that is documented."""

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 - what was typed
        from agentless_mini.commands.terminal import reported

        with reported():
            command(**given)

    run.__dict__.pop("__wrapped__", None)  # Typer would look there for the type hints
    return run


class _Group(TyperGroup):
    """Builds a command when it is named; tells mistakes in one sentence, with the nearest name, and exits with 2."""

    table: Commands

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - click's types, which typer hides
        """Return the names in their order."""
        return list(self.table.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - likewise
        """Build a command, or return None where there is none."""
        return self.table.table[cmd_name][1]() if cmd_name in self.table.table else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - likewise
        """Write a line for each command, of which none is built."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (said, _) in self.table.table.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - likewise
        """Return the command that is named. Raises `UsageError` where there is none."""
        name = args[0]
        if name in self.table.table or name.startswith("-"):
            return super().resolve_command(ctx, args)
        root = ctx.find_root()
        known = root.command.table.full_names()
        near = difflib.get_close_matches(name.lower(), known, 1) or ["repair"] * os.path.isdir(name)  # noqa: PTH112
        hint = f"use `{root.command_path} {known[near[0]]}`, or see" if near else "see"
        raise UsageError(f"There is no command {printable(name)}: {hint} `{ctx.command_path} --help`.")

    def main(self, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the command line and end the process with the exit code, or return it without `standalone_mode`."""
        ends = more.pop("standalone_mode", True)
        more["standalone_mode"] = False
        try:
            code = super().main(*args, **more)
            if sys.stdout is not None:
                sys.stdout.flush()  # what help left there
        except (_Misused, AminiError, OSError) as error:
            code = _told(error)
        if ends:
            sys.exit(code)
        return code


def _told(error: Any) -> int:  # noqa: ANN401 - an exception of click's, or ours
    """Tell the mistake on stderr and return the exit code."""
    if type(error).__name__ == _NOTHING_BUT_HELP:
        error.show()
        return UsageError.exit_code
    from agentless_mini.commands.terminal import reported

    try:
        with reported():
            raise UsageError(_sentence(error)) if isinstance(error, _Misused) else error
    except typer.Exit as ended:
        return ended.exit_code


def _sentence(error: Any) -> str:  # noqa: ANN401 - an exception of click's
    """Say what is wrong, and what to try, in words that are ours: click's are for programmers."""
    said = printable(" ".join(error.message.split())).rstrip(".")
    if not error.ctx:  # of an option with too many or too few words, click does not say which command's it is
        return f"{said}: correct the words after {printable(error.option_name)}."
    command, parameters = error.ctx.command_path, error.ctx.command.params
    if hasattr(error, "possibilities"):
        first = error.ctx.parent is None
        hint = "write those of a command after its name" if first else "leave it out"
        if any(str(parameter.metavar).startswith("-- ") for parameter in parameters):
            hint = "write flags for vLLM after --"
        if error.possibilities:
            hint = f"use {error.possibilities[0]}"
        said = f"There is no option {printable(error.option_name)}{' here' if first else ''}: {hint}"
    elif hasattr(error, "param_type"):
        said = f"{_name(error.param)} is missing: add it"
    elif getattr(error, "param", None):
        rule = _PLAIN.sub(lambda found: _WORDS[found[0]], said.partition(", unable")[0])
        wrong = rule.replace("Input should be", "must be") if rule.startswith("Input") else f"is not valid ({rule})"
        said = f"{_name(error.param)} {wrong}: correct it"
    elif extra := _EXTRA.fullmatch(said):
        takes = any(parameter.param_type_name == "argument" for parameter in parameters)
        hint = "put a text of several words in quotes" if takes else "it takes only options"
        said = f"{command} does not expect {extra[1]!r}: {hint}"
    else:
        said = f"{said}: correct it"
    return f"{said}, or see `{command} --help`."


def _name(param: Any) -> str:  # noqa: ANN401 - a parameter of click's
    """Return the name of an option, or of an argument, as people type or read it."""
    return " / ".join(param.opts) if param.param_type_name == "option" else str(param.metavar or param.name.upper())
