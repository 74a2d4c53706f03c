"""Tells how the tests of a repository are run, from its files. Whether that works is found out in a box."""

import re
from collections.abc import Iterable

from agentless_mini.chain.lexical import is_test_file
from agentless_mini.domain import Harness, Runner, Snapshot, SourceFile
from agentless_mini.testing.commands import harness_of_command

_DJANGO = "tests/runtests.py"
_PYTEST = re.compile(rb"\bpy\.?test\b")
_UNITTEST = re.compile(rb"^\s*(?:import|from)\s+unittest\b", re.MULTILINE)
_CONFIGURATION = re.compile(
    r"(?:.*/)?(?:requirements[^/]*|[^/]*requirements)\.(?:txt|in)|requirements/[^/]+"
    r"|(?:pytest\.ini|\.pytest\.ini|tox\.ini|setup\.cfg|setup\.py|pyproject\.toml|noxfile\.py|Makefile|Pipfile)"
    r"|\.github/workflows/[^/]+"
)
_ROOTS = ("src", "lib")


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
    tests = [file for file in snapshot.files if is_test_file(file) and file.path.endswith(".py")]
    told = [file for file in snapshot.files if _CONFIGURATION.fullmatch(file.path)]
    return _any(_UNITTEST, tests) and not _any(_PYTEST, [*tests, *told])


def _any(pattern: re.Pattern[bytes], files: list[SourceFile]) -> bool:
    return any(pattern.search(file.data) for file in files)


def _python_path(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders that hold packages: those that a build would look in come before the top."""
    packages = (path.split("/") for path in paths if path.endswith("/__init__.py"))
    holding = {parts[0] for parts in packages if len(parts) == 3}
    return (*(root for root in _ROOTS if root in holding), ".")
