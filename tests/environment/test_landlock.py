"""Environments without namespaces: built and used behind Landlock."""

import os
from pathlib import Path

import pytest

from agentless_mini.domain import Event, Runner, Step
from agentless_mini.environment.opening import imported_folders
from agentless_mini.environment.work import Opened
from agentless_mini.settings.run import SandboxKind, SandboxSettings
from tests.environment.samples import sample
from tests.environment.trees import opened, request, run_there, sentences, tree

LANDLOCK = SandboxSettings(kind=SandboxKind.LANDLOCK, boxes=1)


@pytest.mark.thorough
@pytest.mark.usefixtures("package_index")
def test_a_project_is_built_once_and_imported_from_each_box(open_cache: Path) -> None:
    tests = Step(("python", "-m", "pytest", "-q", "tests"))
    where = Step(("python", "-c", "import sampleproj, os; print(os.path.relpath(sampleproj.__file__))"), folder="tests")
    result, first = run_there(request(sample(), open_cache), LANDLOCK, tests, where)
    assert result.steps[0].succeeded, result.steps[0].output.text()
    assert result.steps[1].output.text() == "../sampleproj/__init__.py\n"
    events: list[Event] = []
    again = opened(request(sample(), open_cache), LANDLOCK, events)
    assert isinstance(again, Opened)
    assert (again.identity, sentences(events)) == (first.identity, [])


@pytest.mark.slow
@pytest.mark.usefixtures("package_index")
def test_a_project_with_its_code_in_src_is_imported_from_there(open_cache: Path) -> None:
    files = {
        "pyproject.toml": "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'thing'\nversion = '1'\n",
        "src/thing/__init__.py": "",
    }
    step = Step(("python", "-c", "import thing, os; print(os.path.relpath(thing.__file__))"))
    result, _ = run_there(request(tree(files), open_cache, Runner.UNITTEST), LANDLOCK, step)
    assert result.steps[0].output.text() == "src/thing/__init__.py\n"


def test_what_is_imported_is_read_from_what_an_installation_leaves(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    (site / "a.pth").write_text("/box/tree/src\n/elsewhere\nimport x\n/box/tree\n/box/tree/../up\n")
    (site / "__editable___b_finder.py").write_text("MAPPING = {'b': '/box/tree/lib/b', 'c': '/other/c'}\n")
    (site / "other.py").write_text("'/box/tree/no/b'")
    (tmp_path / "outside").write_text("/box/tree/away\n")
    (site / "link.pth").symlink_to(tmp_path / "outside")
    os.mkfifo(site / "waits.pth")
    (site / "large.pth").write_text("/box/tree/large\n" * 100_000)
    assert imported_folders(tmp_path, Path("/box/tree")) == ("lib", "src", ".")
