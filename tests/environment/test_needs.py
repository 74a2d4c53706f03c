import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentless_mini.domain import Runner
from agentless_mini.environment.needs import needs_of
from tests.environment.trees import needs, tree

PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
name = "thing"
requires-python = ">=3.9"
dependencies = ["alpha>=1", "beta; python_version < '3.8'"]
classifiers = ["Programming Language :: Python :: 3.9", "Programming Language :: Python :: 3.10"]
[project.optional-dependencies]
tests = ["pytest", "gamma"]
docs = ["sphinx"]
[dependency-groups]
dev = [{include-group = "lint"}, "delta"]
lint = ["ruff", {include-group = "dev"}]
docs = ["mkdocs"]
"""


def test_pyproject() -> None:
    found = needs(pyproject__toml=PYPROJECT)
    assert found.project
    assert (found.python.specifiers, found.python.tested) == ((">=3.9",), (9, 10))
    assert found.extras == ("tests",)
    assert found.install == ("ruff", "delta")
    assert found.alone == ("alpha>=1", "beta; python_version < '3.8'", "pytest", "gamma")
    assert found.module == "pytest"


def test_a_pyproject_of_tools_alone_is_no_project() -> None:
    assert not needs(pyproject__toml="[tool.ruff]\nline-length = 100\n").project
    assert not needs(pyproject__toml="[project\n").project
    assert not needs().project


def test_poetry_pdm_uv_and_hatch() -> None:
    text = """
[tool.poetry]
name = "thing"
[tool.poetry.dependencies]
python = "^3.8"
one = "^1.2"
two = {version = ">=2", extras = ["x"]}
three = {path = "../three"}
[tool.poetry.dev-dependencies]
four = "*"
[tool.poetry.group.test.dependencies]
five = "5.1"
[tool.poetry.group.docs.dependencies]
six = "6"
[tool.pdm.dev-dependencies]
test = ["seven"]
[tool.uv]
dev-dependencies = ["eight"]
[tool.hatch.envs.default]
dependencies = ["nine"]
"""
    found = needs(pyproject__toml=text)
    assert found.python.specifiers == ("^3.8",)
    assert found.alone == ("one>=1.2", "two[x]>=2")
    assert found.install == ("seven", "eight", "nine", "four", "five==5.1")


def test_setup_py_is_read_and_not_run() -> None:
    text = """
import os
os.abort()
from setuptools import setup, find_packages
BASE = ["alpha>=1"]
TESTS = BASE + ["pytest"]
EXTRAS = {"test": TESTS, "docs": ["sphinx"], name(): ["x"]}
setup(
    name="thing", packages=find_packages(), python_requires=">=3.7", install_requires=BASE + read("more.txt"),
    tests_require=["mock"], extras_require=EXTRAS, classifiers=["Programming Language :: Python :: 3.8"],
)
"""
    found = needs(setup__py=text)
    assert found.project
    assert (found.python.specifiers, found.python.tested) == ((">=3.7",), (8,))
    assert found.alone == ("alpha>=1", "pytest")
    assert (found.extras, found.install) == (("test",), ("mock",))


@pytest.mark.parametrize("text", ["print 'old'", "", "setup(**all)", "A = A + A\nsetup(install_requires=A)", "\0"])
def test_a_setup_py_that_tells_nothing_is_still_a_project(text: str) -> None:
    found = needs(setup__py=text)
    assert (found.project, found.install, found.alone) == (True, (), ())


def test_setup_cfg_and_tox() -> None:
    config = """
[metadata]
name = thing
classifiers =
    Programming Language :: Python :: 3.9
[options]
python_requires = >=3.8
install_requires =
    alpha
    # not this
    beta>=2
[options.extras_require]
testing = pytest; gamma
"""
    tox = """
[testenv]
deps =
    -r{toxinidir}/requirements/test.txt
    delta
    py27: mock
    {[base]deps}
[testenv:docs]
deps = sphinx
"""
    found = needs(setup__cfg=config, tox__ini=tox, requirements___test__txt="epsilon==1\n")
    assert found.python.specifiers == (">=3.8",)
    assert found.alone == ("alpha", "beta>=2", "pytest", "gamma")
    assert found.install == ("epsilon==1", "delta")


def test_which_requirement_files_count() -> None:
    names = [
        "requirements.txt", "requirements-dev.txt", "dev_requirements.txt", "test-requirements.txt",
        "requirements/base.txt", "requirements/tests.txt", "tests/requirements.txt", "tests/requirements/py3.txt",
        "requirements-docs.txt", "requirements/mysql.txt", "docs/requirements.txt", "notes.txt",
        "tests/data/requirements.txt", "requirements/tests-min.txt", "requirements/tests-pallets-dev.txt",
        "requirements-test-minimal.txt", "requirements/build.txt", "requirements/typing.txt",
        "dev-lint-requirements.txt",
    ]  # fmt: skip
    found = needs_of(tree({name: f"p{number}\n" for number, name in enumerate(names)}), Runner.UNITTEST)
    assert set(found.install) == {f"p{number}" for number in range(8)}


def test_those_for_tests_come_before_those_to_develop_and_need_no_documentation() -> None:
    files = {
        "requirements/dev.txt": "-r docs.txt\n-r typing.txt\n-r tests.txt\npytest==8\ntox\n",
        "requirements/docs.txt": "sphinx\n",
        "requirements/typing.txt": "mypy\n",
        "requirements/tests.txt": "pytest==7\n",
    }
    assert needs_of(tree(files), Runner.PYTEST).install == ("pytest==7", "pytest==8", "tox")
    del files["requirements/tests.txt"]
    assert needs_of(tree(files), Runner.PYTEST).install == ("sphinx", "mypy", "pytest==8", "tox")


def test_plugins_for_configured_options_are_added_where_nothing_names_them() -> None:
    config = '[tool.pytest.ini_options]\naddopts = [\n  "--cov=thing",\n  "-n", "auto",\n]\nasyncio_mode = "auto"\n'
    found = needs(pyproject__toml=config, requirements__txt="pytest_cov==4\n")
    assert found.install == ("pytest_cov==4", "pytest-asyncio")
    assert needs(pytest__ini="[pytest]\naddopts = --timeout 10\n    --cov\n").install == (
        "pytest-cov",
        "pytest-timeout",
    )
    assert needs(Runner.UNITTEST, pytest__ini="[pytest]\naddopts = --cov\n").install == ()


def test_a_version_file_counts_more_than_classifiers() -> None:
    found = needs(pyproject__toml=PYPROJECT, **{"__python-version": "3.12.1\n"})
    assert found.python.tested == (12,)


def test_the_packages_of_the_tree() -> None:
    files = ("thing/__init__.py", "src/other/__init__.py", "tests/__init__.py", "a-b/__init__.py", "x/y/__init__.py")
    assert needs_of(tree(dict.fromkeys(files, "")), Runner.PYTEST).packages == ("other", "thing")


def test_the_digest_changes_with_what_a_build_depends_on_and_with_nothing_else() -> None:
    files = {
        "setup.py": "setup()",
        "requirements.txt": "-r more.txt",
        "more.txt": "a",
        "pkg/__init__.py": "",
        "x.c": "",
    }
    first = needs_of(tree(files), Runner.PYTEST).digest
    same = {**files, "pkg/module.py": "x = 1", "pkg/__init__.py": "y = 2", "README.txt": "new", "tests/test_a.py": ""}
    assert needs_of(tree(same), Runner.PYTEST).digest == first
    for path in ("setup.py", "requirements.txt", "more.txt", "x.c", "new/__init__.py", "pyproject.toml"):
        assert needs_of(tree({**files, path: "changed"}), Runner.PYTEST).digest != first, path
    assert needs_of(tree(files), Runner.UNITTEST).digest != first


@pytest.mark.parametrize(
    "text", ["[", "[a]\nx", "= 3", "\0", "[testenv]\ndeps = {", "[options]\ninstall_requires = %("]
)
def test_files_that_cannot_be_parsed_tell_nothing(text: str) -> None:
    found = needs(setup__cfg=text, tox__ini=text, pyproject__toml=text)
    assert found.install in {(), ("%(",)}


def test_deep_and_long_files_are_read() -> None:
    found = needs(
        pyproject__toml="a = " + "[" * 5000,
        setup__py="setup(install_requires=" + "[" * 90 + "]" * 90 + "+ ['a']" * 5000 + ")",
        requirements__txt="x" * 10_000_000,
        pytest__ini="addopts =" + "\n " * 200_000,
    )
    assert found.install == ()


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["setup__py", "setup__cfg", "tox__ini", "pyproject__toml"]), st.text()))
def test_any_text_is_read_without_an_error(files: dict[str, str]) -> None:
    needs(**files)
