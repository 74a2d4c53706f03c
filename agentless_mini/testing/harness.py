"""Tells how the tests of a repository are run: by its files, or by the user's own command.

A command is read here, never run, and never given to a shell unless it is written for one. Whether it works is found
out in a box.
"""

import itertools
import re
import shlex
from collections.abc import Iterable

from agentless_mini.chain.lexical import is_test_file
from agentless_mini.domain import Harness, Runner, Snapshot
from agentless_mini.errors import UsageError

_DJANGO = "tests/runtests.py"
_PYTEST = re.compile(rb"\bpy\.?test\b")
_UNITTEST = re.compile(rb"^\s*(?:import|from)\s+unittest\b", re.MULTILINE)
_CONFIGURATION = re.compile(
    r"(?:.*/)?(?:requirements[^/]*|[^/]*requirements)\.(?:txt|in)|requirements/[^/]+"
    r"|(?:pytest\.ini|\.pytest\.ini|tox\.ini|setup\.cfg|setup\.py|pyproject\.toml|noxfile\.py|Makefile|Pipfile)"
    r"|\.github/workflows/[^/]+"
)
_ROOTS = ("src", "lib")
TESTS = "{tests}"
_SHELL = re.compile(r"[|&;<>()$`*?~#\n\\]")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PYTEST_PROGRAMS = {"pytest", "py.test"}


def harness_of(snapshot: Snapshot, test_command: str = "") -> Harness:
    """Return how the tests of a tree run: as `test_command` says, or as its files tell.

    pytest, unless the tree is django itself, or imports unittest in its tests and mentions pytest nowhere. Raises
    `UsageError` for a command that cannot be read.
    """
    paths = snapshot.by_path()
    roots = _python_path(paths.keys())
    if test_command:
        return harness_of_command(test_command, roots)
    if _DJANGO in paths and "django/__init__.py" in paths:
        return Harness(Runner.DJANGO, ("python", _DJANGO), python_path=roots)
    if _is_unittest(snapshot):
        return Harness(Runner.UNITTEST, ("python", "-m", "unittest"), python_path=roots)
    return Harness(Runner.PYTEST, ("python", "-m", "pytest"), python_path=roots)


def _is_unittest(snapshot: Snapshot) -> bool:
    tests = [file.data for file in snapshot.files if is_test_file(file) and file.path.endswith(".py")]
    told = [file.data for file in snapshot.files if _CONFIGURATION.fullmatch(file.path)]
    return any(map(_UNITTEST.search, tests)) and not any(map(_PYTEST.search, [*tests, *told]))


def _python_path(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that hold packages: those that a build would look in come before the top."""
    packages = (path.split("/") for path in paths if path.endswith("/__init__.py"))
    holding = {parts[0] for parts in packages if len(parts) == 3}
    return (*(root for root in _ROOTS if root in holding), ".")


# --- a command -------------------------------------------------------------------------------------------------------


def harness_of_command(command: str, python_path: tuple[str, ...]) -> Harness:
    """Return how tests run by a command line. One that runs pytest tells of each test; any other of a file as a whole.

    The paths of tests go where "{tests}" stands, else at the end. Raises `UsageError` where it cannot be read.
    """
    words, needs_shell = _words(command), bool(_SHELL.search(command.replace(TESTS, "")))
    if not needs_shell and _runs_pytest(words) and TESTS not in "".join(words[:-1]):
        return Harness(Runner.PYTEST, tuple(word for word in words if word != TESTS), python_path=python_path)
    if needs_shell:
        line = command.replace(TESTS, '"$@"') if TESTS in command else f'{command} "$@"'
        words = ["sh", "-c", line, "sh", TESTS]
    elif TESTS not in command:
        words.append(TESTS)
    return Harness(Runner.COMMAND, tuple(words), python_path=python_path)


def command_for(harness: Harness, path: str) -> tuple[str, ...]:
    """Return the program and its arguments that run the tests of one file, which stands where "{tests}" does."""
    return tuple(word.replace(TESTS, path) for word in harness.command)


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
    return program.rsplit("/", 1)[-1] in _PYTEST_PROGRAMS or any(
        first in {"-m", "run"} and second in _PYTEST_PROGRAMS for first, second in asked
    )
