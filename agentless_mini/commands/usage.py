"""Mistakes in the words of a command line, told as every other error is: one sentence, instead of click's usage box."""

import difflib
import os
import re
import sys
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


class Commands(TyperGroup):
    """A group of commands that tells mistakes in one sentence, with the nearest name, and exits with code 2."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - click's types, which typer hides
        """Return the command that is named. Raises `UsageError` where there is none."""
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        root = ctx.find_root()
        known = root.command.full_names()
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

    def full_names(self) -> dict[str, str]:
        """Return the full names of all commands by their last words."""
        inner = {
            name: f"{group} {name}"
            for group, command in self.commands.items()
            for name in getattr(command, "commands", ())
        }
        return {**{name: name for name in self.commands}, **inner}


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
    if not error.ctx:  # of an option with too many or too few words, click does not say which command's it is
        return f"{_plain(error)}: correct the words after {printable(error.option_name)}."
    command = error.ctx.command_path
    return f"{_complaint(error, command)}, or see `{command} --help`."


def _complaint(error: Any, command: str) -> str:  # noqa: ANN401 - an exception of click's
    """Say what is wrong, and what to try, in words that are ours: click's are for programmers."""
    said, parameters = _plain(error), error.ctx.command.params
    if hasattr(error, "possibilities"):
        first = error.ctx.parent is None
        hint = "write those of a command after its name" if first else "leave it out"
        if any(str(parameter.metavar).startswith("-- ") for parameter in parameters):
            hint = "write flags for vLLM after --"
        if error.possibilities:
            hint = f"use {error.possibilities[0]}"
        return f"There is no option {printable(error.option_name)}{' here' if first else ''}: {hint}"
    if hasattr(error, "param_type"):
        return f"{_name(error.param)} is missing: add it"
    if getattr(error, "param", None):
        rule = _PLAIN.sub(lambda found: _WORDS[found[0]], said.partition(", unable")[0])
        wrong = rule.replace("Input should be", "must be") if rule.startswith("Input") else f"is not valid ({rule})"
        return f"{_name(error.param)} {wrong}: correct it"
    if extra := _EXTRA.fullmatch(said):
        takes = any(parameter.param_type_name == "argument" for parameter in parameters)
        hint = "put a text of several words in quotes" if takes else "it takes only options"
        return f"{command} does not expect {extra[1]!r}: {hint}"
    return f"{said}: correct it"


def _plain(error: Any) -> str:  # noqa: ANN401 - an exception of click's
    return printable(" ".join(error.message.split())).rstrip(".")


def _name(param: Any) -> str:  # noqa: ANN401 - a parameter of click's
    """Return the name of an option, or of an argument, as people type or read it."""
    return " / ".join(param.opts) if param.param_type_name == "option" else str(param.metavar or param.name.upper())
