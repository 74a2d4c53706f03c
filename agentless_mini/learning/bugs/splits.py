"""Which packages are trained on, and which are never seen: whole families of packages, by hash or by name."""

import hashlib
import re

from agentless_mini.learning.bugs.settings import BugsSettings


def family(package: str) -> str:
    """Return what packages of one project have in common: `httpx2`, `httpx-sse` and `Httpx` are one family."""
    first = re.split(r"[-_.]", package.lower(), maxsplit=1)[0]
    return first.rstrip("0123456789") or first


def split_of(package: str, settings: BugsSettings) -> str:
    """Return "train", "valid" or "test". Where packages are held out by name, no other is for tests."""
    held_out = {family(name) for name in settings.held_out}
    if family(package) in held_out:
        return "test"
    test = 0.0 if held_out else settings.test
    drawn = share(f"{settings.seed} {family(package)}")
    if drawn < test:
        return "test"
    return "valid" if drawn < test + settings.valid else "train"


def share(text: str) -> float:
    """Return a number from 0 up to 1 that a text always has."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
