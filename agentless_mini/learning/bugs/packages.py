"""The Python files of a package, installed or in a folder, as text. Nothing is imported.

An interpreter that is named is run, by itself and isolated, to say where its packages are; it is the user's own.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from agentless_mini.errors import EnvironmentFailed, UsageError, boundary, printable, reason
from agentless_mini.sources import is_python

LARGEST = 400_000
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class ModuleText:
    """One file. `path` is as the package is imported: `rich/cells.py`."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Package:
    """A package by the name that it was asked for with, sorted by path; `skipped` counts unreadable files."""

    name: str
    version: str
    licence: str
    modules: tuple[ModuleText, ...]
    skipped: int = 0


def read_packages(sources: Sequence[str], python: str) -> tuple[Package, ...]:
    """Return the packages, sorted by name, each once. A source is a folder, or what `python` has by that name.

    Raises `UsageError` for what is neither, `EnvironmentFailed` where the interpreter does not work.
    """
    folders = [source for source in sources if _is_folder(source)]
    names = sorted({source for source in sources if not _is_folder(source)})
    located = _located(names, python) if names else {}
    found = [_installed(name, located[name]) for name in names]
    found += [_in_folder(Path(folder)) for folder in dict.fromkeys(folders)]
    return tuple(sorted(found, key=lambda package: package.name))


def _is_folder(source: str) -> bool:
    return ("/" in source or source.startswith(".")) and Path(source).is_dir()


def _located(names: Sequence[str], python: str) -> dict[str, Any]:
    program = (resources.files("agentless_mini.learning.bugs") / "locate.py").read_text("utf-8")
    told = f"The interpreter {printable(python)} does not tell its packages"
    with boundary(
        {
            OSError: lambda error: UsageError(f"{told} ({reason(error)}): check --python."),
            subprocess.TimeoutExpired: lambda error: EnvironmentFailed(f"{told} in time: check --python."),
            ValueError: lambda error: EnvironmentFailed(f"{told}: name a Python 3.10 or newer with --python."),
        }
    ):
        done = subprocess.run(  # noqa: S603 - it is a Python of the user's
            (python, "-I", "-c", program, *names), capture_output=True, timeout=_SECONDS, check=False
        )
        found: dict[str, Any] = json.loads(done.stdout)
    for name in names:
        if not isinstance(found.get(name), Mapping):
            raise UsageError(
                f"{printable(name)} is no package of {printable(python)} and no folder: install it, or correct it."
            )
    return found


def _installed(name: str, told: Mapping[str, Any]) -> Package:
    paths = [str(path) for path in told["files"]]
    return _read(Package(name, str(told["version"]), str(told["licence"]), ()), Path(told["root"]), paths)


def _in_folder(folder: Path) -> Package:
    whole = folder.resolve()
    hidden = (path.relative_to(whole) for path in sorted(whole.rglob("*.py")))
    paths = [str(path) for path in hidden if not any(part.startswith(".") for part in path.parts)]
    return _read(Package(whole.name, "", "", ()), whole, paths)


def _read(package: Package, root: Path, paths: Iterable[str]) -> Package:
    texts = {path: _text(root / path) for path in sorted(paths) if is_python(path)}
    modules = tuple(ModuleText(path, text) for path, text in texts.items() if text is not None)
    return Package(package.name, package.version, package.licence, modules, len(texts) - len(modules))


def _text(path: Path) -> str | None:
    """Return what is in a file; None where it is too large, no plain file, or no UTF-8 with plain newlines."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\r" in text or "\0" in text else text
