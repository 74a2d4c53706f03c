"""Which packages are trained on, and which are never seen: whole families of packages, by hash or by name."""

import hashlib
import re
from collections.abc import Iterable

from agentless_mini.learning.bugs.packages import Package
from agentless_mini.learning.bugs.settings import BugsSettings

TRAIN, VALID, TEST = "train", "valid", "test"


def family(package: str) -> str:
    """Return what packages of one project have in common: `httpx2`, `httpx-sse` and `Httpx` are one family."""
    first = re.split(r"[-_.]", package.lower(), maxsplit=1)[0]
    return first.rstrip("0123456789") or first


def split_of(package: str, settings: BugsSettings) -> str:
    """Return "train", "valid" or "test". Where packages are held out by name, no other is for tests."""
    held_out = {family(name) for name in settings.held_out}
    if family(package) in held_out:
        return TEST
    test = 0.0 if held_out else settings.test
    drawn = share(f"{settings.seed} {family(package)}")
    if drawn < test:
        return TEST
    return VALID if drawn < test + settings.valid else TRAIN


def held_out_first(packages: Iterable[Package], settings: BugsSettings) -> tuple[Package, ...]:
    """Return the packages for tests, then for validation, then for training, each in their order.

    Of functions that packages have copied from each other the first counts: so no copy of what is held out is trained
    on.
    """
    order = (TEST, VALID, TRAIN)
    return tuple(sorted(packages, key=lambda package: order.index(split_of(package.name, settings))))


def unmatched(packages: Iterable[Package], settings: BugsSettings) -> tuple[str, ...]:
    """Return the names that are held out, but of whose family there is no package."""
    families = {family(package.name) for package in packages}
    return tuple(name for name in settings.held_out if family(name) not in families)


def share(text: str) -> float:
    """Return a number from 0 up to 1 that a text always has."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
