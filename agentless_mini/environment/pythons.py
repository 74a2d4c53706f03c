"""The Python interpreters of this machine, and the one that suits a project: this one, those on PATH, and pyenv's."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentless_mini.environment.versions import Wish
from agentless_mini.errors import EnvironmentFailed, printable

OLDEST = 7
"""The oldest minor version of Python 3 that can run a box."""
_NAME = re.compile(r"python3\.(\d{1,2})")
_VERSION = re.compile(r"3\.(\d{1,2})(?:\.\d+)?")
_LOOK = (
    "import sys, json, venv, ensurepip\n"
    "print(json.dumps([getattr(sys, '_base_executable', sys.executable), list(sys.version_info[:3])]))"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python by its real path, not that of a virtual environment, and its version."""

    path: Path
    version: tuple[int, int, int]


def choose_python(
    wish: Wish, variables: Mapping[str, str], usable: Callable[[Path], bool] = lambda path: True
) -> tuple[Interpreter, tuple[str, ...]]:
    """Return the most suitable Python that can make virtual environments, and sentences on where it does not suit.

    `variables` says where to look (PATH, PYENV_ROOT, HOME); what is not `usable` by its real path is passed over.
    Raises `EnvironmentFailed` where there is none at all.
    """
    here = sys.version_info.minor
    found: dict[int, list[Path]] = {}
    for minor, path in ((here, _own()), *_candidates(variables)):
        if usable(path.resolve()):
            found.setdefault(minor, []).append(path)
    for minor in wish.ordered([minor for minor in found if minor >= OLDEST], here):
        for path in found[minor]:
            if (interpreter := _look_at(path)) is not None and interpreter.version[1] == minor:
                return interpreter, ()
    last = found.get(here, [_own()])[0]
    interpreter = _look_at(last)
    if interpreter is None:
        raise EnvironmentFailed(
            f"{printable(str(last))} cannot make virtual environments: install its venv and ensurepip "
            "(package python3-venv), or use --sandbox docker."
        )
    asked = printable(" and ".join(wish.specifiers)[:80])
    return interpreter, (f"The project asks for Python {asked}, which is not here: its tests run on 3.{here}.",)


def _own() -> Path:
    """Return the Python that runs this, not that of its virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable))


def _candidates(variables: Mapping[str, str]) -> Iterator[tuple[int, Path]]:
    for folder in filter(None, variables.get("PATH", "").split(":")):
        for path in sorted(Path(folder).glob("python3.*")):
            if match := _NAME.fullmatch(path.name):
                yield int(match[1]), path
    home = variables.get("HOME", "/nonexistent")
    for path in sorted(Path(variables.get("PYENV_ROOT") or f"{home}/.pyenv").glob("versions/3.*/bin/python3")):
        if match := _VERSION.fullmatch(path.parts[-3]):
            yield int(match[1]), path


def _look_at(path: Path) -> Interpreter | None:
    """Return what a program is; None where it is no Python that can make virtual environments (a shim of pyenv's).

    What this one is needs no program to be started, in every run.
    """
    if path == _own():
        can = all(importlib.util.find_spec(module) for module in ("venv", "ensurepip"))
        return Interpreter(path.resolve(), sys.version_info[:3]) if can else None
    try:
        done = subprocess.run((path, "-I", "-c", _LOOK), capture_output=True, timeout=20, check=False)  # noqa: S603 - it is on the user's PATH
        executable, (major, minor, patch) = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Interpreter(Path(executable).resolve(), (major, minor, patch))
