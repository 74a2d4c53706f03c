import asyncio
import os
import sys
import zipfile
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agentless_mini.domain import Ending, Event, PhaseSaid, PhaseStarted, Runner, Step
from agentless_mini.environment.machine import find_rust
from agentless_mini.environment.opening import open_environment
from agentless_mini.environment.work import EnvironmentRequest, Opened
from agentless_mini.errors import EnvironmentFailed
from agentless_mini.settings.run import SandboxKind, SandboxSettings
from tests.environment.samples import BARE, sample
from tests.environment.trees import opened, request, run_there, sentences, tree

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("boxes")]

LOCAL = SandboxSettings(kind=SandboxKind.LOCAL, boxes=1)
TESTS = Step(("python", "-m", "pytest", "-q", "tests"))


def with_setup(command: str, **more: float) -> SandboxSettings:
    return SandboxSettings.model_validate({"kind": "local", "boxes": 1, "setup": command, **more})


def test_what_a_build_prints_is_heard_while_it_runs(tmp_path: Path) -> None:
    events: list[Event] = []
    opened(request(BARE, tmp_path, Runner.UNITTEST), with_setup("echo one; sleep 0.5; printf 'two\\n\\n'"), events)
    lines = [event.text for event in events if isinstance(event, PhaseSaid)]
    assert [line for line in lines if line in {"one", "two"}] == ["one", "two"]


def said(step: str, settings: SandboxSettings, cache: Path) -> str:
    result, _ = run_there(request(BARE, cache, Runner.UNITTEST), settings, Step(("sh", "-c", step)))
    return result.steps[0].output.text()


@pytest.mark.usefixtures("package_index")
def test_a_project_is_built_once_with_what_its_build_writes(tmp_path: Path) -> None:
    result, first = run_there(request(sample(), tmp_path), LOCAL, TESTS, Step(("cat", "sampleproj/_version.py")))
    assert result.steps[0].succeeded, result.steps[0].output.text()
    assert "99.0.0" in result.steps[1].output.text()
    assert first.notes == ("Could not be installed: iniconfig.",)
    log = next(tmp_path.glob("environments/*/build.log")).read_text()
    assert "uv pip install" in log
    assert "-e .[test]" in log
    assert " + sampleproj==99.0.0" in log

    events: list[Event] = []
    again = opened(request(sample(), tmp_path), LOCAL, events)
    assert isinstance(again, Opened)
    assert (again.identity, again.place, again.notes) == (first.identity, first.place, first.notes)
    assert sentences(events) == []
    assert [type(event) for event in events] == [PhaseStarted]

    changed = sample(new__py="x = 1", sampleproj___version__py="version = 'own'\n")
    result, other = run_there(request(changed, tmp_path), LOCAL, Step(("cat", "new.py", "sampleproj/_version.py")))
    assert other.identity == first.identity, "the same dependencies are the same environment"
    assert other.place.tree != first.place.tree


@pytest.mark.usefixtures("package_index")
@pytest.mark.thorough
def test_a_project_that_cannot_be_installed_is_imported_from_its_folder(tmp_path: Path) -> None:
    files = {
        "setup.py": "from setuptools import setup\nexit('not today')\nsetup(install_requires=['iniconfig'])\n",
        "src/thing/__init__.py": "import iniconfig\n",
    }
    asked = request(tree(files), tmp_path, Runner.UNITTEST)
    step = Step(("python", "-c", "import thing"), python_path=("src",))
    result, place = run_there(asked, LOCAL, step)
    assert result.steps[0].succeeded
    assert place.notes == ("The project itself could not be installed; it is imported from its folder.",)


@pytest.mark.usefixtures("package_index")
@pytest.mark.thorough
def test_a_project_of_meson_is_imported_from_its_sources_with_what_was_compiled(tmp_path: Path) -> None:
    source = '#include <Python.h>\nstatic struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "_fast", 0, -1, 0};\n'
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n'
        '[project]\nname = "thing"\nversion = "1"\n',
        "meson.build": "project('thing', 'c')\npy = import('python').find_installation(pure: false)\n"
        "py.extension_module('_fast', 'src/fast.c', install: true, subdir: 'thing')\n"
        "py.install_sources('lib/thing/__init__.py', subdir: 'thing')\n",
        "src/fast.c": source + "PyMODINIT_FUNC PyInit__fast(void) { return PyModule_Create(&def); }\n",
        "lib/thing/__init__.py": "from . import _fast\nVALUE = 41\n",
    }
    step = Step(("python", "-c", "import thing; print(thing.__file__, thing._fast.__file__)"), python_path=("lib",))
    result, place = run_there(request(tree(files), tmp_path, Runner.UNITTEST), LOCAL, step)
    assert place.notes == ()
    assert result.steps[0].output.text().count("/repo/lib/thing/") == 2, result.steps[0].output.text()


@pytest.mark.usefixtures("package_index")
@pytest.mark.thorough
@pytest.mark.skipif(not find_rust(os.environ), reason="there is no toolchain of rustup")
def test_a_project_with_rust_is_compiled_by_the_toolchain_in_the_home_of_the_user(tmp_path: Path) -> None:
    setup = "from setuptools import setup\nfrom setuptools_rust import Binding, RustExtension\n"
    setup += "built = RustExtension('thing.fast', 'Cargo.toml', binding=Binding.NoBinding)\n"
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools", "setuptools-rust"]\n',
        "setup.py": setup + "setup(name='thing', version='1', packages=['thing'], rust_extensions=[built])\n",
        "Cargo.toml": '[package]\nname = "fast"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n',
        "src/lib.rs": '#[no_mangle]\npub extern "C" fn value() -> i32 { 41 }\n',
        "thing/__init__.py": "",
    }
    load = "import ctypes, glob; print(ctypes.CDLL(glob.glob('/repo/thing/fast*.so')[0]).value())"
    result, place = run_there(request(tree(files), tmp_path, Runner.UNITTEST), LOCAL, Step(("python", "-c", load)))
    assert (place.notes, result.steps[0].output.text()) == ((), "41\n")


def wheel(folder: Path, name: str, version: str) -> None:
    """Write the smallest distribution that pip installs."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def offline(files: dict[str, str], folder: Path) -> EnvironmentRequest:
    """Return a request where the folder's wheels are the only index."""
    told = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels")}
    asked = request(tree(files), folder / "cache", Runner.UNITTEST)
    return replace(asked, variables={"PATH": os.environ["PATH"], **told})


def test_what_contradicts_the_project_is_left_out_and_changes_nothing(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("alpha", "1"), ("alpha", "2"), ("beta", "1"), ("gamma", "1"), ("gamma", "2")):
        wheel(wheels, name, version)
    files = {
        # Without an index nothing builds the project: what it declares is installed.
        "setup.py": "from setuptools import setup\nsetup(name='thing', install_requires=['alpha>=2'])\n",
        "requirements/tests.txt": "alpha==1\ngamma==1\nbeta\n",
    }
    step = Step(("python", "-c", "import alpha, beta, gamma; print(alpha.VERSION, beta.VERSION, gamma.VERSION)"))
    result, place = run_there(offline(files, tmp_path), LOCAL, step)
    assert result.steps[0].output.text().split() == ["2", "1", "1"]
    assert place.notes[-1] == "Could not be installed: alpha."
    assert "Left out, for it does not fit" in next(tmp_path.glob("cache/environments/*/build.log")).read_text()


def test_no_name_is_installed_that_the_project_did_not_declare_as_a_package(tmp_path: Path) -> None:
    """Test with a canary index: it has a package of every name that could be mistaken for one."""
    canaries = ("master", "worker", "tests", "test", "gone", "dev", "all", "yaml", "helper", "thing", "dummy", "extra")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in (*canaries, "alpha", "pytest_mock"):
        wheel(wheels, name, "1")
    files = {
        "pyproject.toml": '[dependency-groups]\ntests = ["alpha"]\n[tool.pytest.ini_options]\naddopts = "--dummy"\n',
        "requirements-ci.txt": "-e master[test,tls]\n-e worker\n",
        "tox.ini": "[testenv]\ndeps =\n    worker\n    -r requirements-ci.txt\n    -e gone[extra]\nextras = all\n",
        "Makefile": "test:\n\tpip install -e gone[dev] && pytest\n",
        "master/setup.py": "from setuptools import setup\nsetup(name='thing')\n",
        "worker/setup.py": "from setuptools import setup\nsetup(name='thing')\n",
        "tests/test_a.py": "import yaml\nimport helper\nimport pytest_mock\n",
    }
    code = "from importlib.metadata import distributions as d; print(*sorted(one.name for one in d()))"
    result, place = run_there(offline(files, tmp_path), LOCAL, Step(("python", "-c", code)))
    assert result.steps[0].output.text().split() == ["alpha"]
    assert "1 test file cannot be imported: no yaml." in place.notes


@pytest.mark.usefixtures("package_index")
@pytest.mark.thorough
def test_an_old_tree_gets_the_packages_of_its_time(tmp_path: Path) -> None:
    code = "from importlib.metadata import version\nassert version('iniconfig') < '2', 'too new'\n"
    asked = request(tree({"requirements.txt": "iniconfig\n", "thing/__init__.py": code}), tmp_path, Runner.UNITTEST)
    asked = replace(asked, until="2022-06-01T12:00:00+02:00")
    result, place = run_there(asked, LOCAL, Step(("python", "-c", "import thing")))
    assert result.steps[0].succeeded
    assert place.notes == ("It has the packages of 2022-06-01, the day of the tree.",)
    events: list[Event] = []
    again = opened(asked, LOCAL, events)
    assert isinstance(again, Opened)
    assert (again.identity, sentences(events)) == (place.identity, [])


@pytest.mark.usefixtures("package_index")
@pytest.mark.thorough
def test_an_old_pytest_that_reads_no_test_on_this_python_is_no_environment(tmp_path: Path) -> None:
    asked = request(tree({"requirements.txt": "pytest\n", "thing/__init__.py": ""}), tmp_path)
    result, place = run_there(replace(asked, until="2019-12-01"), LOCAL, Step(("python", "-m", "pytest", "--version")))
    assert result.steps[0].succeeded
    assert place.notes == ("It has today's packages, for those of 2019-12-01, the day of the tree, do not work.",)


def test_a_failing_build_names_its_log_and_leaves_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"the setup command exited with 3; see .*build\.log\): give --image"):
        opened(request(BARE, tmp_path, Runner.UNITTEST), with_setup("echo it is broken >&2; exit 3"), [])
    (log,) = tmp_path.glob("environments/*/*")
    assert "it is broken" in log.read_text()
    assert "$ sh -c echo it is broken" in log.read_text()


@pytest.mark.thorough
def test_a_build_in_which_tests_cannot_be_started_fails(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"cannot be started: .*No module named '?pytest.*build\.log"):
        opened(request(BARE, tmp_path), with_setup("true"), [])
    assert not [*tmp_path.glob("environments/*/venv")]


@pytest.mark.thorough
def test_a_build_ends_at_its_time(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"it took longer than 8 s"):
        opened(request(BARE, tmp_path, Runner.UNITTEST), with_setup("sleep 60", build_seconds=8), [])


@pytest.mark.thorough
def test_a_cancelled_build_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    asked = request(BARE, tmp_path, Runner.UNITTEST)
    setup = with_setup("sleep 3; echo done")

    def has_pip() -> bool:
        return bool([*tmp_path.glob("environments/*/venv/bin/pip")])

    async def run() -> None:
        async with AsyncExitStack() as stack:
            building = asyncio.create_task(open_environment(asked, setup, lambda event: None, stack))
            while not await asyncio.to_thread(has_pip):
                await asyncio.sleep(0.05)
                assert not building.done()
            building.cancel()
            await asyncio.wait([building])
            assert building.cancelled()

    asyncio.run(run())
    assert [path.name for path in tmp_path.glob("environments/*/*")] == []
    assert isinstance(opened(asked, setup, []), Opened)


@pytest.mark.thorough
def test_a_half_built_environment_is_built_anew(tmp_path: Path) -> None:
    asked, settings = request(BARE, tmp_path, Runner.UNITTEST), with_setup("echo ran")
    first = opened(asked, settings, [])
    assert isinstance(first, Opened)
    (folder,) = (path for path in tmp_path.glob("environments/*") if path.is_dir())
    (folder / "environment.json").unlink()
    (folder / "venv/stale").touch()
    events: list[Event] = []
    assert isinstance(opened(asked, settings, events), Opened)
    assert len(sentences(events)) == 1
    assert not (folder / "venv/stale").exists()


@pytest.mark.parametrize("kind", ["local", "landlock"])
def test_a_build_sees_and_changes_nothing_of_this_machine(
    kind: str, open_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, home = tmp_path / "secret", Path.home()
    secret.write_text("hidden")
    command = (
        f"cat {secret}; ls {home}/.ssh {home}/.bashrc; env; ls {tmp_path}; touch {tmp_path}/written {home}/written "
        "/usr/written /etc/written ../written ../../written; echo over; true"
    )
    setup = with_setup(command).model_copy(update={"kind": SandboxKind(kind)})
    monkeypatch.setenv("AMINI_TEST", "unseen")
    events: list[Event] = []
    assert isinstance(opened(request(BARE, open_cache, Runner.UNITTEST), setup, events), Opened)
    assert sentences(events)[0].startswith("Building a virtual environment")
    log = next(open_cache.glob("environments/*/build.log"))
    said = log.read_text()
    assert "over" in said
    assert "hidden" not in said
    assert "unseen" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert not (home / "written").exists()
    kept = sorted(path.name for path in log.parent.iterdir())
    assert [name for name in kept if name != "box"] == ["build.log", "environment.json", "overlay.tar", "venv"]


@pytest.mark.thorough
def test_a_build_cannot_have_another_folder_shown_to_tests(tmp_path: Path) -> None:
    setup = with_setup(f"ln -sf {tmp_path}/a/b/c $VIRTUAL_ENV/bin/python")
    with pytest.raises(EnvironmentFailed, match="its Python was replaced"):
        opened(request(BARE, tmp_path, Runner.UNITTEST), setup, [])


@pytest.mark.thorough
def test_what_a_build_leaves_cannot_run_as_its_owner(tmp_path: Path) -> None:
    setup = with_setup(
        "cp /bin/sh $VIRTUAL_ENV/bin/own && chmod 6755 $VIRTUAL_ENV/bin/own && ls -l $VIRTUAL_ENV/bin/own"
    )
    assert isinstance(opened(request(BARE, tmp_path, Runner.UNITTEST), setup, []), Opened)
    own = next(tmp_path.glob("environments/*/venv/bin/own")).stat()
    assert (own.st_mode & 0o7777, own.st_uid) == (0o755, os.geteuid())


@pytest.mark.thorough
def test_tests_cannot_write_into_the_environment_or_reach_the_network(tmp_path: Path) -> None:
    step = (
        "touch $VIRTUAL_ENV/x || echo kept; python -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 2)'"
    )
    text = said(step, with_setup("true"), tmp_path)
    assert "kept" in text
    assert "unreachable" in text


@pytest.mark.thorough
def test_without_a_sandbox_it_is_warned_each_time(tmp_path: Path) -> None:
    settings = SandboxSettings(kind=SandboxKind.UNSAFE, setup="echo ran")
    events: list[Event] = []
    place = opened(request(BARE, tmp_path, Runner.UNITTEST), settings, events)
    assert isinstance(place, Opened)
    warnings = [text for text in sentences(events) if "run without a sandbox" in text]
    assert len(warnings) == 2, "the build and the probe"
    code = "import module, sys; print(module.VALUE, sys.prefix)"
    result, _ = run_there(request(BARE, tmp_path, Runner.UNITTEST), settings, Step(("python", "-c", code)))
    assert result.steps[0].ending is Ending.EXITED
    assert result.steps[0].output.text().startswith("41 " + str(tmp_path))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the sample asks for another Python than this one")
def test_a_missing_python_is_told(tmp_path: Path) -> None:
    files = {"setup.cfg": "[options]\npython_requires = <3.7\n"}
    place = opened(request(tree(files), tmp_path, Runner.UNITTEST), with_setup("true"), [])
    assert isinstance(place, Opened)
    assert "asks for Python <3.7" in place.notes[0]
