"""What a patch may not change about the tests, and what undoes it in a box.

It tells by names alone. A configuration that holds more than that of the tests (pyproject.toml, setup.cfg, tox.ini) is
left as the patch has it, and so is what a patch makes of the code under test.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from agentless_mini.chain.lexical import is_test_path, is_test_tool
from agentless_mini.domain import FileChange, PlacedFile, Snapshot
from agentless_mini.testing.plans import BOX, PROGRAMS

_NAMES = frozenset({"conftest.py", "pytest.ini", ".pytest.ini", "sitecustomize.py", "usercustomize.py"})
# A new module of one of these names would stand in for the runner, because the tree comes first on the way to modules.
_RUNNERS = frozenset({"pytest", "_pytest", "pluggy", "unittest", "runpy", "json", "signal", *PROGRAMS})


def guards(snapshot: Snapshot, changes: Sequence[FileChange]) -> tuple[PlacedFile, ...]:
    """Return what undoes a patch's `changes` of tests and of what runs them, to be placed after the patch's own files.

    Files of the tree get their old content, new ones are taken away. The files of a repository that is itself a tool
    for tests are only undone where their name leaves no doubt: what looks like a test there may be what is repaired.
    """
    tool = is_test_tool(snapshot)
    return tuple(PlacedFile(change.path, change.before, change.mode) for change in changes if _is_guarded(change, tool))


def _is_guarded(change: FileChange, tool: bool) -> bool:
    path = PurePosixPath(change.path)
    infrastructure = path.name in _NAMES or path.suffix == ".pth" or path.parts[0] == BOX
    return infrastructure or (not tool and (_stands_in(change) or is_test_path(change.path)))


def _stands_in(change: FileChange) -> bool:
    """Tell whether a new file is a module or package that hides one of the runner's."""
    parts = PurePosixPath(change.path).parts
    first = parts[1] if parts[0] in {"src", "lib"} and len(parts) > 1 else parts[0]
    return change.before is None and first.removesuffix(".py") in _RUNNERS
