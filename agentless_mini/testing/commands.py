"""Reads the user's own command for tests: which runner it is, and where the tests go in it.

It is never run here, and never by a shell unless it is written for one.
"""

import itertools
import re
import shlex

from agentless_mini.domain import Harness, Runner
from agentless_mini.errors import UsageError

TESTS = "{tests}"
_SHELL = re.compile(r"[|&;<>()$`*?~#\n\\]")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PYTEST = frozenset({"pytest", "py.test"})


def harness_of_command(command: str, python_path: tuple[str, ...]) -> Harness:
    """Return how tests run by a command line. One that runs pytest tells of each test; any other of a file as a whole.

    The paths of tests go where "{tests}" stands, else at the end. Raises `UsageError` where it cannot be read.
    """
    words = _words(command)
    if not _needs_shell(command) and _runs_pytest(words) and TESTS not in "".join(words[:-1]):
        return Harness(Runner.PYTEST, tuple(word for word in words if word != TESTS), python_path=python_path)
    if _needs_shell(command):
        line = command.replace(TESTS, '"$@"') if TESTS in command else f'{command} "$@"'
        words = ["sh", "-c", line, "sh", TESTS]
    elif TESTS not in command:
        words.append(TESTS)
    return Harness(Runner.COMMAND, tuple(words), python_path=python_path)


def command_for(harness: Harness, path: str) -> tuple[str, ...]:
    """Return the program and its arguments that run the tests of one file, which stands where "{tests}" does."""
    return tuple(word.replace(TESTS, path) for word in harness.command)


def _needs_shell(command: str) -> bool:
    return bool(_SHELL.search(command.replace(TESTS, "")))


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"The test command cannot be read ({error}): check the quotes of --test-cmd.") from error
    if not words:
        raise UsageError("The test command is empty: leave --test-cmd out, or name a program.")
    return ["env", *words] if _VARIABLE.fullmatch(words[0]) else words


def _runs_pytest(words: list[str]) -> bool:
    program = next(word for word in [*words, ""] if word != "env" and not _VARIABLE.fullmatch(word))
    asked = itertools.pairwise(words)
    return program.rsplit("/", 1)[-1] in _PYTEST or any(
        first in {"-m", "run"} and second in _PYTEST for first, second in asked
    )
