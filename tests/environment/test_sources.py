"""Which lists a project's files name for its tests, and which of them is best."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.environment.declared import Declared, read_pyproject
from agentless_mini.environment.sources import Layout, ci_entries, installs, nox_entries, ranked, tox_entries
from tests.environment.trees import needs


def layout(projects: tuple[str, ...] = (), /, **files: str) -> Layout:
    texts = {name.replace("___", "/").replace("__", "."): text for name, text in files.items()}
    declared = Declared()
    read_pyproject(texts.get("pyproject.toml", ""), declared)
    return Layout(texts, frozenset(projects), declared)


def sources(projects: tuple[str, ...] = (), /, **files: str) -> list[tuple[list[str], list[str]]]:
    return [(one.extras, [*one.arguments, *one.folders]) for one in ranked(layout(projects, **files))]


GROUPS = """
[project]
name = "thing"
dependencies = ["alpha"]
[project.optional-dependencies]
test = ["pytest"]
[dependency-groups]
tests = ["pytest"]
tests-random = ["pytest-randomly"]
docs-tests = ["sphinx"]
dev = [{include-group = "tests"}, "mkdocs"]
"""


def test_one_group_is_best_and_nothing_else_of_that_kind_is_taken() -> None:
    assert sources(pyproject__toml=GROUPS) == [([], ["--group", "tests"]), (["test"], [])]


def test_one_to_develop_counts_only_where_there_is_nothing_better() -> None:
    text = GROUPS.replace('tests = ["pytest"]\n', "").replace("test = [", "docs = [").replace('"tests"', '"docs-tests"')
    assert sources(pyproject__toml=text) == [([], ["--group", "dev"])]
    tox = "[testenv]\ndependency_groups = dev\ndeps = beta\n"
    assert sources(pyproject__toml=text, tox__ini=tox) == [([], ["beta", "--group", "dev"])]


def test_groups_that_uv_does_not_read_are_listed() -> None:
    text = """
[tool.poetry]
name = "thing"
[tool.poetry.group.test.dependencies]
five = "5.1"
[tool.poetry.group.docs.dependencies]
six = "6"
"""
    assert sources(pyproject__toml=text)[0] == ([], ["five==5.1"])
    hatch = (
        '[tool.hatch.envs.hatch-test]\nextra-dependencies = ["a"]\nfeatures = ["x"]\nworkspace.members = ["back/"]\n'
    )
    assert sources(("back",), pyproject__toml=hatch)[0] == (["x"], ["a", "pytest-mock", "back"])


def test_requirement_files_for_tests() -> None:
    names = ["docs", "dev", "test", "tests-min", "typing"]
    files = {f"requirements___{name}__txt": "x" for name in names}
    assert sources(**files) == [([], ["-r", "requirements/test.txt"])]
    del files["requirements___test__txt"]
    assert sources(**files) == [([], ["-r", "requirements/dev.txt"])]
    assert sources(requirements__txt="x") == [([], ["-r", "requirements.txt"])]
    project = '[project]\nname = "thing"\ndependencies = ["x"]\n'
    assert sources(pyproject__toml=project, requirements__txt="x\npytest-cov\n") == []
    assert sources(pyproject__toml=project, requirements__txt="x\npytest==8\n") == [([], ["-r", "requirements.txt"])]


TOX = """
[tox]
envlist = docs, py{27,3%d}-dj{52,60}-{sqlite,mysql}, lint
[base]
deps =
    pytest >= 8  # the runner
    -rrequirements/test.txt
[testenv]
deps =
    {[base]deps}
    -rrequirements/docs.txt
    dj52: django~=5.2.0
    dj60: django~=6.0
    mysql: mysqlclient
    !mysql: litesql
    {env:MORE}
    git+https://host/nbval
extras = tests
commands =
    pip install -e .[d]
    pytest {posargs}
[testenv:docs]
deps = sphinx
"""


def test_tox_by_the_factors_of_the_likeliest_environment() -> None:
    text = TOX % sys.version_info.minor
    found = layout(tox__ini=text, requirements___test__txt="x", requirements___docs__txt="x").source(
        tox_entries({"tox.ini": text})
    )
    assert found.arguments == ["pytest>=8", "-r", "requirements/test.txt", "django~=5.2.0", "litesql"]
    assert found.extras == ["tests", "d"]
    assert found.left_out == ["git+https://host/nbval"]


def test_tox_in_pyproject() -> None:
    native = '[tool.tox.env_run_base]\ndeps = ["a"]\nextras = ["x"]\n[tool.tox.env.test]\ndependency_groups = ["g"]\n'
    assert tox_entries({"pyproject.toml": native}) == ["a", "--group g", "-E x"]
    legacy = '[tool.tox]\nlegacy_tox_ini = """\n[testenv]\ndeps = b\n"""\n'
    assert tox_entries({"pyproject.toml": legacy}) == ["b"]


def test_nox_sessions_for_tests_are_read_and_not_run() -> None:
    text = """
import nox, os
os.abort()
@nox.session
def tests(session):
    session.install("-e", ".[test]", "-r", "reqs.txt", *EXTRA, "mock>=1")
    session.run("uv", "sync", "--group", "dev", f"--extra={name}")
@nox.session
def docs(session):
    session.install("sphinx")
"""
    assert nox_entries(text) == ["-e .[test]", "-r reqs.txt", "mock>=1", "--group dev"]
    assert nox_entries("def (") == []


def test_of_workflows_count_extras_groups_and_files_alone() -> None:
    workflow = """
    - run: |
        python -m pip install -U pip tox
        pip install -e ".[test,extra]" -r requirements/ci.txt ${{ matrix.more }}
        pip install --group docs
        uv sync --locked --group=unit --extra all
        pytest
"""
    assert ci_entries({".github/workflows/tests.yml": workflow}) == [
        "-e .[test,extra]", "-r requirements/ci.txt", "--group unit", "-E all"
    ]  # fmt: skip
    assert ci_entries({".github/workflows/docs.yml": workflow}) == []


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("python -m pip install --no-deps 'a<2' b", ["a<2", "b"]),
        ("pip install -rx.txt -e./sub", ["-r x.txt", "-e ./sub"]),
        ("pytest -q", []),
        ("pip install 'a", []),
    ],
)
def test_what_a_command_installs(line: str, entries: list[str]) -> None:
    assert installs(line) == entries


def test_a_folder_of_the_tree_is_no_package_of_an_index() -> None:
    found = layout(("master", "worker")).source(
        ["-e master[test,tls]", "worker", "-e gone[x]", "/srv/a", "../up", "a @ https://host/a.zip", "-e .[own]", "b"]
    )
    assert found.folders == ["master[test,tls]", "worker"]
    assert found.arguments == ["b"]
    assert found.extras == ["own"]
    assert found.left_out == ["gone[x]", "/srv/a", "../up", "a @ https://host/a.zip"]


NAMES = st.sampled_from(["tox__ini", "noxfile__py", "Makefile", "pyproject__toml", "setup__cfg", "hatch__toml"])


@given(st.dictionaries(NAMES, st.text()))
def test_any_text_is_read_without_an_error(files: dict[str, str]) -> None:
    sources(**files)


@given(st.lists(st.text()))
def test_no_entry_becomes_an_option(entries: list[str]) -> None:
    found = layout().source(entries)
    assert all(option in {"", "--group", "-r", "-c"} for option, _ in found.words())


def test_gitlab_says_what_is_installed_as_workflows_do() -> None:
    found = needs(
        **{"__gitlab-ci__yml": "test:\n  script:\n    - pip install -r ci.txt\n    - pytest\n", "ci__txt": "x"}
    )
    assert found.best == ("-r", "ci.txt")


CONDA = """
name: thing
channels:
  - conda-forge
dependencies:
  - python=3.11  # ours
  - numpy=1.26.4=py311h
  - conda-forge::matplotlib-base >=3
  - pandas
  - nodejs
  - pip:
    - "alpha[x]==2"
    - -r more.txt
  - compilers
variables:
  - pandas
"""


def test_conda_names_count_where_they_are_known_to_be_of_python() -> None:
    files = {"environment__yml": CONDA, "more__txt": "x", "docs___environment__yml": "dependencies:\n- sphinx\n"}
    found = needs(**files, thing___module__py="import numpy\nfrom pandas import x\n")
    pip, wheels = ("alpha[x]==2", "-r", "more.txt"), "--only-binary"
    conda = ("numpy==1.26.4.*", wheels, "numpy", "matplotlib>=3", wheels, "matplotlib", "pandas", wheels, "pandas")
    assert found.best == (*pip, *conda)
    told = "Left out, for no package of Python is known by that name: nodejs (of conda), compilers (of conda)."
    assert found.notes == (told,)
