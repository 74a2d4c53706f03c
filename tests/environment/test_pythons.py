import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentless_mini.environment.pythons import PythonRequirement, choose_python, classified_minors

HERE = sys.version_info.minor


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def says(version: str, path: str) -> str:
    return f"""echo '["{path}", [{version.replace(".", ", ")}]]'"""


def test_this_python_where_it_suits() -> None:
    found, notes = choose_python(PythonRequirement((">=3.7",)), {})
    assert (found.version, notes) == (tuple(sys.version_info[:3]), ())
    assert found.path == Path(sys.executable).resolve()


def test_one_on_the_path_or_of_pyenv_where_this_one_does_not_suit(tmp_path: Path) -> None:
    real = program(tmp_path / "real/python", "true")
    program(tmp_path / "bin/python3.9", says("3.9.1", str(real)))
    found, notes = choose_python(PythonRequirement(("==3.9.*",)), {"PATH": f"{tmp_path}/none:{tmp_path}/bin"})
    assert (found.path, found.version, notes) == (real, (3, 9, 1), ())
    program(tmp_path / "pyenv/versions/3.8.18/bin/python3", says("3.8.18", str(real)))
    found, _ = choose_python(PythonRequirement(("<3.9",)), {"PYENV_ROOT": str(tmp_path / "pyenv")})
    assert found.version == (3, 8, 18)


def test_what_only_looks_like_a_python_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.9", "echo 'pyenv: python3.9: command not found' >&2; exit 127")
    program(tmp_path / "bin/python3.8", says("3.7.1", "/x"))
    program(tmp_path / "bin/python3.5", says("3.5.1", "/x"))
    found, notes = choose_python(PythonRequirement(("<3.10",)), {"PATH": str(tmp_path / "bin")})
    assert found.version[1] == HERE
    assert notes == (f"The project asks for Python <3.10, which is not here: its tests run on 3.{HERE}.",)


@pytest.mark.parametrize(
    ("specifier", "allowed"),
    [
        ("", range(6, 15)),
        (">=3.8", range(8, 15)),
        (">=3.8.1,<3.12", range(8, 12)),
        (">= 3.8, < 4", range(8, 15)),
        (">=3.8 <3.11", range(8, 11)),
        ("<=3.9", range(6, 10)),
        ("<3.9.5", range(6, 10)),
        (">=3.7,!=3.8.*", [7, *range(9, 15)]),
        (">=3.7,!=3.8.1", range(7, 15)),
        ("~=3.9", range(9, 15)),
        ("~=3.9.2", [9]),
        ("==3.10.*", [10]),
        ("==3.*", range(6, 15)),
        ("^3.8", range(8, 15)),
        ("~3.8", [8]),
        ("3.9.*", [9]),
        ("^2.7 || ^3.10", range(10, 15)),
        (">=2.7", range(6, 15)),
        ("<3", []),
        ("*", range(6, 15)),
        ("nonsense", range(6, 15)),
    ],
)
def test_a_specifier_allows(specifier: str, allowed: object) -> None:
    wish = PythonRequirement((specifier,))
    assert isinstance(allowed, (range, list))
    assert [minor for minor in range(6, 15) if wish.allows(minor)] == list(allowed)


def test_a_specifier_longer_than_any_is_none() -> None:
    assert PythonRequirement((f">={'1.1' * 50_000}!",)).allows(11)


def test_this_python_comes_first_unless_the_project_is_tested_on_others() -> None:
    available = range(7, 15)
    assert PythonRequirement().ordered(available, 11)[0] == 11
    assert PythonRequirement((">=3.8",), (9, 11)).ordered(available, 11)[0] == 11
    assert PythonRequirement((">=3.8",), (8, 9)).ordered(available, 11)[:4] == (9, 8, 10, 11)
    assert PythonRequirement(("<3.9",)).ordered(available, 11) == (8, 7)
    assert PythonRequirement((">=3.20",)).ordered(available, 11) == ()


def test_classifiers_tell_what_it_is_tested_on() -> None:
    lines = ("Programming Language :: Python :: 3.9", "Programming Language :: Python :: 3.10 ", "Programming :: 3.8")
    others = ("Programming Language :: Python :: 3", "Programming Language :: Python :: 2.7")
    assert classified_minors((*lines, *others)) == {9, 10}


@given(st.text(alphabet="<>=!~^|*., 0123456789xab"), st.integers(0, 20))
def test_any_text_is_taken_for_a_specifier(specifier: str, minor: int) -> None:
    assert isinstance(PythonRequirement((specifier,)).allows(minor), bool)
