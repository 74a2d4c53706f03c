"""Prints where the Python files of installed packages are, as JSON. The interpreter that has them runs it, by itself.

Nothing of the packages is imported: metadata and finders are asked.
"""

import importlib.machinery
import importlib.metadata
import json
import platform
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

Description = dict[str, Any]


def main(names: Sequence[str]) -> None:
    """Print one object: each name with `root`, `files` below it, `version` and `licence`; null where it is unknown."""
    json.dump({name: of_distribution(name) or of_import(name) for name in names}, sys.stdout)


def of_distribution(name: str) -> Description | None:
    """Return what a distribution installed, None where it is none or has no Python files of its own (editable)."""
    try:
        found = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    root = str(found.locate_file(""))
    files = sorted(str(file) for file in found.files or () if str(file).endswith(".py") and ".." not in str(file))
    return described(root, files, found.version, licence_of(found.metadata)) if files else None


def of_import(name: str) -> Description | None:
    """Return what an import name stands for."""
    spec = importlib.machinery.PathFinder.find_spec(name) if "." not in name else None
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    is_standard = name in sys.stdlib_module_names
    found = () if is_standard else by_module().get(name, ())
    known = importlib.metadata.distribution(found[0]) if found else None
    version = known.version if known else platform.python_version() if is_standard else ""
    licence = licence_of(known.metadata) if known else "PSF-2.0" if is_standard else ""
    origin = Path(spec.origin or "")
    if not spec.submodule_search_locations:
        return described(str(origin.parent), [origin.name], version, licence)
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(str(path.relative_to(folder.parent)) for path in folder.rglob("*.py"))
    return described(str(folder.parent), files, version, licence)


@cache
def by_module() -> dict[str, list[str]]:
    """Return the distributions that installed each module. It reads the lists of all of them."""
    return dict(importlib.metadata.packages_distributions())


def licence_of(metadata: Any) -> str:  # noqa: ANN401 - its type changes with Python's version
    """Return the licence that metadata tell in a word or two, else what the classifier says."""
    said = metadata.get("License-Expression") or metadata.get("License") or ""
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", ()) if line.startswith("License")
    ]
    return str(said) if said and len(said) <= 60 and "\n" not in said else ", ".join(classified)


def described(root: str, files: list[str], version: str, licence: str) -> Description:
    """Return what is printed of a package."""
    return {"root": root, "files": files, "version": version, "licence": licence}


if __name__ == "__main__":
    main(sys.argv[1:])
