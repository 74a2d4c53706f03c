"""How a repository's tests run, as its files or its user tell; and what a patch may not change about that."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.config import findpaths

from agentless_mini.domain import Case, FileChange, Harness, Origin, PlacedFile, Runner
from agentless_mini.edits import changed_files
from agentless_mini.errors import UsageError
from agentless_mini.testing import guards, harness_of
from agentless_mini.testing.plans import CONFIGURATION, Planner, command_for, new_modules, support_files
from tests.testing.boxes import patch_of, tree

PYTEST = ("python", "-m", "pytest")
OLD = {"tests/test_a.py": "import unittest\n", "shop/__init__.py": "", "shop/cart.py": ""}


@pytest.mark.parametrize(
    ("more", "runner"),
    [
        ({}, Runner.UNITTEST),
        ({"tests/test_b.py": "import pytest\n"}, Runner.PYTEST),
        ({"tox.ini": "[testenv]\ncommands = py.test\n"}, Runner.PYTEST),
        ({"requirements-dev.txt": "pytest>=3\n"}, Runner.PYTEST),
        ({"requirements/test.txt": "pytest>=3\n"}, Runner.PYTEST),
        ({".github/workflows/ci.yml": "run: pytest\n"}, Runner.PYTEST),
        ({"docs/guide.txt": "pytest\n"}, Runner.UNITTEST),
        ({"tests/runtests.py": ""}, Runner.UNITTEST),
        ({"tests/runtests.py": "", "django/__init__.py": ""}, Runner.DJANGO),
    ],
)
def test_the_runner_is_told_by_the_files(more: dict[str, str], runner: Runner) -> None:
    assert harness_of(tree({**OLD, **more})).runner is runner


def test_no_file_of_a_box_tells_the_key_of_a_record() -> None:
    planner = Planner(harness_of(tree(OLD)), "python", 1.0, 1000, canaries=3, seed="drawn")
    tasks = planner.one_by_one([Case(name, Origin.GIVEN, name) for name in ("tests/test_a.py", "tests/test_b.py")])
    plans = [file.data or b"" for file in support_files(tasks) if "plan-" in file.path]
    assert len(plans) == 2
    assert not any(b"drawn" in plan for plan in plans)
    assert {task.key for task in tasks}.isdisjoint(hashlib.sha256(b"key " + plan).hexdigest() for plan in plans)


DJANGO = {"app/tests/test_a.py": "from django.test import TestCase\n"}
BY_DJANGO = ("python", "-m", "django", "test")


@pytest.mark.parametrize(
    ("more", "command", "settings"),
    [
        ({"manage.py": ""}, ("python", "manage.py", "test"), ""),
        ({"tox.ini": "[testenv]\nsetenv = DJANGO_SETTINGS_MODULE = tests.settings\n"}, BY_DJANGO, "tests.settings"),
        ({"Makefile": "test:\n\tpython -m django test --settings=app.conf\n"}, BY_DJANGO, "app.conf"),
        ({"runtests.py": "os.environ['DJANGO_SETTINGS_MODULE'] = 'app.x'\n"}, BY_DJANGO, "app.x"),
        ({"tests/settings.py": ""}, BY_DJANGO, "tests.settings"),
        ({"runtests.py": "settings.configure()\n"}, ("python", "runtests.py"), ""),
    ],
)
def test_a_project_of_django_runs_by_its_own_program(
    more: dict[str, str], command: tuple[str, ...], settings: str
) -> None:
    found = harness_of(tree({**DJANGO, **more}))
    assert (found.runner, found.command) == (Runner.DJANGO, command)
    assert found.variables == ((("DJANGO_SETTINGS_MODULE", settings),) if settings else ())
    assert harness_of(tree({**DJANGO, **more, "tox.ini": "deps = pytest-django\n"})).runner is Runner.PYTEST


def test_tests_of_each_member_are_a_step() -> None:
    files = {
        "setup.py": "",
        "libs/a/pyproject.toml": "",
        "libs/a/more/setup.py": "",
        "tests/data/setup.py": "",
        "a.py": "",
    }
    harness = harness_of(tree(files))
    assert harness.members == ("libs/a", "libs/a/more")
    names = ("tests/test_a.py", "libs/a/test_b.py", "libs/a/more/test_c.py", "tests/data/test_d.py")
    tasks = Planner(harness, "python", 1.0, 1000).together([Case(name, Origin.GIVEN, name) for name in names])
    assert [[case.id for case in task.cases] for task in tasks] == [[names[0], names[3]], [names[1]], [names[2]]]
    assert len({task.record for task in tasks}) == 3


def test_packages_below_src_and_lib_are_found_and_without_tests_it_is_pytest() -> None:
    assert harness_of(tree({"shop.py": "import unittest\n"})) == Harness(Runner.PYTEST, PYTEST)
    assert harness_of(tree({"src/shop/__init__.py": "", "lib/x.py": ""})).python_path == ("src", ".")
    assert harness_of(tree({"lib/shop/__init__.py": ""})).python_path == ("lib", ".")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pytest", ("pytest",)),
        ("python3 -m pytest -q {tests}", ("python3", "-m", "pytest", "-q")),
        ("/venv/bin/py.test -k 'a b'", ("/venv/bin/py.test", "-k", "a b")),
        ("poetry run pytest", ("poetry", "run", "pytest")),
        ("A=1 B=2 pytest -x", ("env", "A=1", "B=2", "pytest", "-x")),
        ("env A=1 pytest", ("env", "A=1", "pytest")),
        ("coverage run -m pytest", ("coverage", "run", "-m", "pytest")),
    ],
)
def test_a_command_that_runs_pytest_tells_of_each_test(command: str, words: tuple[str, ...]) -> None:
    assert harness_of(tree(OLD), command) == Harness(Runner.PYTEST, words)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make test TESTS={tests}", ("make", "test", "TESTS=a b.py")),
        ("tox -e py --", ("tox", "-e", "py", "--", "a b.py")),
        ("tox -e pytest", ("tox", "-e", "pytest", "a b.py")),
        ("pytest {tests} --more", ("pytest", "a b.py", "--more")),
        ("cd sub && pytest", ("sh", "-c", 'cd sub && pytest "$@"', "sh", "a b.py")),
        ("cat {tests} | python", ("sh", "-c", 'cat "$@" | python', "sh", "a b.py")),
    ],
)
def test_any_other_command_is_given_the_file(command: str, words: tuple[str, ...]) -> None:
    harness = harness_of(tree(OLD), command)
    assert harness.runner is Runner.COMMAND
    assert command_for(harness, "a b.py") == words


@pytest.mark.parametrize("command", ["  ", "make 'test"])
def test_a_command_that_cannot_be_read_says_what_to_check(command: str) -> None:
    with pytest.raises(UsageError, match="--test-cmd"):
        harness_of(tree(OLD), command)


BEFORE = {"tests/test_a.py": "old\n", "tests/conftest.py": "c\n", "shop/cart.py": "x = 1\n", "json/data.py": ""}
AFTER: dict[str, str | None] = {
    "tests/test_a.py": "new\n",
    "tests/conftest.py": None,
    "tests/test_new.py": "n\n",
    "shop/cart.py": "x = 2\n",
    "shop/conftest.py": "n\n",
    "shop/more.py": "n\n",
    "conftest.py": "n\n",
    "pytest.ini": "[pytest]\n",
    "shop/pytest.toml": "",
    ".pytest.toml": "",
    "tox.ini": "[pytest]\n",
    "pyproject.toml": "[tool.pytest]\n",
    "evil-1.dist-info/entry_points.txt": "n\n",
    "src/Evil.EGG-INFO/PKG-INFO": "n\n",
    "sitecustomize.py": "n\n",
    "src/usercustomize.py": "n\n",
    "evil.pth": "import x\n",
    ".amini-box/json.py": "n\n",
    "setup.cfg": "[x]\n",
}


def test_what_a_patch_does_to_tests_is_undone() -> None:
    snapshot = tree(BEFORE)
    placed = guards(snapshot, changed_files(patch_of(snapshot, AFTER), snapshot.by_path()))
    left = {"shop/cart.py", "shop/more.py"}
    assert {file.path for file in placed} == set(AFTER) - left
    back = {file.path: file.data for file in placed if file.data is not None}
    assert back == {"tests/test_a.py": b"old\n", "tests/conftest.py": b"c\n"}


SHARED = {
    "setup.cfg": "[metadata]\nname = shop\n[tool:pytest]\naddopts = -q\n[options]\ninstall_requires = a\n",
    "tox.ini": "[flake8]\nmax = 80\n[pytest]\naddopts = -q\n",
    "pyproject.toml": "[project]\nname = 'shop'\n[tool.pytest.ini_options]\naddopts = '-q'\n[tool.ruff]\nline = 80\n",
    "package.json": '{"version": "1", "scripts": {"test": "jest"}, "dependencies": {}}',
    "Cargo.toml": '[package]\nname = "shop"\nversion = "1.0.0"\n[dependencies]\n',
}
RUNNERS = {"package.json": Runner.JEST, "Cargo.toml": Runner.CARGO}


@pytest.mark.parametrize(
    ("path", "old", "new", "counts"),
    [
        ("setup.cfg", "= a", "= a, b", True),
        ("setup.cfg", "-q", "-q -p forged", False),
        ("setup.cfg", "[options]\n", "[options]\n[pytest]\n", False),
        ("setup.cfg", "[options]\n", "[coverage:run]\nplugins = forged\n[options]\n", False),
        ("setup.cfg", "[metadata]\n", "python_files = x.py\n[metadata]\n", False),
        ("setup.cfg", "name = shop", "name = shop\u2028[tool:pytest]\u2028addopts = -p forged", False),
        ("setup.cfg", "name = shop", "name = sh\udce9", False),
        ("tox.ini", "80", "100", True),
        ("tox.ini", "-q", "", False),
        ("pyproject.toml", "80", "100", True),
        ("pyproject.toml", "'shop'", "'shop'\ndependencies = ['a']", True),
        ("pyproject.toml", "'-q'", "'-p forged'", False),
        ("pyproject.toml", "[tool.ruff]", "[tool.pytest]\nminversion = '9'\n[tool.ruff]", False),
        ("pyproject.toml", "[tool.ruff]", '[tool."pytest"]\nx = 1\n[tool.ruff]', False),
        ("pyproject.toml", "[project]", "[project", False),
        ("pyproject.toml", "80", "[" * 9999, False),
        ("package.json", '"1"', '"2"', True),
        ("package.json", "{}", '{"a": "1"}', True),
        ("package.json", "jest", "true", False),
        ("package.json", '"1"', '"1", "type": "module"', False),
        ("package.json", '"1"', '"1", "babel": {"plugins": ["./forged"]}', False),
        ("package.json", '"1"', "[" * 99999, False),
        ("Cargo.toml", "1.0.0", "1.0.1", True),
        ("Cargo.toml", "[dependencies]", "[dependencies]\na = '1'", True),
        ("Cargo.toml", "[dependencies]", "build = 'forged.rs'\n[dependencies]", False),
        ("Cargo.toml", "[dependencies]", "autotests = false\n[dependencies]", False),
        ("Cargo.toml", "[dependencies]", "[lib]\nharness = false\n[dependencies]", False),
    ],
)
def test_a_change_of_a_shared_file_counts_where_it_leaves_what_is_about_tests(
    path: str, old: str, new: str, counts: bool
) -> None:
    before = SHARED[path].encode()
    after = SHARED[path].replace(old, new).encode("utf-8", "surrogateescape")
    for at in (path, f"sub/{path}"):
        placed = guards(tree({}), [FileChange(at, before, after, "100644")], (), RUNNERS.get(path, Runner.PYTEST))
        assert placed == (() if counts else (PlacedFile(at, before),))
    gone = [FileChange(path, None, after, "100644"), FileChange(f"a/{path}", before, None, "100644")]
    assert guards(tree({}), gone, (), RUNNERS.get(path, Runner.PYTEST))


@pytest.mark.parametrize(
    ("runner", "path"),
    [
        (Runner.JEST, ".babelrc.js"),
        (Runner.JEST, "web/.swcrc"),
        (Runner.JEST, "jest.config.ts"),
        (Runner.JEST, "__mocks__/chai.js"),
        (Runner.VITEST, "src/setupTests.ts"),
        (Runner.VITEST, "vitest.workspace.ts"),
        (Runner.MOCHA, ".mocharc.cjs"),
        (Runner.GO, "go.work"),
        (Runner.CARGO, "rust-toolchain.toml"),
        (Runner.CARGO, "build.rs"),
        (Runner.RSPEC, ".rspec-local"),
        (Runner.PHPUNIT, "phpunit.xml"),
    ],
)
def test_what_a_runner_reads_is_not_a_patchs(runner: Runner, path: str) -> None:
    added = FileChange(path, None, b"", "100644")
    assert guards(tree({}), [added], (), runner) == (PlacedFile(path, None),)
    assert guards(tree({}), [added]) == ()


def test_the_driver_starts_from_the_files_that_it_was_told_alone(tmp_path: Path) -> None:
    case = Case("tests/test_a.py::test_a", Origin.REGRESSION)
    (task,) = Planner(harness_of(tree(OLD)), sys.executable, 5.0, 10**6).together([case])
    for file in support_files([task]):
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_bytes(file.data or b"")
    (tmp_path / ".amini-box/amini_record.py").write_text("print(1)\n")
    done = subprocess.run(task.step.argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "files of amini's were changed in the box\n")


def test_in_a_tool_for_tests_only_what_is_beyond_doubt_is_undone() -> None:
    snapshot = tree({"src/_pytest/test_a.py": "old\n"}, name="pytest")
    patch = patch_of(snapshot, {"src/_pytest/test_a.py": "new\n", "src/_pytest/new.py": "n\n", "conftest.py": "n\n"})
    assert guards(snapshot, changed_files(patch, snapshot.by_path())) == (PlacedFile("conftest.py", None),)


def test_the_installed_pytest_reads_no_other_file() -> None:
    assert set(findpaths.CONFIG_LOADERS_BY_NAME) == CONFIGURATION


@pytest.mark.parametrize("name", sorted(CONFIGURATION))
def test_the_installed_pytest_reads_the_file(name: str, tmp_path: Path) -> None:
    text = {"setup.cfg": "[tool:pytest]\n", "pyproject.toml": "[tool.pytest.ini_options]\n"}.get(name, "[pytest]\n")
    (tmp_path / name).write_text(text)
    (tmp_path / "tests").mkdir()
    found = findpaths.locate_config(tmp_path, [tmp_path / "tests"])[1]
    assert found == tmp_path / name


def test_modules_that_a_patch_adds_where_imports_begin_are_named() -> None:
    held = {
        "shop/__init__.py": "",
        "shop/cart.py": "",
        "code.py": "",
        "json/data.py": "",
        "shop/tests/__init__.py": "",
        "shop/tests/test_a.py": "",
        "plugins/test_b.py": "",
        "space/cloud/x.py": "",
    }
    new = {
        "argparse.py": "argparse",
        "iniconfig.cpython-311-x86_64-linux-gnu.so": "iniconfig",
        "json/__init__.py": "json",
        "src/logging/__init__.pyc": "logging",
        "src/iniconfig/__init__.abi3.so": "iniconfig",
        "lib/queue.py": "queue",
        "plugins/string.py": "string",
        "app/token.py": "token",
    }
    harness = Harness(Runner.PYTEST, PYTEST, python_path=("src", ".", "app"))
    others = ("shop/logging.py", "space/cloud/logging/__init__.py", "json/more.py", "code/__init__.py", "test.txt")
    snapshot = tree(held)
    patch = patch_of(snapshot, {"shop/cart.py": "x = 1\n", **dict.fromkeys((*new, *others), "n\n")})
    changes = changed_files(patch, snapshot.by_path())
    assert new_modules(snapshot, changes, harness) == new
    assert guards(snapshot, changes, {"argparse.py"}) == (PlacedFile("argparse.py", None),)
