import time

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
    assert found.ways == (("-e", ".[tests]"), ("-e", "."), (".",))
    assert (found.best, found.others) == ((), ())
    assert found.alone == ("alpha>=1", "beta; python_version < '3.8'")
    assert found.simple == ("alpha>=1", "beta; python_version < '3.8'", "pytest", "gamma")
    assert found.module == "pytest"


def test_a_pyproject_of_tools_alone_is_no_project() -> None:
    assert not needs(pyproject__toml="[tool.ruff]\nline-length = 100\n").project
    assert not needs(pyproject__toml="[project\n").project
    assert not needs(pyproject__toml='[project]\nname = "top"\n[tool.uv]\npackage = false\n').project
    assert not needs().project


def test_poetry() -> None:
    text = """
[tool.poetry]
name = "thing"
[tool.poetry.dependencies]
python = "^3.8"
one = "^1.2"
two = {version = ">=2", extras = ["x"]}
three = {path = "../three"}
four = [{version = "^1", python = "<3.8"}, {version = "^2", python = "^3.8", markers = "os_name == 'nt'"}]
[tool.poetry.group.test.dependencies]
five = "5.1"
six = "20.8b1"
seven = "^1.0.0-rc.1"
"""
    found = needs(pyproject__toml=text)
    assert found.python.specifiers == ("^3.8",)
    four = "four>=2; (os_name == 'nt') and (python_version >= '3.8' and python_version < '4')"
    assert found.alone == ("one>=1.2", "two[x]>=2", "four>=1; (python_version < '3.8')", four)
    assert found.best == ("five==5.1", "six==20.8b1", "seven>=1.0.0-rc.1")


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
    tests_require=["mock"], extras_require=EXTRAS, classifiers=["Programming Language :: Python :: 3.8"]
)
"""
    found = needs(setup__py=text)
    assert found.project
    assert (found.python.specifiers, found.python.tested) == ((">=3.7",), (8,))
    assert found.alone == ("alpha>=1",)
    assert (found.ways[0], found.best) == (("-e", ".[test]"), ("mock",))


@pytest.mark.parametrize("text", ["print 'old'", "", "setup(**all)", "A = A + A\nsetup(install_requires=A)", "\0"])
def test_a_setup_py_that_tells_nothing_is_still_a_project(text: str) -> None:
    found = needs(setup__py=text)
    assert (found.project, found.best, found.alone) == (True, (), ())


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
    tox = "[testenv]\ndeps =\n    -r{toxinidir}/requirements/test.txt\n    delta\n"
    found = needs(setup__cfg=config, tox__ini=tox, requirements___test__txt="epsilon==1\n")
    assert found.python.specifiers == (">=3.8",)
    assert found.alone == ("alpha", "beta>=2")
    assert (found.ways[0], found.best) == (("-e", ".[testing]"), ())
    assert found.others == (("-r", "requirements/test.txt", "delta"), ("-r", "requirements/test.txt"))


def test_a_project_that_rebuilds_at_import_is_installed_as_for_users() -> None:
    text = '[build-system]\nbuild-backend = "mesonpy"\n[project]\nname = "a"\noptional-dependencies = {test = []}\n'
    assert needs(pyproject__toml=text).ways == ((".[test]",), (".",))


def test_members_of_a_workspace_and_of_a_monorepo_are_installed() -> None:
    member = '[project]\nname = "%s"\n[dependency-groups]\ntest = ["x"]\n'
    files = {f"{path}/pyproject.toml": member % path for path in ("libs/one", "libs/two", "tests/three", "away/four")}
    found = needs_of(tree(files), Runner.PYTEST)
    assert (found.ways, found.members) == ((), (("-e", "./away/four"), ("-e", "./libs/one"), ("-e", "./libs/two")))
    assert found.others[0] == ("--group", "away/four/pyproject.toml:test")
    root = '[project]\nname = "root"\n[tool.uv.workspace]\nmembers = ["libs/*"]\nexclude = ["libs/two"]\n'
    inner = {"libs/one/deeper/pyproject.toml": member % "deeper"}
    found = needs_of(tree(files | inner | {"pyproject.toml": root}), Runner.PYTEST)
    assert (found.ways[0], found.members) == (("-e", "."), (("-e", "./libs/one"),))
    assert needs_of(tree(files | inner), Runner.PYTEST).members == (
        ("-e", "./away/four"),
        ("-e", "./libs/one"),
        ("-e", "./libs/two"),
    )


def test_of_many_members_those_are_installed_that_the_issue_is_near_with_what_they_need() -> None:
    files = {f"libs/m{at:02}/pyproject.toml": f'[project]\nname = "m-{at}"\n' for at in range(40)}
    files["libs/m35/pyproject.toml"] += 'dependencies = ["M.7>=1", "elsewhere"]\n'
    files["libs/m38/pyproject.toml"] += '[dependency-groups]\ntest = ["m-9"]\n'

    def members(*near: str) -> list[str]:
        return [words[1].removeprefix("./libs/") for words in needs_of(tree(files), Runner.PYTEST, near).members]

    assert members("README.md", "libs/m38/a/b.py", "libs/m38/c.py", "libs/m35") == ["m07", "m09", "m35", "m38"]
    assert members("libs/m35/x.py", "libs/m38/y.py") == members("libs/m38/y.py", "libs/m35/x.py")
    assert members(*(f"libs/m{at:02}/x.py" for at in range(39, 0, -1))) == [
        "m07",
        "m09",
        *(f"m{at}" for at in range(32, 40)),
    ]
    assert len(members()) == len(members("README.md")) == 32
    few = dict(list(files.items())[:8])
    assert len(needs_of(tree(few), Runner.PYTEST, ["libs/m01/x.py"]).members) == 8


def test_the_members_that_a_list_names_are_all_that_is_installed() -> None:
    member = '[project]\nname = "%s"\n'
    files = {f"{path}/pyproject.toml": member % path for path in ("main", "worker", "www/grid")}
    files |= {"requirements-ci.txt": "-r more/list.txt\n-e main[tls]\n", "more/list.txt": "-e ../worker\n"}
    files["worker/pyproject.toml"] += 'dependencies = ["main==1", "x"]\n'
    found = needs_of(tree(files), Runner.PYTEST)
    assert (found.members, found.alone) == ((("-e", "./main"), ("-e", "./worker")), ("x",))


def test_requirements_of_git_are_taken_where_git_reaches_them_and_left_out_elsewhere() -> None:
    tox = "[testenv]\ndeps =\n    -e git+https://git.host/a/one#egg=one\n    two @ git+https://git.host/a/two@v1\n"
    files = {"tox.ini": f"{tox}    git+https://other.host/three\n"}
    assert needs_of(tree(files), Runner.PYTEST).best == ()
    found = needs_of(tree(files), Runner.PYTEST, git=("https://git.host/",))
    assert found.best == ("git+https://git.host/a/one#egg=one", "two @ git+https://git.host/a/two@v1")
    assert (found.simple, found.system) == ((), ("git",))
    assert found.notes == ("A requirement outside of the repository is left out: git+https://other.host/three",)


def test_packages_of_the_system_are_those_that_the_tests_of_ci_install_and_compilers() -> None:
    steps = (
        "sudo apt-get -y update && sudo apt-get install -y libxml2-dev \\\n  texlive $MORE redis # not this\n pytest\n"
    )
    files = {
        ".github/workflows/ci.yml": f"run: |\n  {steps}",
        ".github/workflows/docs.yml": "run: apt-get install graphviz; tox -e docs",
        "Dockerfile": "RUN apt install --yes libxml2-dev python3-dev curl=1.* libpq-dev\n",
        "thing/part.c": "",
        "docs/x.rs": "",
    }
    assert needs_of(tree(files), Runner.PYTEST).system == ("build-essential", "libxml2-dev", "redis", "libpq-dev")
    plain = needs(requirements__txt="x")
    assert (plain.system, needs_of(tree({"a.c": "", "b.f90": "", "c.rs": ""}), Runner.PYTEST).system) == (
        (),
        ("build-essential", "gfortran", "cargo"),
    )


def test_a_dockerfile_and_words_for_contributors_count_where_nothing_else_says_anything() -> None:
    declared = '[project]\nname = "a"\n[project.optional-dependencies]\nhacking = []\n'
    files = {"pyproject.toml": declared, "CONTRIBUTING.md": "First `pip install -e .[hacking]`, then `pytest`.\n"}
    assert needs_of(tree(files), Runner.PYTEST).ways[0] == ("-e", ".[hacking]")
    files |= {"Dockerfile": "RUN pip install -r more/all.txt\n", "more/all.txt": "x\n"}
    assert needs_of(tree(files), Runner.PYTEST).best == ("-r", "more/all.txt")
    files |= {"requirements/test.txt": "y\n"}
    found = needs_of(tree(files), Runner.PYTEST)
    assert (found.best, found.others) == (("-r", "requirements/test.txt"), ())


@pytest.mark.parametrize("path", ["uv.lock", "poetry.lock", "pdm.lock", "pylock.toml"])
def test_versions_of_a_lock_file(path: str) -> None:
    key = "packages" if path == "pylock.toml" else "package"
    entries = [("alpha", "1.0"), ("beta", "2"), ("beta", "3"), ("thing", "0")]
    text = "".join(f'[[{key}]]\nname = "{name}"\nversion = "{version}"\n' for name, version in entries)
    text += f'[[{key}]]\nname = "mine"\nversion = "1"\n[{key}.source]\neditable = "."\n'
    files = {path: text, "pyproject.toml": '[project]\nname = "thing"\n'}
    assert needs_of(tree(files), Runner.PYTEST).locked == ("alpha==1.0",)


def test_versions_of_a_lock_file_of_conda() -> None:
    text = "version: 1\npackage:\n"
    for name, version, of in (("pytorch", "2.1", "linux-64"), ("zlib", "1", "linux-64"), ("zlib", "2", "osx-64")):
        text += f"- name: {name}\n  version: {version}\n  manager: conda\n  platform: {of}\n"
    assert needs_of(tree({"conda-lock.yml": text}), Runner.PYTEST).locked == ("torch==2.1",)


def test_modules_that_tests_import_with_what_the_project_names_for_them() -> None:
    files = {
        "pyproject.toml": '[project]\nname = "thing"\n[dependency-groups]\ndev = ["PyYAML", "requests_mock"]\n',
        "thing/__init__.py": "",
        "tests/helper.py": "import unseen\n",
        "tests/test_a.py": "import os, sys\nimport yaml\nfrom requests_mock import x\nimport thing\nimport gone\n",
        "tests/test_b.py": "import yaml\ntry:\n    import maybe\nexcept ImportError: pass\n",
    }
    found = needs_of(tree(files), Runner.PYTEST).modules
    assert found == (("yaml", 2, "pyyaml"), ("gone", 1, ""), ("requests_mock", 1, "requests-mock"))


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
    assert found.best == ()


INCLUDED = "{include-group = 'g%d'}, "
GROUPS = "".join(f"g{at} = [{99 * (INCLUDED % (at + 1))}]\n" for at in range(12))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject__toml", '[project]\nname = "x"\ndependencies = ["a; ' + "(" * 3000 + '"]\n'),
        ("pyproject__toml", "[dependency-groups]\n" + GROUPS),
        ("setup__py", "".join(f"a{at} = [{99 * f'a{at + 1}, '}]\n" for at in range(9)) + "setup(install_requires=a0)"),
        ("setup__cfg", "[a]\nb" + " " * 200_000 + "c\n"),
        ("tox__ini", "[tox]\nenvlist = " + "{a}" * 3000 + "\n[testenv]\ndeps = x\n"),
        ("environment__yml", "dependencies:\n - a" + " " * 200_000 + "'b' c\n"),
        ("Dockerfile", "RUN " + "apt " * 100_000),
    ],
)  # fmt: skip
def test_a_file_that_is_made_to_be_slow_is_read(name: str, text: str) -> None:
    began = time.process_time()
    needs(**{name: text})
    assert time.process_time() - began < 30


def test_the_mark_at_the_start_of_a_file_says_nothing() -> None:
    found = needs(setup__py="\ufeffsetup(install_requires=['a'])", tox__ini="\ufeff[testenv]\ndeps = b\n")
    assert (found.alone, found.best) == (("a",), ("b",))


def test_deep_and_long_files_are_read() -> None:
    found = needs(
        pyproject__toml="a = " + "[" * 5000,
        setup__py="setup(install_requires=" + "[" * 90 + "]" * 90 + "+ ['a']" * 5000 + ")",
        requirements__txt="x" * 10_000_000,
        tox__ini="[tox]\nenvlist = " + "{a,b}" * 30 + "\n[testenv]\ndeps = {[testenv]deps}" * 9,
    )
    assert found.best == ()


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["setup__py", "setup__cfg", "tox__ini", "pyproject__toml"]), st.text()))
def test_any_text_is_read_without_an_error(files: dict[str, str]) -> None:
    needs(**files)
