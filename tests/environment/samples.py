"""A small project whose version is written by its build, and a dependency and a requirement that cannot be had."""

from agentless_mini.domain import Snapshot
from tests.environment.trees import tree

_PYPROJECT = """
[build-system]
requires = ["setuptools>=64", "setuptools_scm>=8"]
build-backend = "setuptools.build_meta"
[project]
name = "sampleproj"
dynamic = ["version"]
requires-python = ">=3.8"
dependencies = ["iniconfig"]
[project.optional-dependencies]
test = ["pytest"]
[tool.setuptools]
packages = ["sampleproj"]
[tool.setuptools_scm]
write_to = "sampleproj/_version.py"
"""
_FILES = {
    "pyproject.toml": _PYPROJECT,
    "requirements-test.txt": "iniconfig>=9999\n",
    "sampleproj/__init__.py": "import iniconfig\nfrom sampleproj._version import version\n",
    "tests/test_version.py": "import sampleproj\ndef test_version(): assert sampleproj.version == '99.0.0'\n",
}


def sample(**more: str) -> Snapshot:
    return tree(_FILES | {name.replace("__", "."): text for name, text in more.items()})


BARE = tree({"module.py": "VALUE = 41\n"})
"""A tree that needs nothing."""
