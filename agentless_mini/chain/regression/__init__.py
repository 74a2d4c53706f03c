"""Which of a repository's own tests matter for the files that patches touch, told by reading.

What counts is that a test imports a touched file, or imports what imports it, and that its name or folder is like the
file's. Which tests really run a line is not known: nothing is executed here.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from agentless_mini.chain.lexical import is_test_file
from agentless_mini.chain.regression.graph import ImportGraph
from agentless_mini.chain.regression.names import Names
from agentless_mini.domain import FileKind, Snapshot, SourceFile

# Of importers of importers. Further away nearly every test of a repository is related to every file.
MOST_STEPS = 4
# What remains of the relation with each step.
FALL = 0.5
# A file in a package runs the package's `__init__`, whatever it imports by name.
SAME_PACKAGE = 0.1

_TEST_NAME = re.compile(r"test.*\.py|.*_tests?\.py|unittest_.*\.py")
_HOLDS_TESTS = re.compile(rb"^[ \t]*(?:async[ \t]+)?def[ \t]+test|TestCase", re.MULTILINE)


def related_tests(snapshot: Snapshot, touched: Collection[str]) -> tuple[str, ...]:
    """Return the test files that matter for the touched paths, most related first; equals are in order of path.

    Empty where nothing in the tree tells. Touched paths that the tree does not have count by their names alone.
    """
    reach, names = _reach(_graph(snapshot), touched), Names(touched)
    tests = [file.path for file in snapshot.files if _holds_tests(file)]
    scores = {path: reach.get(path, 0.0) + names.likeness(path) for path in tests}
    return tuple(sorted((path for path in tests if scores[path] > 0), key=lambda path: (-scores[path], path)))


@lru_cache(maxsize=1)
def _graph(snapshot: Snapshot) -> ImportGraph:
    """Return the graph of a tree; what was asked for last is kept, for a run asks more than once."""
    return ImportGraph(snapshot.files)


def _holds_tests(file: SourceFile) -> bool:
    """Tell whether a runner finds tests in a file: a folder of tests has data and scaffolding as well."""
    named = _TEST_NAME.fullmatch(file.path.rpartition("/")[2]) is not None
    return named and file.kind is FileKind.TEXT and is_test_file(file) and bool(_HOLDS_TESTS.search(file.data))


def _reach(graph: ImportGraph, touched: Collection[str]) -> Mapping[str, float]:
    """Return how strongly files use the touched ones, by the best way, in (0, 1]."""
    front = dict.fromkeys(touched, 1.0)
    reach = _same_package(graph, touched) | front
    for _ in range(MOST_STEPS):
        step: dict[str, float] = {}
        for target, strength in front.items():
            for user in graph.users.get(target, ()):
                reached = strength * FALL * _focus(len(graph.used[user]))
                if reached > max(reach.get(user, 0.0), step.get(user, 0.0)):
                    step[user] = reached
        reach |= step
        front = step
    return reach


def _focus(used: int) -> float:
    """Return how much a file that uses so many files is about each: one in (0, 1] that falls slowly."""
    return 1.0 / (1.0 + used / 20.0)


def _same_package(graph: ImportGraph, touched: Collection[str]) -> dict[str, float]:
    folders = tuple(path.removesuffix("__init__.py") for path in touched if path.endswith("/__init__.py"))
    inside = (users for target, users in graph.users.items() if target.startswith(folders)) if folders else ()
    return {user: SAME_PACKAGE for users in inside for user in users}
