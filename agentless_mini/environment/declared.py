"""What the files of a project declare, in one form, whichever file and tool it was written for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

TEST_WORDS = frozenset({"test", "tests", "testing", "dev", "develop"})


@dataclass(frozen=True, slots=True)
class Declared:
    """What one or more files declare.

    `project` tells whether pip can install the tree; `python` are specifiers that all hold; `tested` the minor versions
    of Python 3 among the classifiers; `dependencies` what the project needs to run and `tests` what only its tests
    need, as requirements; `extras` its optional dependencies by name.
    """

    project: bool = False
    python: tuple[str, ...] = ()
    tested: tuple[int, ...] = ()
    dependencies: tuple[str, ...] = ()
    extras: tuple[tuple[str, tuple[str, ...]], ...] = ()
    tests: tuple[str, ...] = ()


def merged(parts: Iterable[Declared]) -> Declared:
    """Return what several files declare together, each thing once, in the order of the files."""
    all_parts = tuple(parts)
    return Declared(
        any(part.project for part in all_parts),
        _once(text for part in all_parts for text in part.python),
        tuple(sorted({minor for part in all_parts for minor in part.tested})),
        _once(text for part in all_parts for text in part.dependencies),
        tuple(dict(extra for part in all_parts for extra in part.extras).items()),
        _once(text for part in all_parts for text in part.tests),
    )


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def is_for_tests(name: str) -> bool:
    """Tell whether the name of an extra, a group or a file is one for tests or development."""
    return not TEST_WORDS.isdisjoint(re.split(r"[-_.\s]+", name.lower()))
