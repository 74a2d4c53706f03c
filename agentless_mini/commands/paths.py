"""Paths as a person at a prompt writes them, as those of the tree: from where they stand, or from the tree's top."""

import shlex
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from agentless_mini.domain import GivenTests, Snapshot
from agentless_mini.errors import UsageError, printable


def tree_path(said: str, names: Collection[str], top: Path, here: Path) -> str:
    """Return the path of the tree that is meant by what is said in the folder `here`, both absolute.

    `./a.py` and an absolute path have one meaning. `a.py` is taken from `here` or from the top, wherever there is such
    a file. What is neither is returned as it is. Raises `UsageError` where there are both.
    """
    spelled = said.replace("\\", "/")
    seen = here / spelled
    near = _below(top, seen.parent.resolve() / seen.name)
    far = PurePosixPath(spelled).as_posix()
    if near not in names:
        return far if far in names else said
    if far in names and far != near and not spelled.startswith(("./", "../", "/")):
        raise UsageError(
            f"{printable(said)} is both {printable(near)} and {printable(far)} of the repository: write "
            f"./{printable(said)} for the first, {printable(str(top / far))} for the second."
        )
    return near


def tree_test(said: str, names: Collection[str], top: Path, here: Path) -> str:
    """Return a test, PATH or PATH::NAME, with the path as `tree_path` has it."""
    file, mark, name = said.partition("::")
    return f"{tree_path(file, names, top, here)}{mark}{name}"


def given_here(settings: GivenTests, snapshot: Snapshot, top: Path, here: Path) -> GivenTests:
    """Return the user's tests as the tree has them. A command runs in the folder where it was said."""
    names = {file.path for file in snapshot.files}
    folder = _below(top, here)
    inside = folder not in {"", "."} and any(name.startswith(f"{folder}/") for name in names)
    change = f"cd {shlex.quote(folder)}; " if inside else ""
    tests = tuple(tree_test(said, names, top, here) for said in settings.tests)
    return GivenTests(tests=tests, commands=tuple(line.strip() and change + line for line in settings.commands))


def _below(top: Path, path: Path) -> str:
    """Return a path as the tree has it, "" where it lies outside."""
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else ""
