"""Packages and subjects for tests, made of texts."""

from agentless_mini.learning.bugs.harvest import Subject
from agentless_mini.learning.bugs.packages import ModuleText, Package

RANGES = '''"""Ranges of numbers."""

import re

SEPARATOR = "-"
_RANGE = re.compile(r"(\\d+)(?:-(\\d+))?")


class RangeError(ValueError):
    """No range."""


def parse_range(text, step=1):
    """Return the numbers of a range such as "3-7".

    >>> parse_range("3-5")
    [3, 4, 5]
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise RangeError(f"no range: {text}")
    first = int(found[1])
    last = int(found[2]) if found[2] else first
    if last < first:
        first, last = last, first
    return list(range(first, last + 1, step))


def clamp(size, low=0, high=100):
    """Return a size within two bounds."""
    if size < low:
        return low
    if size > high and high >= low:
        return high
    return size


def initials(name, sep="."):
    words = name.split(SEPARATOR)
    letters = [word[:1].upper() for word in words if word]
    return sep.join(letters)
'''


def package(name: str, text: str = RANGES, module: str = "ranges") -> Package:
    return Package(name, "1.0", "MIT", (ModuleText(f"{name}/{module}.py", text),))


def subject(text: str, name: str = "f", owner: str = "") -> Subject:
    return Subject("pkg", "1.0", "MIT", "pkg/mod.py", owner, name, text, whole=True)
